//! The data plane: agent, gossip, planners, kernel, container runtime and DNS.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

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
