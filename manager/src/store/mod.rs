//! The replicated store.

pub mod command;
pub mod state;
