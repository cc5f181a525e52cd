//! Receiving: notices, gossip, and nodes that stop answering.

use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

use chitchat::ChitchatId;
use proto::model::NodeId;

use super::{
    super::{
        notice::{Change, Message},
        record::{
            self, EndpointRecord, FACT_KEY, Generation, NodeFact, SEQ_KEY, Seq, endpoint_key, first_seq,
        },
        transport::DirectMessage,
    },
    Engine,
};

/// Changes in one notice: about eight datagrams.
const CHANGES_PER_NOTICE: usize = 30;
/// A node with more records of its own than this lets a new member pull them by gossip instead of sending them all.
const SNAPSHOT_LIMIT: usize = 600;
/// Seeds asked per round.
const SEEDS_PER_ROUND: usize = 3;

impl Engine {
    pub(super) async fn receive(&mut self, direct: DirectMessage) {
        let Ok(message) = serde_json::from_slice::<Message>(&direct.message) else {
            tracing::debug!(node = %direct.node, "direct message of an unknown kind");
            return;
        };
        match message {
            Message::Ack { id } => {
                // Only an answer to what was asked proves that it was heard.
                if self.outbox.acked(&direct.node, id) {
                    self.answered(&direct.node);
                } else {
                    self.heard(&direct.node);
                }
            }
            Message::Notice { id, fact, network, changes } => {
                // The seal names the sender; what it says must be about itself.
                if fact.node != direct.node || fact.generation != direct.generation {
                    return;
                }
                self.learn(fact);
                self.heard(&direct.node);
                let Some(network) = network.filter(|n| self.networks.contains_key(n)) else {
                    return self.answer(&direct.node, id, Some(direct.from)).await;
                };
                for Change { task, seq, record } in changes {
                    self.peers.change(&direct.node, &network, &task, seq, record);
                }
                if self.inbox.owe(&network, &direct.node, id, self.peers.changed_at(&network)) {
                    self.answer(&direct.node, id, Some(direct.from)).await;
                }
            }
        }
    }

    /// A sign of life from the node itself.
    pub(super) fn heard(&mut self, node: &NodeId) {
        if *node != self.config.node && self.liveness.heard(node, Instant::now()) {
            tracing::info!(%node, "node is alive");
            self.peers.set_alive(node, true);
        }
    }

    /// The node has answered this one: both directions between them work.
    fn answered(&mut self, node: &NodeId) {
        if *node != self.config.node && self.liveness.answered(node, Instant::now()) {
            tracing::info!(%node, "node is alive, and hears this one");
            self.peers.set_alive(node, true);
        }
    }

    /// A sign of life that another node passed on.
    pub(super) fn told(&mut self, node: &NodeId) {
        if self.liveness.told(node, Instant::now()) {
            tracing::info!(%node, "node is alive, others say");
            self.peers.set_alive(node, true);
        }
    }

    /// Whether a sign of life of this start is one: not of a node that has left, or of a start before the last.
    pub(super) fn counts(&self, node: &NodeId, generation: Generation) -> bool {
        self.peers.fact_of(node).is_some_and(|f| f.generation <= generation && !f.left)
    }

    /// A fact, by whichever way it came.
    pub(super) fn learn(&mut self, fact: NodeFact) {
        if fact.node == self.config.node {
            return;
        }
        let (node, generation, left, settled) = (fact.node.clone(), fact.generation, fact.left, fact.settled);
        let news = self.peers.fact(fact);
        if !news.newer {
            return;
        }
        if left {
            tracing::info!(%node, "node has left the cluster");
            self.outbox.drop_node(&node);
            self.liveness.remove(&node);
            return;
        }
        if settled {
            self.settling.remove(&node);
        } else if news.new_start {
            self.settling.insert(node.clone(), (generation, Instant::now() + self.config.timing.settle));
        }
        if news.new_start {
            self.heard(&node);
            // It may know nobody yet.
            let id = self.outbox.number();
            self.post(id, None, Vec::new(), vec![node.clone()]);
        }
        // A new member wants the endpoints now, not a round later.
        for network in &news.joined {
            let own = self.peers.own(network);
            if own.len() > SNAPSHOT_LIMIT {
                continue;
            }
            for chunk in own.chunks(CHANGES_PER_NOTICE) {
                let changes = chunk
                    .iter()
                    .map(|r| Change {
                        task: r.task.clone(),
                        seq: r.seq,
                        record: Some(EndpointRecord::clone(r)),
                    })
                    .collect();
                let id = self.outbox.number();
                self.post(id, Some(network.clone()), changes, vec![node.clone()]);
            }
        }
    }

