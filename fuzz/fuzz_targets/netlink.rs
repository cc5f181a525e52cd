//! What the kernel answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kernel::fuzzing::netlink(bytes));
