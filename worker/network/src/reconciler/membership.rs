//! What a membership in a swarm gives to the loop, and takes away with it.

use std::{future::pending, sync::Arc};

use gossip::PeerView;
use tokio::sync::watch;

use super::{OnApplied, SandboxRequest};
use crate::{assigned::Assigned, desired::Member};

/// A membership that begins.
pub struct Membership {
    /// This machine's part in it.
    pub member: Member,
    /// What is assigned here.
    pub assigned: watch::Receiver<Arc<Assigned>>,
    /// What gossip knows.
    pub view: watch::Receiver<Arc<PeerView>>,
    /// Told after each pass.
    pub on_applied: OnApplied,
    /// Sandboxes on its networks that live on, from before this start or from before the membership was suspended.
    pub keep: Vec<SandboxRequest>,
}

/// What the loop follows.
pub(super) enum Inputs {
    /// Nobody has said yet whether there is a swarm, or what becomes of it: nothing is touched.
    Undecided,
    /// There is none.
    Alone,
    /// There is one.
    Swarm {
        assigned: watch::Receiver<Arc<Assigned>>,
        view: watch::Receiver<Arc<PeerView>>,
        on_applied: OnApplied,
    },
}

impl Inputs {
    /// Waits until one of them has changed.
    pub(super) async fn changed(&mut self) {
        let Inputs::Swarm { assigned, view, .. } = self else { return pending().await };
        tokio::select! {
            Ok(()) = assigned.changed() => {}
            Ok(()) = view.changed() => {}
            else => pending().await,
        }
    }

    /// As they are now.
    pub(super) fn now(&mut self) -> (Arc<Assigned>, Arc<PeerView>) {
        match self {
            Inputs::Swarm { assigned, view, .. } => {
                (Arc::clone(&assigned.borrow_and_update()), Arc::clone(&view.borrow_and_update()))
            }
            Inputs::Undecided | Inputs::Alone => Default::default(),
        }
    }
}
