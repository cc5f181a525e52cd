//! What another manager sends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| manager::fuzzing::wire(bytes));
