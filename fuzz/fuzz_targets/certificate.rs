//! A peer's certificate.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| certs::fuzzing::certificate(bytes));
