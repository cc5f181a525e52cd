//! tonic over our own TLS: [`Listener`] accepts, [`Connector`] dials, both reading the [`crate::SharedIdentity`] at each handshake.

pub mod admission;
mod connector;
mod error;
mod listener;
pub mod stack;

pub use connector::{Connector, DialOptions, Target};
pub use error::{ConnectError, Refusal, explain, never_sent};
pub use listener::{Conn, ConnInfo, HANDSHAKE_TIMEOUT, HangUp, Incoming, Listener, server_builder};

use std::time::Duration;

/// How often an idle HTTP/2 connection is probed, on both sides.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the answer to a probe may take before the connection is given up.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
