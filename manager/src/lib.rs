//! The control plane: replicated state, allocation, scheduling, orchestration and dispatch.

pub mod raft;
pub mod store;
