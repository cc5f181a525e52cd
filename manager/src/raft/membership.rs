//! How managers come and go.
//!
//! What should be is in the state: a node with a raft id is a member. The leader follows it, one step at a time: a member that
//! has caught up becomes a voter, one whose node is no longer a manager leaves. A leader that fails half way is replaced by
//! one that goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::ChangeMembers;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Member, Membership, Raft};
use crate::store::{Leadership, publisher::StatePublisher, state::State};

/// Entries that a learner may be behind when it becomes a voter.
const CAUGHT_UP: u64 = 100;
/// How often the leader looks.
const PERIOD: Duration = Duration::from_millis(250);

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A learner becomes a voter.
    Promote(u64),
    /// A member leaves.
    Remove(u64),
    /// A member has another address.
    Move(u64, Member),
}

/// The next change, if any. `matched`: the last entry that each member is known to have.
pub(crate) fn plan(
    state: &State,
    membership: &Membership,
    own_id: u64,
    last_log: u64,
    matched: &BTreeMap<u64, u64>,
) -> Option<Step> {
    // Before the cluster object there is no say on who belongs.
    let cluster = state.cluster.as_ref()?;
    if membership.get_joint_config().len() > 1 {
        return None;
    }
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    for (id, member) in membership.nodes() {
        let Some(node_id) = &member.node_id else { continue };
        let node = state.nodes.get(node_id);
        let removed = cluster.removed_nodes.contains(node_id);
        let left = removed || node.is_some_and(|n| n.raft_id != *id);
        // The last voter stays whatever the state says: without it there would be nobody to say anything.
        if left
            && (voters.len() > 1 || !voters.contains(id))
            && !(*id == own_id && node.is_none() && !removed)
        {
            return Some(Step::Remove(*id));
        }
        if let Some(addr) = node.filter(|n| n.raft_id == *id).and_then(|n| n.raft_addr)
            && member.addr != Some(addr)
        {
            return Some(Step::Move(*id, Member { addr: Some(addr), ..member.clone() }));
        }
        let behind = last_log.saturating_sub(matched.get(id).copied().unwrap_or(0));
        if !left && !voters.contains(id) && node.is_some() && matched.contains_key(id) && behind <= CAUGHT_UP
        {
            return Some(Step::Promote(*id));
        }
    }
    None
}

/// Follows the state while this manager leads, until `stop`.
pub(crate) async fn run(
    raft: Raft,
    published: Arc<StatePublisher>,
    mut leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let leads = async { leadership.wait_for(Leadership::is_leader).await.is_ok() };
        if stop.run_until_cancelled(leads).await != Some(true)
            || stop.run_until_cancelled(tick.tick()).await.is_none()
        {
            return;
        }
        let step = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let matched = metrics.replication.iter().flatten();
            let matched = matched.filter_map(|(id, log)| Some((*id, (*log)?.index))).collect();
            let membership = metrics.membership_config.membership();
            plan(&published.read(), membership, metrics.id, metrics.last_log_index.unwrap_or(0), &matched)
        };
        let Some(step) = step else { continue };
        tracing::info!(?step, "raft membership");
        let change = match step {
            Step::Promote(id) => ChangeMembers::AddVoterIds(BTreeSet::from([id])),
            Step::Remove(id) => {
                let voter =
                    raft.metrics().borrow().membership_config.membership().voter_ids().any(|v| v == id);
                let ids = BTreeSet::from([id]);
                if voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) }
            }
            Step::Move(id, member) => ChangeMembers::SetNodes(BTreeMap::from([(id, member)])),
        };
        let changed = stop.run_until_cancelled(raft.change_membership(change, false)).await;
        if let Some(Err(e)) = changed {
            tracing::warn!(error = %e, "raft membership could not be changed; trying again");
        }
    }
}
