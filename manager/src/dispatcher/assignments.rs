//! What one node has to know: a pure function of the state, and the difference of two answers.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    model::{
        Config, ConfigId, EndpointDigest, Network, NetworkId, Node, NodeId, Revision, Secret, SecretId,
        Service, ServiceId, Task, TaskId, TaskState,
    },
    pb,
};

use super::view::View;
use crate::store::{apply::file::FileKind, state::State};

/// Everything that one node is told.
#[derive(Clone)]
pub struct AssignmentSet {
    /// The cluster's epoch, in which `generation` counts.
    pub epoch: u64,
    /// The entry that it is an answer to.
    pub generation: Revision,
    /// The node itself.
    pub node: Arc<Node>,
    /// The node's tasks, those that are over among them until they are forgotten: their logs can still be asked for.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// The networks of tasks that are not over, and the mesh's.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// The services on those networks, all that publish through the mesh, and those of the node's own tasks, whose templates may
    /// name their labels.
    pub services: BTreeMap<ServiceId, Arc<Service>>,
    /// The secrets that tasks use which are not over.
    pub secrets: BTreeMap<SecretId, Arc<Secret>>,
    /// Likewise the configs.
    pub configs: BTreeMap<ConfigId, Arc<Config>>,
    /// The running endpoints of those networks.
    pub digests: BTreeMap<NetworkId, EndpointDigest>,
}

impl AssignmentSet {
    /// What `node` is told at this view; none when it is no longer a node of the cluster.
    pub fn of(view: &View, node: &NodeId) -> Option<Self> {
        let state = &view.state;
        let node = state.nodes.get(node)?.clone();
        // A global service's task is bound to its node from the start; until it has been placed it may not even have addresses.
        let placed = state.tasks_by_node(&node.id).filter(|t| t.status.state >= TaskState::Assigned);
        let tasks: BTreeMap<_, _> = placed.map(|t| (t.id.clone(), t.clone())).collect();
        let attached =
            tasks.values().filter(|t| !t.status.state.is_terminal()).filter_map(|t| t.allocation.as_ref());
        let attached = attached.flat_map(|a| &a.attachments).filter_map(|a| state.networks.get(&a.network));
        let networks: BTreeMap<_, _> =
            attached.chain(state.ingress_network()).map(|n| (n.id.clone(), n.clone())).collect();
        let own = tasks.values().filter(|t| !t.status.state.is_terminal());
        let own = own.filter_map(|t| state.services.get(&t.service_id));
        let seen = networks.keys().filter_map(|id| view.services.get(id)).flatten();
        let services = seen.chain(&view.meshed).chain(own);
        let services = services.map(|s| (s.id.clone(), s.clone())).collect();
        let (secrets, configs) = (used::<Secret>(state, &tasks), used::<Config>(state, &tasks));
        let digest = |id: &NetworkId| view.digests.get(id).copied().unwrap_or_default();
        let digests = networks.keys().map(|id| (id.clone(), digest(id))).collect();
        let epoch = state.cluster.as_ref().map_or(0, |c| c.epoch);
        let generation = state.revision;
        Some(Self { epoch, generation, node, tasks, networks, services, secrets, configs, digests })
    }

    /// All of it, as the first message of a stream.
    pub fn complete(&self) -> pb::AssignmentsMessage {
        pb::AssignmentsMessage {
            kind: pb::assignments_message::Kind::Complete.into(),
            epoch: self.epoch,
            generation: self.generation.0,
            tasks: self.tasks.values().map(|t| pb::Task::from(&**t)).collect(),
            networks: self.networks.values().map(|n| pb::Network::from(&**n)).collect(),
            services: self.services.values().map(|s| pb::Service::from(&**s)).collect(),
            secrets: self.secrets.values().map(|s| (**s).clone().into()).collect(),
            configs: self.configs.values().map(|c| (**c).clone().into()).collect(),
            node: Some(pb::Node::from(&*self.node)),
            digests: digests(self.digests.iter()),
            ..pb::AssignmentsMessage::default()
        }
    }

