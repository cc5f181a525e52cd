//! Names of images: what is taken is said again as it was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| runtime::fuzzing::reference(text));
