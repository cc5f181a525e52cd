//! `daemon.json`. `rnd` is a program, not a library: the reader is compiled in here.
#![no_main]

#[allow(dead_code)]
#[path = "../../rnd/src/config.rs"]
mod config;
#[allow(dead_code)]
#[path = "../../rnd/src/config_file.rs"]
mod config_file;
#[allow(dead_code)]
#[path = "../../rnd/src/host.rs"]
mod host;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| config::fuzzed(bytes));
