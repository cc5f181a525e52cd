//! Messages from peers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use openraft::{
    error::RaftError,
    raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteResponse},
};
use proto::{
    error::ApiError,
    model::{ClusterId, NodeId},
    pb,
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Raft, TypeConfig,
    log_store::LogStore,
    peer::{PeerCall, PeerError},
    whereabouts::Whereabouts,
    wire::{Ballot, SnapshotReply, Wire},
};
use crate::api::auth::Caller;

/// When this manager last heard from a leader.
#[derive(Debug, Clone)]
pub(crate) struct LeaderContact {
    start: Instant,
    /// Milliseconds after `start`.
    last: Arc<AtomicU64>,
}

impl LeaderContact {
    /// As if a leader had spoken just now: a manager that starts gives the others time to be heard.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }

    /// A leader has spoken, or this manager leads with a majority behind it.
    pub(crate) fn now(&self) {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(ms, Ordering::Relaxed);
    }

    /// How long no leader has spoken.
    pub(crate) fn silence(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Answers the messages of peers: `rn.v1.Raft`. Whoever serves it has made sure that the caller is a manager.
#[derive(Clone)]
pub struct PeerServer {
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) own_id: u64,
    pub(crate) own_addr: std::net::SocketAddr,
    pub(crate) whereabouts: Whereabouts,
    pub(crate) contact: LeaderContact,
    /// For how long after a leader's word this manager votes for nobody else.
    pub(crate) lease: Duration,
    pub(crate) cluster: Arc<dyn Fn() -> Option<ClusterId> + Send + Sync>,
    /// Whether this manager is a member by its own state, and the one with this raft id is not.
    pub(crate) left_behind: Arc<dyn Fn(u64) -> bool + Send + Sync>,
}

impl PeerServer {
    /// Answers one message.
    ///
    /// # Errors
    /// [`PeerError::Refused`]: it is not for this manager, cannot be read, or raft has stopped.
    pub async fn answer(
        &self,
        call: PeerCall,
        message: pb::RaftMessage,
    ) -> Result<pb::RaftMessage, PeerError> {
        self.check(&message)?;
        if let Ok(addr) = message.addr.parse() {
            self.whereabouts.said(message.from, addr);
        }
        let refused = |e: &dyn std::fmt::Display| PeerError::Refused(e.to_string());
        let body = match call {
            PeerCall::AppendEntries => {
                let request =
                    AppendEntriesRequest::<TypeConfig>::from_bytes(&message.body).map_err(|e| refused(&e))?;
                let reply = self.raft.append_entries(request).await.map_err(|e| refused(&e))?;
                if reply.is_success() || reply.is_conflict() {
                    self.contact.now();
                }
                reply.to_bytes()
            }
            PeerCall::Vote => {
                let ballot = Ballot::from_bytes(&message.body).map_err(|e| refused(&e))?;
                if ballot.pre_vote {
                    self.pre_vote(ballot).await?.to_bytes()
                } else {
                    self.raft.vote(ballot.request).await.map_err(|e| refused(&e))?.to_bytes()
                }
            }
            PeerCall::InstallSnapshot => {
                let request = InstallSnapshotRequest::<TypeConfig>::from_bytes(&message.body)
                    .map_err(|e| refused(&e))?;
                self.contact.now();
                let reply: SnapshotReply = match self.raft.install_snapshot(request).await {
                    Ok(reply) => Ok(reply),
                    Err(RaftError::APIError(mismatch)) => Err(mismatch),
                    Err(RaftError::Fatal(e)) => return Err(refused(&e)),
                };
                reply.to_bytes()
            }
        };
        Ok(pb::RaftMessage {
            from: self.own_id,
            target: message.from,
            body,
            cluster_id: message.cluster_id,
            addr: self.own_addr.to_string(),
        })
    }

    fn check(&self, message: &pb::RaftMessage) -> Result<(), PeerError> {
        if message.target != self.own_id && (self.left_behind)(message.from) {
            return Err(PeerError::Superseded);
        }
        if message.target != self.own_id {
            return Err(PeerError::Refused(format!(
                "message for raft member {:x} reached {:x}: addresses have moved",
                message.target, self.own_id
            )));
        }
        // A joiner knows its cluster only after the first entries.
        match (self.cluster)() {
            Some(own) if !message.cluster_id.is_empty() && message.cluster_id != own.as_str() => {
                Err(PeerError::Refused(format!(
                    "message of cluster {} reached cluster {own}",
                    message.cluster_id
                )))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that a raft id is the calling node's, as far as this manager knows the members.
    fn is_from(&self, raft_id: u64, node: &NodeId) -> Result<(), ApiError> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let member = metrics.membership_config.membership().get_node(&raft_id);
        match member.and_then(|m| m.node_id.as_ref()) {
            Some(owner) if owner != node => Err(ApiError::denied(format!(
                "node {node} speaks as raft member {raft_id:x}, which is node {owner}"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a vote would be granted: no leader has been heard within its lease, and the asker's log is not behind.
    async fn pre_vote(&self, ballot: Ballot) -> Result<VoteResponse<u64>, PeerError> {
        let refused = |e: &dyn std::fmt::Display| PeerError::Refused(e.to_string());
        let quiet = self.contact.silence() > self.lease;
        let state = self.raft.with_raft_state(|state| (*state.vote_ref(), state.server_state.is_leader()));
        let (vote, leads) = state.await.map_err(|e| refused(&e))?;
        let last_log_id = self.log.last_log_id().map_err(|e| refused(&e))?;
        let vote_granted = quiet && !leads && ballot.request.last_log_id >= last_log_id;
        Ok(VoteResponse { vote, vote_granted, last_log_id })
    }

    async fn serve(
        &self,
        call: PeerCall,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        self.is_from(message.from, caller.node()?)?;
        match self.answer(call, message).await {
            Ok(reply) => Ok(Response::new(reply)),
            Err(e @ PeerError::Superseded) => Err(ApiError::out_of_sequence(e.to_string()).into()),
            Err(e) => Err(ApiError::precondition(e.to_string()).into()),
        }
    }
}

#[async_trait]
impl pb::raft_server::Raft for PeerServer {
    async fn append_entries(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.serve(PeerCall::AppendEntries, request).await
    }

    async fn vote(&self, request: Request<pb::RaftMessage>) -> Result<Response<pb::RaftMessage>, Status> {
        self.serve(PeerCall::Vote, request).await
    }

    async fn install_snapshot(
        &self,
        request: Request<pb::RaftMessage>,
    ) -> Result<Response<pb::RaftMessage>, Status> {
        self.serve(PeerCall::InstallSnapshot, request).await
    }
}
