//! Sending: this node's own facts, changes and acknowledgements: its own facts and changes, and answers.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use proto::model::{NetworkId, NodeId, TaskId};
use tokio::{sync::watch, time::sleep_until};

use super::{
    super::{
        AckReport,
        notice::{Change, ChangeHandle, Message, NoticeId},
        record::{self, EndpointRecord, FACT_KEY, SEQ_KEY, endpoint_key},
        sealed::Channel,
    },
    Engine,
};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) async fn publish(&mut self, record: EndpointRecord) -> ChangeHandle {
        self.seq += 1;
        let record = EndpointRecord { node: self.config.node.clone(), seq: self.seq, ..record };
        let (network, task) = (record.network.clone(), record.task.clone());
        self.own_change(&network, Change { task, seq: self.seq, record: Some(record) }).await
    }

    pub(super) async fn withdraw(&mut self, network: NetworkId, task: TaskId) -> ChangeHandle {
        if !self.peers.own(&network).iter().any(|r| r.task == task) {
            return ChangeHandle::nothing();
        }
        self.seq += 1;
        self.own_change(&network, Change { task, seq: self.seq, record: None }).await
    }

    /// Records a change of this node's, in gossip and by notice.
    pub(super) async fn own_change(&mut self, network: &NetworkId, change: Change) -> ChangeHandle {
        let Some(chat) = self.networks.get(network) else { return ChangeHandle::nothing() };
        let (key, value) = (endpoint_key(&change.task), change.record.as_ref().map(record::encode));
        let seq = change.seq;
        chat.handle
            .with_chitchat(|c| {
                let state = c.self_node_state();
                match &value {
                    Some(value) => state.set(&key, value),
                    None => state.delete(&key),
                }
                // Last, so that who reads this number has all changes up to it.
                state.set(SEQ_KEY, seq);
            })
            .await;
        self.peers.change(&self.config.node.clone(), network, &change.task, seq, change.record.clone());
        let mut to: Vec<NodeId> = self.peers.members(network).map(|f| f.node.clone()).collect();
        let silent = self.peers.silent(network).map(|f| f.node.clone());
        let (back, silent): (Vec<NodeId>, Vec<NodeId>) = silent.partition(|n| self.liveness.is_returning(n));
        // They may send connections here again before their answer to this node's question is here.
        to.extend(back);
        // Who hears nobody is the one that is cut off, and may be heard again before it hears: it waits for them all. Others do
        // not wait for the silent, and tell them all the same.
        if to.is_empty() {
            to = silent;
        } else if !silent.is_empty() {
            let id = self.outbox.number();
            self.post(id, Some(network.clone()), vec![change.clone()], silent);
        }
        to.push(self.config.node.clone());
        let id = self.outbox.number();
        let missing = self.post(id, Some(network.clone()), vec![change], to);
        // This node's own kernel counts like everyone else's.
        if self.inbox.owe(network, &self.config.node, id, self.peers.changed_at(network)) {
            self.outbox.acked(&self.config.node, id);
        }
        ChangeHandle::new(missing)
    }

    pub(super) fn post(
        &mut self,
        id: NoticeId,
        network: Option<NetworkId>,
        changes: Vec<Change>,
        to: Vec<NodeId>,
    ) -> watch::Receiver<BTreeSet<NodeId>> {
        let message = record::encode(&Message::Notice { id, fact: self.fact.clone(), network, changes });
        self.outbox.post(id, message.into_bytes(), to, Instant::now())
    }

    /// Tells all nodes about this one, after it has changed.
    pub(super) async fn tell_fact(&mut self) -> ChangeHandle {
        self.fact.version += 1;
        self.peers.fact(self.fact.clone());
        let text = record::encode(&self.fact);
        self.cluster.handle.with_chitchat(|c| c.self_node_state().set(FACT_KEY, &text)).await;
        let to: Vec<_> = self.peers.others().filter(|f| f.alive).map(|f| f.node.clone()).collect();
        let id = self.outbox.number();
        ChangeHandle::new(self.post(id, None, Vec::new(), to))
    }

    pub(super) async fn goodbye(&mut self) {
        self.fact.left = true;
        self.fact.networks.clear();
        let handle = self.tell_fact().await;
        self.post_due().await;
        let end = tokio::time::Instant::now() + GOODBYE;
        loop {
            let AckReport { all, .. } = handle.acknowledged(Duration::ZERO).await;
            let next = self.outbox.next().map_or(end, |n| end.min(n.into()));
            if all || tokio::time::Instant::now() >= end {
                return;
            }
            tokio::select! {
                Some(direct) = self.direct.recv() => self.receive(direct).await,
                () = sleep_until(next) => self.post_due().await,
            }
        }
    }

    /// Sends what is due, first time or again.
    pub(super) async fn post_due(&mut self) {
        for (node, message) in self.outbox.due(Instant::now()) {
            if node == self.config.node {
                continue;
            }
            if let Some(to) = self.peers.fact_of(&node).map(|f| f.gossip_addr) {
                self.mux.send(to, &Channel::DirectMessage, &message).await;
            }
        }
    }

    pub(super) async fn answer(&mut self, node: &NodeId, id: NoticeId, from: Option<SocketAddr>) {
        if *node == self.config.node {
            self.outbox.acked(node, id);
            return;
        }
        if let Some(to) = from.or_else(|| self.peers.fact_of(node).map(|f| f.gossip_addr)) {
            let ack = record::encode(&Message::Ack { id });
            self.mux.send(to, &Channel::DirectMessage, ack.as_bytes()).await;
        }
    }
}
