//! Raft's log on disk.
//!
//! `append` writes without a sync, so that entries can be read at once, and hands its callback to a flush thread. That thread
//! takes every callback that waits, flushes the write-ahead log once, and answers them all: no async thread ever waits for
//! the disk.
// The errors are openraft's own.
#![allow(clippy::result_large_err)]

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::{Arc, mpsc},
};

use openraft::{
    ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use rocksdb::{Direction, IteratorMode};

use super::{Entry, LogId, StorageError, TypeConfig, Vote, wire::Wire};
use crate::store::disk::{Disk, DiskError, Fact, Family};

/// Bytes of entries handed out at once for replication (one entry is always handed out).
const READ_LIMIT: usize = 2 << 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct LogStore {
    disk: Arc<Disk>,
    flush: mpsc::Sender<LogFlushed<TypeConfig>>,
}

impl LogStore {
    /// A log in `disk`, and the thread that flushes it. The thread ends with the last clone.
    pub(crate) fn new(disk: Arc<Disk>) -> std::io::Result<Self> {
        let (flush, waiting) = mpsc::channel::<LogFlushed<TypeConfig>>();
        let flusher = disk.clone();
        std::thread::Builder::new().name("raft-flush".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut batch = vec![first];
                batch.extend(waiting.try_iter());
                let result = flusher.flush().map_err(|e| e.to_string());
                for flushed in batch {
                    flushed.log_io_completed(result.clone().map_err(std::io::Error::other));
                }
            }
        })?;
        Ok(Self { disk, flush })
    }

    fn read(&self, range: impl RangeBounds<u64>, limit: usize) -> Result<Vec<Entry>, DiskError> {
        let start = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let (mut entries, mut size) = (Vec::new(), 0);
        let from = start.to_be_bytes();
        for row in self.disk.iter(Family::Log, IteratorMode::From(&from, Direction::Forward))? {
            let (key, value) = row?;
            size += value.len();
            if !range.contains(&index(&key)) || (size > limit && !entries.is_empty()) {
                break;
            }
            entries.push(Entry::from_bytes(&value)?);
        }
        Ok(entries)
    }

    /// The last entry in the log, or the last that was dropped from it.
    pub(crate) fn last_log_id(&self) -> Result<Option<LogId>, DiskError> {
        last_log_id(&self.disk)
    }

    /// Runs a write that syncs where it may block.
    async fn synced<T: Send + 'static>(
        &self,
        subject: ErrorSubject<u64>,
        write: impl FnOnce(&Disk) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let disk = self.disk.clone();
        match tokio::task::spawn_blocking(move || write(&disk)).await {
            Ok(result) => result.map_err(|e| failed(subject, ErrorVerb::Write, &e)),
            Err(e) => Err(failed(subject, ErrorVerb::Write, &e)),
        }
    }
}

/// The last entry in the log, or the last that was dropped from it.
pub(crate) fn last_log_id(disk: &Disk) -> Result<Option<LogId>, DiskError> {
    let last = disk.iter(Family::Log, IteratorMode::End)?.next().transpose()?;
    let last = last.map(|(_, value)| Entry::from_bytes(&value)).transpose()?.map(|e| e.log_id);
    Ok(last.max(disk.fact(Fact::Purged)?))
}

fn index(key: &[u8]) -> u64 {
    key.try_into().map_or(u64::MAX, u64::from_be_bytes)
}

/// An error as openraft wants it: raft stops, as it must when its storage cannot be trusted.
pub(crate) fn failed(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    e: &(impl std::error::Error + 'static),
) -> StorageError {
    StorageIOError::new(subject, verb, openraft::AnyError::new(e)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(range, usize::MAX).map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start..end, READ_LIMIT).map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let read = || -> Result<_, DiskError> {
            Ok(LogState {
                last_purged_log_id: self.disk.fact(Fact::Purged)?,
                last_log_id: self.last_log_id()?,
            })
        };
        read().map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.synced(ErrorSubject::Vote, move |disk| {
            let mut batch = disk.batch();
            batch.put_fact(Fact::Vote, &vote)?;
            batch.write_synced()
        })
        .await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.disk.fact(Fact::Vote).map_err(|e| failed(ErrorSubject::Vote, ErrorVerb::Read, &e))
    }

    // Unsynced: an older value only means that a restart applies fewer entries before it hears from a leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(committed) = committed else { return Ok(()) };
        let mut batch = self.disk.batch();
        batch
            .put_fact(Fact::Committed, &committed)
            .and_then(|()| batch.write())
            .map_err(|e| failed(ErrorSubject::Store, ErrorVerb::Write, &e))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.disk.fact(Fact::Committed).map_err(|e| failed(ErrorSubject::Store, ErrorVerb::Read, &e))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let write = |entries: I| -> Result<(), DiskError> {
            let mut batch = self.disk.batch();
            for entry in entries {
                batch.put(Family::Log, &entry.log_id.index.to_be_bytes(), &entry.to_bytes())?;
            }
            batch.write()
        };
        write(entries).map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Write, &e))?;
        // The thread is gone only if it panicked; then the dropped callback tells openraft.
        let _ = self.flush.send(callback);
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.synced(ErrorSubject::Logs, move |disk| {
            let mut batch = disk.batch();
            batch.delete_range(Family::Log, &from.index.to_be_bytes(), &u64::MAX.to_be_bytes())?;
            batch.write_synced()
        })
        .await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let purge = || -> Result<(), DiskError> {
            let mut batch = self.disk.batch();
            batch.put_fact(Fact::Purged, &upto)?;
            batch.delete_range(Family::Log, &0u64.to_be_bytes(), &(upto.index + 1).to_be_bytes())?;
            batch.write()
        };
        purge().map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Delete, &e))
    }
}
