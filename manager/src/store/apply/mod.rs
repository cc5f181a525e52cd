//! `apply`: the one function that changes the state. Pure and total: it makes no choice, reads no clock, and answers every
//! command, so that managers of two versions that apply one log reach one state.
//!
//! A command is checked whole before anything is edited; a refused one changes nothing. What changes nothing leaves no trace
//! either: no new version, nobody woken.

mod address;
mod cluster;
mod condition;
pub(crate) mod file;
mod network;
mod node;
mod port;
mod service;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use proto::model::{Cluster, Config, Meta, Revision, Secret, Timestamp};

use super::{
    change::{Change, Edit},
    command::{Command, Outcome, Proposal, Rejected},
    kind::Kind,
    state::{State, Table},
};

/// What came of a proposal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// What changed, in order; an object may be in it more than once.
    pub changes: Vec<Change>,
}

/// Applies a proposal as the entry `revision`.
pub fn apply(state: &mut State, revision: Revision, proposal: &Proposal) -> Applied {
    state.revision = revision;
    let Proposal { at, rules, .. } = *proposal;
    let mut applying = Applying { state, revision, at, rules, changes: Vec::new() };
    let outcomes = proposal.commands.iter().map(|c| applying.command(c)).collect();
    Applied { outcomes, changes: applying.changes }
}

/// An entry being applied.
struct Applying<'a> {
    state: &'a mut State,
    revision: Revision,
    at: Timestamp,
    rules: u32,
    changes: Vec<Change>,
}

impl Applying<'_> {
    /// Whether two names are one.
    fn same_name(&self, a: &str, b: &str) -> bool {
        if self.rules >= 1 { a.eq_ignore_ascii_case(b) } else { a == b }
    }

    fn command(&mut self, command: &Command) -> Outcome {
        match command {
            Command::InitCluster(cluster) => self.init_cluster(cluster),
            Command::SetClusterSpec { expect, spec } => self.set_cluster_spec(*expect, spec),
            Command::SetJoinTokens { worker, manager } => {
                self.set_join_tokens(worker.as_deref(), manager.as_deref())
            }
            Command::BeginRootRotation(rotation) => self.begin_root_rotation(rotation),
            Command::MoveToRoot { id, root } => self.move_to_root(id, root),
            Command::FinishRootRotation { root, worker, manager } => {
                self.finish_root_rotation(root, worker, manager)
            }
            Command::SetUnlockKey(key) => self.set_unlock_key(key),
            Command::BeginEpoch(epoch) => self.begin_epoch(*epoch),
            Command::SetNetworkKeys { keys, clock } => self.set_network_keys(keys, *clock),
            Command::CreateNode(node) => self.create_node(node),
            Command::SetNodeSpec { id, expect, spec } => self.set_node_spec(id, *expect, spec),
            Command::RemoveNode(id) => self.remove_node(id),
            Command::SetNodeRaft { id, raft_id, raft_addr } => self.set_node_raft(id, *raft_id, *raft_addr),
            Command::SetNodeRole { id, role } => self.set_node_role(id, *role),
            Command::ReportNode { id, status, description } => {
                self.report_node(id, status.as_ref(), description.as_deref())
            }
            Command::AllocateNode { id, ingress_addrs } => self.allocate_node(id, ingress_addrs),
            Command::CreateNetwork(network) => self.create_network(network),
            Command::RemoveNetwork(id) => self.remove_network(id),
            Command::AllocateNetwork { id, allocation } => self.allocate_network(id, allocation),
            Command::CreateService(service) => self.create_service(service),
            Command::SetServiceSpec { id, expect, spec } => self.set_service_spec(id, *expect, spec),
            Command::RollbackService { id, expect, automatic, message } => {
                self.rollback_service(id, *expect, *automatic, message)
            }
            Command::SetUpdateStatus { id, of_version, status } => {
                self.set_update_status(id, *of_version, status)
            }
            Command::RemoveService(id) => self.remove_service(id),
            Command::AllocateService { id, allocation } => self.allocate_service(id, allocation),
            Command::CreateTask(task) => self.create_task(task),
            Command::Attach(task) => self.attach(task),
            Command::SetTaskDesired { id, desired, start_after } => {
                self.set_task_desired(id, *desired, *start_after)
            }
            Command::RemoveTask(id) => self.remove_task(id),
            Command::AllocateTask { id, allocation } => self.allocate_task(id, allocation),
            Command::PlaceTask { id, node } => self.place_task(id, node),
            Command::ReportTask { id, status } => self.report_task(id, status),
            Command::CreateSecret(secret) => self.create_file(&**secret),
            Command::SetSecretLabels { id, expect, labels } => self.set_labels::<Secret>(id, *expect, labels),
            Command::RemoveSecret(id) => self.remove_file::<Secret>(id),
            Command::CreateConfig(config) => self.create_file(&**config),
            Command::SetConfigLabels { id, expect, labels } => self.set_labels::<Config>(id, *expect, labels),
            Command::RemoveConfig(id) => self.remove_file::<Config>(id),
            Command::SetCondition { object, condition } => self.set_condition(object, condition),
        }
    }

    fn cluster(&self) -> Result<Arc<Cluster>, Rejected> {
        self.state.cluster.clone().ok_or_else(|| Rejected::NotFound("the cluster".into()))
    }

    /// The object with this id.
    fn found<K: Kind<Rows = Table<K>>>(&self, id: &K::Id) -> Result<Arc<K>, Rejected> {
        K::rows(self.state).get(id).cloned().ok_or_else(|| Rejected::NotFound(format!("{} {id}", K::NAME)))
    }

    /// Stores a new object.
    fn create<T: Kind>(&mut self, mut new: T) {
        let (at, revision) = (self.at, self.revision);
        *new.meta_mut() = Meta { created_at: at, created_in: revision, updated_at: at, version: revision };
        self.record(T::change(Edit { old: None, new: Some(Arc::new(new)) }));
    }

    /// Stores `old` as `edit` leaves it, under a new version if that is different.
    fn update<T: Kind>(&mut self, old: Arc<T>, edit: impl FnOnce(&mut T)) {
        let mut new = T::clone(&old);
        edit(&mut new);
        if new == *old {
            return;
        }
        let meta = new.meta_mut();
        meta.updated_at = self.at;
        meta.version = self.revision;
        self.record(T::change(Edit { old: Some(old), new: Some(Arc::new(new)) }));
    }

    /// Forgets an object.
    fn forget<T: Kind>(&mut self, old: Arc<T>) {
        self.record(T::change(Edit { old: Some(old), new: None }));
    }

    fn record(&mut self, change: Change) {
        self.state.set(&change);
        self.changes.push(change);
    }
}

/// Refuses a change made from an older version of the object.
fn in_sequence(
    object: impl FnOnce() -> String,
    expected: Revision,
    actual: Revision,
) -> Result<(), Rejected> {
    if expected == actual {
        return Ok(());
    }
    Err(Rejected::OutOfSequence { object: object(), expected, actual })
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Rejected> {
    Err(Rejected::State(reason.into()))
}
