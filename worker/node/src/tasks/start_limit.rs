//! How many tasks a node starts at once. Making a container costs far more than running most of them: a hundred at once would leave
//! nothing for the tasks that run, nor for the manager that may live on the same machine. Pulling an image takes no turn: it waits for the
//! network most of the time, and a registry that hangs would hold up tasks whose image is here.

use std::{sync::Arc, time::Duration};

use proto::model::TaskState;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{actor::Actor, image::unwanted};

/// Tasks that are started at once, for each core of the machine.
const PER_CORE: usize = 2;
/// A task that waits longer for its turn says so: each report is an entry of the managers' log.
const SAY: Duration = Duration::from_secs(1);

/// The turns of a node. Clones share one state.
#[derive(Debug, Clone)]
pub struct StartLimiter {
    free: Arc<Semaphore>,
    at_once: usize,
}

impl StartLimiter {
    /// So many at once, at least one.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(at_once)), at_once }
    }

    /// As many as suit this machine.
    pub fn by_cores() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from) * PER_CORE)
    }

    /// Nobody waits.
    pub(crate) fn unlimited() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }
}

/// What came of waiting.
pub(super) enum StartPermit {
    /// Until it is dropped.
    Mine(OwnedSemaphorePermit),
    /// The task is not wanted any more.
    Unwanted,
}

impl Actor {
    /// Waits until this task may be made or started.
    pub(super) async fn permit(&mut self, state: TaskState) -> StartPermit {
        let starts = self.deps.starts.clone();
        let taken = starts.free.clone().acquire_owned();
        tokio::pin!(taken);
        let mut said = false;
        loop {
            tokio::select! {
                biased;
                taken = &mut taken => return match taken {
                    Ok(permit) => StartPermit::Mine(permit),
                    // Never closed; whoever waited for ever would be no better off.
                    Err(_) => StartPermit::Unwanted,
                },
                unwanted = unwanted(&mut self.wish) => {
                    if !unwanted {
                        // The supervisor has ended; this task is aborted with it.
                        std::future::pending::<()>().await;
                    }
                    return StartPermit::Unwanted;
                }
                () = sleep(SAY), if !said => {
                    said = true;
                    let message = format!("waiting for its turn: this node starts {} tasks at once", starts.at_once);
                    self.report(state, &message);
                }
            }
        }
    }
}
