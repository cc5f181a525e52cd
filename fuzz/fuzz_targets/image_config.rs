//! An image's configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| runtime::fuzzing::image_config(text));
