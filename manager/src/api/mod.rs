//! What users and nodes may ask of a manager, and how it is asked.
//!
//! A request passes the gate ([`forward`]: who is it, may it, does this manager answer), is converted, checked against the
//! rules for users ([`validate`], pure), proposed, and answered from the state that results.

pub mod auth;
mod cluster;
mod conceal;
mod control;
pub mod forward;
pub mod membership;
mod networks;
mod nodes;
mod services;
mod tasks;
pub mod validate;

use std::sync::Arc;

use proto::error::ApiError;

use self::validate::cluster::Limits;
use crate::store::{Store, command::Command, state::State};

/// The control API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    store: Store,
    limits: Limits,
    /// Answers from what this manager knows, whether or not it is the newest.
    stale: bool,
}

impl Api {
    /// The control API over `store`.
    pub fn new(store: Store, limits: Limits) -> Self {
        Self { store, limits, stale: false }
    }

    /// The same for reading without a leader. Its answers may be outdated, and the gate says so.
    pub fn stale(store: Store) -> Self {
        Self { store, limits: Limits::default(), stale: true }
    }

    /// The state, with everything in it that was acknowledged before the call, on whichever manager.
    async fn fresh(&self) -> Result<Arc<State>, ApiError> {
        if self.stale {
            return Ok(self.store.read());
        }
        Ok(self.store.read_index().await?)
    }

    async fn propose(&self, command: Command) -> Result<(), ApiError> {
        Ok(self.store.propose_one(command).await?)
    }
}
