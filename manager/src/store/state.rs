//! The replicated state: in-memory tables that are persistent maps, so a read view or a snapshot is a cheap clone.

use std::{borrow::Borrow, net::IpAddr, sync::Arc};

use immutable_chunkmap::map::MapM;
use proto::model::{
    Cluster, Network, NetworkId, Node, NodeId, Port, Protocol, PublishMode, Revision, Service, ServiceId,
    Task, TaskId,
};

use super::{
    change::{Change, Edit},
    index::{Index, Owner},
    snapshot,
};

/// A table of one kind of object.
pub struct Table<K: Ord + Clone, V>(MapM<K, Arc<V>>);

impl<K: Ord + Clone, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + Clone, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(MapM::new())
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// The object with this key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// All objects in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.0.into_iter()
    }

    /// All objects in key order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.0.into_iter().map(|(_, v)| v)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    fn set(&mut self, key: &K, value: Option<Arc<V>>) -> Option<Arc<V>> {
        match value {
            Some(value) => self.0.insert_cow(key.clone(), value),
            None => self.0.remove_cow(key),
        }
    }
}

/// Everything that raft replicates. Changed only by [`super::apply`].
#[derive(Clone, Default)]
pub struct State {
    /// The last applied entry.
    pub revision: Revision,
    /// The cluster; none before `swarm init`.
    pub cluster: Option<Arc<Cluster>>,
    /// Nodes.
    pub nodes: Table<NodeId, Node>,
    /// Networks.
    pub networks: Table<NetworkId, Network>,
    /// Services.
    pub services: Table<ServiceId, Service>,
    /// Tasks.
    pub tasks: Table<TaskId, Task>,
    /// What can be derived from the tables, kept so that `apply` and the loops need not scan.
    index: Index,
}

impl State {
    /// Tasks of a service, whatever they are doing, in id order.
    pub fn tasks_by_service<'a>(&'a self, id: &ServiceId) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        self.index.tasks_by_service(id).filter_map(|id| self.tasks.get(id))
    }

    /// Tasks placed on a node, whatever they are doing, in id order.
    pub fn tasks_by_node<'a>(&'a self, id: &NodeId) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        self.index.tasks_by_node(id).filter_map(|id| self.tasks.get(id))
    }

    /// The service with exactly this name.
    pub fn service_by_name(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(self.index.service_named(name)?)
    }

    /// The network with exactly this name.
    pub fn network_by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.get(self.index.network_named(name)?)
    }

    /// The routing mesh's network.
    pub fn ingress_network(&self) -> Option<&Arc<Network>> {
        self.networks.get(self.index.ingress()?)
    }

    /// Who has `addr` on `network`.
    pub fn address_owner(&self, network: &NetworkId, addr: IpAddr) -> Option<&Owner> {
        self.index.address_owner(network, addr)
    }

    /// A service other than `asking` whose use of the port excludes a use in `mode`. An ingress port excludes every other
    /// use of it; two host-mode uses meet on a node at most, which is the scheduler's business.
    pub fn port_holder(
        &self,
        protocol: Protocol,
        port: Port,
        mode: PublishMode,
        asking: &ServiceId,
    ) -> Option<(&ServiceId, PublishMode)> {
        self.index.port_holder(protocol, port, mode, asking)
    }

    /// All of it as bytes: the same for two managers at one revision.
    pub fn to_bytes(&self) -> Vec<u8> {
        snapshot::encode(self)
    }

    /// Puts one edit in place: table and index together. The only way in which a table changes.
    pub(crate) fn set(&mut self, change: &Change) {
        match change {
            Change::Cluster(Edit { new, .. }) => self.cluster.clone_from(new),
            Change::Node(edit) => {
                self.index.node(edit);
                if let Some(id) = edit.either().map(|n| &n.id) {
                    self.nodes.set(id, edit.new.clone());
                }
            }
            Change::Network(edit) => {
                self.index.network(edit);
                if let Some(id) = edit.either().map(|n| &n.id) {
                    self.networks.set(id, edit.new.clone());
                }
            }
            Change::Service(edit) => {
                self.index.service(edit);
                if let Some(id) = edit.either().map(|s| &s.id) {
                    self.services.set(id, edit.new.clone());
                }
            }
            Change::Task(edit) => {
                self.index.task(edit);
                if let Some(id) = edit.either().map(|t| &t.id) {
                    self.tasks.set(id, edit.new.clone());
                }
            }
        }
    }

    /// Puts a whole object in place, unchecked: for loading from disk, and for tests that need a state to start from.
    pub(crate) fn put(&mut self, object: impl Into<Object>) {
        let change = match object.into() {
            Object::Cluster(new) => Change::Cluster(Edit { old: self.cluster.clone(), new: Some(new) }),
            Object::Node(new) => Change::Node(Edit { old: self.nodes.get(&new.id).cloned(), new: Some(new) }),
            Object::Network(new) => {
                Change::Network(Edit { old: self.networks.get(&new.id).cloned(), new: Some(new) })
            }
            Object::Service(new) => {
                Change::Service(Edit { old: self.services.get(&new.id).cloned(), new: Some(new) })
            }
            Object::Task(new) => Change::Task(Edit { old: self.tasks.get(&new.id).cloned(), new: Some(new) }),
        };
        self.set(&change);
    }

    /// What leads from `self` to `to`. Tables are compared by pointer first, so the cost is a walk, not a comparison.
    pub(crate) fn diff(&self, to: &Self) -> Vec<Change> {
        fn table<K: Ord + Clone, V: PartialEq>(
            old: &Table<K, V>,
            new: &Table<K, V>,
            wrap: fn(Edit<V>) -> Change,
            out: &mut Vec<Change>,
        ) {
            let gone = old.iter().filter(|(key, _)| new.get(*key).is_none());
            out.extend(gone.map(|(_, v)| wrap(Edit { old: Some(v.clone()), new: None })));
            for (key, value) in new.iter() {
                let before = old.get(key);
                if before.is_none_or(|b| !Arc::ptr_eq(b, value) && b != value) {
                    out.push(wrap(Edit { old: before.cloned(), new: Some(value.clone()) }));
                }
            }
        }
        let mut out = Vec::new();
        if self.cluster != to.cluster {
            out.push(Change::Cluster(Edit { old: self.cluster.clone(), new: to.cluster.clone() }));
        }
        table(&self.networks, &to.networks, Change::Network, &mut out);
        table(&self.nodes, &to.nodes, Change::Node, &mut out);
        table(&self.services, &to.services, Change::Service, &mut out);
        table(&self.tasks, &to.tasks, Change::Task, &mut out);
        out
    }
}

/// An object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    /// The cluster.
    Cluster(Arc<Cluster>),
    /// A node.
    Node(Arc<Node>),
    /// A network.
    Network(Arc<Network>),
    /// A service.
    Service(Arc<Service>),
    /// A task.
    Task(Arc<Task>),
}

macro_rules! object_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Object {
            fn from(value: $kind) -> Self {
                Object::$kind(Arc::new(value))
            }
        }
    )*};
}
object_from!(Cluster, Node, Network, Service, Task);
