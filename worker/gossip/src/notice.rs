//! Direct notices: a node tells every live member of a network itself what changed there, and each answers once the change
//! is in its kernel. Gossip carries the same records, a round later, for whoever missed this.
//!
//! Pure: [`Outbox`] knows what is to be sent again and who has not answered, [`Inbox`] what is to be answered when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proto::model::{NetworkId, NodeId, TaskId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::record::{EndpointRecord, NodeFact, Seq};

/// Number of a notice: unique among those of one start of its sender.
pub(super) type NoticeId = u64;

/// One change of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) task: TaskId,
    pub(super) seq: Seq,
    /// None: withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<EndpointRecord>,
}

/// What nodes say to each other directly. JSON, as the records are; unknown kinds are ignored by the reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
pub(super) enum Message {
    /// Something changed; to be answered with the same id.
    Notice {
        id: NoticeId,
        /// The sender, so that a notice from a node not yet known introduces it.
        fact: NodeFact,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<NetworkId>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changes: Vec<Change>,
    },
    /// The notice is in the kernel (or does not concern the sender of this).
    Ack { id: NoticeId },
}

/// How notices are repeated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    /// Before the first repetition; doubles up to `max`.
    pub(super) first: Duration,
    /// Longest pause.
    pub(super) max: Duration,
    /// When to give up: gossip has told it by then, or the node is dead.
    pub(super) give_up: Duration,
}

struct Pending {
    /// The encoded message.
    message: Vec<u8>,
    since: Instant,
    waiting: BTreeMap<NodeId, Attempt>,
    missing: watch::Sender<BTreeSet<NodeId>>,
}

struct Attempt {
    next: Instant,
    pause: Duration,
}

/// Notices not yet answered by all.
pub(super) struct Outbox {
    retry: Retry,
    pending: BTreeMap<NoticeId, Pending>,
    next_id: NoticeId,
}

impl Outbox {
    pub(super) fn new(retry: Retry) -> Self {
        Self { retry, pending: BTreeMap::new(), next_id: 1 }
    }

    /// The id of the next notice.
    pub(super) fn number(&mut self) -> NoticeId {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Puts a notice in the post. The receiver holds who has not answered yet; it starts with everyone.
    pub(super) fn post(
        &mut self,
        id: NoticeId,
        message: Vec<u8>,
        to: impl IntoIterator<Item = NodeId>,
        now: Instant,
    ) -> watch::Receiver<BTreeSet<NodeId>> {
        let waiting: BTreeMap<_, _> =
            to.into_iter().map(|node| (node, Attempt { next: now, pause: self.retry.first })).collect();
        let (missing, rx) = watch::channel(waiting.keys().cloned().collect::<BTreeSet<_>>());
        if !waiting.is_empty() {
            self.pending.insert(id, Pending { message, since: now, waiting, missing });
        }
        rx
    }

    /// A node has answered. Whether that was waited for.
    pub(super) fn acked(&mut self, node: &NodeId, id: NoticeId) -> bool {
        let Some(pending) = self.pending.get_mut(&id) else { return false };
        let waited = pending.settle(node);
        if pending.waiting.is_empty() {
            self.pending.remove(&id);
        }
        waited
    }

    /// Nobody waits for a node that is dead or gone.
    pub(super) fn drop_node(&mut self, node: &NodeId) {
        self.pending.retain(|_, pending| {
            pending.settle(node);
            !pending.waiting.is_empty()
        });
    }

    /// What is to be sent now. Gives up on what is too old.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(NodeId, Vec<u8>)> {
        let Retry { max, give_up, .. } = self.retry;
        // Dropping the sender ends the wait of whoever reads it.
        self.pending.retain(|_, pending| now.duration_since(pending.since) < give_up);
        let mut due = Vec::new();
        for pending in self.pending.values_mut() {
            for (node, attempt) in &mut pending.waiting {
                if attempt.next <= now {
                    due.push((node.clone(), pending.message.clone()));
                    attempt.next = now + attempt.pause;
                    attempt.pause = (attempt.pause * 2).min(max);
                }
            }
        }
        due
    }

    /// When [`Outbox::due`] has something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        let attempts = self.pending.values().flat_map(|p| p.waiting.values().map(|a| a.next));
        let ends = self.pending.values().map(|p| p.since + self.retry.give_up);
        attempts.chain(ends).min()
    }
}

impl Pending {
    /// Whether the node was waited for.
    fn settle(&mut self, node: &NodeId) -> bool {
        let waited = self.waiting.remove(node).is_some();
        if waited {
            self.missing.send_modify(|missing| {
                missing.remove(node);
            });
        }
        waited
    }
}

/// A notice that waits for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PendingAck {
    to: NodeId,
    id: NoticeId,
    /// The view revision that has it.
    revision: u64,
}

/// Answers owed to others (and to this node itself).
#[derive(Default)]
pub(super) struct Inbox {
    owed: BTreeMap<NetworkId, Vec<PendingAck>>,
    applied: BTreeMap<NetworkId, u64>,
    applied_all: u64,
}

impl Inbox {
    /// Notes that `to` waits for `revision` of a network. True when it is in the kernel already: answer at once.
    pub(super) fn owe(&mut self, network: &NetworkId, to: &NodeId, id: NoticeId, revision: u64) -> bool {
        let applied = self.applied.get(network).copied().unwrap_or(self.applied_all);
        if applied >= revision {
            return true;
        }
        let owed = self.owed.entry(network.clone()).or_default();
        let entry = PendingAck { to: to.clone(), id, revision };
        // A repetition of the same notice owes one answer, not two.
        if !owed.contains(&entry) {
            owed.push(entry);
        }
        false
    }

