//! What `rnctl load` is given: an archive, spooled and looked through for images.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| runtime::fuzzing::image_archive(bytes));
