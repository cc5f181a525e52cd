//! Raft's log on disk.
//!
//! `append` writes without a sync, so that entries can be read at once, and hands its callback to the database's flush: no
//! async thread ever waits for the disk.
// The errors are openraft's own.
#![allow(clippy::result_large_err)]

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use openraft::{
    ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};

use super::{Entry, LogId, StorageError, TypeConfig, Vote, wire::Wire};
use crate::{
    blocking,
    store::disk::{Disk, DiskError, Fact, Family},
};

/// Bytes of entries handed out at once for replication (one entry is always handed out).
const READ_LIMIT: usize = 2 << 20;

/// Raft's log on disk, as openraft reads and appends to it. Clones share one log.
#[derive(Clone)]
pub(crate) struct LogStore {
    disk: Arc<Disk>,
    own_id: u64,
}

impl LogStore {
    /// The log of member `own_id` in `disk`.
    pub(crate) fn new(disk: Arc<Disk>, own_id: u64) -> Self {
        Self { disk, own_id }
    }

    fn read(&self, range: impl RangeBounds<u64>, limit: usize) -> Result<Vec<Entry>, DiskError> {
        let start = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let (mut entries, mut size) = (Vec::new(), 0);
        let from = start.to_be_bytes();
        for row in self.disk.scan(Family::Log, &from)? {
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
        match blocking::run(move || write(&disk)).await {
            Ok(result) => result.map_err(|e| failed(subject, ErrorVerb::Write, &e)),
            Err(e) => Err(failed(subject, ErrorVerb::Write, &e)),
        }
    }
}

/// The last entry in the log, or the last that was dropped from it.
pub(crate) fn last_log_id(disk: &Disk) -> Result<Option<LogId>, DiskError> {
    let last = disk.last(Family::Log)?;
    let last = last.map(|value| Entry::from_bytes(&value)).transpose()?.map(|e| e.log_id);
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

    /// A leader's own vote comes back as that of a candidate: openraft would go on leading in the same term, and this log may have
    /// lost its unsynced end, which others have and may have committed. New entries would then get the ids of those.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote: Option<Vote> =
            self.disk.fact(Fact::Vote).map_err(|e| failed(ErrorSubject::Vote, ErrorVerb::Read, &e))?;
        Ok(vote.map(|vote| {
            if vote.leader_id.node_id == self.own_id { Vote { committed: false, ..vote } } else { vote }
        }))
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
        // Should the database drop the callback uncalled, openraft hears of that too.
        self.disk
            .flush(Box::new(move |result| callback.log_io_completed(result.map_err(std::io::Error::other))));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.synced(ErrorSubject::Logs, move |disk| {
            let mut batch = disk.batch();
            batch.delete_range(Family::Log, &from.index.to_be_bytes(), &u64::MAX.to_be_bytes());
            batch.write_synced()
        })
        .await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let purge = || -> Result<(), DiskError> {
            let mut batch = self.disk.batch();
            batch.put_fact(Fact::Purged, &upto)?;
            batch.delete_range(Family::Log, &0u64.to_be_bytes(), &(upto.index + 1).to_be_bytes());
            batch.write()
        };
        purge().map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Delete, &e))
    }
}
