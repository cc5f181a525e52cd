//! A whole archive, entry by entry, within narrow limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tar_reader::fuzzing::tar(bytes));
