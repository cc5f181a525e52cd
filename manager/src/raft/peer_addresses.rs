//! Where the other managers are. Identity is the certificate, an address only a hint: there are up to three for each member
//! (raft's configuration, its own messages, what the daemon heard elsewhere), and each is tried until one answers.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use proto::model::NodeId;

use super::Member;

/// Before another address is tried: a connection over a slow line needs a few round trips.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the daemon heard of a node's address from others than the managers.
pub type AddressLookup = Arc<dyn Fn(&NodeId) -> Option<IpAddr> + Send + Sync>;

/// Knows nothing.
pub fn no_hints() -> AddressLookup {
    Arc::new(|_| None)
}

/// The addresses at which each manager may be reached. Clones share one list.
#[derive(Clone)]
pub(crate) struct PeerAddresses {
    hints: AddressLookup,
    lines: Arc<Mutex<HashMap<u64, AddressHints>>>,
}

/// What is known of one member.
#[derive(Debug, Default)]
struct AddressHints {
    /// The address in use.
    current: Option<SocketAddr>,
    /// From the member's own messages.
    said: Option<SocketAddr>,
    /// Since when `current` has not answered.
    failing: Option<Instant>,
}

impl fmt::Debug for PeerAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().fmt(f)
    }
}

impl PeerAddresses {
    pub(crate) fn new(hints: AddressLookup) -> Self {
        Self { hints, lines: Arc::default() }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<u64, AddressHints>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to reach the member now.
    pub(crate) fn of(&self, raft_id: u64, member: &Member) -> Option<SocketAddr> {
        let configured = member.addr?;
        let hinted = member.node_id.as_ref().and_then(|id| (self.hints)(id));
        let mut lines = self.lines();
        let line = lines.entry(raft_id).or_default();
        let hinted = hinted.map(|ip| SocketAddr::new(ip, configured.port()));
        let candidates: Vec<SocketAddr> =
            [Some(configured), line.said, hinted].into_iter().flatten().collect();
        Some(line.choose(&candidates, configured, Instant::now()))
    }

    /// The member answered.
    pub(crate) fn answered(&self, raft_id: u64) {
        self.lines().entry(raft_id).or_default().failing = None;
    }

    /// The member did not answer, where it was thought to be.
    pub(crate) fn silent(&self, raft_id: u64) {
        self.lines().entry(raft_id).or_default().failing.get_or_insert_with(Instant::now);
    }

    /// The member said where it listens. That it is this member at all is proved by whoever dials there.
    pub(crate) fn said(&self, raft_id: u64, addr: SocketAddr) {
        let mut lines = self.lines();
        let line = lines.entry(raft_id).or_default();
        if line.said != Some(addr) {
            line.said = Some(addr);
            if line.failing.is_some() {
                (line.current, line.failing) = (Some(addr), None);
            }
        }
    }
}

impl AddressHints {
    fn choose(&mut self, candidates: &[SocketAddr], first: SocketAddr, now: Instant) -> SocketAddr {
        let at = self.current.and_then(|c| candidates.iter().position(|a| *a == c));
        let (Some(current), Some(at)) = (self.current, at) else {
            (self.current, self.failing) = (Some(first), None);
            return first;
        };
        if self.failing.is_none_or(|since| now.duration_since(since) < PATIENCE) {
            return current;
        }
        let others = candidates[at + 1..].iter().chain(&candidates[..at]);
        let next = others.copied().find(|a| *a != current).unwrap_or(current);
        (self.current, self.failing) = (Some(next), Some(now));
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn addr(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 2377))
    }

    #[test]
    fn a_silent_address_gives_way_to_the_next_and_comes_round_again() {
        let (mut line, start) = (AddressHints::default(), Instant::now());
        let all = [addr(1), addr(2), addr(3)];
        assert_eq!(line.choose(&all, addr(1), start), addr(1));
        line.failing = Some(start);
        assert_eq!(line.choose(&all, addr(1), start + PATIENCE / 2), addr(1), "not in haste");
        let seen: Vec<_> = (1..=3).map(|n| line.choose(&all, addr(1), start + PATIENCE * n)).collect();
        assert_eq!(seen, [addr(2), addr(3), addr(1)]);
        assert_eq!(line.choose(&[addr(4)], addr(4), start), addr(4), "an address that nobody names is left");
    }

    #[test]
    fn what_a_member_says_is_believed_while_it_is_not_reached() {
        let node = NodeId::random();
        let member = Member { node_id: Some(node.clone()), addr: Some(addr(1)) };
        let places = PeerAddresses::new(no_hints());
        assert_eq!(places.of(7, &member), Some(addr(1)));
        places.said(7, addr(2));
        assert_eq!(places.of(7, &member), Some(addr(1)), "it answers where it is");
        places.silent(7);
        places.said(7, addr(3));
        assert_eq!(places.of(7, &member), Some(addr(3)));
        let hint = IpAddr::from([192, 0, 2, 9]);
        let places = PeerAddresses::new(Arc::new(move |id| (*id == node).then_some(hint)));
        assert_eq!(places.of(7, &member), Some(addr(1)));
        places.lines().get_mut(&7).unwrap().failing = Some(Instant::now() - PATIENCE * 2);
        assert_eq!(places.of(7, &member), Some(addr(9)));
    }
}
