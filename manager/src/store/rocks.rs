//! The manager's database as it is: RocksDB, all families over one write-ahead log.
//!
//! Flushes are made by a thread of their own. It takes every caller that waits, flushes once, and answers them all: no async
//! thread ever waits for the disk.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode, LogLevel, Options,
    WriteBatch, WriteOptions,
};

use super::{
    database::{Database, DatabaseError, Flushed, Row, RowEdit, Rows},
    disk::Family,
    error::OpenError,
};

/// How long another process may still hold the database, for a daemon that is being replaced.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The database in RocksDB.
pub(super) struct Rocks {
    db: Arc<DB>,
    /// None while the value is dropped.
    flush: Option<mpsc::Sender<Flushed>>,
    flusher: Option<JoinHandle<()>>,
}

impl Drop for Rocks {
    /// Waits for the thread, so that the database is closed when this returns: a process that ended meanwhile would take from under
    /// RocksDB what it needs for that, and be aborted.
    fn drop(&mut self) {
        self.flush = None;
        if let Some(flusher) = self.flusher.take()
            // Whom the thread answers may have held the last handle.
            && flusher.thread().id() != thread::current().id()
            && flusher.join().is_err()
        {
            tracing::error!("the thread that flushes the database panicked");
        }
    }
}

impl From<rocksdb::Error> for DatabaseError {
    fn from(error: rocksdb::Error) -> Self {
        Self(Box::new(error))
    }
}

impl Rocks {
    /// Opens or creates the database, and starts the thread that flushes it. The thread ends with the value.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let db = Arc::new(open_db(path)?);
        let (flush, waiting) = mpsc::channel::<Flushed>();
        let flusher = db.clone();
        let thread = thread::Builder::new().name("raft-flush".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut batch = vec![first];
                batch.extend(waiting.try_iter());
                let result = flusher.flush_wal(true).map_err(|e| e.to_string());
                for done in batch {
                    done(result.clone());
                }
            }
        });
        match thread {
            Ok(thread) => Ok(Self { db, flush: Some(flush), flusher: Some(thread) }),
            Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
        }
    }

    fn family(&self, family: &'static str) -> Result<&ColumnFamily, DatabaseError> {
        self.db
            .cf_handle(family)
            .ok_or_else(|| DatabaseError(format!("column family {family} is missing").into()))
    }
}

impl Database for Rocks {
    fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        Ok(self.db.get_cf(self.family(family)?, key)?)
    }

    fn scan<'a>(&'a self, family: &'static str, from: &[u8]) -> Result<Rows<'a>, DatabaseError> {
        let mode = IteratorMode::From(from, Direction::Forward);
        let rows = self.db.iterator_cf(self.family(family)?, mode);
        Ok(Box::new(rows.map(|row| Ok(row?))))
    }

    fn last(&self, family: &'static str) -> Result<Option<Row>, DatabaseError> {
        Ok(self.db.iterator_cf(self.family(family)?, IteratorMode::End).next().transpose()?)
    }

    fn write(&self, batch: Vec<RowEdit>, synced: bool) -> Result<(), DatabaseError> {
        let mut all = WriteBatch::default();
        for edit in batch {
            match edit {
                RowEdit::Put(family, key, value) => all.put_cf(self.family(family)?, key, value),
                RowEdit::Delete(family, key) => all.delete_cf(self.family(family)?, key),
                RowEdit::DeleteRange(family, from, to) => {
                    all.delete_range_cf(self.family(family)?, from, to);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        Ok(self.db.write_opt(all, &options)?)
    }

    fn flush(&self, done: Flushed) {
        // The thread is gone only if it panicked; then whoever waits is told by what is dropped with `done`.
        let _ = self.flush.as_ref().map(|flush| flush.send(done));
    }
}

fn open_db(path: &Path) -> Result<DB, OpenError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A power cut may leave a torn tail; what is after a gap was never acknowledged.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A family's file never gets ahead of another's: the rows must not know entries that the log has lost.
    options.set_atomic_flush(true);
    // A control plane's state is small.
    options.set_db_write_buffer_size(32 << 20);
    options.set_max_total_wal_size(64 << 20);
    options.set_max_open_files(256);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let families = Family::all().map(|f| {
            let mut options = Options::default();
            options.set_write_buffer_size(4 << 20);
            ColumnFamilyDescriptor::new(f.name(), options)
        });
        match DB::open_cf_descriptors(&options, path, families) {
            Ok(db) => return Ok(db),
            // `LOCK` held: by the daemon that this one replaces, or by a store that this process has just dropped.
            Err(e) if e.to_string().contains("lock") && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(source) => return Err(OpenError::Database { path: PathBuf::from(path), source }),
        }
    }
}
