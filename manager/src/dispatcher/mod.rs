//! The workers' counterpart on the leader: sessions, assignments, and the statuses that come back.
//!
//! * [`sessions`]: pure: who is in session, and until when without a heartbeat.
//! * [`session`]: what a session's stream carries.
//! * [`view`], [`assignments`]: pure: the replicated state, seen from one node; and what changed in it.
//! * [`attach`]: pure: places on networks for containers that users run by hand.
//! * [`clock`]: pure: nodes' clocks beside the leader's.
//! * [`status`]: reports, many to one raft entry.
//! * [`convergence`]: pure: who has not yet applied what was decided.
//! * [`liveness`]: nodes that fall silent are reported down.
//!
//! Sessions live in the leader's memory. A new leader knows none: every node is `Unknown` until it registers again.

pub mod assignments;
pub mod attach;
pub mod clock;
pub mod convergence;
pub mod endpoints;
pub mod liveness;
pub mod service;
pub mod session;
pub mod sessions;
pub mod status;
pub mod view;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::model::{ClusterSpec, Millis, Revision, Timestamp};
use tokio::sync::Notify;

use self::{convergence::Unsettled, sessions::Sessions, status::Reports, view::ViewCache};
use crate::store::{Store, state::State};

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
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    sessions: Mutex<Sessions>,
    /// Rung when a deadline may have moved forward, or there is something to say of a node.
    deadlines: Notify,
    views: ViewCache,
    reports: Reports,
}

impl Dispatcher {
    /// A dispatcher over `store`. Starts the task that proposes statuses; it ends with the last clone.
    pub fn new(store: Store) -> Self {
        let reports = Reports::spawn(store.clone());
        Self {
            inner: Arc::new(Inner {
                store,
                sessions: Mutex::default(),
                deadlines: Notify::new(),
                views: ViewCache::default(),
                reports,
            }),
        }
    }

    /// What nodes and services have not yet come to where they are to be, of the changes up to `revision`.
    pub fn unsettled(&self, state: &State, revision: Revision) -> Vec<Unsettled> {
        let sessions = self.sessions();
        convergence::unsettled(state, Timestamp::now(), revision, |node| sessions.progress_of(node).cloned())
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // The table is consistent after each method, so a panic elsewhere leaves nothing half done.
        self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner)
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
