//! The manager's database: raft's log, raft's few facts about itself, and one row for each object.
//!
//! One database with one write-ahead log for everything: what is written later never survives what was written earlier, so
//! rows may be written without a sync. Only the log's flush and raft's vote have to reach the disk before an answer does.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path, sync::Arc};

use certs::UnlockKey;
use prost::Message;
use proto::model::NodeId;

use super::{
    change::Change,
    database::{Database, DatabaseError, Flushed, OpenDatabase, RowEdit},
    error::OpenError,
    kind::{KINDS, Row},
    seal::{KEY_FILE, KeyError, Sealed, Sealer},
    state::State,
};
use crate::raft::{
    LogId, StoredMembership,
    wire::{Malformed, Wire},
};

/// A family of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Raft's log: big-endian index -> entry.
    Log,
    /// Raft's facts: see [`Fact`].
    Raft,
    /// The replicated objects of one kind, by their id.
    Kind(&'static str),
}

impl Family {
    /// All that there are.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Family::Log, Family::Raft].into_iter().chain(KINDS.iter().map(|kind| Family::Kind(kind.name)))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Family::Log => "log",
            Family::Raft => "raft",
            Family::Kind(name) => name,
        }
    }
}

/// A single value in [`Family::Raft`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Whose store this is.
    Identity,
    /// The last vote given.
    Vote,
    /// The last entry known to be committed.
    Committed,
    /// The last entry whose effect is in the rows.
    Applied,
    /// The membership as of that entry.
    Membership,
    /// The last entry that was dropped from the log.
    Purged,
}

impl Fact {
    const fn key(self) -> &'static [u8] {
        match self {
            Fact::Identity => b"identity",
            Fact::Vote => b"vote",
            Fact::Committed => b"committed",
            Fact::Applied => b"applied",
            Fact::Membership => b"membership",
            Fact::Purged => b"purged",
        }
    }
}

/// The database failed, or what it holds cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Sealed(#[from] Sealed),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("malformed {family} row {key}: {reason}")]
    Row { family: &'static str, key: String, reason: String },
}

/// Whose store it is. Written once.
#[derive(Clone, PartialEq, Message)]
struct Identity {
    #[prost(uint64, tag = "1")]
    raft_id: u64,
    #[prost(string, tag = "2")]
    node_id: String,
}

/// The database.
pub(crate) struct Disk {
    db: Arc<dyn Database>,
    sealer: Sealer,
}

