//! Standing for election only with a prospect of winning. Openraft 0.9 has no pre-vote: a manager that is cut off would
//! raise its term again and again, and unseat a working leader when it comes back. So elections are off until a majority,
//! asked beforehand, says that it hears no leader either and would vote for this manager.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use openraft::raft::{VoteRequest, VoteResponse};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    LogId, Member, Membership, Raft, Vote,
    log_store::LogStore,
    peer::{Network, PeerCall},
    server::LeaderContact,
    wire::Ballot,
};

/// Whether `granted`, this manager among them, is a majority of each set of voters.
pub(crate) fn is_majority(membership: &Membership, granted: &BTreeSet<u64>) -> bool {
    let sets = membership.get_joint_config();
    !sets.is_empty() && sets.iter().all(|set| set.intersection(granted).count() * 2 > set.len())
}

/// Opens and closes the way to an election until `stop`.
pub(crate) async fn run(
    raft: Raft,
    log: LogStore,
    network: Network,
    contact: LeaderContact,
    heartbeat: Duration,
    lease: Duration,
    stop: CancellationToken,
) {
    let mut tick = interval(heartbeat.div_f32(2.0).max(Duration::from_millis(5)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open = None;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let (membership, leads) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            (metrics.membership_config.membership().clone(), metrics.state.is_leader())
        };
        let alone = membership.voter_ids().count() <= 1;
        // A heartbeat more than the lease: the others heard the leader's last word up to one heartbeat later.
        let may = alone
            || (!leads
                && contact.silence() > lease + heartbeat
                && {
                    let asked = would_win(&raft, &log, &network, &membership, heartbeat * 2);
                    stop.run_until_cancelled(asked).await.unwrap_or(false)
                }
                && !network.superseded.load(Ordering::Relaxed));
        if open != Some(may) {
            tracing::debug!(may, "standing for election");
            raft.runtime_config().elect(may);
            open = Some(may);
        }
    }
}

async fn would_win(
    raft: &Raft,
    log: &LogStore,
    network: &Network,
    membership: &Membership,
    patience: Duration,
) -> bool {
    let Ok(vote) = raft.with_raft_state(|s| *s.vote_ref()).await else { return false };
    let Ok(last_log_id) = log.last_log_id() else { return false };
    let own = network.own_id;
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    if !voters.contains(&own) {
        return false;
    }
    let others = membership.nodes().filter(|(id, _)| **id != own && voters.contains(id));
    let asked = others.map(|(id, member)| {
        let (id, member) = (*id, member.clone());
        async move { pre_vote(network, id, &member, vote, last_log_id, patience).await.then_some(id) }
    });
    let mut granted: BTreeSet<u64> = join_all(asked).await.into_iter().flatten().collect();
    granted.insert(own);
    is_majority(membership, &granted)
}

async fn pre_vote(
    network: &Network,
    id: u64,
    member: &Member,
    vote: Vote,
    last_log_id: Option<LogId>,
    patience: Duration,
) -> bool {
    let next = Vote::new(vote.leader_id.term + 1, network.own_id);
    let ballot = Ballot { request: VoteRequest { vote: next, last_log_id }, pre_vote: true };
    let asked = network.ask::<_, VoteResponse<u64>>(id, member, PeerCall::Vote, &ballot);
    matches!(timeout(patience, asked).await, Ok(Ok(reply)) if reply.vote_granted)
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

    #[test]
    fn a_majority_is_one_of_each_set_of_voters() {
        let granted = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert!(is_majority(&membership(&[&[1, 2, 3]]), &granted(&[1, 2])));
        assert!(!is_majority(&membership(&[&[1, 2, 3]]), &granted(&[1])));
        assert!(!is_majority(&membership(&[&[1, 2, 3, 4]]), &granted(&[1, 2])));
        assert!(!is_majority(&membership(&[&[1, 2, 3], &[3, 4, 5]]), &granted(&[1, 2, 3])));
        assert!(is_majority(&membership(&[&[1, 2, 3], &[3, 4, 5]]), &granted(&[1, 3, 4])));
        assert!(!is_majority(&membership(&[]), &granted(&[1])));
    }
}
