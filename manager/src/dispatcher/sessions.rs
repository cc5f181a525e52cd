//! Who is in session and until when: a table without a clock of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::{
    error::ApiError,
    model::{NodeId, Revision, SessionId},
    pb,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    clock::ClockOffset,
    leader_pause::{self, PauseCheck, PauseDetector, ResetReasons},
};

/// The sessions of one term of leadership.
#[derive(Default)]
pub struct Sessions {
    /// Cancelled with the term: the parent of all sessions' ends.
    over: CancellationToken,
    sessions: BTreeMap<NodeId, Session>,
    /// When each node is given up unless it is heard of: nodes in session, and those that a new leader waits for.
    deadlines: BTreeMap<NodeId, Instant>,
    /// Nodes whose deadline passed, until they register again.
    silent: BTreeSet<NodeId>,
    /// Nodes that said that they leave, until they register again.
    left: BTreeSet<NodeId>,
    /// Nodes whose time began anew since most were silent, until they are heard of: it does so once.
    doubted: BTreeSet<NodeId>,
    remarks: ResetReasons,
    attention: PauseDetector,
}

/// What the dispatcher knows of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// In session.
    Here,
    /// Still within the time that it has to register.
    Awaited,
    /// Its time has passed.
    Silent,
    /// It said that it leaves.
    Left,
    /// Never heard of: it has joined, and not registered yet.
    #[default]
    Unheard,
}

struct Session {
    id: SessionId,
    ended: CancellationToken,
    progress: Progress,
    ahead: ClockOffset,
}

/// What has passed of the nodes' time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ExpiredSessions {
    /// These are given up.
    pub down: Vec<NodeId>,
    /// These would have been, or would be within a heartbeat, were they not most of all: their time began anew.
    pub doubted: Vec<NodeId>,
}

/// How far a node in session is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Changes up to this one have been looked through for what concerns the node.
    pub seen: Revision,
    /// The newest assignments that it was sent.
    pub sent: Revision,
    /// The newest that it says it has applied.
    pub applied: Revision,
    /// What keeps it from applying more, in its own words.
    pub lag: String,
    /// Faults that the node reports and cannot mend by itself; none until its first heartbeat that says.
    pub faults: Option<Vec<pb::Fault>>,
}

impl Progress {
    /// Whether the node has applied all that concerns it of the changes up to `revision`.
    pub fn has(&self, revision: Revision) -> bool {
        self.applied >= revision || (self.seen >= revision && self.applied >= self.sent)
    }
}

impl Sessions {
    /// None yet, in a term that ends with `over`.
    pub fn new(over: &CancellationToken) -> Self {
        Self { over: over.clone(), ..Self::default() }
    }

    /// Begins a session of `node` and ends the one before it. The token is cancelled when the session ends.
    pub fn register(&mut self, node: &NodeId, deadline: Instant) -> (SessionId, CancellationToken) {
        let (id, ended) = (SessionId::random(), self.over.child_token());
        let session = Session { id, ended, progress: Progress::default(), ahead: ClockOffset::default() };
        let begun = (session.id.clone(), session.ended.clone());
        if let Some(before) = self.sessions.insert(node.clone(), session) {
            before.ended.cancel();
        }
        self.deadlines.insert(node.clone(), deadline);
        self.silent.remove(node);
        self.left.remove(node);
        self.doubted.remove(node);
        begun
    }

    /// Waits for `node` until `deadline`, as a new leader does for a node that an older one knew.
    pub fn expect(&mut self, node: &NodeId, deadline: Instant) {
        self.deadlines.entry(node.clone()).or_insert(deadline);
    }

    /// Moves the deadline of a node whose session is `session`.
    ///
    /// # Errors
    /// The session has ended; the node has to register again.
    pub fn beat(&mut self, node: &NodeId, session: &str, deadline: Instant) -> Result<(), ApiError> {
        self.check(node, session)?;
        self.deadlines.insert(node.clone(), deadline);
        self.doubted.remove(node);
        Ok(())
    }

