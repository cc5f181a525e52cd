//! Raft as `info` and `node ls` show it, and the way in and out for managers.

use std::{net::SocketAddr, time::Duration};

use openraft::error::{ClientWriteError, RaftError};
use proto::{
    error::ApiError,
    model::{ManagerStatus, NodeId, Reachability},
};

use super::{Leadership, Store, command::Command, error::ProposeError};
use crate::raft::{Failure, Member};

/// Raft on this manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// This manager's raft id.
    pub raft_id: u64,
    /// The term.
    pub term: u64,
    /// Who leads.
    pub leadership: Leadership,
    /// The last entry in the log.
    pub last_log: u64,
    /// The last entry applied.
    pub applied: u64,
    /// The term of that entry.
    pub applied_term: u64,
    /// The last entry in the newest snapshot, 0 = none.
    pub snapshot: u64,
    /// The last entry dropped from the log, 0 = none.
    pub purged: u64,
    /// The leader's raft id.
    pub leader: Option<u64>,
    /// All members.
    pub members: Vec<MemberStatus>,
}

impl RaftStatus {
    /// The member with this raft id.
    pub fn member(&self, raft_id: u64) -> Option<&MemberStatus> {
        self.members.iter().find(|m| m.raft_id == raft_id)
    }

    /// Whether the member with this raft id answers; none where that is not known.
    pub fn reachable(&self, raft_id: u64) -> Option<bool> {
        match self.member(raft_id)?.reachability {
            Reachability::Reachable => Some(true),
            Reachability::Unreachable => Some(false),
            Reachability::Unknown => None,
        }
    }
}

/// A member of raft's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its raft id.
    pub raft_id: u64,
    /// Its node.
    pub node_id: Option<NodeId>,
    /// Where it listened last.
    pub addr: Option<SocketAddr>,
    /// Whether it votes; a new manager does once it has caught up.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it answers. Only the leader knows of others than itself and the leader.
    pub reachability: Reachability,
    /// The last entry that it has, as the leader knows.
    pub matched: Option<u64>,
}

impl From<&MemberStatus> for ManagerStatus {
    fn from(m: &MemberStatus) -> Self {
        Self { raft_id: m.raft_id, addr: m.addr, leader: m.leader, reachability: m.reachability }
    }
}

impl Store {
    /// Raft as it stands.
    pub fn metrics(&self) -> RaftStatus {
        let leadership = self.inner.leadership.borrow().clone();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let leader = metrics.current_leader.filter(|_| leadership != Leadership::None);
        let membership = metrics.membership_config.membership();
        let window = self.inner.network.pace.patience();
        let members = membership.nodes().map(|(id, member)| {
            let own = *id == self.inner.raft_id;
            let voter = membership.voter_ids().any(|v| v == *id);
            let reachability = match leadership {
                // Not yet one to count on: it catches up first.
                _ if !voter => Reachability::Unknown,
                _ if own => Reachability::Reachable,
                Leadership::Leader { .. } if self.inner.network.heard.within(*id, window) => {
                    Reachability::Reachable
                }
                Leadership::Leader { .. } => Reachability::Unreachable,
                Leadership::Follower { .. } if leader == Some(*id) => Reachability::Reachable,
                Leadership::Follower { .. } | Leadership::None => Reachability::Unknown,
            };
            let matched = metrics.replication.as_ref().and_then(|r| (*r.get(id)?)?.index.into());
            MemberStatus {
                raft_id: *id,
                node_id: member.node_id.clone(),
                addr: member.addr,
                voter,
                leader: leader == Some(*id),
                reachability,
                matched,
            }
        });
        RaftStatus {
            raft_id: self.inner.raft_id,
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            applied_term: metrics.last_applied.map_or(0, |id| id.leader_id.term),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            purged: metrics.purged.map_or(0, |id| id.index),
            leader,
            members: members.collect(),
            leadership,
        }
    }

