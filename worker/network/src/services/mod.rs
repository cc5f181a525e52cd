//! What services look like from this node: one value that the load balancer's planner and the resolver both read, so that a
//! name never resolves to something that the kernel does not serve.

pub mod table;

pub use table::{Addresses, Backend, NetworkTable, PublishedPort, ServiceEntry, ServiceTable};
