//! The only code that touches Linux networking.
//!
//! Two verbs over plain data: [`Kernel::observe`] says what is ([`observed`]), [`Kernel::execute`] does one thing ([`step`]).
//! Neither decides anything: that is the planners' work. [`LinuxKernel`] does it for real; [`FakeKernel`] is a small
//! model that the suite in `conformance` holds to the real one.
//!
//! What is ours is known by marks in the kernel itself: links have the [`alias`] `rn:<daemon>:<object>`, namespaces lie in the
//! daemon's exec root, routes and rules have [`step::ROUTE_PROTOCOL`], tables have a chain named after their digest
//! ([`Ruleset`]).
//!
//! All calls block, for microseconds to a few milliseconds; a caller inside an async task wraps a pass in `spawn_blocking`.
//! Threads of the runtime never change namespace: [`netns::in_ns`] uses one of its own.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

#[cfg(test)]
mod conformance;
mod conntrack;
mod display;
pub mod error;
pub mod events;
pub mod facts;
mod fake;
pub mod features;
mod forwarding;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod link;
mod linux;
pub mod listeners;
mod netlink;
pub mod netns;
mod nft;
mod observe;
pub mod observed;
mod routing;

pub mod ruleset;
pub mod step;
mod sysctl;

pub use error::{Cause, KernelError};
pub use fake::FakeKernel;
pub use linux::LinuxKernel;
pub use observed::{Link, LinkKind, NsObserved, Observed, Scope, Table, Wanted};
pub use ruleset::{Element, ElementChange, Family, Part, Ruleset, Value, Verdict};
pub use step::{
    ConntrackFilter, FdbEntry, IpFamily, Neigh, Ns, PortFlags, Route, Rule, Step, VethEnd, Vxlan,
};

/// Linux, seen from the planners.
pub trait Kernel: Send + Sync + 'static {
    /// What is.
    fn observe(&self, scope: &Scope) -> Result<Observed, KernelError>;

    /// Does one thing.
    fn execute(&self, step: &Step) -> Result<(), KernelError>;

    /// Does several things in order, up to the first failure.
    fn execute_all(&self, unit: &[Step]) -> Result<(), KernelError> {
        unit.iter().try_for_each(|step| self.execute(step))
    }
}

/// The alias of a link that `daemon` made for `object`.
pub fn alias(daemon: &str, object: &str) -> String {
    format!("rn:{daemon}:{object}")
}
