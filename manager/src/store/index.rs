//! What is derived from the tables: who has which address and port, and whose tasks are whose. Kept by
//! [`State::set`](super::state::State::set) alone; a test holds it to what a rebuild from the tables gives.

use std::{fmt, net::IpAddr};

use immutable_chunkmap::{map::MapM, set::SetM};
use proto::model::{
    Network, NetworkId, Node, NodeId, Port, Protocol, PublishMode, Service, ServiceId, Task, TaskId,
};

use super::change::Edit;

/// Who has an address of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The network's own bridge.
    Gateway,
    /// Kept by the user under this name (`--aux-address`).
    Auxiliary(String),
    /// A node, on the ingress network.
    Node(NodeId),
    /// A service: a virtual address.
    Service(ServiceId),
    /// A task that is not over.
    Task(TaskId),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Gateway => f.write_str("the network's gateway"),
            Owner::Auxiliary(name) => write!(f, "auxiliary address {name:?}"),
            Owner::Node(id) => write!(f, "node {id}"),
            Owner::Service(id) => write!(f, "service {id}"),
            Owner::Task(id) => write!(f, "task {id}"),
        }
    }
}

type Claims = Vec<(PublishMode, ServiceId)>;

/// Look-up tables over a state: owners of names, addresses and ports, and the tasks of each service and node.
#[derive(Clone, Default)]
pub struct Index {
    service_tasks: MapM<ServiceId, SetM<TaskId>>,
    node_tasks: MapM<NodeId, SetM<TaskId>>,
    addresses: MapM<(NetworkId, IpAddr), Owner>,
    ports: MapM<(Protocol, Port), Claims>,
    ingress: Option<NetworkId>,
}

