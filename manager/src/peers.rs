//! Raft's messages between managers, over mutual TLS connections of their own: what users and workers ask goes over others.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use certs::{
    Connector, SharedIdentity, Target,
    transport::{DialOptions, Lane, explain},
};
use proto::{
    error::Kind,
    pb::{self, raft_client::RaftClient},
};
use tonic::transport::Channel;

use crate::raft::{MAX_MESSAGE, Peer, PeerCall, PeerError, PeerTransport, Threads};

/// For a connection: a peer that is back is to be found soon.
const CONNECT: Duration = Duration::from_secs(3);

/// Two channels to each peer, dialled as the node that it must be: an address that now belongs to another manager is refused by
/// the handshake. Heartbeats and votes have one of them to themselves.
pub struct Peers {
    connector: Connector,
    threads: Threads,
    channels: Mutex<HashMap<(Peer, Lane), Channel>>,
}

/// The connection that a message takes.
fn lane(call: PeerCall) -> Lane {
    match call {
        PeerCall::Heartbeat | PeerCall::Vote => Lane::Pulse,
        PeerCall::AppendEntries | PeerCall::InstallSnapshot => Lane::Entries,
    }
}

impl Peers {
    /// Dials with `identity`; the connections live on `threads`.
    pub fn new(identity: SharedIdentity, threads: Threads) -> Self {
        let options = DialOptions { connect_timeout: CONNECT, ..DialOptions::default() };
        Self {
            connector: Connector::member(identity).with_options(options),
            threads,
            channels: Mutex::default(),
        }
    }

    fn client(&self, to: &Peer, lane: Lane) -> RaftClient<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (to.clone(), lane);
        if !channels.contains_key(&key) {
            // A peer that has moved is another key: its old channel is of no use.
            channels.retain(|(peer, _), _| peer.raft_id != to.raft_id || peer == to);
        }
        let channel = channels.entry(key).or_insert_with(|| {
            let runtime = match lane {
                Lane::Pulse => self.threads.pulse(),
                Lane::Entries => self.threads.core(),
            };
            let _there = runtime.enter();
            let connector = self.connector.clone().with_lane(lane);
            connector.channel(Target::manager_node(to.addr, to.node_id.clone()))
        });
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
        let mut client = self.client(to, lane(call));
        let reply = match call {
            PeerCall::AppendEntries | PeerCall::Heartbeat => client.append_entries(message).await,
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