impl Disk {
    /// Opens or creates the database in `dir`: `key` and `db/`.
    pub(crate) fn open(
        dir: &Path,
        database: &OpenDatabase,
        unlock: Option<&UnlockKey>,
    ) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| OpenError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
        let (key, path) = (dir.join(KEY_FILE), dir.join("db"));
        // A database without its key is an accident to report, not one to seal under a new key.
        let fresh = !path.join("CURRENT").exists();
        let sealer = match Sealer::open(&key, fresh, unlock) {
            Ok(sealer) => sealer,
            Err(KeyError::Io(source)) => return Err(OpenError::Io { path: key, source }),
            Err(KeyError::Read(error)) => return Err(OpenError::Content(error.to_string())),
            Err(KeyError::Locked(error)) => return Err(OpenError::Locked(error)),
        };
        let db = database.open(&path)?;
        Ok(Self { db, sealer })
    }

    /// A write of several things at once.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { disk: self, batch: Vec::new() }
    }

    /// The value at `key`.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let sealed = self.db.get(family.name(), key)?;
        Ok(sealed.map(|s| self.sealer.open_value(family.name(), key, &s)).transpose()?)
    }

    /// Values in key order, from `from` on.
    pub(crate) fn scan<'a>(
        &'a self,
        family: Family,
        from: &[u8],
    ) -> Result<impl Iterator<Item = Result<(Box<[u8]>, Vec<u8>), DiskError>> + 'a, DiskError> {
        let rows = self.db.scan(family.name(), from)?;
        Ok(rows.map(move |row| {
            let (key, sealed) = row?;
            let value = self.sealer.open_value(family.name(), &key, &sealed)?;
            Ok((key, value))
        }))
    }

    /// The value of the greatest key.
    pub(crate) fn last(&self, family: Family) -> Result<Option<Vec<u8>>, DiskError> {
        let last = self.db.last(family.name())?;
        Ok(last.map(|(key, s)| self.sealer.open_value(family.name(), &key, &s)).transpose()?)
    }

    /// One of raft's facts.
    pub(crate) fn fact<T: Wire>(&self, fact: Fact) -> Result<Option<T>, DiskError> {
        let bytes = self.get(Family::Raft, fact.key())?;
        Ok(bytes.map(|b| T::from_bytes(&b)).transpose()?)
    }

    /// Makes everything written so far survive a loss of power, then calls `done`.
    pub(crate) fn flush(&self, done: Flushed) {
        self.db.flush(done);
    }

    /// The raft id of this store: what it was given at its first opening, else `wanted`, else a random one. Raft ids are 63
    /// random bits and never used again.
    pub(crate) fn identity(&self, node: &NodeId, wanted: Option<u64>) -> Result<u64, OpenError> {
        let broken = |e: DiskError| OpenError::Content(e.to_string());
        let stored = self.get(Family::Raft, Fact::Identity.key()).map_err(broken)?;
        if let Some(bytes) = stored {
            let stored = Identity::decode(&*bytes).map_err(|e| OpenError::Content(e.to_string()))?;
            if stored.node_id != node.as_str() || wanted.is_some_and(|w| w != stored.raft_id) {
                return Err(OpenError::Content(format!(
                    "the raft directory belongs to node {} (raft id {:x}), not to node {node}; \
                     leave the swarm or remove the directory first",
                    stored.node_id, stored.raft_id
                )));
            }
            self.put_identity(node, stored.raft_id).map_err(broken)?;
            return Ok(stored.raft_id);
        }
        let raft_id = wanted.unwrap_or_else(|| rand::random_range(1..=u64::MAX >> 1));
        self.put_identity(node, raft_id).map_err(broken)?;
        Ok(raft_id)
    }

    /// Written at each opening, synced: raft counts on whatever it finds here and tells others that it has it, and an earlier process
    /// may have been killed before it could sync that.
    fn put_identity(&self, node: &NodeId, raft_id: u64) -> Result<(), DiskError> {
        let mut batch = self.batch();
        batch.put_identity(node, raft_id)?;
        batch.write_synced()
    }

    /// The state as of the last applied entry.
    pub(crate) fn load(&self) -> Result<(State, Option<LogId>, StoredMembership), DiskError> {
        let mut state = State::default();
        for kind in KINDS {
            for row in self.scan(Family::Kind(kind.name), &[])? {
                let (key, value) = row?;
                (kind.load)(&mut state, &value).map_err(|reason| DiskError::Row {
                    family: kind.name,
                    key: String::from_utf8_lossy(&key).into_owned(),
                    reason,
                })?;
            }
        }
        let applied: Option<LogId> = self.fact(Fact::Applied)?;
        state.revision.0 = applied.map_or(0, |id| id.index);
        Ok((state, applied, self.fact(Fact::Membership)?.unwrap_or_default()))
    }
}

/// Writes that take effect together.
pub(crate) struct Batch<'a> {
    disk: &'a Disk,
    batch: Vec<RowEdit>,
}

impl Batch<'_> {
    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), DiskError> {
        let sealed = self.disk.sealer.seal(family.name(), key, value)?;
        self.batch.push(RowEdit::Put(family.name(), key.to_vec(), sealed));
        Ok(())
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.push(RowEdit::Delete(family.name(), key.to_vec()));
    }

    /// Deletes `from..to`.
    pub(crate) fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        self.batch.push(RowEdit::DeleteRange(family.name(), from.to_vec(), to.to_vec()));
    }

    /// Whose store this is.
    pub(crate) fn put_identity(&mut self, node: &NodeId, raft_id: u64) -> Result<(), DiskError> {
        let identity = Identity { raft_id, node_id: node.to_string() };
        self.put(Family::Raft, Fact::Identity.key(), &identity.encode_to_vec())
    }

    pub(crate) fn put_fact(&mut self, fact: Fact, value: &impl Wire) -> Result<(), DiskError> {
        self.put(Family::Raft, fact.key(), &value.to_bytes())
    }

    /// The rows of changed objects.
    pub(crate) fn put_changes<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<(), DiskError> {
        for change in changes {
            let Some(Row { family, key, value }) = change.row() else { continue };
            match value {
                Some(value) => self.put(Family::Kind(family), key.as_bytes(), &value)?,
                None => self.delete(Family::Kind(family), key.as_bytes()),
            }
        }
        Ok(())
    }

    /// Writes to the operating system: survives this process, not yet a loss of power.
    pub(crate) fn write(self) -> Result<(), DiskError> {
        Ok(self.disk.db.write(self.batch, false)?)
    }

    /// Writes to the disk.
    pub(crate) fn write_synced(self) -> Result<(), DiskError> {
        Ok(self.disk.db.write(self.batch, true)?)
    }
}
