//! chitchat instances: one for all nodes, one per network.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ListenerHandle,
    ProtocolVersion, spawn_chitchat,
};
use proto::model::{NetworkId, NodeId};
use tokio::sync::Notify;

use super::{GossipConfig, GossipError, sealed::Channel, transport::Mux};

/// One chitchat instance, and how much of it has been read.
pub(super) struct ChitchatInstance {
    pub(super) handle: ChitchatHandle,
    /// Per node: newest change and last collected deletion that have been read, and the last heartbeat.
    pub(super) read: HashMap<ChitchatId, (u64, u64, u64)>,
    /// Ends the subscription when dropped.
    _listener: ListenerHandle,
}

impl ChitchatInstance {
    /// Of every other node's newest start whose state or heartbeat has moved: whether the heartbeat has, and what `read`
    /// makes of the state if that has.
    pub(super) async fn news<T>(
        &mut self,
        me: &NodeId,
        read: impl Fn(&chitchat::NodeState) -> T,
    ) -> Vec<(ChitchatId, bool, Option<T>)> {
        let seen = &mut self.read;
        self.handle
            .with_chitchat(|chat: &mut Chitchat| {
                let states = chat.node_states();
                seen.retain(|id, _| states.contains_key(id));
                let mut news = Vec::new();
                for (id, state) in states {
                    // Ids are ordered by node, then generation.
                    let newest = states
                        .range(id..)
                        .take_while(|(other, _)| other.node_id == id.node_id)
                        .all(|(other, _)| other.generation_id <= id.generation_id);
                    if *id.node_id == *me.as_str() || !newest {
                        continue;
                    }
                    let now = (state.max_version(), state.last_gc_version(), u64::from(state.heartbeat()));
                    let before = seen.insert(id.clone(), now);
                    let beats = before.is_none_or(|b| b.2 < now.2);
                    let moved = before.is_none_or(|b| (b.0, b.1) != (now.0, now.1));
                    if beats || moved {
                        news.push((id.clone(), beats, moved.then(|| read(state))));
                    }
                }
                news
            })
            .await
    }
}

pub(super) async fn open_instance(
    config: &GossipConfig,
    mux: &Arc<Mux>,
    bell: &Arc<Notify>,
    network: Option<&NetworkId>,
    seeds: Vec<SocketAddr>,
    first: Vec<(String, String)>,
) -> Result<ChitchatInstance, GossipError> {
    let (cluster_id, channel) = match network {
        None => (config.cluster.to_string(), Channel::Cluster),
        Some(network) => (network.to_string(), Channel::Network(network.to_string())),
    };
    let chitchat = ChitchatConfig {
        chitchat_id: ChitchatId::new(config.node.as_str(), config.generation, config.advertise),
        cluster_id,
        gossip_interval: config.timing.round,
        listen_addr: config.bind,
        seed_nodes: seeds.iter().filter(|s| **s != config.advertise).map(SocketAddr::to_string).collect(),
        // Only decides whom chitchat gossips with; who is dead to us is `liveness`'s to say.
        failure_detector_config: FailureDetectorConfig {
            initial_interval: config.timing.round,
            dead_node_grace_period: config.timing.forget_after,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: config.timing.forget_after,
        catchup_callback: None,
        extra_liveness_predicate: None,
        // Digests compressed: a thousand nodes fit one message.
        protocol_version: ProtocolVersion::V1,
    };
    let handle = spawn_chitchat(chitchat, first, &mux.transport(channel))
        .await
        .map_err(|e| GossipError::Start(format!("{e:#}")))?;
    let bell = bell.clone();
    // Deletions are not announced, but the number that follows them is.
    let listener = handle
        .with_chitchat(|c| {
            c.subscribe_event("", {
                let bell = bell.clone();
                move |_| bell.notify_one()
            })
        })
        .await;
    Ok(ChitchatInstance { handle, read: HashMap::new(), _listener: listener })
}
