//! What the daemon and a shim say to each other, and a line of a log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| shim_wire::fuzzing::read(bytes));