    /// The leader looks at its own clock, which it has to every [`PauseDetector::pause`]: silence counts only while it listens. Returns for
    /// how long it was away, if so long that each node's `grace` begins anew.
    pub fn look(&mut self, now: Instant, beat: Duration, grace: Duration) -> Option<Duration> {
        match self.attention.look(now, beat) {
            PauseCheck::Listened(late) => {
                if late > Duration::ZERO {
                    self.deadlines.values_mut().for_each(|deadline| *deadline += late);
                }
                None
            }
            PauseCheck::Away(late) => {
                let (anew, why) = (now + grace, leader_pause::was_away(late));
                for (node, deadline) in &mut self.deadlines {
                    *deadline = anew.max(*deadline);
                    self.remarks.make(node, &why, anew);
                }
                self.doubted.clear();
                Some(late)
            }
        }
    }

    /// What there is to say of `node` besides whether it is there.
    pub fn remark_of(&self, node: &NodeId) -> Option<&str> {
        self.remarks.of(node)
    }

    /// Takes note of how far the node is in its session `session`. What is said of an earlier one is void.
    pub fn progress(&mut self, node: &NodeId, session: &str, note: impl FnOnce(&mut Progress)) {
        if let Some(current) = self.sessions.get_mut(node).filter(|s| s.id.as_str() == session) {
            note(&mut current.progress);
        }
    }

    /// How far a node is; none when it is not in session.
    pub fn progress_of(&self, node: &NodeId) -> Option<&Progress> {
        self.sessions.get(node).map(|s| &s.progress)
    }

    /// Takes note of the node's clock in its session `session`; what there is to say of it now, if that is news.
    pub fn hear_clock(&mut self, node: &NodeId, session: &str, ahead: ClockOffset) -> Option<String> {
        let current = self.sessions.get_mut(node).filter(|s| s.id.as_str() == session)?;
        if !ahead.differs(current.ahead) {
            return None;
        }
        let before = std::mem::replace(&mut current.ahead, ahead);
        Some(ahead.remark()).filter(|remark| *remark != before.remark())
    }

    /// How far the clock of a node is ahead; none when it is not in session.
    pub fn clock_of(&self, node: &NodeId) -> Option<ClockOffset> {
        self.sessions.get(node).map(|s| s.ahead)
    }

    /// The end of the session `session` of `node`.
    ///
    /// # Errors
    /// The session has ended; the node has to register again.
    pub fn check(&self, node: &NodeId, session: &str) -> Result<CancellationToken, ApiError> {
        match self.sessions.get(node) {
            Some(current) if current.id.as_str() == session => Ok(current.ended.clone()),
            Some(_) => Err(ApiError::precondition(format!(
                "session {session} of node {node} was replaced by a newer one"
            ))),
            None => {
                Err(ApiError::precondition(format!("node {node} is not registered with this dispatcher")))
            }
        }
    }

    /// Ends what has been silent too long and names it, with heartbeats every `beat`. Where most nodes fall silent together, each has
    /// another `grace` once, and [`ExpiredSessions::doubted`] tells of it.
    pub fn expire(&mut self, now: Instant, beat: Duration, grace: Duration) -> ExpiredSessions {
        self.remarks.retain(now, |node| self.deadlines.contains_key(node));
        let mut silence = ExpiredSessions::default();
        let fresh =
            |(node, deadline): &(&NodeId, &Instant)| **deadline <= now && !self.doubted.contains(*node);
        if self.deadlines.iter().any(|entry| fresh(&entry))
            && let Some(silent) = leader_pause::together(&self.deadlines, now, beat)
        {
            let (anew, why) = (now + grace, leader_pause::was_deaf(silent.len(), self.deadlines.len()));
            for node in silent {
                if self.doubted.insert(node.clone()) {
                    self.deadlines.insert(node.clone(), anew);
                    self.remarks.make(&node, &why, anew);
                    silence.doubted.push(node);
                }
            }
        }
        let past = self.deadlines.iter().filter(|(_, deadline)| **deadline <= now);
        silence.down = past.map(|(node, _)| node.clone()).collect();
        for node in &silence.down {
            self.end(node);
            self.silent.insert(node.clone());
        }
        silence
    }

    /// Ends the session `session` of `node`, which could not be told to the other managers. The node has its time to come again.
    pub fn withdraw(&mut self, node: &NodeId, session: &SessionId) {
        if self.sessions.get(node).is_some_and(|current| current.id == *session)
            && let Some(session) = self.sessions.remove(node)
        {
            session.ended.cancel();
        }
    }

    /// Ends the session of `node`, e.g. because it was removed.
    pub fn end(&mut self, node: &NodeId) {
        self.deadlines.remove(node);
        self.doubted.remove(node);
        if let Some(session) = self.sessions.remove(node) {
            session.ended.cancel();
        }
    }

