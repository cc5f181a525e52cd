//! The leader's heartbeats. Openraft sends its own by the stream of entries to each member, one message at a time: behind a
//! large append, a snapshot or a slow disk they come late. These are messages of their own, beside everything else, and ask
//! nothing of raft's core but whether it lives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use openraft::{
    ServerState,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Member, Membership, Network, Raft, TypeConfig, Vote,
    contact::{LeaderContact, RaftHealth},
    peer::PeerCall,
};

/// Heartbeats to one member that wait for their answers, at most.
const ON_THE_WAY: usize = 4;

/// A heartbeat: an append of nothing, after nothing.
pub(crate) fn message(vote: Vote) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None }
}

/// Whether a request is one.
pub(crate) fn is_heartbeat(request: &AppendEntriesRequest<TypeConfig>) -> bool {
    request.entries.is_empty() && request.prev_log_id.is_none() && request.leader_commit.is_none()
}

/// When each member answered this leader last: the times at which they were asked. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acknowledged(Arc<Mutex<(Option<Vote>, BTreeMap<u64, Instant>)>>);

impl Acknowledged {
    fn lock(&self) -> MutexGuard<'_, (Option<Vote>, BTreeMap<u64, Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, vote: Vote, member: u64, asked: Instant) {
        let mut known = self.lock();
        // A late answer to an earlier reign of this manager says nothing of the present one.
        if known.0.is_some_and(|known| known > vote) {
            return;
        }
        if known.0 != Some(vote) {
            *known = (Some(vote), BTreeMap::new());
        }
        let last = known.1.entry(member).or_insert(asked);
        *last = (*last).max(asked);
    }

    /// For how long the leader of `vote` has been without the answers of a majority; none before the first ones.
    pub(crate) fn age(&self, vote: &Vote, membership: &Membership, own: u64) -> Option<Duration> {
        let known = self.lock();
        if known.0.as_ref() != Some(vote) {
            return None;
        }
        let now = Instant::now();
        let of_set = |set: &std::collections::BTreeSet<u64>| {
            let age = |id: &u64| {
                if *id == own {
                    Some(Duration::ZERO)
                } else {
                    known.1.get(id).map(|at| now.duration_since(*at))
                }
            };
            let mut ages: Vec<_> = set.iter().map(|id| age(id).unwrap_or(Duration::MAX)).collect();
            ages.sort_unstable();
            ages.get(set.len() / 2).copied().unwrap_or(Duration::MAX)
        };
        membership.get_joint_config().iter().map(of_set).max().filter(|age| *age != Duration::MAX)
    }
}

/// The vote by which this manager leads, if it does.
fn reign(raft: &Raft, own: u64) -> Option<(Vote, Membership)> {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow();
    let leads = metrics.state == ServerState::Leader
        && metrics.vote.committed
        && metrics.vote.leader_id.node_id == own;
    leads.then(|| (metrics.vote, metrics.membership_config.membership().clone()))
}

/// Sends heartbeats while this manager leads, until `stop`.
pub(crate) async fn run(
    raft: Raft,
    network: Network,
    contact: LeaderContact,
    core: RaftHealth,
    acknowledged: Acknowledged,
    stop: CancellationToken,
) {
    let pace = network.pace.clone();
    let mut on_the_way: BTreeMap<u64, Arc<()>> = BTreeMap::new();
    let mut silent = false;
    while stop.run_until_cancelled(pace.wait(pace.heartbeat())).await.is_some() {
        let Some((vote, membership)) = reign(&raft, network.own_id) else {
            on_the_way.clear();
            continue;
        };
        let asked = raft.clone();
        core.ask(async move { asked.with_raft_state(|_| ()).await.is_ok() });
        if core.is_stuck() {
            if !silent {
                tracing::warn!("this manager leads, and its raft does not answer: others may take over");
            }
            silent = true;
            continue;
        }
        silent = false;
        if acknowledged.age(&vote, &membership, network.own_id).is_some_and(|age| age <= pace.patience()) {
            contact.leads(&vote);
        }
        on_the_way.retain(|id, _| membership.get_node(id).is_some());
        for (id, member) in membership.nodes().filter(|(id, _)| **id != network.own_id) {
            let held = on_the_way.entry(*id).or_default();
            if Arc::strong_count(held) <= ON_THE_WAY {
                let beat =
                    beat(network.clone(), *id, member.clone(), vote, acknowledged.clone(), held.clone());
                tokio::spawn(beat);
            }
        }
    }
}

async fn beat(
    network: Network,
    id: u64,
    member: Member,
    vote: Vote,
    acknowledged: Acknowledged,
    on_the_way: Arc<()>,
) {
    let asked = Instant::now();
    let message = message(vote);
    let answer = network.ask::<_, AppendEntriesResponse<u64>>(id, &member, PeerCall::Heartbeat, &message);
    // A higher vote is for the stream of entries to hear of.
    if let Ok(Ok(reply)) = timeout(network.pace.limit(), answer).await
        && (reply.is_success() || reply.is_conflict())
    {
        acknowledged.note(vote, id, asked);
        network.pace.late(asked.elapsed());
    }
    drop(on_the_way);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_majority_has_answered_when_its_slowest_has() {
        let voters: BTreeSet<u64> = BTreeSet::from([1, 2, 3]);
        let nodes: BTreeMap<u64, Member> = voters.iter().map(|id| (*id, Member::default())).collect();
        let three = Membership::new(vec![voters], nodes);
        let (known, vote) = (Acknowledged::default(), Vote::new_committed(3, 1));
        assert_eq!(known.age(&vote, &three, 1), None);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).unwrap_or_else(Instant::now);
        known.note(vote, 2, long_ago);
        assert!(known.age(&vote, &three, 1).is_some_and(|age| age >= Duration::from_secs(5)));
        known.note(vote, 3, Instant::now());
        assert!(known.age(&vote, &three, 1).is_some_and(|age| age < Duration::from_secs(1)));
        assert_eq!(
            known.age(&Vote::new_committed(4, 1), &three, 1),
            None,
            "another reign's answers do not count"
        );
        let next = Vote::new_committed(5, 1);
        known.note(next, 2, Instant::now());
        known.note(vote, 3, Instant::now());
        assert!(known.age(&next, &three, 1).is_some(), "nor do they displace those of the present one");
    }
}
