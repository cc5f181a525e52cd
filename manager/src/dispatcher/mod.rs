//! The workers' counterpart on the leader: sessions, assignments, and the statuses that come back.
//!
//! * [`sessions`]: pure: who is in session, and until when without a heartbeat.
//! * [`session`]: what a session's stream carries.
//! * [`view`], [`assignments`]: pure: the replicated state, seen from one node; and what changed in it.
//! * [`attach`]: pure: places on networks for containers that users run by hand.
//! * [`clock`]: pure: nodes' clocks beside the leader's.
//! * [`faults`]: pure: what nodes cannot put right by themselves, named on them.
//! * [`leader_pause`]: pure: whether a silence is the nodes' or the leader's own.
//! * [`status`]: reports, many to one raft entry.
//! * [`convergence`]: pure: who has not yet applied what was decided.
//! * [`liveness`]: nodes that fall silent are reported down.
//!
//! Sessions live in the leader's memory, for its term. A new term knows none, whoever led before: every node is `Unknown` until it
//! registers again.

pub mod assignments;
pub mod attach;
pub mod clock;
pub mod convergence;
pub mod endpoints;
pub mod faults;
pub mod leader_pause;
pub mod liveness;
pub mod service;
pub mod session;
pub mod sessions;
pub mod status;
pub mod view;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{
    error::ApiError,
    model::{ClusterSpec, Millis, NodeId, Revision, Timestamp},
};
use tokio::sync::Notify;

use self::{convergence::Unsettled, sessions::Sessions, status::Reports, view::ViewCache};
use crate::{
    store::{Store, state::State},
    term::{PerTerm, TermGuard},
};

/// A node is down after this many heartbeat periods of silence (swarmkit `defaultGracePeriodMultiplier`).
pub const GRACE_PERIODS: u64 = 3;
/// After a change of leader nodes have this many periods to find the new one (swarm-behaviour 3.2).
pub const GRACE_PERIODS_NEW_LEADER: u64 = 6;
/// Between two messages of one stream: what changes in the meantime goes together. Swarm waits 100 ms; a worker computes
/// the whole answer from whatever it gets, so that less waiting costs little.
pub const BATCH: Duration = Duration::from_millis(5);

/// The dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    store: Store,
    terms: PerTerm<Nodes>,
}

/// What the leader knows of the nodes, in one term.
pub struct Nodes {
    /// What is proposed through it is of this term.
    store: Store,
    sessions: Mutex<Sessions>,
    /// Wakes the liveness loop: a deadline has come closer, or a node's status is to be written.
    deadlines: Notify,
    views: ViewCache,
    reports: Reports,
}

impl Dispatcher {
    /// A dispatcher over `store`.
    pub fn new(store: Store) -> Self {
        let terms = PerTerm::new(store.leadership());
        Self { store, terms }
    }

    /// Begins raft's term `number`: nodes may register. All sessions end with what is returned.
    pub fn begin(&self, number: u64) -> TermGuard<Nodes> {
        let store = self.store.of_term(number);
        self.terms.begin(number, |over| Nodes {
            sessions: Mutex::new(Sessions::new(over)),
            deadlines: Notify::new(),
            views: ViewCache::default(),
            reports: Reports::spawn(store.clone(), over.clone()),
            store,
        })
    }

    /// What nodes and services have not yet come to where they are to be, of the changes up to `revision`.
    ///
    /// # Errors
    /// This manager does not lead.
    pub async fn unsettled(&self, state: &State, revision: Revision) -> Result<Vec<Unsettled>, ApiError> {
        let term = self.terms.get().await?;
        let sessions = term.sessions();
        let progress = |node: &NodeId| sessions.progress_of(node).cloned();
        Ok(convergence::unsettled(state, Timestamp::now(), revision, progress))
    }
}

impl Nodes {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // The table is consistent after each method, so a panic elsewhere leaves nothing half done.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The heartbeat period that the cluster's settings ask for.
pub(crate) fn heartbeat(state: &State) -> Millis {
    state
        .cluster
        .as_ref()
        .map_or(ClusterSpec::default().dispatcher_heartbeat, |c| c.spec.dispatcher_heartbeat)
}

/// `periods` heartbeat periods.
pub(crate) fn grace(state: &State, periods: u64) -> Duration {
    Duration::from_millis(heartbeat(state).0.saturating_mul(periods))
}
