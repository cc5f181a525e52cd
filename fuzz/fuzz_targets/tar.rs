//! A whole archive, entry by entry, within narrow limits.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use tar_reader::{Limits, Reader};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { record: 4096, headers: 1000, sparse_parts: 100 };
    let mut tar = Reader::new(bytes, limits);
    let mut buffer = [0; 1000];
    while let Ok(Some(entry)) = tar.next_entry() {
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0));
        assert!(entry.mtime.nanos < 1_000_000_000);
        let mut end = 0;
        // Half of the entries as parts, half with their holes.
        if entry.at % 1024 == 0 {
            while let Ok(Some(chunk)) = tar.read_chunk(&mut buffer) {
                assert!(chunk.offset >= end && chunk.len > 0);
                end = chunk.offset + chunk.len as u64;
                assert!(end <= entry.size || entry.size == 0);
            }
        } else {
            let mut content = tar.content().take(1 << 16);
            while let Ok(len @ 1..) = content.read(&mut buffer) {
                end += len as u64;
            }
            assert!(end <= entry.size || entry.size == 0);
        }
    }
    assert!(tar.headers() <= 1001);
});