    /// What leads from `before` to this; none when nothing that a worker acts on has changed.
    pub fn since(&self, before: &Self) -> Option<pb::AssignmentsMessage> {
        let (tasks, removed_tasks) = diff(&before.tasks, &self.tasks, same_task);
        let (networks, removed_networks) = diff(&before.networks, &self.networks, same_network);
        let (services, removed_services) = diff(&before.services, &self.services, same_service);
        let (secrets, removed_secrets) = diff(&before.secrets, &self.secrets, same_file);
        let (configs, removed_configs) = diff(&before.configs, &self.configs, same_file);
        let message = pb::AssignmentsMessage {
            kind: pb::assignments_message::Kind::Incremental.into(),
            epoch: self.epoch,
            generation: self.generation.0,
            tasks: tasks.map(|t| pb::Task::from(&**t)).collect(),
            removed_tasks,
            networks: networks.map(|n| pb::Network::from(&**n)).collect(),
            removed_networks,
            services: services.map(|s| pb::Service::from(&**s)).collect(),
            removed_services,
            secrets: secrets.map(|s| (**s).clone().into()).collect(),
            removed_secrets,
            configs: configs.map(|c| (**c).clone().into()).collect(),
            removed_configs,
            node: (!same_node(&before.node, &self.node)).then(|| pb::Node::from(&*self.node)),
            digests: digests(
                self.digests.iter().filter(|(id, digest)| before.digests.get(*id) != Some(*digest)),
            ),
            ..pb::AssignmentsMessage::default()
        };
        let empty = message.tasks.is_empty()
            && message.removed_tasks.is_empty()
            && message.networks.is_empty()
            && message.removed_networks.is_empty()
            && message.services.is_empty()
            && message.removed_services.is_empty()
            && message.secrets.is_empty()
            && message.removed_secrets.is_empty()
            && message.configs.is_empty()
            && message.removed_configs.is_empty()
            && message.node.is_none()
            && message.digests.is_empty();
        (!empty).then_some(message)
    }
}

/// The secrets, or configs, that tasks use which are not over.
fn used<K: FileKind>(state: &State, tasks: &BTreeMap<TaskId, Arc<Task>>) -> BTreeMap<K::Id, Arc<K>> {
    let live = tasks.values().filter(|t| !t.status.state.is_terminal());
    let references = live.flat_map(|t| K::references(&t.spec.container)).filter_map(|r| r.id.as_ref());
    references.filter_map(|id| Some((id.clone(), K::rows(state).get(id)?.clone()))).collect()
}

/// What is new or changed, and the ids of what is gone.
fn diff<'a, K: Ord + ToString, V>(
    before: &'a BTreeMap<K, Arc<V>>,
    after: &'a BTreeMap<K, Arc<V>>,
    same: fn(&V, &V) -> bool,
) -> (impl Iterator<Item = &'a Arc<V>>, Vec<String>) {
    let changed = after.iter().filter_map(move |(id, new)| match before.get(id) {
        Some(old) if Arc::ptr_eq(old, new) || same(old, new) => None,
        _ => Some(new),
    });
    let removed = before.keys().filter(|id| !after.contains_key(*id)).map(ToString::to_string).collect();
    (changed, removed)
}

// A worker's own reports must not come back to it as news, so objects are compared by what it acts on. What is left out is
// either immutable (a task's spec) or written for users (conditions, times).

fn same_task(a: &Task, b: &Task) -> bool {
    a.desired == b.desired
        && a.start_after == b.start_after
        && a.allocation == b.allocation
        && a.node_id == b.node_id
}

fn same_network(a: &Network, b: &Network) -> bool {
    a.allocation == b.allocation
}

fn same_service(a: &Service, b: &Service) -> bool {
    a.spec_version == b.spec_version && a.allocation == b.allocation
}

/// Its labels are the user's.
fn same_file<K>(_: &K, _: &K) -> bool {
    true
}

fn same_node(a: &Node, b: &Node) -> bool {
    a.spec == b.spec
        && a.role == b.role
        && a.ingress_addrs == b.ingress_addrs
        && a.description == b.description
}

fn digests<'a>(
    digests: impl Iterator<Item = (&'a NetworkId, &'a EndpointDigest)>,
) -> Vec<pb::EndpointDigest> {
    digests
        .map(|(id, d)| pb::EndpointDigest { network_id: id.to_string(), count: d.count, hash: d.hash })
        .collect()
}

#[cfg(test)]
mod tests;
