//! Unlock keys and what they open.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| certs::fuzzing::unlock(bytes));
