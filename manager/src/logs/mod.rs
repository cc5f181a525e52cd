//! Logs of services and tasks: from the nodes that keep them, through the leader, to whoever asks.
//!
//! Workers hold a `Listen` stream open. A client's `Subscribe` becomes one subscription per node that runs or ran the tasks;
//! the workers answer by `Publish`. What a node cannot tell becomes an `error` chunk, and the rest goes on.
//!
//! * [`targets`]: pure: whom to ask.
//! * [`registry`]: who listens, and what is being asked.
//! * [`subscribe`]: one client's stream. [`publish`]: the workers' side.

pub mod publish;
pub mod registry;
pub mod subscribe;
pub mod targets;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use self::registry::Registry;
use crate::store::Store;

/// The broker. Cheap to clone.
#[derive(Clone)]
pub struct LogBroker {
    store: Store,
    registry: Arc<Mutex<Registry>>,
    /// Ends every stream: the manager stops.
    stop: CancellationToken,
}

impl LogBroker {
    /// A broker for the tasks in `store`; its streams end with `stop`.
    pub fn new(store: Store, stop: CancellationToken) -> Self {
        Self { store, registry: Arc::default(), stop }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
