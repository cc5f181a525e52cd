//! `swarm init --force-new-cluster`: raft goes on with this manager alone, from all that its disk holds.
//!
//! The log gets a last entry that makes this manager the only member, and the manager a new raft id: the others, should they come
//! back with their old disks, must not take it for the member that they knew. What this manager's log holds beyond what it knows to
//! be committed is kept: of two ways to be wrong it is the one that loses nothing.
//!
//! Workers refuse assignments that are older than what they have. Raft's indices begin anew here, from what this manager knew, which
//! may be less than they have heard of; so the cluster begins a new epoch, which counts before the index.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{CommittedLeaderId, EntryPayload};
use proto::model::{NodeId, Timestamp};

use super::{
    Leadership, Store,
    command::Command,
    disk::{Disk, DiskError, Fact, Family},
    error::{CommandError, OpenError, ProposeError},
};
use crate::raft::{Entry, LogId, Member, Membership, Vote, log_store::last_log_id, wire::Wire};

/// How long the only manager may take to lead.
const LEADS: std::time::Duration = std::time::Duration::from_secs(10);

/// Rewrites the disk; returns the new raft id.
pub(super) fn rewrite(disk: &Disk, node_id: &NodeId, member: Member) -> Result<u64, OpenError> {
    let write = || -> Result<Option<u64>, DiskError> {
        let Some(last) = last_log_id(disk)? else { return Ok(None) };
        let vote: Option<Vote> = disk.fact(Fact::Vote)?;
        let term = vote.map_or(0, |v| v.leader_id.term).max(last.leader_id.term) + 1;
        let raft_id = rand::random_range(1..=u64::MAX >> 1);
        let members = BTreeMap::from([(raft_id, member)]);
        let entry = Entry {
            log_id: LogId::new(CommittedLeaderId::new(term, raft_id), last.index + 1),
            payload: EntryPayload::Membership(Membership::new(vec![BTreeSet::from([raft_id])], members)),
        };
        let mut batch = disk.batch();
        batch.put(Family::Log, &entry.log_id.index.to_be_bytes(), &entry.to_bytes())?;
        batch.put_fact(Fact::Vote, &Vote::new(term, raft_id))?;
        batch.put_identity(node_id, raft_id)?;
        batch.write_synced()?;
        Ok(Some(raft_id))
    };
    match write() {
        Ok(Some(raft_id)) => Ok(raft_id),
        Ok(None) => Err(OpenError::Content("there is no state of a swarm on this manager's disk".into())),
        Err(error) => Err(OpenError::Content(error.to_string())),
    }
}

/// The epoch after `known`. A manager that has been away may not know of epochs that others began meanwhile: those who are lost to it
/// count by the clock, so that the later command wins wherever clocks are right, and by one more where this one's is behind.
fn next_epoch(known: u64, now: Timestamp) -> u64 {
    (known + 1).max(now.0 / 1000)
}

impl Store {
    /// Waits until this manager, made the only one, leads, and tells the state: the others are no members any more. They stay nodes,
    /// with their role, until they come back or are removed.
    ///
    /// # Errors
    /// It does not come to lead.
    pub(crate) async fn settle_alone(&self) -> Result<(), CommandError> {
        let mut leadership = self.leadership();
        let leads = async { leadership.wait_for(Leadership::is_leader).await.is_ok() };
        if tokio::time::timeout(LEADS, leads).await != Ok(true) {
            let why = "this manager did not become the leader of its new cluster";
            return Err(ProposeError::Unavailable(why.into()).into());
        }
        let state = self.read_index().await?;
        let known = state.cluster.as_ref().map_or(0, |c| c.epoch);
        let members = state.nodes.values().filter(|n| n.raft_id != 0 || n.id == *self.node_id());
        let commands = members.map(|node| {
            let own = node.id == *self.node_id();
            Command::SetNodeRaft {
                id: node.id.clone(),
                raft_id: if own { self.raft_id() } else { 0 },
                raft_addr: own.then_some(self.inner.addr),
            }
        });
        let epoch = Command::BeginEpoch(next_epoch(known, Timestamp::now()));
        for outcome in self.propose(std::iter::once(epoch).chain(commands).collect()).await? {
            outcome?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_later_than_what_is_known_and_than_what_was_begun_before() {
        assert_eq!(next_epoch(0, Timestamp(1_800_000_000_000)), 1_800_000_000);
        assert_eq!(next_epoch(1_800_000_000, Timestamp(1_800_000_000_500)), 1_800_000_001, "within a second");
        assert_eq!(next_epoch(1_900_000_000, Timestamp(0)), 1_900_000_001, "a clock that was set back");
    }
}
