//! The embedded resolver.
//!
//! In each task's namespace a UDP socket and a TCP listener wait at 127.0.0.11 on ports of the kernel's choice, to which
//! port 53 is redirected there (a direct bind would break containers that serve 0.0.0.0:53). The sockets belong to the
//! namespace, the tasks that serve them to the daemon's runtime; parked with the container's shim, they outlive the daemon.
//!
//! * [`answer`]: pure: service table, requester, question -> answer, or "forward it".
//! * [`server`]: sockets and who is behind them.
//! * [`upstream`]: forwarding with cache, coalescing and fairness.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod answer;
pub mod cache;
mod datagrams;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod server;
pub mod upstream;

pub use server::{Counts as DnsCounts, DnsServer, DnsSockets, Requester};
pub use upstream::{Forwarder, UpstreamConfig};

/// Life of our own answers in seconds. Swarm's 600 make resolvers that cache keep addresses of tasks long gone.
pub const TTL: u32 = 5;
