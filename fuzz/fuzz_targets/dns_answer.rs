//! What a server answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| dns::fuzzing::answer(bytes));
