//! When something first became true, seen from inside a namespace.

use std::{
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow};

use crate::{interrupt, lan::enter};

/// Between two looks. Short against what is measured, long against what a look costs.
const PAUSE: Duration = Duration::from_millis(2);

/// A look that takes longer was neither answered nor refused: something on the way dropped it.
const STALL: Duration = Duration::from_millis(100);

/// What was seen at last.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    /// The end of the first look that succeeded.
    pub at: SystemTime,
    /// What it gave.
    pub value: T,
    /// Looks before it that were neither answered nor refused.
    pub stalled: Vec<String>,
}

/// A look that is repeated on a thread of its own until it succeeds.
pub struct Watch<T> {
    what: String,
    thread: JoinHandle<Result<Seen<T>>>,
}

impl<T: Send + 'static> Watch<T> {
    /// Starts looking from inside `ns`, for at most `limit`.
    pub fn start(
        what: String,
        ns: PathBuf,
        limit: Duration,
        mut look: impl FnMut() -> Result<T> + Send + 'static,
    ) -> Self {
        let who = what.clone();
        let thread = thread::spawn(move || {
            enter(&ns, || {
                let (start, mut stalled) = (Instant::now(), Vec::new());
                loop {
                    interrupt::check()?;
                    let began = Instant::now();
                    match look() {
                        Ok(value) => return Ok(Seen { at: SystemTime::now(), value, stalled }),
                        Err(reason) if start.elapsed() > limit => return Err(reason),
                        Err(reason) => {
                            if began.elapsed() > STALL {
                                stalled.push(format!("{who}: {reason:#}"));
                            }
                            thread::sleep(PAUSE);
                        }
                    }
                }
            })?
        });
        Self { what, thread }
    }

    /// Waits for it.
    pub fn join(self) -> Result<Seen<T>> {
        let done = self.thread.join().map_err(|_| anyhow!("the watching thread broke off"))?;
        done.with_context(|| format!("{} has never been seen", self.what))
    }
}
