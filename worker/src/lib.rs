//! The data plane: agent, gossip, planners, kernel, container runtime and DNS.

pub mod agent;
pub mod gossip;
