//! Who listens for log requests, and which requests are open.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    model::{NodeId, TaskId},
    pb,
};
use rand::Rng;
use tokio::sync::mpsc;

/// What a node's answer brings to a client's stream.
#[derive(Debug)]
pub enum Event {
    /// Lines, or an error that the node tells of.
    Chunk(pb::LogChunk),
    /// The node has sent all that it was asked for.
    Done {
        /// Which of the client's subscriptions.
        subscription: String,
    },
    /// The node went away before it was done.
    Lost {
        /// Which of the client's subscriptions.
        subscription: String,
    },
}

/// One subscription: a client's question to one node.
struct Subscription {
    node: NodeId,
    /// What the node was asked for.
    tasks: BTreeSet<TaskId>,
    sink: mpsc::Sender<Event>,
}

struct Listener {
    /// Tells a listener from its successor.
    serial: u64,
    tx: mpsc::UnboundedSender<pb::LogSubscription>,
}

/// The nodes that listen for log requests, and the requests that are open, by id.
#[derive(Default)]
pub struct Registry {
    listeners: BTreeMap<NodeId, Listener>,
    open: BTreeMap<String, Subscription>,
    serial: u64,
}

impl Registry {
    /// `node` listens; the stream of its earlier listener ends. Returns the serial for [`Self::gone`].
    pub fn listen(&mut self, node: &NodeId) -> (u64, mpsc::UnboundedReceiver<pb::LogSubscription>) {
        // Few messages per client and node, so the channel needs no bound.
        let (tx, rx) = mpsc::unbounded_channel();
        self.serial += 1;
        let serial = self.serial;
        self.listeners.insert(node.clone(), Listener { serial, tx });
        (serial, rx)
    }

    /// The listener `serial` of `node` has gone; what it was asked is lost unless a newer one took its place.
    pub fn gone(&mut self, node: &NodeId, serial: u64) -> Vec<(String, mpsc::Sender<Event>)> {
        if self.listeners.get(node).is_none_or(|l| l.serial != serial) {
            return Vec::new();
        }
        self.listeners.remove(node);
        let lost: Vec<String> =
            self.open.iter().filter(|(_, o)| o.node == *node).map(|(id, _)| id.clone()).collect();
        lost.into_iter().filter_map(|id| self.open.remove(&id).map(|open| (id, open.sink))).collect()
    }

    /// Asks `node`; `None` when it does not listen. Answers go to `sink`.
    pub fn ask(
        &mut self,
        node: &NodeId,
        tasks: &[TaskId],
        options: pb::LogOptions,
        sink: &mpsc::Sender<Event>,
    ) -> Option<String> {
        let listener = self.listeners.get(node)?;
        let id = format!("{:032x}", rand::rng().random::<u128>());
        let request = pb::LogSubscription {
            id: id.clone(),
            task_ids: tasks.iter().map(ToString::to_string).collect(),
            options: Some(options),
            close: false,
        };
        listener.tx.send(request).ok()?;
        self.open.insert(
            id.clone(),
            Subscription { node: node.clone(), tasks: tasks.iter().cloned().collect(), sink: sink.clone() },
        );
        Some(id)
    }

    /// Where answers of `node` to a subscription go; none when nobody waits for them any more.
    pub fn sink(&self, node: &NodeId, subscription: &str) -> Option<mpsc::Sender<Event>> {
        self.open.get(subscription).filter(|o| o.node == *node).map(|o| o.sink.clone())
    }

    /// Whether a node was asked for a task by a subscription: the lines of another one's are not its to tell.
    pub fn asked(&self, node: &NodeId, subscription: &str, task: &str) -> bool {
        let open = self.open.get(subscription).filter(|o| o.node == *node);
        open.is_some_and(|o| o.tasks.iter().any(|t| t.as_str() == task))
    }

    /// The node has answered all.
    pub fn finish(&mut self, node: &NodeId, subscription: &str) -> Option<mpsc::Sender<Event>> {
        let sink = self.sink(node, subscription)?;
        self.open.remove(subscription);
        Some(sink)
    }

    /// The client has gone: the node need not go on.
    pub fn close(&mut self, subscription: &str) {
        let Some(open) = self.open.remove(subscription) else { return };
        if let Some(listener) = self.listeners.get(&open.node) {
            let close = pb::LogSubscription {
                id: subscription.to_owned(),
                close: true,
                ..pb::LogSubscription::default()
            };
            // A node that has gone needs no telling.
            let _ = listener.tx.send(close);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn questions_reach_the_newest_listener_and_end_with_it() {
        let (node, other) = (NodeId::random(), NodeId::random());
        let (sink, mut events) = mpsc::channel(4);
        let mut registry = Registry::default();
        let options = pb::LogOptions::default();
        assert_eq!(registry.ask(&node, &[], options, &sink), None, "nobody listens");
        let (first, _old) = registry.listen(&node);
        let (second, mut new) = registry.listen(&node);
        let task = TaskId::random();
        let id = registry.ask(&node, &[task.clone()], options, &sink).unwrap();
        assert_eq!(new.try_recv().unwrap().id, id);
        assert!(registry.gone(&node, first).is_empty(), "an older listener takes nothing with it");
        assert!(registry.sink(&other, &id).is_none(), "only the node that was asked answers");
        assert!(registry.asked(&node, &id, task.as_str()) && !registry.asked(&other, &id, task.as_str()));
        assert!(!registry.asked(&node, &id, TaskId::random().as_str()), "and for what it was asked");
        let lost = registry.gone(&node, second);
        assert_eq!(lost.len(), 1);
        assert!(registry.sink(&node, &id).is_none());
        assert!(events.try_recv().is_err());
    }

    #[test]
    fn a_client_that_goes_closes_its_questions() {
        let node = NodeId::random();
        let (sink, _events) = mpsc::channel(4);
        let mut registry = Registry::default();
        let (_, mut listener) = registry.listen(&node);
        let id = registry.ask(&node, &[], pb::LogOptions::default(), &sink).unwrap();
        listener.try_recv().unwrap();
        registry.close(&id);
        let close = listener.try_recv().unwrap();
        assert!(close.close && close.id == id);
        registry.close(&id);
        assert!(listener.try_recv().is_err());
    }
}
