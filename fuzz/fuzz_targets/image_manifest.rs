//! A manifest or an index, as registries and archives have them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| runtime::fuzzing::image_manifest(bytes));
