//! Standing for election only with a prospect of winning. Openraft 0.9 has no pre-vote: a manager that is cut off would
//! raise its term again and again, and unseat a working leader when it comes back. So openraft's own elections are off, and one
//! is held when a majority, asked beforehand, says that it hears no leader either and would vote for this manager.
//!
//! Who could not ask a majority was cut off itself, and knows nothing of the others: once they answer again it gives them the
//! time of an election to be heard. Who finds a leader that has a majority, or led until now, does not need another one: it
//! waits, or goes first.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use openraft::{ServerState, raft::VoteRequest};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    LogId, Member, Membership, Raft, Vote,
    contact::LeaderContact,
    log_store::LogStore,
    peer::{Network, PeerCall},
    wire::{Ballot, Knows, Opinion},
};

/// Whether `granted`, this manager among them, is a majority of each set of voters.
pub(crate) fn is_majority(membership: &Membership, granted: &BTreeSet<u64>) -> bool {
    let sets = membership.get_joint_config();
    !sets.is_empty() && sets.iter().all(|set| set.intersection(granted).count() * 2 > set.len())
}

/// Managers that said, when they were asked, that they hear a leader: the way to it for one who does not. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct RelayPeers(Arc<Mutex<Vec<(u64, Instant)>>>);

impl RelayPeers {
    fn set(&self, ids: Vec<u64>) {
        let now = Instant::now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            ids.into_iter().map(|id| (id, now)).collect();
    }

    /// Those that said so within `window`.
    pub(crate) fn within(&self, window: Duration) -> Vec<u64> {
        let relay_peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        relay_peers.iter().filter(|(_, at)| at.elapsed() <= window).map(|(id, _)| *id).collect()
    }
}

/// What the others say before an election.
#[derive(Debug, Default)]
struct PreVotePoll {
    /// Would vote for this manager; itself among them.
    granted: BTreeSet<u64>,
    /// Answered at all; itself among them.
    answered: BTreeSet<u64>,
    /// One of them leads, and a majority answers it.
    led: bool,
    /// They hear a leader, or are one.
    relay_peers: Vec<u64>,
}

/// What comes of a [`PreVotePoll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PreVoteResult {
    /// There is no prospect now.
    Wait,
    /// The others answer again: they get the time of an election first.
    Rejoined,
    Stand,
}

/// Polls in a row that fewer than a majority answered.
#[derive(Debug, Default)]
struct Isolation(u32);

impl Isolation {
    fn judge(&mut self, membership: &Membership, poll: &PreVotePoll) -> PreVoteResult {
        if !is_majority(membership, &poll.answered) {
            self.0 = self.0.saturating_add(1);
            PreVoteResult::Wait
        } else if std::mem::take(&mut self.0) > 0 {
            PreVoteResult::Rejoined
        } else if !poll.led && is_majority(membership, &poll.granted) {
            PreVoteResult::Stand
        } else {
            PreVoteResult::Wait
        }
    }
}

/// What elections need.
pub(crate) struct ElectionContext {
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) network: Network,
    pub(crate) contact: LeaderContact,
    pub(crate) relay_peers: RelayPeers,
}

/// Holds elections until `stop`.
pub(crate) async fn run(booth: ElectionContext, stop: CancellationToken) {
    let ElectionContext { raft, network, contact, .. } = &booth;
    let pace = &network.pace;
    let period = pace.heartbeat().div_f32(2.0).max(Duration::from_millis(5));
    let (mut isolation, mut patience) = (Isolation::default(), ElectionBackoff::new(pace.election()));
    while stop.run_until_cancelled(pace.wait(period)).await.is_some() {
        let (membership, state) = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow();
            (metrics.membership_config.membership().clone(), metrics.state)
        };
        let votes = membership.voter_ids().any(|id| id == network.own_id);
        if !votes || state == ServerState::Leader || network.superseded.load(Ordering::Relaxed) {
            isolation = Isolation::default();
            continue;
        }
        let alone = membership.voter_ids().count() == 1;
        // Who led last, and was asked by nobody to give way, is to lead again before others notice.
        let led = contact.leader() == Some(network.own_id);
        let borne = if led { pace.lease() } else { pace.election() };
        if !patience.is_over() || (!alone && contact.silence() <= borne.mul_f32(patience.share)) {
            continue;
        }
        let verdict = if alone {
            PreVoteResult::Stand
        } else {
            let Some(poll) = stop.run_until_cancelled(poll(&booth, &membership, isolation.0)).await else {
                return;
            };
            isolation.judge(&membership, &poll)
        };
        match verdict {
            PreVoteResult::Wait => {}
            PreVoteResult::Rejoined => patience = ElectionBackoff::new(pace.election()),
            // Its leader may have been heard meanwhile.
            PreVoteResult::Stand if !alone && contact.silence() <= borne => {}
            PreVoteResult::Stand => {
                tracing::info!(silence = ?contact.silence(), "no leader is heard: standing for election");
                if raft.trigger().elect().await.is_err() {
                    return;
                }
                // Votes are synced to disks before they are given; and two that stood at once must not do so again.
                patience = ElectionBackoff::new(pace.election().div_f32(2.0));
            }
        }
    }
}

