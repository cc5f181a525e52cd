//! What has happened, as a digest: two runs of a seed have the same one, or the simulation is worth nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Arguments,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Lines kept for whoever looks into a failure.
const KEPT: usize = 400;

/// The digest of a run, and its last events. Clones write to the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    digest: DefaultHasher,
    now_us: u64,
    lines: VecDeque<String>,
    loud: bool,
    counts: BTreeMap<&'static str, u64>,
    panic: Option<String>,
}

impl Trace {
    /// An empty one; `loud` prints each line as it comes.
    pub fn new(loud: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            digest: DefaultHasher::new(),
            now_us: 0,
            lines: VecDeque::new(),
            loud,
            counts: BTreeMap::new(),
            panic: None,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of what comes next.
    pub fn at(&self, us: u64) {
        self.inner().now_us = us;
    }

    /// Takes a line.
    pub fn line(&self, text: Arguments<'_>) {
        let mut inner = self.inner();
        let line = format!("{:>9.3} {text}", inner.now_us as f64 / 1e6);
        line.hash(&mut inner.digest);
        if inner.loud {
            println!("{line}");
        }
        if inner.lines.len() == KEPT {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// Takes numbers, which are too many for lines.
    pub fn numbers(&self, numbers: &[u64]) {
        let mut inner = self.inner();
        let now = inner.now_us;
        (now, numbers).hash(&mut inner.digest);
    }

    /// Counts one more of `what`.
    pub fn count(&self, what: &'static str, more: u64) {
        *self.inner().counts.entry(what).or_default() += more;
    }

    /// From now on a panic anywhere is noted: tokio would only end the task that it came from.
    pub fn watch_panics(&self) {
        let trace = self.clone();
        std::panic::set_hook(Box::new(move |info| {
            // Whoever panics may hold the lock.
            if let Ok(mut inner) = trace.0.try_lock() {
                inner.panic = Some(info.to_string().replace('\n', " "));
            }
        }));
    }

    /// The last panic.
    pub fn panic(&self) -> Option<String> {
        self.inner().panic.clone()
    }

    /// All counts.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.inner().counts.clone()
    }

    /// The digest so far.
    pub fn digest(&self) -> u64 {
        self.inner().digest.finish()
    }

    /// The last lines.
    pub fn last(&self) -> Vec<String> {
        self.inner().lines.iter().cloned().collect()
    }
}
