//! The worker's side of the dispatcher.

pub mod assignments;

pub use assignments::Assigned;
