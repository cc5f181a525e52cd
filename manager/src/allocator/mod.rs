//! Subnets, VNIs, virtual addresses, published ports and task addresses: everything that must have one owner.

mod mtu;
mod network;
mod node;
mod plan;
mod service;
mod task;

pub use mtu::overlay_mtu;
pub use plan::Allocator;

/// Kind of the conditions that this loop writes.
pub const CONDITION: &str = "allocation";
