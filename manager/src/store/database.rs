//! What [`Disk`](super::disk::Disk) stands on: rows in families, and one write-ahead log for all of them.
//!
//! A database promises three things. A batch is there whole or not at all. What was written later never survives what was
//! written earlier. And what was there at a [`Database::flush`], or before a write that was to be synced, survives a loss of
//! power. RocksDB does so ([`super::rocks`]); the simulation's database does so too, and takes away everything beyond it.

use std::{fmt, path::Path, sync::Arc};

use super::{error::OpenError, rocks::Rocks};

/// A database failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(pub Box<dyn std::error::Error + Send + Sync>);

/// A part of a batch. Families are named by a word of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowEdit {
    /// `key` has this value.
    Put(&'static str, Vec<u8>, Vec<u8>),
    /// `key` has none.
    Delete(&'static str, Vec<u8>),
    /// Nor has any key from the first, included, to the second, which is not.
    DeleteRange(&'static str, Vec<u8>, Vec<u8>),
}

/// A key and its value.
pub type Row = (Box<[u8]>, Box<[u8]>);
/// Rows in key order.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Row, DatabaseError>> + 'a>;
/// Told of what became of a flush.
pub type Flushed = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A database of rows in families, with the promises that the store relies on.
pub trait Database: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// It cannot be read.
    fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError>;

    /// Rows from `from` on.
    ///
    /// # Errors
    /// They cannot be read.
    fn scan<'a>(&'a self, family: &'static str, from: &[u8]) -> Result<Rows<'a>, DatabaseError>;

    /// The row with the greatest key.
    ///
    /// # Errors
    /// It cannot be read.
    fn last(&self, family: &'static str) -> Result<Option<Row>, DatabaseError>;

    /// Writes a batch; `synced`: returns once it, and what was written before, survives a loss of power.
    ///
    /// # Errors
    /// It may or may not have been written.
    fn write(&self, batch: Vec<RowEdit>, synced: bool) -> Result<(), DatabaseError>;

    /// Makes what was written so far survive a loss of power, then calls `done`; the caller does not wait.
    fn flush(&self, done: Flushed);
}

/// Opens a manager's database.
#[derive(Clone)]
pub struct OpenDatabase(Arc<dyn Fn(&Path) -> Result<Arc<dyn Database>, OpenError> + Send + Sync>);

impl OpenDatabase {
    /// By another way than RocksDB.
    pub fn by(open: impl Fn(&Path) -> Result<Arc<dyn Database>, OpenError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    pub(super) fn open(&self, path: &Path) -> Result<Arc<dyn Database>, OpenError> {
        (self.0)(path)
    }
}

impl Default for OpenDatabase {
    fn default() -> Self {
        Self::by(|path| Ok(Arc::new(Rocks::open(path)?)))
    }
}

impl fmt::Debug for OpenDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenDatabase")
    }
}