/// Earliest time of this manager's next election, with a random share of the election time so that managers do not all begin at once.
struct ElectionBackoff {
    until: Instant,
    share: f32,
}

impl ElectionBackoff {
    fn new(time: Duration) -> Self {
        let share = rand::random_range(1.0..1.25);
        Self { until: Instant::now() + time.mul_f32(share), share }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

async fn poll(booth: &ElectionContext, membership: &Membership, unanswered: u32) -> PreVotePoll {
    let ElectionContext { raft, log, network, relay_peers, .. } = booth;
    let mut poll = PreVotePoll::default();
    let Ok(vote) = raft.with_raft_state(|s| *s.vote_ref()).await else { return poll };
    let Ok(last_log_id) = log.last_log_id() else { return poll };
    let (own, patience) = (network.own_id, network.pace.asking(unanswered));
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let others = membership.nodes().filter(|(id, _)| **id != own && voters.contains(id));
    let asked =
        others.map(|(id, member)| {
            let (id, member) = (*id, member.clone());
            async move {
                ask(network, id, &member, vote, last_log_id, patience).await.map(|opinion| (id, opinion))
            }
        });
    for (id, Opinion { response, knows }) in join_all(asked).await.into_iter().flatten() {
        poll.answered.insert(id);
        if response.vote_granted {
            poll.granted.insert(id);
        }
        poll.led |= knows == Knows::Leads;
        match knows {
            // The leader itself is the best guide.
            Knows::Leads => poll.relay_peers.insert(0, id),
            Knows::Follows => poll.relay_peers.push(id),
            Knows::Unspecified => {}
        }
    }
    relay_peers.set(poll.relay_peers.clone());
    poll.granted.insert(own);
    poll.answered.insert(own);
    poll
}

async fn ask(
    network: &Network,
    id: u64,
    member: &Member,
    vote: Vote,
    last_log_id: Option<LogId>,
    patience: Duration,
) -> Option<Opinion> {
    let next = Vote::new(vote.leader_id.term + 1, network.own_id);
    let ballot = Ballot { request: VoteRequest { vote: next, last_log_id }, pre_vote: true };
    let asked = network.ask::<_, Opinion>(id, member, PeerCall::Vote, &ballot);
    timeout(patience, asked).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn membership(sets: &[&[u64]]) -> Membership {
        let nodes: BTreeMap<u64, Member> =
            sets.iter().copied().flatten().map(|id| (*id, Member::default())).collect();
        Membership::new(sets.iter().map(|s| s.iter().copied().collect()).collect(), nodes)
    }

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn a_majority_is_one_of_each_set_of_voters() {
        assert!(is_majority(&membership(&[&[1, 2, 3]]), &set(&[1, 2])));
        assert!(!is_majority(&membership(&[&[1, 2, 3]]), &set(&[1])));
        assert!(!is_majority(&membership(&[&[1, 2, 3, 4]]), &set(&[1, 2])));
        assert!(!is_majority(&membership(&[&[1, 2, 3], &[3, 4, 5]]), &set(&[1, 2, 3])));
        assert!(is_majority(&membership(&[&[1, 2, 3], &[3, 4, 5]]), &set(&[1, 3, 4])));
        assert!(!is_majority(&membership(&[]), &set(&[1])));
    }

    #[test]
    fn who_was_cut_off_gives_the_others_time_and_nobody_unseats_a_leader_that_has_a_majority() {
        let three = membership(&[&[1, 2, 3]]);
        let poll = |granted: &[u64], answered: &[u64], led| PreVotePoll {
            granted: set(granted),
            answered: set(answered),
            led,
            relay_peers: Vec::new(),
        };
        let mut isolation = Isolation::default();
        assert_eq!(isolation.judge(&three, &poll(&[1, 2], &[1, 2], false)), PreVoteResult::Stand);
        assert_eq!(isolation.judge(&three, &poll(&[1], &[1], false)), PreVoteResult::Wait);
        // A slow follower would vote for it, and the leader is there.
        assert_eq!(isolation.judge(&three, &poll(&[1, 2], &[1, 2, 3], false)), PreVoteResult::Rejoined);
        assert_eq!(isolation.judge(&three, &poll(&[1, 2], &[1, 2, 3], true)), PreVoteResult::Wait);
        assert_eq!(isolation.judge(&three, &poll(&[1, 2], &[1, 2, 3], false)), PreVoteResult::Stand);
    }
}
