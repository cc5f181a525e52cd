//! A gossip datagram of anybody.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| gossip::fuzzing::datagram(bytes));
