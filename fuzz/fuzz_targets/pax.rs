//! The records of an extended header, without the header around them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tar_reader::fuzzing::pax(bytes));
