//! A manager's disk: the database's promises kept, and everything beyond them taken away when the power fails.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use manager::store::database::{Database, DatabaseError, Flushed, Row, RowEdit, Rows};
use rand::{Rng, SeedableRng, rngs::StdRng};

type Tables = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A disk, and the database on it. Clones are handles of one; it outlives the processes that use it.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    /// What a process reads: everything written.
    written: Tables,
    /// What survives a loss of power.
    durable: Tables,
    /// Batches written and not yet durable, in order; the first of them is number `first`.
    log: Vec<Vec<RowEdit>>,
    first: u64,
    full: bool,
    /// It says that it has synced, and has not.
    lying: bool,
    /// Longest time that a flush takes.
    slowness: Duration,
    rng: StdRng,
}

fn put(tables: &mut Tables, edit: &RowEdit) {
    match edit {
        RowEdit::Put(family, key, value) => {
            tables.entry(family).or_default().insert(key.clone(), value.clone());
        }
        RowEdit::Delete(family, key) => {
            tables.entry(family).or_default().remove(key);
        }
        RowEdit::DeleteRange(family, from, to) => {
            let table = tables.entry(family).or_default();
            let gone: Vec<Vec<u8>> = table.range(from.clone()..to.clone()).map(|(k, _)| k.clone()).collect();
            for key in gone {
                table.remove(&key);
            }
        }
    }
}

impl Inner {
    fn sync(&mut self, upto: u64) {
        if !self.lying {
            self.keep(upto);
        }
    }

    fn keep(&mut self, upto: u64) {
        let count =
            usize::try_from(upto.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.log.len());
        for batch in self.log.drain(..count) {
            for edit in &batch {
                put(&mut self.durable, edit);
            }
            self.first += 1;
        }
    }

    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }
}

impl Disk {
    /// An empty one; `lying`: it breaks its promises, to see whether that is found.
    pub fn new(seed: u64, lying: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            written: Tables::new(),
            durable: Tables::new(),
            log: Vec::new(),
            first: 0,
            full: false,
            lying,
            slowness: Duration::from_millis(6),
            rng: StdRng::seed_from_u64(seed),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails: of what was not synced, any first part may be left. How many writes are lost.
    pub fn lose_power(&self) -> u64 {
        let mut inner = self.inner();
        let (first, end) = (inner.first, inner.end());
        let kept = inner.rng.random_range(first..=end);
        inner.keep(kept);
        let lost = inner.log.len() as u64;
        inner.log.clear();
        inner.first = kept;
        inner.written = inner.durable.clone();
        lost
    }

    /// Empty, as a new one.
    pub fn erase(&self) {
        let mut inner = self.inner();
        inner.written.clear();
        inner.durable.clear();
        inner.log.clear();
    }

    /// Whether writes fail.
    pub fn set_full(&self, full: bool) {
        self.inner().full = full;
    }

    /// How long a flush may take.
    pub fn set_slowness(&self, slowness: Duration) {
        self.inner().slowness = slowness;
    }
}

fn no_space() -> DatabaseError {
    DatabaseError("IO error: No space left on device".into())
}

impl Database for Disk {
    fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        Ok(self.inner().written.get(family).and_then(|t| t.get(key)).cloned())
    }

    fn scan<'a>(&'a self, family: &'static str, from: &[u8]) -> Result<Rows<'a>, DatabaseError> {
        let mut next = Bound::Included(from.to_vec());
        Ok(Box::new(std::iter::from_fn(move || {
            let inner = self.inner();
            let table = inner.written.get(family)?;
            let (key, value) = table.range((next.clone(), Bound::Unbounded)).next()?;
            next = Bound::Excluded(key.clone());
            Some(Ok((key.clone().into(), value.clone().into())))
        })))
    }

    fn last(&self, family: &'static str) -> Result<Option<Row>, DatabaseError> {
        let inner = self.inner();
        let last = inner.written.get(family).and_then(BTreeMap::last_key_value);
        Ok(last.map(|(k, v)| (k.clone().into(), v.clone().into())))
    }

    fn write(&self, batch: Vec<RowEdit>, synced: bool) -> Result<(), DatabaseError> {
        let mut inner = self.inner();
        if inner.full {
            return Err(no_space());
        }
        for edit in &batch {
            put(&mut inner.written, edit);
        }
        inner.log.push(batch);
        if synced {
            let end = inner.end();
            inner.sync(end);
        }
        Ok(())
    }

    fn flush(&self, done: Flushed) {
        let (end, takes) = {
            let mut inner = self.inner();
            let most = u64::try_from(inner.slowness.as_micros()).unwrap_or(u64::MAX);
            (inner.end(), Duration::from_micros(inner.rng.random_range(50..=most)))
        };
        let disk = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            let full = {
                let mut inner = disk.inner();
                if !inner.full {
                    inner.sync(end);
                }
                inner.full
            };
            done(if full { Err(no_space().to_string()) } else { Ok(()) });
        });
    }
}
