//! The control plane: replicated state, allocation, scheduling, orchestration and dispatch.

pub mod allocator;
pub mod control_loop;
pub mod ipam;
pub mod keys;
pub mod loops;
pub mod orchestrator;
pub mod raft;
pub mod scheduler;
pub mod store;

#[cfg(test)]
mod tests;
