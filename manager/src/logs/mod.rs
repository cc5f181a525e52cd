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

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use self::registry::Registry;
use crate::{
    store::Store,
    term::{PerTerm, Term, TermGuard},
};

/// The broker. Cheap to clone.
#[derive(Clone)]
pub struct LogBroker {
    store: Store,
    /// Workers listen to the leader, so that each term has its own: a reader of an earlier one would wait for ever.
    readers: PerTerm<Readers>,
    /// Ends every stream: the manager stops.
    stop: CancellationToken,
}

/// Who listens, and what is being asked, in one term.
#[derive(Default)]
pub struct Readers(Mutex<Registry>);

impl Readers {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is behind a stream.
type OfTerm = std::sync::Arc<Term<Readers>>;

impl LogBroker {
    /// A broker for the tasks in `store`; its streams end with `stop`.
    pub fn new(store: Store, stop: CancellationToken) -> Self {
        let readers = PerTerm::new(store.leadership());
        Self { store, readers, stop }
    }

    /// Begins raft's term `number`.
    pub(crate) fn begin(&self, number: u64) -> TermGuard<Readers> {
        self.readers.begin(number, |_| Readers::default())
    }
}
