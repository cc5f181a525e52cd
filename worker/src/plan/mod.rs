//! From what should be to what to do: pure planners.

pub mod names;
pub mod rulesets;
