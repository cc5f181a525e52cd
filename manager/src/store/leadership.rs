//! Who leads, as this manager knows it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use openraft::ServerState;
use proto::model::NodeId;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::raft::{
    Member, Raft, contact::LeaderContact, heartbeat::Acknowledged, peer_addresses::PeerAddresses,
    timing::RaftTiming,
};

/// Who leads the managers, as this one knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Leadership {
    /// This manager, since this term.
    Leader {
        /// Raft's term.
        term: u64,
    },
    /// Another.
    Follower {
        /// The leader and where it listens, where that is known.
        leader: Option<(NodeId, SocketAddr)>,
    },
    /// Nobody, or nobody who is known to have a majority.
    #[default]
    None,
}

impl Leadership {
    /// Whether this manager leads.
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader { .. })
    }
}

pub(crate) type Metrics = openraft::RaftMetrics<u64, Member>;

/// When this manager learnt what raft says of itself.
#[derive(Debug, Clone, Copy)]
struct Heard {
    /// All of it.
    told: Instant,
    /// Its vote, and so in which term it leads.
    vote: Instant,
}

/// What raft's `metrics` come to, which were heard at `heard`.
fn read(
    metrics: &Metrics,
    heard: Heard,
    peer_addresses: &PeerAddresses,
    acknowledged: &Acknowledged,
    patience: Duration,
) -> Leadership {
    if metrics.running_state.is_err() {
        return Leadership::None;
    }
    let Some(leader) = metrics.current_leader else { return Leadership::None };
    let member = metrics.membership_config.membership().get_node(&leader);
    if metrics.state == ServerState::Leader && leader == metrics.id {
        // Openraft's leader goes on without a majority; ours must not think that it still decides anything.
        let alone = metrics.membership_config.membership().voter_ids().count() == 1;
        // A core that hangs says nothing new: what it said last grows old with it.
        let entries =
            metrics.millis_since_quorum_ack.map(|ms| Duration::from_millis(ms) + heard.told.elapsed());
        let heartbeats = acknowledged.age(&metrics.vote, metrics.membership_config.membership(), metrics.id);
        // None yet: since it was elected it has had the votes of a majority only.
        let age = [entries, heartbeats].into_iter().flatten().min().unwrap_or_else(|| heard.vote.elapsed());
        return if alone || age <= patience {
            Leadership::Leader { term: metrics.current_term }
        } else {
            Leadership::None
        };
    }
    if leader == metrics.id {
        return Leadership::None;
    }
    let leader = member.and_then(|m| Some((m.node_id.clone()?, peer_addresses.of(leader, m)?)));
    Leadership::Follower { leader }
}

/// Keeps `leadership` up to date until `stop`. A leader whom no majority has answered for long is none.
pub(crate) async fn run(
    raft: Raft,
    leadership: watch::Sender<Leadership>,
    peer_addresses: PeerAddresses,
    contact: LeaderContact,
    acknowledged: Acknowledged,
    pace: RaftTiming,
    stop: CancellationToken,
) {
    let mut metrics = raft.metrics();
    let mut tick = interval(pace.patience().div_f32(4.0));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut stopped, start) = (false, Instant::now());
    let (mut heard, mut last) = (Heard { told: start, vote: start }, None);
    loop {
        let patience = pace.patience();
        let (mut now, vote, running) = {
            let metrics = metrics.borrow_and_update();
            if metrics.has_changed() {
                heard.told = Instant::now();
            }
            if last.replace(metrics.vote) != Some(metrics.vote) {
                heard.vote = Instant::now();
            }
            let now = read(&metrics, heard, &peer_addresses, &acknowledged, patience);
            (now, metrics.vote, metrics.running_state.clone())
        };
        if let Err(error) = running
            && !std::mem::replace(&mut stopped, true)
            && !stop.is_cancelled()
        {
            tracing::error!(%error, "raft has stopped: this manager takes no part until its daemon is restarted");
        }
        // Openraft's follower remembers its leader until somebody else stands for election.
        if matches!(now, Leadership::Follower { .. }) && contact.silence() > patience {
            now = Leadership::None;
        }
        if now.is_leader() {
            contact.leads(&vote);
        }
        let before = leadership.borrow().clone();
        if before != now {
            tracing::info!(?now, "leadership");
            leadership.send_replace(now);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = metrics.changed() => {
                if changed.is_err() {
                    break;
                }
                // By this alone it counts as seen, before it is read.
                metrics.mark_changed();
            }
            _ = tick.tick() => {}
        }
    }
    leadership.send_replace(Leadership::None);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
    };

    use openraft::StoredMembership;

    use super::*;
    use crate::raft::{Membership, Vote, no_hints};

    #[test]
    fn a_leader_whom_no_majority_answers_is_none_whatever_raft_says() {
        let voters = BTreeSet::from([1, 2, 3]);
        let nodes: BTreeMap<u64, Member> = voters.iter().map(|id| (*id, Member::default())).collect();
        let mut metrics = Metrics::new_initial(1);
        (metrics.state, metrics.current_leader, metrics.current_term) = (ServerState::Leader, Some(1), 3);
        metrics.vote = Vote::new_committed(3, 1);
        metrics.membership_config =
            Arc::new(StoredMembership::new(None, Membership::new(vec![voters], nodes)));
        metrics.millis_since_quorum_ack = Some(20);
        let (peer_addresses, acknowledged) = (PeerAddresses::new(no_hints()), Acknowledged::default());
        let patience = Duration::from_secs(2);
        let (now, long_ago) = (Instant::now(), Instant::now().checked_sub(patience * 2).unwrap());
        let leads = |metrics: &Metrics, told, vote| {
            read(metrics, Heard { told, vote }, &peer_addresses, &acknowledged, patience).is_leader()
        };
        assert!(leads(&metrics, now, long_ago));
        assert!(
            !leads(&metrics, long_ago, long_ago),
            "they answered just before raft hung, and have not since"
        );
        metrics.millis_since_quorum_ack = None;
        assert!(leads(&metrics, now, now), "only just elected");
        assert!(!leads(&metrics, now, long_ago), "by those who have not answered since");
    }
}