    /// Ends the session `session` of `node`, which leaves the swarm.
    ///
    /// # Errors
    /// The session has ended.
    pub fn leave(&mut self, node: &NodeId, session: &str) -> Result<(), ApiError> {
        self.check(node, session)?;
        self.end(node);
        self.left.insert(node.clone());
        Ok(())
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.values().min().copied().into_iter().chain(self.remarks.next()).min()
    }

    /// What is known of `node`.
    pub fn presence(&self, node: &NodeId) -> Presence {
        if self.sessions.contains_key(node) {
            Presence::Here
        } else if self.deadlines.contains_key(node) {
            Presence::Awaited
        } else if self.silent.contains(node) {
            Presence::Silent
        } else if self.left.contains(node) {
            Presence::Left
        } else {
            Presence::Unheard
        }
    }

    /// Forgets nodes that are no longer known.
    pub fn retain(&mut self, known: impl Fn(&NodeId) -> bool) {
        let gone: Vec<NodeId> = self
            .deadlines
            .keys()
            .chain(&self.silent)
            .chain(&self.left)
            .filter(|id| !known(id))
            .cloned()
            .collect();
        for node in gone {
            self.end(&node);
            self.silent.remove(&node);
            self.left.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const BEAT: Duration = Duration::from_secs(5);
    const GRACE: Duration = Duration::from_secs(15);

    /// Who is given up, where nobody is in doubt.
    fn expire(sessions: &mut Sessions, now: Instant) -> Vec<NodeId> {
        let silence = sessions.expire(now, BEAT, GRACE);
        assert_eq!(silence.doubted, []);
        silence.down
    }

    #[test]
    fn a_node_lives_as_long_as_it_beats() {
        let (node, start) = (NodeId::random(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        let mut sessions = Sessions::default();
        let (id, ended) = sessions.register(&node, at(15));
        assert_eq!(expire(&mut sessions, at(14)), []);
        sessions.beat(&node, id.as_str(), at(29)).unwrap();
        assert_eq!(sessions.next_deadline(), Some(at(29)));
        assert_eq!(expire(&mut sessions, at(28)), []);
        assert!(!ended.is_cancelled());
        assert_eq!(expire(&mut sessions, at(29)), [node.clone()]);
        assert!(ended.is_cancelled());
        assert!(sessions.beat(&node, id.as_str(), at(40)).is_err());
        assert_eq!(sessions.next_deadline(), None);
        assert_eq!(sessions.presence(&node), Presence::Silent);
        sessions.register(&node, at(60));
        assert_eq!(sessions.presence(&node), Presence::Here);
        let (id, ended) = sessions.register(&node, at(75));
        assert!(sessions.leave(&node, "another").is_err());
        sessions.leave(&node, id.as_str()).unwrap();
        assert!(ended.is_cancelled());
        assert_eq!((sessions.presence(&node), sessions.next_deadline()), (Presence::Left, None));
        sessions.retain(|_| false);
        assert_eq!(sessions.presence(&node), Presence::Unheard);
    }

    #[test]
    fn a_clock_is_news_once() {
        use proto::model::Timestamp;

        let (node, deadline) = (NodeId::random(), Instant::now());
        let ahead =
            |seconds: u64| ClockOffset::heard(Timestamp((1000 + seconds) * 1000), Timestamp(1_000_000));
        let mut sessions = Sessions::default();
        let (id, _) = sessions.register(&node, deadline);
        assert_eq!(sessions.hear_clock(&node, id.as_str(), ahead(0)), None);
        let remark = sessions.hear_clock(&node, id.as_str(), ahead(600)).unwrap();
        assert_eq!(sessions.hear_clock(&node, id.as_str(), ahead(605)), None, "{remark} still");
        assert_eq!(sessions.clock_of(&node), Some(ahead(600)));
        assert_eq!(sessions.hear_clock(&node, "another", ahead(0)), None);
        assert_eq!(sessions.hear_clock(&node, id.as_str(), ahead(0)), Some(String::new()));
    }

    #[test]
    fn a_new_session_replaces_the_old_one() {
        let (node, deadline) = (NodeId::random(), Instant::now());
        let mut sessions = Sessions::default();
        let (first, first_ended) = sessions.register(&node, deadline);
        let (second, second_ended) = sessions.register(&node, deadline);
        assert!(first_ended.is_cancelled() && !second_ended.is_cancelled());
        assert!(sessions.check(&node, first.as_str()).unwrap_err().message.contains("replaced"));
        assert!(sessions.check(&node, second.as_str()).is_ok());
        sessions.over.cancel();
        assert!(second_ended.is_cancelled(), "it ends with its term");
    }

    #[test]
    fn an_expected_node_has_its_time_and_no_longer() {
        let (late, back, start) = (NodeId::random(), NodeId::random(), Instant::now());
        let mut sessions = Sessions::default();
        sessions.expect(&late, start + Duration::from_secs(30));
        sessions.expect(&back, start + Duration::from_secs(30));
        let (_, ended) = sessions.register(&back, start + Duration::from_secs(45));
        sessions.expect(&back, start); // does not shorten what the node has by its session
        assert_eq!(expire(&mut sessions, start + Duration::from_secs(31)), [late]);
        assert!(!ended.is_cancelled());
    }

    #[test]
    fn a_registration_that_comes_to_nothing_ends_itself_only() {
        let (node, start) = (NodeId::random(), Instant::now());
        let mut sessions = Sessions::default();
        let (first, _) = sessions.register(&node, start + GRACE);
        let (second, ended) = sessions.register(&node, start + GRACE);
        sessions.withdraw(&node, &first);
        assert!(!ended.is_cancelled(), "a newer one is not its to end");
        sessions.withdraw(&node, &second);
        assert!(ended.is_cancelled());
        assert_eq!(sessions.presence(&node), Presence::Awaited);
        assert_eq!(expire(&mut sessions, start + GRACE), [node], "who does not come again is given up");
    }

    #[test]
    fn silence_of_most_is_doubted_once_and_the_lost_one_is_given_up_then() {
        let (nodes, start) = ([(); 4].map(|()| NodeId::random()), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        let mut sessions = Sessions::default();
        let ids = nodes.each_ref().map(|node| sessions.register(node, at(15)).0);
        // The leader's own node is heard; the others beat a second apart before the leader's cable is pulled.
        for (k, at_second) in [(0, 30), (1, 15), (2, 16), (3, 17)] {
            sessions.beat(&nodes[k], ids[k].as_str(), at(at_second)).unwrap();
        }
        assert_eq!(expire(&mut sessions, at(14)), []);
        let mut silent = nodes[1..].to_vec();
        silent.sort();
        let silence = sessions.expire(at(15), BEAT, GRACE);
        assert_eq!(silence, ExpiredSessions { down: vec![], doubted: silent });
        assert_eq!(sessions.presence(&nodes[2]), Presence::Here, "the session may go on");
        assert!(sessions.remark_of(&nodes[3]).unwrap().starts_with("3 of 4 nodes fell silent"));
        assert_eq!(sessions.remark_of(&nodes[0]), None);
        // Two come back; one is lost indeed.
        for k in [0, 1, 2] {
            sessions.beat(&nodes[k], ids[k].as_str(), at(40)).unwrap();
        }
        assert_eq!(expire(&mut sessions, at(29)), []);
        assert_eq!(expire(&mut sessions, at(30)), [nodes[3].clone()]);
        assert_eq!(sessions.remark_of(&nodes[1]), None, "said long enough");
        // It may happen again.
        assert_eq!(sessions.expire(at(40), BEAT, GRACE).doubted.len(), 3);
        assert_eq!(expire(&mut sessions, at(55)).len(), 3, "and if they are all gone, they are");
    }

    #[test]
    fn who_was_away_itself_gives_nobody_up() {
        let (near, far, start) = (NodeId::random(), NodeId::random(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut sessions = Sessions::default();
        sessions.register(&near, at(2000));
        sessions.expect(&far, at(90_000));
        assert_eq!(sessions.look(at(0), BEAT, GRACE), None);
        // Starved for half a second: that much longer.
        assert_eq!(sessions.look(at(1500), BEAT, GRACE), None);
        assert_eq!(sessions.next_deadline(), Some(at(2500)));
        // Stopped for twenty seconds.
        assert_eq!(sessions.look(at(22_500), BEAT, GRACE), Some(Duration::from_secs(20)));
        assert_eq!(expire(&mut sessions, at(22_500)), []);
        assert_eq!(sessions.next_deadline(), Some(at(37_500)), "nobody's time gets shorter, either");
        assert!(sessions.remark_of(&near).unwrap().contains("did not run for 20.0 s"));
        assert_eq!(expire(&mut sessions, at(37_500)), [near]);
    }
}