    /// The kernel now has `revision` of every network but `failed`. Returns the answers that are due.
    pub(super) fn applied(&mut self, revision: u64, failed: &BTreeSet<NetworkId>) -> Vec<(NodeId, NoticeId)> {
        // A network that fails keeps what it had; it leaves this map once it has caught up.
        let before = self.applied_all;
        self.applied.retain(|network, _| failed.contains(network));
        for network in failed {
            self.applied.entry(network.clone()).or_insert(before);
        }
        self.applied_all = self.applied_all.max(revision);
        let mut due = Vec::new();
        for (network, owed) in &mut self.owed {
            if failed.contains(network) {
                continue;
            }
            owed.retain(|o| {
                let done = o.revision <= revision;
                if done {
                    due.push((o.to.clone(), o.id));
                }
                !done
            });
        }
        self.owed.retain(|_, owed| !owed.is_empty());
        due
    }

    /// A network was left: its notices concern this node no more.
    pub(super) fn left(&mut self, network: &NetworkId) -> Vec<(NodeId, NoticeId)> {
        self.owed.remove(network).unwrap_or_default().into_iter().map(|o| (o.to, o.id)).collect()
    }
}

/// The outcome of telling a change to everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckReport {
    /// Every live member, this node among them, has the change in its kernel.
    pub all: bool,
    /// Those that had not said so in time. They will learn it by gossip.
    pub missing: Vec<NodeId>,
}

/// A change on its way.
#[derive(Debug, Clone)]
pub struct ChangeHandle {
    missing: watch::Receiver<BTreeSet<NodeId>>,
}

impl ChangeHandle {
    pub(super) fn new(missing: watch::Receiver<BTreeSet<NodeId>>) -> Self {
        Self { missing }
    }

    /// A change that concerns nobody.
    pub(super) fn nothing() -> Self {
        Self::new(watch::channel(BTreeSet::new()).1)
    }

    /// Waits until every live member of the network has the change in its kernel, or `limit` has passed. Returns at once
    /// where there is nobody to wait for.
    pub async fn acknowledged(&self, limit: Duration) -> AckReport {
        let mut rx = self.missing.clone();
        // An error means that the engine has given up or ended; what is missing then stays missing.
        let _ = tokio::time::timeout(limit, rx.wait_for(BTreeSet::is_empty)).await;
        let missing: Vec<_> = rx.borrow().iter().cloned().collect();
        AckReport { all: missing.is_empty(), missing }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn outbox() -> Outbox {
        Outbox::new(Retry { first: 50 * MS, max: 200 * MS, give_up: 3000 * MS })
    }

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn a_notice_is_repeated_until_each_has_answered() {
        let (mut outbox, t0) = (outbox(), Instant::now());
        let id = outbox.number();
        let missing = outbox.post(id, b"x".to_vec(), [node("a"), node("b")], t0);
        assert_eq!(outbox.due(t0).len(), 2);
        assert!(outbox.due(t0 + 49 * MS).is_empty());
        outbox.acked(&node("a"), id);
        assert_eq!(outbox.due(t0 + 50 * MS), [(node("b"), b"x".to_vec())]);
        assert_eq!(outbox.next(), Some(t0 + 150 * MS));
        assert_eq!(*missing.borrow(), BTreeSet::from([node("b")]));
        outbox.drop_node(&node("b"));
        assert!(missing.borrow().is_empty());
        assert_eq!(outbox.next(), None);
    }

    #[tokio::test]
    async fn giving_up_names_who_is_missing() {
        let (mut outbox, t0) = (outbox(), Instant::now());
        let id = outbox.number();
        let handle = ChangeHandle::new(outbox.post(id, Vec::new(), [node("a"), node("b")], t0));
        outbox.acked(&node("b"), id);
        assert!(outbox.due(t0 + 3000 * MS).is_empty());
        let report = handle.acknowledged(Duration::from_secs(60)).await;
        assert_eq!(report, AckReport { all: false, missing: vec![node("a")] });
        assert!(ChangeHandle::nothing().acknowledged(Duration::ZERO).await.all);
    }

    #[test]
    fn an_answer_waits_for_the_kernel() {
        let mut inbox = Inbox::default();
        let net: NetworkId = "n1".parse().unwrap();
        assert!(!inbox.owe(&net, &node("a"), 1, 5));
        assert!(!inbox.owe(&net, &node("a"), 1, 5), "the repetition owes nothing more");
        assert!(inbox.applied(4, &BTreeSet::new()).is_empty());
        assert_eq!(inbox.applied(5, &BTreeSet::new()), [(node("a"), 1)]);
        assert!(inbox.owe(&net, &node("b"), 9, 5), "already there");
    }

    #[test]
    fn a_network_that_could_not_be_programmed_is_not_acknowledged() {
        let mut inbox = Inbox::default();
        let (net, other): (NetworkId, NetworkId) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        assert!(inbox.applied(3, &BTreeSet::new()).is_empty());
        assert!(!inbox.owe(&net, &node("a"), 1, 5));
        assert!(!inbox.owe(&other, &node("a"), 2, 5));
        assert_eq!(inbox.applied(6, &BTreeSet::from([net.clone()])), [(node("a"), 2)]);
        assert!(!inbox.owe(&net, &node("b"), 4, 6));
        assert!(inbox.owe(&net, &node("b"), 5, 3), "what it had before it failed still holds");
        assert_eq!(inbox.applied(7, &BTreeSet::new()), [(node("a"), 1), (node("b"), 4)]);
        assert!(inbox.owe(&net, &node("b"), 6, 7));
    }
}
