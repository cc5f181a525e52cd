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

use crate::store::{Store, command::Command, state::State};

/// The control API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    store: Store,
}

impl Api {
    /// The control API over `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The state, with everything in it that was acknowledged before the call, on whichever manager.
    async fn fresh(&self) -> Result<Arc<State>, ApiError> {
        Ok(self.store.read_index().await?)
    }

    async fn propose(&self, command: Command) -> Result<(), ApiError> {
        Ok(self.store.propose_one(command).await?)
    }
}
