//! A request to the API: parameters, headers and bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| docker_api::fuzzing::request(bytes));
