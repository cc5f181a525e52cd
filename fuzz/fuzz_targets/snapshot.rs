//! A snapshot of the state.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| manager::fuzzing::state(bytes));