    /// Reads what has changed in chitchat's copies of the others' states.
    pub(super) async fn read_instances(&mut self) {
        let news = self.cluster.news(&self.config.node, |state| state.get(FACT_KEY).map(str::to_owned)).await;
        for (id, beats, fact) in news {
            match fact.map(|text| text.map(|t| record::decode::<NodeFact>(FACT_KEY, &t))) {
                Some(Some(Ok(fact))) if fact.node.as_str() == &*id.node_id => self.learn(fact),
                Some(Some(Err(error))) => tracing::warn!(node = %id.node_id, %error, "node fact ignored"),
                _ => {}
            }
            if let Ok(node) = id.node_id.parse::<NodeId>()
                && beats
                && self.counts(&node, id.generation_id)
            {
                self.told(&node);
            }
        }
        let networks: Vec<_> = self.networks.keys().cloned().collect();
        for network in networks {
            let Some(chat) = self.networks.get_mut(&network) else { continue };
            let read = |state: &chitchat::NodeState| {
                let upto = state.get(SEQ_KEY).and_then(|s| s.parse::<Seq>().ok());
                let pairs: Vec<_> = state.key_values().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                Some((upto, pairs))
            };
            for (id, _, state) in chat.news(&self.config.node, read).await {
                let (Some(Some((upto, pairs))), Ok(node)) = (state, id.node_id.parse::<NodeId>()) else {
                    continue;
                };
                let mut records = Vec::new();
                for (key, value) in pairs.iter().filter(|(key, _)| record::task_of_key(key).is_some()) {
                    match record::decode::<EndpointRecord>(key, value) {
                        Ok(r) if endpoint_key(&r.task) == *key => records.push(r),
                        Ok(_) => tracing::warn!(%node, %key, "endpoint record under a foreign key ignored"),
                        Err(error) => tracing::warn!(%node, %error, "endpoint record ignored"),
                    }
                }
                let generation = id.generation_id;
                self.peers.synced(
                    &node,
                    generation,
                    &network,
                    upto.unwrap_or(first_seq(generation)),
                    records,
                );
            }
        }
    }

    pub(super) async fn tick(&mut self) {
        self.read_instances().await;
        for (node, (generation, _)) in self.mux.last_heard() {
            if self.counts(&node, generation) {
                self.heard(&node);
            }
        }
        let now = Instant::now();
        let verdicts = self.liveness.tick(now);
        for node in verdicts.died {
            tracing::warn!(%node, "node does not answer: no new connections to its endpoints");
            self.peers.set_alive(&node, false);
            self.outbox.drop_node(&node);
        }
        // Afterwards: who has just died may be asked in the same tick.
        for node in verdicts.ask {
            let id = self.outbox.number();
            self.post(id, None, Vec::new(), vec![node]);
        }
        for node in verdicts.forgotten {
            tracing::info!(%node, "node forgotten");
            self.peers.forget(&node);
        }
        let over: Vec<_> = self
            .settling
            .iter()
            .filter(|(_, (_, at))| *at <= now)
            .map(|(n, (g, _))| (n.clone(), *g))
            .collect();
        for (node, generation) in over {
            self.settling.remove(&node);
            self.peers.raise_min_seq(&node, generation);
        }
        let dropped = self.mux.dropped();
        if !dropped.is_empty() {
            tracing::trace!(?dropped, "gossip datagrams not taken so far");
        }
    }

    /// Once a round: nodes and members that chitchat has not met are greeted.
    pub(super) fn poke(&mut self) {
        let met: BTreeSet<SocketAddr> =
            self.peers.others().filter(|f| f.alive).map(|f| f.gossip_addr).collect();
        let strangers: Vec<_> =
            self.seeds.iter().filter(|s| !met.contains(s) && **s != self.config.advertise).copied().collect();
        for _ in 0..strangers.len().min(SEEDS_PER_ROUND) {
            self.next_seed = (self.next_seed + 1) % strangers.len();
            let _ = self.cluster.handle.gossip(strangers[self.next_seed]);
        }
        for (network, chat) in &self.networks {
            for fact in self.peers.members(network) {
                let known = |id: &ChitchatId| {
                    *id.node_id == *fact.node.as_str() && id.generation_id == fact.generation
                };
                if !chat.read.keys().any(known) {
                    let _ = chat.handle.gossip(fact.gossip_addr);
                }
            }
        }
    }
}
