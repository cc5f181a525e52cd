//! What every object carries.

use std::{fmt, time::Duration};

/// A raft index; the version of an object is the index of the entry that last changed it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The machine's clock now. Never called by `apply`, `plan` or any other pure function.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// This time plus `span`.
    pub fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A span of time in milliseconds.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// Longer than anybody waits: how a time without a limit is written.
    pub const UNLIMITED: Self = Self(u64::MAX);

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(n * 1000)
    }
}

impl From<Millis> for Duration {
    fn from(m: Millis) -> Self {
        Duration::from_millis(m.0)
    }
}

impl From<Duration> for Millis {
    fn from(d: Duration) -> Self {
        Self(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// When an object was made and last changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Meta {
    /// When it was created, by the proposer's clock.
    pub created_at: Timestamp,
    /// The entry that created it: the order of making, which two proposers' clocks may not keep.
    pub created_in: Revision,
    /// When it last changed, by the proposer's clock.
    pub updated_at: Timestamp,
    /// The entry that last changed it.
    pub version: Revision,
}

/// Why an object is not (yet) what its user asked for. One of each kind at most.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    /// Which loop says so: `allocation`, `placement`, `network`, `image`.
    pub kind: String,
    /// The reason, for a user to read; names the holder of what is missing.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}
