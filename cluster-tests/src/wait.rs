//! Waiting for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::interrupt;

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// Tries `attempt` until it answers `Ok`, for at most `limit`; then fails with its last reason.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        match attempt() {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() > limit => {
                return Err(anyhow!("not within {limit:?}: {what}: {reason:#}"));
            }
            Err(_) => std::thread::sleep(PERIOD),
        }
    }
}

/// Only a test that fails waits this long: what takes a second at rest takes many beside a busy machine's other work.
pub const SHORT: Duration = Duration::from_secs(20);
/// The same, for what includes a restart delay or a node's silence.
pub const LONG: Duration = Duration::from_secs(60);
