//! What users type. `rnctl` is a program, not a library: its parsers are compiled in here.
#![no_main]

#[allow(dead_code)]
#[path = "../../rnctl/src/parse/mod.rs"]
mod parse;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| parse::fuzzing::read(bytes));
