//! The control plane: replicated state, allocation, scheduling, orchestration and dispatch.

pub mod store;
