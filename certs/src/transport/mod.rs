//! tonic over our own TLS: [`Listener`] accepts, [`Connector`] dials, both reading the [`crate::SharedIdentity`] at each handshake.

pub mod admission;
mod connector;
mod error;
mod listener;
pub mod stack;

pub use connector::{Connector, DialOptions, Target};
pub use error::{ConnectError, Refusal, explain, never_sent};
pub use listener::{CloseHandle, Conn, ConnInfo, HANDSHAKE_TIMEOUT, Incoming, Listener, server_builder};

use std::time::Duration;

/// A connection for raft's messages alone. Both sides agree on it by ALPN; an older version on either side takes it for any
/// other connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Heartbeats and votes.
    Pulse,
    /// Entries and snapshots.
    Entries,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Pulse, Self::Entries];

    /// Its protocol name.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Pulse => b"rn-raft-pulse",
            Self::Entries => b"rn-raft-entries",
        }
    }

    fn of(alpn: Option<&[u8]>) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| Some(lane.alpn()) == alpn)
    }
}

/// How often an idle HTTP/2 connection is probed, on both sides.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the answer to a probe may take before the connection is given up.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