impl Index {
    pub(super) fn tasks_by_service<'a>(
        &'a self,
        id: &ServiceId,
    ) -> impl Iterator<Item = &'a TaskId> + use<'a> {
        self.service_tasks.get(id).into_iter().flatten()
    }

    pub(super) fn tasks_by_node<'a>(&'a self, id: &NodeId) -> impl Iterator<Item = &'a TaskId> + use<'a> {
        self.node_tasks.get(id).into_iter().flatten()
    }

    pub(super) fn ingress(&self) -> Option<&NetworkId> {
        self.ingress.as_ref()
    }

    pub(super) fn address_owner(&self, network: &NetworkId, addr: IpAddr) -> Option<&Owner> {
        self.addresses.get(&(network.clone(), addr))
    }

    pub(super) fn port_holder(
        &self,
        protocol: Protocol,
        port: Port,
        mode: PublishMode,
        asking: &ServiceId,
    ) -> Option<(&ServiceId, PublishMode)> {
        let excludes = |theirs: PublishMode| mode == PublishMode::Ingress || theirs == PublishMode::Ingress;
        let claims = self.ports.get(&(protocol, port))?;
        claims.iter().find(|(theirs, id)| id != asking && excludes(*theirs)).map(|(mode, id)| (id, *mode))
    }

    pub(super) fn node(&mut self, edit: &Edit<Node>) {
        let Some(network) = self.ingress.clone() else { return };
        let held = |n: &Node| {
            n.ingress_addrs.iter().map(|a| ((network.clone(), *a), Owner::Node(n.id.clone()))).collect()
        };
        self.hold(edit, held);
    }

    pub(super) fn network(&mut self, edit: &Edit<Network>) {
        if edit.old.as_ref().is_some_and(|old| old.spec.ingress) {
            self.ingress = None;
        }
        if let Some(new) = edit.new.as_ref().filter(|new| new.spec.ingress) {
            self.ingress = Some(new.id.clone());
        }
        self.hold(edit, |network| {
            // Auxiliary addresses are kept only once there is a subnet that they can lie in.
            let gateways =
                network.allocation.iter().flat_map(|a| &a.subnets).map(|s| (s.gateway, Owner::Gateway));
            let auxiliary = network.spec.ipam.iter().flat_map(|c| &c.aux_addresses);
            let auxiliary = auxiliary.map(|(name, addr)| (*addr, Owner::Auxiliary(name.clone())));
            gateways.chain(auxiliary).map(|(addr, owner)| ((network.id.clone(), addr), owner)).collect()
        });
    }

    pub(super) fn service(&mut self, edit: &Edit<Service>) {
        if let Some(old) = &edit.old {
            for (protocol, port, _) in published(old) {
                let key = (protocol, port);
                let left: Claims = self
                    .ports
                    .get(&key)
                    .into_iter()
                    .flatten()
                    .filter(|(_, id)| *id != old.id)
                    .cloned()
                    .collect();
                if left.is_empty() {
                    self.ports.remove_cow(&key);
                } else {
                    self.ports.insert_cow(key, left);
                }
            }
        }
        if let Some(new) = &edit.new {
            for (protocol, port, mode) in published(new) {
                let claims = self.ports.get_or_default_cow((protocol, port));
                if !claims.contains(&(mode, new.id.clone())) {
                    claims.push((mode, new.id.clone()));
                }
            }
        }
        self.hold(edit, |service| {
            let vips = service.allocation.iter().flat_map(|a| &a.vips);
            let vips = vips.flat_map(|v| v.addrs.iter().map(|a| (v.network.clone(), *a)));
            vips.map(|key| (key, Owner::Service(service.id.clone()))).collect()
        });
    }

    pub(super) fn task(&mut self, edit: &Edit<Task>) {
        fn belongs<K: Ord + Clone>(map: &mut MapM<K, SetM<TaskId>>, key: &K, id: &TaskId) {
            map.get_or_default_cow(key.clone()).insert_cow(id.clone());
        }
        fn leaves<K: Ord + Clone>(map: &mut MapM<K, SetM<TaskId>>, key: &K, id: &TaskId) {
            let Some(set) = map.get_mut_cow(key) else { return };
            set.remove_cow(id);
            if set.len() == 0 {
                map.remove_cow(key);
            }
        }
        let service = |t: &Task| Some(t.service_id.clone());
        let node = |t: &Task| t.node_id.clone();
        let (old, new) = (edit.old.as_deref(), edit.new.as_deref());
        if old.and_then(service) != new.and_then(service) {
            if let Some(t) = old {
                leaves(&mut self.service_tasks, &t.service_id, &t.id);
            }
            if let Some(t) = new {
                belongs(&mut self.service_tasks, &t.service_id, &t.id);
            }
        }
        if old.and_then(node) != new.and_then(node) {
            if let Some((t, node)) = old.and_then(|t| Some((t, t.node_id.as_ref()?))) {
                leaves(&mut self.node_tasks, node, &t.id);
            }
            if let Some((t, node)) = new.and_then(|t| Some((t, t.node_id.as_ref()?))) {
                belongs(&mut self.node_tasks, node, &t.id);
            }
        }
        let ingress = self.ingress.clone();
        self.hold(edit, |task| {
            let Some(allocation) = task.allocation.as_ref().filter(|_| holds_resources(task)) else {
                return Vec::new();
            };
            let overlays = allocation.attachments.iter();
            let overlays = overlays.flat_map(|a| a.addrs.iter().map(|addr| (a.network.clone(), addr.addr)));
            let mesh = allocation.ingress_addrs.iter().filter_map(|a| Some((ingress.clone()?, *a)));
            overlays.chain(mesh).map(|key| (key, Owner::Task(task.id.clone()))).collect()
        });
    }

    /// Moves the addresses of an object from what it held before to what it holds now.
    fn hold<T>(&mut self, edit: &Edit<T>, held: impl Fn(&T) -> Vec<((NetworkId, IpAddr), Owner)>) {
        let before = edit.old.as_deref().map(&held).unwrap_or_default();
        let after = edit.new.as_deref().map(&held).unwrap_or_default();
        if before == after {
            return;
        }
        for (key, owner) in before {
            if self.addresses.get(&key) == Some(&owner) {
                self.addresses.remove_cow(&key);
            }
        }
        for (key, owner) in after {
            self.addresses.insert_cow(key, owner);
        }
    }
}

/// Whether a task still has what it was given (addresses, ports, resources on its node): until it is over.
pub fn holds_resources(task: &Task) -> bool {
    !task.status.state.is_terminal()
}

/// The ports that a service asks for by number and those it has: after a change of its spec both, until the allocator has
/// answered it.
fn published(service: &Service) -> impl Iterator<Item = (Protocol, Port, PublishMode)> {
    let allocated = service.allocation.iter().flat_map(|a| &a.ports);
    let ports = service.spec.endpoint.ports.iter().chain(allocated);
    ports.filter(|p| p.published != 0).map(|p| (p.protocol, p.published, p.mode))
}
