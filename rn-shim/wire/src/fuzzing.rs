//! What the fuzz target, and its small version here, give to this crate.

use crate::{ExitStatus, LogRecord, Reply, Request, Status};

/// What the daemon and a shim say to each other, and a line of a log.
pub fn read(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Request>(bytes);
    let _ = serde_json::from_slice::<Reply>(bytes);
    let _ = serde_json::from_slice::<Status>(bytes);
    let _ = serde_json::from_slice::<ExitStatus>(bytes);
    if let Ok(record) = serde_json::from_slice::<LogRecord>(bytes) {
        let (at, stream, partial) = (record.at, record.stream, record.partial);
        let content = record.into_bytes();
        assert_eq!(LogRecord::new(at, stream, &content, partial).into_bytes(), content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_shim_or_a_damaged_log_says_is_read_or_refused() {
        let seeds = [
            r#"{"do":"park","name":"dns"}"#,
            r#"{"reply":"status","state":"exited","code":137,"signal":9,"oom":true,"finished_at":5}"#,
            r#"{"t":1700000000000000000,"s":1,"l":"hello","p":true}"#,
            r#"{"t":1,"s":2,"x":"ff00c3+1-2"}"#,
        ];
        smoke::smoke(seeds, 3000, read);
    }
}
