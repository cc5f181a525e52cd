//! What readers see: the newest state, and two ways to hear of the next one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use proto::model::Revision;
use tokio::sync::{broadcast, watch};

use super::{change::Change, state::State};

/// Entries that a slow reader of [`StatePublisher::changes`] may lag behind before it has to start over from a whole state.
const CHANGES_KEPT: usize = 1024;

/// Hands the newest state to readers, and tells them of each next one.
pub(crate) struct StatePublisher {
    state: ArcSwap<State>,
    revision: watch::Sender<Revision>,
    changes: broadcast::Sender<Arc<Vec<Change>>>,
}

impl StatePublisher {
    pub(crate) fn new(state: State) -> Self {
        Self {
            revision: watch::Sender::new(state.revision),
            state: ArcSwap::from_pointee(state),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }

    /// Makes `state` the newest. Watchers hear of it only when something changed: raft's own entries and refused commands
    /// wake nobody.
    pub(crate) fn publish(&self, state: State, changes: Vec<Change>) {
        let revision = state.revision;
        self.state.store(Arc::new(state));
        if changes.is_empty() {
            return;
        }
        // Nobody listening is no error.
        let _ = self.changes.send(Arc::new(changes));
        self.revision.send_replace(revision);
    }

    pub(crate) fn read(&self) -> Arc<State> {
        self.state.load_full()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Arc<Vec<Change>>> {
        self.changes.subscribe()
    }
}
