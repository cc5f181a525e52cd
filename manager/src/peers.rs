//! Raft's messages between managers, over their mutual TLS channels.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use certs::{Connector, SharedIdentity, Target, transport::explain};
use proto::{
    error::Kind,
    pb::{self, raft_client::RaftClient},
};
use tonic::transport::Channel;

use crate::raft::{MAX_MESSAGE, Peer, PeerCall, PeerError, PeerTransport};

/// One channel to each peer, dialled as the node that it must be: an address that now belongs to another manager is refused by
/// the handshake.
pub struct Peers {
    connector: Connector,
    channels: Mutex<HashMap<Peer, Channel>>,
}

impl Peers {
    /// Dials with `identity`.
    pub fn new(identity: SharedIdentity) -> Self {
        Self { connector: Connector::member(identity), channels: Mutex::default() }
    }

    fn client(&self, to: &Peer) -> RaftClient<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if !channels.contains_key(to) {
            // A peer that has moved is another key: its old channel is of no use.
            channels.retain(|peer, _| peer.raft_id != to.raft_id);
        }
        let channel = channels
            .entry(to.clone())
            .or_insert_with(|| self.connector.channel(Target::manager_node(to.addr, to.node_id.clone())));
        RaftClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

#[async_trait]
impl PeerTransport for Peers {
    async fn call(
        &self,
        to: &Peer,
        call: PeerCall,
        message: pb::RaftMessage,
    ) -> Result<pb::RaftMessage, PeerError> {
        let mut client = self.client(to);
        let reply = match call {
            PeerCall::AppendEntries => client.append_entries(message).await,
            PeerCall::Vote => client.vote(message).await,
            PeerCall::InstallSnapshot => client.install_snapshot(message).await,
        };
        reply.map(tonic::Response::into_inner).map_err(|status| {
            let error = explain(&status);
            match error.kind {
                Kind::Unavailable | Kind::Timeout => PeerError::Unreachable(error.message),
                Kind::OutOfSequence => PeerError::Superseded,
                _ => PeerError::Refused(error.message),
            }
        })
    }
}
