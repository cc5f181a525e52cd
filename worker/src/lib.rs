//! A node's membership of a swarm: its session with the managers, and the engine that does what they assign.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod agent;
pub mod worker;
