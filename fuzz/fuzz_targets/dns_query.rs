//! What a container asks.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| dns::fuzzing::query(bytes));
