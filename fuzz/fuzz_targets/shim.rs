//! What the daemon and a shim say to each other, and a line of a log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shim_wire::{ExitStatus, LogRecord, Reply, Request, Status};

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<Request>(bytes);
    let _ = serde_json::from_slice::<Reply>(bytes);
    let _ = serde_json::from_slice::<Status>(bytes);
    let _ = serde_json::from_slice::<ExitStatus>(bytes);
    if let Ok(record) = serde_json::from_slice::<LogRecord>(bytes) {
        let (at, stream, partial) = (record.at, record.stream, record.partial);
        let content = record.into_bytes();
        assert_eq!(LogRecord::new(at, stream, &content, partial).into_bytes(), content);
    }
});
