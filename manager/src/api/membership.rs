//! Managers coming into raft and leaving it.

use std::{net::SocketAddr, time::Duration};

use certs::transport::stack::can_connect;
use proto::{
    error::ApiError,
    model::Role,
    pb::{self, membership_server},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::auth::Caller;
use crate::store::{ProposeError, Store};

/// How long the leader tries to reach a joiner at the address that it gives (swarmkit: health check of the joiner, 5 s).
const DIAL_BACK: Duration = Duration::from_secs(5);
/// Between two attempts to let a demoted manager go (swarmkit `roleManager`: 5 s).
const RETRY: Duration = Duration::from_secs(5);

/// The membership service. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    store: Store,
}

impl Members {
    /// The membership of the raft cluster in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn join(&self, caller: &Caller, addr: &str) -> Result<pb::JoinRaftReply, ApiError> {
        let node = caller.node()?;
        let addr: SocketAddr = addr.parse().map_err(|_| {
            ApiError::invalid(format!(
                "{addr:?} is not an address with a port: others need one to reach this manager by"
            ))
        })?;
        // A manager that listens everywhere does not say where it is; its connection does.
        let addr = match caller.remote {
            Some(remote) if addr.ip().is_unspecified() => {
                SocketAddr::new(remote.ip().to_canonical(), addr.port())
            }
            _ => addr,
        };
        reachable(addr).await?;
        let raft_id = self.store.add_member(node, addr).await?;
        let members = self.store.metrics().members.into_iter();
        let members = members.filter_map(|m| {
            Some(pb::RaftMember {
                raft_id: m.raft_id,
                node_id: m.node_id?.to_string(),
                addr: m.addr?.to_string(),
            })
        });
        Ok(pb::JoinRaftReply { raft_id, members: members.collect() })
    }
}

/// A member that its peers cannot reach would count for the quorum and never answer.
async fn reachable(addr: SocketAddr) -> Result<(), ApiError> {
    let why = match timeout(DIAL_BACK, can_connect(addr)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", DIAL_BACK.as_secs()),
    };
    Err(ApiError::precondition(format!("the leader cannot reach this manager at {addr}: {why}"))
        .help("give an address that the other managers can reach: rnctl swarm join --advertise-addr ADDRESS"))
}

#[tonic::async_trait]
impl membership_server::Membership for Members {
    async fn join(
        &self,
        request: Request<pb::JoinRaftRequest>,
    ) -> Result<Response<pb::JoinRaftReply>, Status> {
        let caller = Caller::of(&request)?;
        // In a task of its own: it ends in raft what it has begun in the tables, whether or not the joiner is there to hear of it.
        let (members, addr) = (self.clone(), request.into_inner().addr);
        let joined = tokio::spawn(async move { members.join(&caller, &addr).await });
        Ok(Response::new(joined.await.map_err(|e| ApiError::internal(e.to_string()))??))
    }

    async fn leave(
        &self,
        request: Request<pb::LeaveRaftRequest>,
    ) -> Result<Response<pb::LeaveRaftReply>, Status> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?.clone();
        // For itself only: letting another one go is what `node demote` is for.
        let named = request.get_ref().node_id.as_str();
        if !named.is_empty() && named != node.as_str() {
            return Err(
                ApiError::denied(format!("node {node} may take itself out of raft, and no other")).into()
            );
        }
        self.store.remove_member(&node).await?;
        Ok(Response::new(pb::LeaveRaftReply {}))
    }
}

/// Takes demoted managers out of raft, until `stop`. Only then does the CA give them a worker's certificate.
///
/// # Errors
/// Raft has stopped.
pub async fn demote(store: Store, stop: CancellationToken) -> Result<(), ProposeError> {
    let mut changed = store.watch();
    loop {
        changed.mark_unchanged();
        let state = store.read();
        let mut waiting = false;
        for node in state.nodes.values().filter(|n| n.raft_id != 0 && n.spec.role == Role::Worker) {
            match store.remove_member(&node.id).await {
                Ok(()) => tracing::info!(node = %node.id, "a demoted manager left raft"),
                Err(error) => {
                    tracing::warn!(node = %node.id, %error, "a demoted manager stays in raft for now");
                    waiting = true;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            alive = changed.changed() => if alive.is_err() { return Ok(()) },
            () = tokio::time::sleep(RETRY), if waiting => {}
        }
    }
}
