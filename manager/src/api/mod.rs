//! What users and nodes may ask of a manager, and how it is asked.
//!
//! A request passes the gate ([`forward`]: who is it, may it, does this manager answer), is converted, checked against the
//! rules for users ([`validate`], pure), proposed, and answered from the state that results.

pub mod auth;
mod cluster;
mod control;
mod files;
pub mod forward;
pub mod membership;
mod networks;
mod nodes;
mod redact;
mod services;
mod tasks;
mod unauthenticated;
pub mod validate;

use std::sync::Arc;

use proto::{
    error::ApiError,
    model::{NodeState, Revision},
    pb,
};

use self::validate::cluster::Limits;
use crate::{
    dispatcher::{Dispatcher, convergence::Unsettled},
    store::{Store, command::Command, state::State},
    term::no_longer_leads,
};

/// The control API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    store: Store,
    limits: Limits,
    /// Answers from what this manager knows, whether or not it is the newest.
    stale: bool,
    /// Where nodes report how far they are.
    dispatcher: Option<Dispatcher>,
}

impl Api {
    /// The control API over `store`; `dispatcher` knows how far nodes are.
    pub fn new(store: Store, limits: Limits, dispatcher: Dispatcher) -> Self {
        Self { store, limits, stale: false, dispatcher: Some(dispatcher) }
    }

    /// The same for reading without a leader. Its answers may be outdated, and the gate says so.
    pub fn stale(store: Store) -> Self {
        Self { store, limits: Limits::default(), stale: true, dispatcher: None }
    }

    /// The state, with everything in it that was acknowledged before the call, on whichever manager.
    async fn fresh(&self) -> Result<Arc<State>, ApiError> {
        if self.stale {
            return Ok(self.store.read());
        }
        Ok(self.store.read_index().await?)
    }

    /// What has not come to where it is to be, of the changes up to `revision`, or else of all.
    async fn converged_up_to(&self, revision: Revision) -> Result<pb::ConvergenceReply, ApiError> {
        let state = self.fresh().await?;
        let dispatcher = self.dispatcher.as_ref().ok_or_else(no_longer_leads)?;
        // A revision of an earlier epoch may be beyond all that there is now.
        let revision =
            if revision == Revision::default() { state.revision } else { revision.min(state.revision) };
        let wire = |u: Unsettled| {
            let (kind, name, reason) = match u {
                Unsettled::Node { name, reason } => ("node", name, reason),
                Unsettled::Service { name, reason } => ("service", name, reason),
            };
            pb::Unsettled { kind: kind.into(), name, reason }
        };
        let unsettled = dispatcher.unsettled(&state, revision).await?.into_iter().map(wire).collect();
        let ready = state.nodes.values().filter(|n| n.status.state == NodeState::Ready).count();
        let nodes = u64::try_from(ready).unwrap_or(u64::MAX);
        Ok(pb::ConvergenceReply { revision: revision.0, unsettled, nodes })
    }

    async fn propose(&self, command: Command) -> Result<(), ApiError> {
        Ok(self.store.propose_one(command).await?)
    }
}
