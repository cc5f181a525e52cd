//! Messages between managers: how they travel is the [`PeerTransport`]'s business, so that tests need no network.
// The errors are openraft's own.
#![allow(clippy::result_large_err)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use openraft::{
    RaftNetwork, RaftNetworkFactory,
    error::{
        InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, RemoteError, Timeout,
        Unreachable,
    },
    network::{Backoff, RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use prost::Message;
use proto::{
    model::{ClusterId, NodeId},
    pb,
};

use super::{
    Member, PeerServer, TypeConfig,
    peer_addresses::PeerAddresses,
    reachability::{Failure, PeerReachability},
    timing::RaftTiming,
    wire::{Ballot, SnapshotReply, Wire},
};

/// The largest message; one above it is sent with fewer entries.
pub const MAX_MESSAGE: usize = 16 << 20;

/// A manager to send to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its raft id.
    pub raft_id: u64,
    /// Its node.
    pub node_id: NodeId,
    /// Where it listened last.
    pub addr: SocketAddr,
}

/// The calls of the service `rn.v1.Raft`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerCall {
    /// Entries.
    AppendEntries,
    /// Nothing but that the leader is there; `rn.v1.Raft/AppendEntries` too.
    Heartbeat,
    /// A vote.
    Vote,
    /// A part of a snapshot.
    InstallSnapshot,
}

/// A message that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody there, who refused it or whose answer makes no sense.
    #[error("{0}")]
    Refused(String),
    /// A member of a cluster that was made anew, without the asker.
    #[error("the managers have formed a new cluster without this one")]
    Superseded,
}

/// Carries messages to peers.
#[async_trait]
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends one message and waits for its reply. The caller drops the future when it has waited long enough.
    ///
    /// # Errors
    /// See [`PeerError`].
    async fn call(
        &self,
        to: &Peer,
        call: PeerCall,
        message: pb::RaftMessage,
    ) -> Result<pb::RaftMessage, PeerError>;

    /// Tells who answers the messages of others, for a transport that also brings them. Most have a listener that does.
    fn answered_by(&self, server: PeerServer) {
        drop(server);
    }
}

/// Sends nowhere: for a manager that will only ever be alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

#[async_trait]
impl PeerTransport for NoPeers {
    async fn call(&self, to: &Peer, _: PeerCall, _: pb::RaftMessage) -> Result<pb::RaftMessage, PeerError> {
        Err(PeerError::Unreachable(format!("no way to manager {}", to.node_id)))
    }
}

/// When each peer answered last.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastReplies(Arc<Mutex<HashMap<u64, Instant>>>);

impl LastReplies {
    fn now(&self, raft_id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(raft_id, Instant::now());
    }

    /// Whether the peer answered within `window`.
    pub(crate) fn within(&self, raft_id: u64, window: Duration) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&raft_id).is_some_and(|at| at.elapsed() <= window)
    }
}

/// Makes openraft's clients.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) own_id: u64,
    /// Where this manager listens.
    pub(crate) own_addr: SocketAddr,
    pub(crate) heard: LastReplies,
    pub(crate) reach: PeerReachability,
    /// How long answers are waited for.
    pub(crate) pace: RaftTiming,
    pub(crate) peer_addresses: PeerAddresses,
    /// A peer has said that there is a newer cluster, without this manager.
    pub(crate) superseded: Arc<AtomicBool>,
    /// Known once the cluster is: a message of another cluster is refused.
    pub(crate) cluster: Arc<dyn Fn() -> Option<ClusterId> + Send + Sync>,
}

impl Network {
    /// Sends `request` to the member and reads the reply.
    pub(crate) async fn ask<Q: Wire, A: Wire>(
        &self,
        raft_id: u64,
        member: &Member,
        call: PeerCall,
        request: &Q,
    ) -> Result<A, PeerError> {
        let message = request.to_message();
        self.send(raft_id, member, call, message.encode_to_vec()).await
    }

