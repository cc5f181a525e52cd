//! Where tasks run. Filters say which nodes can take a task and why the others cannot; the spread picks among them.

pub mod constraint;
mod filter;
mod node_info;
mod plan;
mod spread;

pub use filter::{Filter, Refusal, is_available};
pub use node_info::NodeInfo;
pub use plan::plan;

/// Kind of the conditions that this loop writes.
pub const CONDITION: &str = "placement";
