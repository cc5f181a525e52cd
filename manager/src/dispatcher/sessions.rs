//! Who is in session and until when: a table without a clock of its own.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    error::ApiError,
    model::{NodeId, Revision, SessionId},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::Ahead;

/// The sessions of one term of leadership.
#[derive(Default)]
pub struct Sessions {
    sessions: BTreeMap<NodeId, Session>,
    /// When each node is given up unless it is heard of: nodes in session, and those that a new leader waits for.
    deadlines: BTreeMap<NodeId, Instant>,
    /// Nodes whose deadline passed, until they register again.
    silent: BTreeSet<NodeId>,
    /// Nodes that said that they leave, until they register again.
    left: BTreeSet<NodeId>,
}

/// What the dispatcher knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    Unheard,
}

struct Session {
    id: SessionId,
    ended: CancellationToken,
    progress: Progress,
    ahead: Ahead,
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
}

impl Progress {
    /// Whether the node has applied all that concerns it of the changes up to `revision`.
    pub fn has(&self, revision: Revision) -> bool {
        self.applied >= revision || (self.seen >= revision && self.applied >= self.sent)
    }
}

impl Sessions {
    /// Begins a session of `node` and ends the one before it. The token is cancelled when the session ends.
    pub fn register(&mut self, node: &NodeId, deadline: Instant) -> (SessionId, CancellationToken) {
        let (id, ended) = (SessionId::random(), CancellationToken::new());
        let session = Session { id, ended, progress: Progress::default(), ahead: Ahead::default() };
        let begun = (session.id.clone(), session.ended.clone());
        if let Some(before) = self.sessions.insert(node.clone(), session) {
            before.ended.cancel();
        }
        self.deadlines.insert(node.clone(), deadline);
        self.silent.remove(node);
        self.left.remove(node);
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
        Ok(())
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
    pub fn hear_clock(&mut self, node: &NodeId, session: &str, ahead: Ahead) -> Option<String> {
        let current = self.sessions.get_mut(node).filter(|s| s.id.as_str() == session)?;
        if !ahead.differs(current.ahead) {
            return None;
        }
        let before = std::mem::replace(&mut current.ahead, ahead);
        Some(ahead.remark()).filter(|remark| *remark != before.remark())
    }

    /// How far the clock of a node is ahead; none when it is not in session.
    pub fn clock_of(&self, node: &NodeId) -> Option<Ahead> {
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

    /// Ends what has been silent too long and names it.
    pub fn expire(&mut self, now: Instant) -> Vec<NodeId> {
        let silent: Vec<NodeId> = self
            .deadlines
            .iter()
            .filter(|(_, deadline)| **deadline <= now)
            .map(|(node, _)| node.clone())
            .collect();
        for node in &silent {
            self.end(node);
            self.silent.insert(node.clone());
        }
        silent
    }

    /// Ends the session of `node`, e.g. because it was removed.
    pub fn end(&mut self, node: &NodeId) {
        self.deadlines.remove(node);
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

    /// Ends all sessions: this manager no longer leads.
    pub fn clear(&mut self) {
        self.deadlines.clear();
        self.silent.clear();
        self.left.clear();
        for session in std::mem::take(&mut self.sessions).into_values() {
            session.ended.cancel();
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.values().min().copied()
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

    use std::time::Duration;

    use super::*;

    #[test]
    fn a_node_lives_as_long_as_it_beats() {
        let (node, start) = (NodeId::random(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        let mut sessions = Sessions::default();
        let (id, ended) = sessions.register(&node, at(15));
        assert_eq!(sessions.expire(at(14)), []);
        sessions.beat(&node, id.as_str(), at(29)).unwrap();
        assert_eq!(sessions.next_deadline(), Some(at(29)));
        assert_eq!(sessions.expire(at(28)), []);
        assert!(!ended.is_cancelled());
        assert_eq!(sessions.expire(at(29)), [node.clone()]);
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
        let ahead = |seconds: u64| Ahead::heard(Timestamp((1000 + seconds) * 1000), Timestamp(1_000_000));
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
        sessions.clear();
        assert!(second_ended.is_cancelled());
        assert_eq!(sessions.presence(&node), Presence::Unheard);
    }

    #[test]
    fn an_expected_node_has_its_time_and_no_longer() {
        let (late, back, start) = (NodeId::random(), NodeId::random(), Instant::now());
        let mut sessions = Sessions::default();
        sessions.expect(&late, start + Duration::from_secs(30));
        sessions.expect(&back, start + Duration::from_secs(30));
        let (_, ended) = sessions.register(&back, start + Duration::from_secs(45));
        sessions.expect(&back, start); // does not shorten what the node has by its session
        assert_eq!(sessions.expire(start + Duration::from_secs(31)), [late]);
        assert!(!ended.is_cancelled());
    }
}
