//! A chitchat message of a member.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| gossip::fuzzing::chitchat(bytes));
