//! A compose file, and a file of variables.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| compose_file::fuzzing::read(bytes));
