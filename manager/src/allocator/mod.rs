//! Subnets, VNIs, virtual addresses, published ports and task addresses: everything that must have one owner.
//!
//! Pure over the replicated state. What is in use is derived from the tables once per plan, into a [`WorkingSet`] that
//! remembers what the plan itself hands out. `apply` checks every choice again, so a stale working set costs a retry and never
//! an address with two owners. Which subnet and which address is next, the crate [`ipam`] says.

mod error;
mod mtu;
mod network;
mod node;
mod plan;
mod published_ports;
mod service;
mod task;
mod vni;
mod working_set;

pub use error::AllocateError;
pub use mtu::overlay_mtu;
pub use plan::Allocator;
pub use published_ports::PublishedPorts;
pub use working_set::{LastAllocated, WorkingSet};

/// Kind of the conditions that this loop writes.
pub const CONDITION: &str = "allocation";
