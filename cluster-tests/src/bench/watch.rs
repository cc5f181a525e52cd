//! When something first became true, seen from inside a namespace.

use std::{
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};

use crate::{interrupt, lan::enter};

/// Between two looks. Short against what is measured, long against what a look costs.
const PAUSE: Duration = Duration::from_millis(2);

/// A look that is repeated on a thread of its own until it succeeds.
pub struct Watch<T> {
    what: String,
    thread: JoinHandle<Result<(SystemTime, T)>>,
}

impl<T: Send + 'static> Watch<T> {
    /// Starts looking from inside `ns`, for at most `limit`. The moment is that of the end of the first look that succeeds.
    pub fn start(
        what: String,
        ns: PathBuf,
        limit: Duration,
        mut look: impl FnMut() -> Result<T> + Send + 'static,
    ) -> Self {
        let thread = thread::spawn(move || {
            enter(&ns, || {
                let start = SystemTime::now();
                loop {
                    interrupt::check()?;
                    match look() {
                        Ok(value) => return Ok((SystemTime::now(), value)),
                        Err(reason) if start.elapsed().unwrap_or_default() > limit => return Err(reason),
                        Err(_) => thread::sleep(PAUSE),
                    }
                }
            })?
        });
        Self { what, thread }
    }

    /// Waits for it.
    pub fn join(self) -> Result<(SystemTime, T)> {
        let done = self.thread.join().map_err(|_| anyhow!("the watching thread broke off"))?;
        done.with_context(|| format!("{} has never been seen", self.what))
    }
}