    /// Whether raft counts on a node, as this manager knows the membership.
    pub fn counts_on(&self, node: &NodeId) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().nodes().any(|(_, m)| m.node_id.as_ref() == Some(node))
    }

    /// How many messages to each of the other managers have failed since this one started, and how.
    pub fn message_failures(&self) -> Vec<(NodeId, Failure, u64)> {
        self.inner.network.reach.counts()
    }

    /// For how long this manager bears its leader's silence just now.
    pub fn election_time(&self) -> Duration {
        self.inner.network.pace.election()
    }

    /// Waits until this manager votes, which it does once it has caught up; for `limit` at most.
    pub(crate) async fn wait_voter(&self, limit: Duration) -> bool {
        let own = self.inner.raft_id;
        let wait = self.inner.raft.wait(Some(limit));
        let votes = wait.metrics(
            |m| m.membership_config.membership().voter_ids().any(|v| v == own),
            "this manager votes",
        );
        votes.await.is_ok()
    }

    /// Takes a manager in, as a learner that becomes a voter once it has caught up: its raft id, to open its store with. A
    /// manager that comes again keeps its raft id; a new address replaces the old one.
    ///
    /// # Errors
    /// Not the leader; no such node; no majority.
    pub async fn add_member(&self, node_id: &NodeId, addr: SocketAddr) -> Result<u64, ApiError> {
        let state = self.read();
        let Some(node) = state.nodes.get(node_id) else {
            return Err(ApiError::not_found(format!("node {node_id} not found")));
        };
        let raft_id = if node.raft_id != 0 { node.raft_id } else { rand::random_range(1..=u64::MAX >> 1) };
        let command = Command::SetNodeRaft { id: node_id.clone(), raft_id, raft_addr: Some(addr) };
        self.propose_one(command).await?;
        let known = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_node(&raft_id).is_some()
        };
        if !known {
            let member = Member { node_id: Some(node_id.clone()), addr: Some(addr) };
            self.change("take a manager in", self.inner.raft.add_learner(raft_id, member, false)).await?;
        }
        Ok(raft_id)
    }

    /// Lets a manager go, and returns once raft no longer counts on it.
    ///
    /// # Errors
    /// Not the leader; the managers that would be left cannot decide; no majority.
    pub async fn remove_member(&self, node_id: &NodeId) -> Result<(), ApiError> {
        let status = self.metrics();
        let Some(leaving) = status.members.iter().find(|m| m.node_id.as_ref() == Some(node_id)) else {
            // One that was given a raft id, and went away before raft took it in.
            if self.read().nodes.get(node_id).is_some_and(|n| n.raft_id != 0) {
                let none = Command::SetNodeRaft { id: node_id.clone(), raft_id: 0, raft_addr: None };
                self.propose_one(none).await?;
            }
            return Ok(());
        };
        let stay: Vec<_> =
            status.members.iter().filter(|m| m.voter && m.raft_id != leaving.raft_id).collect();
        let reachable = stay.iter().filter(|m| m.reachability == Reachability::Reachable).count();
        if leaving.voter && (stay.is_empty() || reachable * 2 <= stay.len()) {
            return Err(ApiError::precondition(format!(
                "node {node_id} cannot leave the managers: of the {} that would be left {reachable} answer, \
                 and more than half must",
                stay.len()
            ))
            .help("Promote another node to manager first, or bring the missing managers back."));
        }
        self.propose_one(Command::SetNodeRaft { id: node_id.clone(), raft_id: 0, raft_addr: None }).await?;
        let raft_id = leaving.raft_id;
        let wait = self.inner.raft.wait(Some(Duration::from_secs(25)));
        let gone = wait
            .metrics(|m| m.membership_config.membership().get_node(&raft_id).is_none(), "a manager leaves")
            .await;
        gone.map(|_| ())
            .map_err(|e| ApiError::timeout(format!("node {node_id} has not left the managers yet: {e}")))
    }

    async fn change<T>(
        &self,
        what: &str,
        change: impl Future<Output = Result<T, RaftError<u64, ClientWriteError<u64, Member>>>>,
    ) -> Result<T, ApiError> {
        match change.await {
            Ok(done) => Ok(done),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                let leader = forward.leader_node.and_then(|m| Some((m.node_id?, m.addr?)));
                Err(ProposeError::NotLeader { leader }.into())
            }
            Err(RaftError::APIError(e)) => Err(ApiError::unavailable(format!("cannot {what} now: {e}"))),
            Err(RaftError::Fatal(e)) => Err(ProposeError::Fatal(e.to_string()).into()),
        }
    }
}