    async fn send<A: Wire>(
        &self,
        raft_id: u64,
        member: &Member,
        call: PeerCall,
        body: Vec<u8>,
    ) -> Result<A, PeerError> {
        let (Some(node_id), Some(addr)) = (member.node_id.clone(), self.peer_addresses.of(raft_id, member))
        else {
            return Err(PeerError::Unreachable(format!("no address is known for raft member {raft_id:x}")));
        };
        let cluster_id = (self.cluster)().map(|id| id.to_string()).unwrap_or_default();
        let addr_of_own = self.own_addr.to_string();
        let message =
            pb::RaftMessage { from: self.own_id, target: raft_id, body, cluster_id, addr: addr_of_own };
        let peer = Peer { raft_id, node_id, addr };
        // Counts as silence unless an answer comes: the caller may give up first, and drop this.
        let mut unanswered = InFlight { network: self, peer: &peer, failure: Some(Failure::Timeout) };
        let reply = self.transport.call(&peer, call, message).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                unanswered.failed(&error);
                return Err(error);
            }
        };
        unanswered.failure = None;
        self.peer_addresses.answered(raft_id);
        let reply = A::from_bytes(&reply.body).map_err(|e| PeerError::Refused(e.to_string()))?;
        self.heard.now(raft_id);
        self.reach.answered(&peer);
        Ok(reply)
    }
}

/// A message that has been sent. Dropped without an answer, it counts as unanswered.
struct InFlight<'a> {
    network: &'a Network,
    peer: &'a Peer,
    /// None once there is an answer, or the failure has been counted.
    failure: Option<Failure>,
}

impl InFlight<'_> {
    fn failed(&mut self, error: &PeerError) {
        self.failure = None;
        self.network.peer_addresses.silent(self.peer.raft_id);
        let failure = match error {
            PeerError::Unreachable(_) => Failure::Unreachable,
            PeerError::Refused(_) => Failure::Refused,
            PeerError::Superseded => {
                self.network.superseded.store(true, Ordering::Relaxed);
                Failure::Refused
            }
        };
        self.network.reach.failed(self.peer, failure, &error.to_string());
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(failure) = self.failure {
            self.network.peer_addresses.silent(self.peer.raft_id);
            self.network.reach.failed(self.peer, failure, "no answer in time");
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, raft_id: u64, member: &Member) -> PeerClient {
        PeerClient { network: self.clone(), raft_id, member: member.clone() }
    }
}

/// Openraft's way to one peer.
pub(crate) struct PeerClient {
    network: Network,
    raft_id: u64,
    member: Member,
}

type RpcError<E = openraft::error::Infallible> = RPCError<u64, Member, RaftError<u64, E>>;

impl PeerClient {
    async fn ask<Q: Wire, A: Wire, E: std::error::Error>(
        &self,
        call: PeerCall,
        action: RPCTypes,
        request: &Q,
        limit: Duration,
    ) -> Result<A, RpcError<E>> {
        let asked = self.network.ask(self.raft_id, &self.member, call, request);
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(e @ PeerError::Unreachable(_))) => Err(Unreachable::new(&e).into()),
            Ok(Err(e @ (PeerError::Refused(_) | PeerError::Superseded))) => Err(NetworkError::new(&e).into()),
            Err(_) => {
                Err(Timeout { action, id: self.network.own_id, target: self.raft_id, timeout: limit }.into())
            }
        }
    }
}

/// An append without entries only confirms the leader: it does not queue behind those with some.
fn call_of(request: &AppendEntriesRequest<TypeConfig>) -> PeerCall {
    if request.entries.is_empty() { PeerCall::Heartbeat } else { PeerCall::AppendEntries }
}

impl RaftNetwork<TypeConfig> for PeerClient {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let entries = u64::try_from(request.entries.len()).unwrap_or(u64::MAX);
        if entries > 1 && request.to_message().encoded_len() > MAX_MESSAGE {
            return Err(PayloadTooLarge::new_entries_hint(entries / 2).into());
        }
        // As long as the election may, not the one heartbeat that openraft gives it.
        let limit = self.network.pace.limit();
        self.ask(call_of(&request), RPCTypes::AppendEntries, &request, limit).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<InstallSnapshotError>> {
        let limit = option.hard_ttl();
        let reply: SnapshotReply =
            self.ask(PeerCall::InstallSnapshot, RPCTypes::InstallSnapshot, &request, limit).await?;
        reply.map_err(|e| RemoteError::new(self.raft_id, RaftError::APIError(e)).into())
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let ballot = Ballot { request, pre_vote: false };
        self.ask(PeerCall::Vote, RPCTypes::Vote, &ballot, self.network.pace.limit()).await
    }

    // A manager that comes back should be caught up at once: half a second of openraft's default is too long.
    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(200)))
    }
}
