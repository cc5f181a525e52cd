//! A member: what runs on a node that is part of a swarm.

use std::time::Duration;

use certs::SharedIdentity;
use manager::{api::forward::LeaderProxy, run::Start};
use proto::{
    error::ApiError,
    model::{NodeId, Reachability, Role},
    pb::{self, control_client::ControlClient},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker::worker::Worker;

use super::{Membership, local_manager::LocalManager, role::RoleReconciler};

/// How long `swarm leave` waits for what the managers know of each other.
const ASK: Duration = Duration::from_secs(4);

/// How long what the keeper is at may take when the daemon stops: it is taken up again at the next start.
const BRIEFLY: Duration = Duration::from_secs(3);
/// The same when the node leaves: as long as taking a seat may take.
const WHOLLY: Duration = Duration::from_secs(60);

/// This node as a member of a swarm.
pub struct Member {
    /// What it was told.
    pub membership: Membership,
    /// Who it is.
    pub identity: SharedIdentity,
    /// Its seat among the managers.
    pub local_manager: LocalManager,
    /// Its worker.
    pub worker: Worker,
    pub(super) reconciler: RunningReconciler,
}

impl Member {
    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity.current().node_id().clone()
    }

    /// Whether it is, or is about to be, a manager.
    pub fn is_manager(&self) -> bool {
        self.identity.current().role() == Role::Manager
    }

    /// Stops; containers and their network go on.
    pub async fn shutdown(self) {
        self.reconciler.end(BRIEFLY).await;
        self.worker.shutdown().await;
        self.local_manager.stop().await;
    }

    /// `swarm init --force-new-cluster`: goes on as the only manager, with the tasks, the network and the workers that there are.
    ///
    /// # Errors
    /// It is no manager, or its raft does not start.
    pub async fn start_over(&self) -> Result<(), ApiError> {
        self.local_manager.restart(Start::ForceNewCluster).await
    }

    /// `swarm leave`: the tasks end, the network goes, raft is told.
    ///
    /// # Errors
    /// Refused: then the member goes on and comes back with the error. Or something is left behind.
    pub async fn leave(self, force: bool) -> Result<(), (Option<Box<Self>>, ApiError)> {
        // It may have become one a moment ago.
        if self.is_manager() && !force {
            let error = refusal(self.local_manager.api()).await;
            return Err((Some(Box::new(self)), error));
        }
        self.reconciler.end(WHOLLY).await;
        let members = self.local_manager.store().map(|store| store.metrics().members.len());
        if members.is_some_and(|n| n > 1) {
            match tokio::time::timeout(Duration::from_secs(10), self.local_manager.leave_raft()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "leaving without the other managers' consent"),
                Err(_) => tracing::warn!("leaving without the other managers: none answered"),
            }
        }
        let left = self.worker.leave().await;
        self.local_manager.stop().await;
        left.map_err(|error| (None, error))
    }
}

/// A keeper at work.
pub(super) struct RunningReconciler {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningReconciler {
    /// Sets it to work.
    pub(super) fn begin(reconciler: RoleReconciler) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(reconciler.run(stop.clone())), stop }
    }

    /// Ends it and waits for that: it must not write a file that is being removed. What it has begun it does to its end, if that comes
    /// within `patience`: a seat half taken would be counted on by the other managers.
    async fn end(mut self, patience: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            tracing::warn!("what was being done for this node's place among the managers is broken off");
            self.task.abort();
            // Cancelled, which is what was wanted.
            let _ = self.task.await;
        }
    }
}

/// Why a manager does not simply leave (wording as Docker's).
pub async fn refusal(gate: Option<LeaderProxy>) -> ApiError {
    let counted = match gate {
        Some(gate) => {
            let mut control = ControlClient::new(gate);
            let nodes = control.list_nodes(pb::ListNodesRequest {});
            match tokio::time::timeout(ASK, nodes).await {
                Ok(Ok(reply)) => Some(count(&reply.into_inner().nodes)),
                Ok(Err(_)) | Err(_) => None,
            }
        }
        None => None,
    };
    let more = match counted {
        Some((1, 0)) => {
            "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
                .to_owned()
        }
        Some((reachable, unreachable)) => {
            let counts = if reachable < unreachable + 3 {
                format!(
                    "Removing this node leaves {} managers out of {}. Without a Raft quorum your swarm will be inaccessible. ",
                    reachable.saturating_sub(1),
                    reachable + unreachable
                )
            } else {
                String::new()
            };
            format!("{counts}{SUPPRESS}")
        }
        None => format!("Doing so may lose the consensus of your cluster. {SUPPRESS}"),
    };
    ApiError::precondition(format!(
        "You are attempting to leave the swarm on a node that is participating as a manager. {more}"
    ))
    .help(
        "to leave in order: `rnctl node demote` this node on another manager first, then `rnctl swarm leave`",
    )
}

const SUPPRESS: &str = "The only way to restore a swarm that has lost consensus is to reinitialize it with \
                        `--force-new-cluster`. Use `--force` to suppress this message.";

/// Managers that answer, and managers that do not.
fn count(nodes: &[pb::Node]) -> (usize, usize) {
    let managers = nodes.iter().filter_map(|n| n.manager_status.as_ref()).filter(|m| m.raft_id != 0);
    let reachable = |m: &pb::ManagerStatus| {
        m.leader || m.reachability == pb::Reachability::from(Reachability::Reachable) as i32
    };
    let (up, down): (Vec<_>, Vec<_>) = managers.partition(|m| reachable(m));
    (up.len(), down.len())
}
