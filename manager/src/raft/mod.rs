//! Raft between managers: openraft over the store's disk and over peer messages.
//!
//! * [`TypeConfig`]: what openraft is told about our types.
//! * `wire`: the bytes of log entries, votes and peer messages (prost; append-only, frozen by `tests/frozen`).
//! * `log_store`: the log on disk, with one flush for all appends that wait for one.
//! * `network`, [`PeerTransport`]: messages to peers; [`PeerServer`]: messages from them.
//! * `heartbeat`: the leader's, beside everything else. `contact`: what is heard of it. `pace`: for how long silence is borne.
//! * `election`: stands for election only when a majority would vote for this manager. `threads`: where all this runs.
//! * `reach`: failures of messages, counted; peers that become unreachable, named.
//! * `membership`: how members come and go. `peer_addresses`: at which address each is.

pub(crate) mod compaction;
pub(crate) mod contact;
pub(crate) mod election;
pub(crate) mod heartbeat;
pub(crate) mod log_store;
pub(crate) mod membership;
pub(crate) mod peer;
pub(crate) mod peer_addresses;
pub(crate) mod reachability;
mod runtime;
pub(crate) mod server;
pub(crate) mod threads;
pub(crate) mod timing;
pub(crate) mod wire;

use std::{io::Cursor, net::SocketAddr};

use proto::model::NodeId;

pub(crate) use peer::Network;
pub use peer::{MAX_MESSAGE, NoPeers, Peer, PeerCall, PeerError, PeerTransport};
pub use peer_addresses::{AddressLookup, no_hints};
pub use reachability::Failure;
pub use server::PeerServer;
pub use threads::Threads;

use crate::store::command::Outcome;

openraft::declare_raft_types!(
    /// What openraft is told about our types.
    pub TypeConfig:
        D = Encoded,
        R = Reply,
        NodeId = u64,
        Node = Member,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = runtime::RaftRuntime,
);

/// A proposal as it is replicated and stored: the bytes of `rn.v1.Proposal`. Encoded once, by the proposer.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Encoded(pub Vec<u8>);

impl std::fmt::Debug for Encoded {
    // Proposals hold keys and tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({} bytes)", self.0.len())
    }
}

/// What applying an entry answers: one outcome for each of its commands; none for an entry of raft's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reply(pub Vec<Outcome>);

/// A member as raft's configuration names it. The address is a hint: identity is the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Member {
    /// The node; openraft wants a default, so that an entry without one can be expressed.
    pub node_id: Option<NodeId>,
    /// Where it listened last.
    pub addr: Option<SocketAddr>,
}

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<u64>;
