//! The data plane: agent, gossip, planners, kernel, container runtime and DNS.

pub mod agent;
pub mod containers;
pub mod dataplane;
pub mod desired;
pub mod dns;
pub mod gossip;
pub mod kernel;
pub mod plan;
pub mod reconciler;
pub mod runtime;
pub mod services;
pub mod tasks;
pub mod worker;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
mod fixture;
