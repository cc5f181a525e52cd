//! What this node's network should be, and what is to be done for it.
//!
//! * [`assigned`]: what the managers want. [`workload`]: what runs here, whoever wants it. [`services`]: the table that load balancing and names are read from.
//! * [`desired`]: the whole answer, from assignments, the peers' records and the machine's own facts: pure.
//! * [`plan`]: steps from what is to what should be, one planner for each kind of thing: pure.
//! * [`reconciler`]: observes, plans, executes, again and again.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod assigned;
pub mod desired;
pub mod error;
pub mod plan;
pub mod reconciler;
pub mod services;
pub mod workload;

/// For tests, here and in the crates above.
#[cfg(any(test, feature = "fixture"))]
#[allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
pub mod fixture;
