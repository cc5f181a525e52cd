//! A machine's engine: the tasks of a swarm and the containers that users run, with their networks.
//!
//! * [`engine`]: all of it, from the daemon's start to its end.
//! * [`tasks`]: one supervisor per task. [`containers`]: what users run by hand.
//! * [`dataplane`]: sandboxes and resolvers for both.
//! * [`managers`]: what passes between the engine and the managers of a swarm.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod containers;
pub mod dataplane;
pub mod engine;
pub mod managers;
pub mod tasks;
