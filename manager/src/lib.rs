//! The control plane: replicated state, allocation, scheduling, orchestration and dispatch.
//!
//! A request of a user comes in through [`api`], is checked, proposed and applied by [`store`], which [`raft`] replicates. The
//! leader's [`loops`] follow the state: they make tasks ([`orchestrator`]), give them addresses ([`allocator`]) and
//! nodes ([`scheduler`]), and rotate [`keys`]. [`dispatcher`] tells workers what is theirs and takes their reports; [`ca`] makes
//! machines nodes; [`logs`] carries log lines. [`run::Manager`] is all of it together, [`leader`] what only the leader does,
//! [`term`] what a term of leadership takes along when it ends, [`bootstrap`] how a cluster begins.
//!
//! Managers never read gossip, and nothing here touches the kernel.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod address_update;
pub mod allocator;
pub mod api;
mod blocking;
pub mod bootstrap;
pub mod ca;
pub mod control_loop;
pub mod dispatcher;
pub mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod keys;
mod lanes;
pub mod leader;
pub mod logs;
pub mod loops;
pub mod orchestrator;
mod peers;
pub mod raft;
pub mod run;
pub mod scheduler;
pub mod store;
pub mod term;

#[cfg(test)]
mod tests;
