//! What becomes of the messages to each peer: failures are counted, and an operator hears of a peer when it becomes
//! unreachable and when it is back. A single failed message is not logged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use proto::model::NodeId;

use super::peer::Peer;

/// Failures in a row for so long make a peer unreachable.
const UNREACHABLE: Duration = Duration::from_secs(3);
/// A failure so long after the one before begins a new row: nothing was sent in between.
const PAUSE: Duration = Duration::from_secs(5);

/// How a message failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The peer, or whoever is there, did not take it.
    Refused,
}

impl Failure {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
        }
    }
}

/// Counts what fails of the messages to each peer. Clones share one count.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerReachability(Arc<Mutex<BTreeMap<NodeId, PeerFailures>>>);

#[derive(Debug, Default)]
struct PeerFailures {
    counts: BTreeMap<Failure, u64>,
    /// First and last failure since the last answer.
    failing: Option<(Instant, Instant)>,
    unreachable: bool,
}

/// What an operator should know.
#[derive(Debug, PartialEq, Eq)]
enum ReachabilityChange {
    Unreachable,
    Back,
}

impl PeerFailures {
    fn failed(&mut self, failure: Failure, now: Instant) -> Option<ReachabilityChange> {
        *self.counts.entry(failure).or_default() += 1;
        let since = match self.failing {
            Some((since, last)) if now.duration_since(last) < PAUSE => since,
            _ => now,
        };
        self.failing = Some((since, now));
        (!self.unreachable && now.duration_since(since) >= UNREACHABLE).then(|| {
            self.unreachable = true;
            ReachabilityChange::Unreachable
        })
    }

    fn answered(&mut self) -> Option<ReachabilityChange> {
        self.failing = None;
        std::mem::take(&mut self.unreachable).then_some(ReachabilityChange::Back)
    }
}

impl PeerReachability {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<NodeId, PeerFailures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message to the peer has failed; `why`, for the one line that is logged of it.
    pub(crate) fn failed(&self, peer: &Peer, failure: Failure, why: &str) {
        let news = self.lines().entry(peer.node_id.clone()).or_default().failed(failure, Instant::now());
        if news.is_some() {
            tracing::warn!(manager = %peer.node_id, addr = %peer.addr, why, "a manager cannot be reached");
        }
    }

    /// The peer has answered.
    pub(crate) fn answered(&self, peer: &Peer) {
        let news = self.lines().entry(peer.node_id.clone()).or_default().answered();
        if news.is_some() {
            tracing::info!(manager = %peer.node_id, addr = %peer.addr, "the manager can be reached again");
        }
    }

    /// How many messages to each peer have failed, and how.
    pub(crate) fn counts(&self) -> Vec<(NodeId, Failure, u64)> {
        let lines = self.lines();
        let of = |(peer, line): (&NodeId, &PeerFailures)| {
            let counts: Vec<_> = line.counts.iter().map(|(kind, n)| (peer.clone(), *kind, *n)).collect();
            counts
        };
        lines.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_hears_of_a_peer_twice_however_many_messages_fail() {
        let (mut line, start) = (PeerFailures::default(), Instant::now());
        let news: Vec<ReachabilityChange> = (0..600_u32)
            .filter_map(|n| line.failed(Failure::Timeout, start + Duration::from_millis(150) * n))
            .collect();
        assert_eq!(news, [ReachabilityChange::Unreachable]);
        assert_eq!(line.answered(), Some(ReachabilityChange::Back));
        assert_eq!(line.answered(), None);
        assert_eq!(line.counts[&Failure::Timeout], 600);
        let later = start + Duration::from_secs(3600);
        assert_eq!(line.failed(Failure::Refused, later), None, "a single failure is no news");
        assert_eq!(line.failed(Failure::Refused, later + PAUSE * 2), None, "nor one long after it");
    }
}
