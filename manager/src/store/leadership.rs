//! Who leads, as this manager knows it.

use std::{net::SocketAddr, time::Duration};

use openraft::ServerState;
use proto::model::NodeId;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::raft::{
    Member, Raft, contact::LeaderContact, heartbeat::Acknowledged, pace::Pace, whereabouts::Whereabouts,
};

/// See the module.
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

fn read(
    metrics: &Metrics,
    whereabouts: &Whereabouts,
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
        let entries = metrics.millis_since_quorum_ack.map(Duration::from_millis);
        let heartbeats = acknowledged.age(&metrics.vote, metrics.membership_config.membership(), metrics.id);
        // None yet: it has only just been elected.
        let age = [entries, heartbeats].into_iter().flatten().min();
        return if alone || age.is_none_or(|age| age <= patience) {
            Leadership::Leader { term: metrics.current_term }
        } else {
            Leadership::None
        };
    }
    if leader == metrics.id {
        return Leadership::None;
    }
    let leader = member.and_then(|m| Some((m.node_id.clone()?, whereabouts.of(leader, m)?)));
    Leadership::Follower { leader }
}

/// Keeps `leadership` up to date until `stop`. A leader whom no majority has answered for long is none.
pub(crate) async fn run(
    raft: Raft,
    leadership: watch::Sender<Leadership>,
    whereabouts: Whereabouts,
    contact: LeaderContact,
    acknowledged: Acknowledged,
    pace: Pace,
    stop: CancellationToken,
) {
    let mut metrics = raft.metrics();
    let mut tick = interval(pace.patience().div_f32(4.0));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopped = false;
    loop {
        let patience = pace.patience();
        let (mut now, vote, running) = {
            let metrics = metrics.borrow_and_update();
            let now = read(&metrics, &whereabouts, &acknowledged, patience);
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
            changed = metrics.changed() => if changed.is_err() { break },
            _ = tick.tick() => {}
        }
    }
    leadership.send_replace(Leadership::None);
}
