//! What is inside a member's gossip datagrams.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| gossip::fuzzing::pieces(bytes));
