//! Tests of the loops together, over the real `apply`: no raft, no clock, no threads.

pub(crate) mod fixture;

mod allocation;
mod convergence;
mod live;
mod orchestration;
mod placement;
mod update;
mod world;
