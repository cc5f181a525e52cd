//! Messages from peers.

use std::sync::Arc;

use openraft::{
    ServerState,
    error::RaftError,
    raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse},
};
use proto::{
    error::ApiError,
    model::{ClusterId, NodeId},
    pb,
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    Raft, TypeConfig,
    contact::{LeaderContact, RaftHealth},
    heartbeat::{self, Acknowledged},
    log_store::LogStore,
    peer::{PeerCall, PeerError},
    peer_addresses::PeerAddresses,
    timing::RaftTiming,
    wire::{Ballot, Knows, Opinion, SnapshotReply, Wire},
};
use crate::api::auth::Caller;

/// Answers the messages of peers: `rn.v1.Raft`. Whoever serves it has made sure that the caller is a manager.
#[derive(Clone)]
pub struct PeerServer {
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) own_id: u64,
    pub(crate) own_addr: std::net::SocketAddr,
    pub(crate) peer_addresses: PeerAddresses,
    pub(crate) contact: LeaderContact,
    pub(crate) core: RaftHealth,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) pace: RaftTiming,
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
            self.peer_addresses.said(message.from, addr);
        }
        let refused = |e: &dyn std::fmt::Display| PeerError::Refused(e.to_string());
        let body = match call {
            PeerCall::AppendEntries | PeerCall::Heartbeat => {
                let request =
                    AppendEntriesRequest::<TypeConfig>::from_bytes(&message.body).map_err(|e| refused(&e))?;
                let vote = request.vote;
                let reply = if heartbeat::is_heartbeat(&request) {
                    self.heartbeat(request).await?
                } else {
                    self.raft.append_entries(request).await.map_err(|e| refused(&e))?
                };
                if reply.is_success() || reply.is_conflict() {
                    self.contact.heard(&vote);
                }
                reply.to_bytes()
            }
            PeerCall::Vote => {
                let ballot = Ballot::from_bytes(&message.body).map_err(|e| refused(&e))?;
                if ballot.pre_vote {
                    self.pre_vote(ballot).await?.to_bytes()
                } else if let Some(refusal) = self.believes(&ballot.request) {
                    refusal.to_bytes()
                } else {
                    self.raft.vote(ballot.request).await.map_err(|e| refused(&e))?.to_bytes()
                }
            }
            PeerCall::InstallSnapshot => {
                let request = InstallSnapshotRequest::<TypeConfig>::from_bytes(&message.body)
                    .map_err(|e| refused(&e))?;
                self.contact.heard(&request.vote);
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

    /// Answers a heartbeat. That of the leader that is followed already is answered at once, and put to the core beside: what
    /// keeps the core busy is no reason to replace the leader.
    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<u64>, PeerError> {
        let known = self.raft.server_metrics().borrow().vote;
        let raft = self.raft.clone();
        if request.vote != known || !known.committed {
            let asked = raft.append_entries(request).await;
            return asked.map_err(|e| PeerError::Refused(e.to_string()));
        }
        if self.core.is_stuck() {
            return Err(PeerError::Refused("raft of this manager does not answer".into()));
        }
        self.core.ask(async move { raft.append_entries(request).await.is_ok() });
        Ok(AppendEntriesResponse::Success)
    }

    /// The refusal of a vote while another leader is believed to be there. Openraft knows of a lease too, but counts it from
    /// what its core has seen, and at rest.
    fn believes(&self, request: &VoteRequest<u64>) -> Option<VoteResponse<u64>> {
        let candidate = request.vote.leader_id.node_id;
        let leader = self.contact.leader().filter(|leader| *leader != candidate);
        let believed = leader.is_some() && self.contact.silence() <= self.pace.lease();
        let vote = self.raft.server_metrics().borrow().vote;
        believed.then_some(VoteResponse { vote, vote_granted: false, last_log_id: None })
    }

    /// Whether a vote would be granted: no leader has been heard within its lease, and the asker's log is not behind. The
    /// leader that was followed last may lead again at once: no other log is as whole as its.
    async fn pre_vote(&self, ballot: Ballot) -> Result<Opinion, PeerError> {
        let refused = |e: &dyn std::fmt::Display| PeerError::Refused(e.to_string());
        let candidate = ballot.request.vote.leader_id.node_id;
        let silent = self.contact.silence() > self.pace.lease();
        let state = self.raft.with_raft_state(|state| (*state.vote_ref(), state.server_state));
        let (vote, state) = state.await.map_err(|e| refused(&e))?;
        let leads = state == ServerState::Leader;
        let last_log_id = self.log.last_log_id().map_err(|e| refused(&e))?;
        let quiet = silent || self.contact.leader() == Some(candidate);
        let vote_granted = quiet && !leads && ballot.request.last_log_id >= last_log_id;
        let knows = if leads && self.has_majority(&vote) {
            Knows::Leads
        } else if !leads
            && !silent
            && self.contact.leader().is_some_and(|l| l != candidate && l != self.own_id)
        {
            Knows::Follows
        } else {
            Knows::Unspecified
        };
        Ok(Opinion { response: VoteResponse { vote, vote_granted, last_log_id }, knows })
    }

    /// Whether a majority answers this leader.
    fn has_majority(&self, vote: &super::Vote) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let age = self.acknowledged.age(vote, metrics.membership_config.membership(), self.own_id);
        age.is_some_and(|age| age <= self.pace.election())
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
