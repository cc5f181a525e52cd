//! The replicated state: in-memory tables that are persistent maps, so a read view or a snapshot is a cheap clone.

use std::{borrow::Borrow, net::IpAddr, sync::Arc};

use immutable_chunkmap::map::MapM;
use proto::model::{
    Cluster, Config, Network, NetworkId, Node, NodeId, Port, Protocol, PublishMode, Revision, Secret,
    Service, ServiceId, Task,
};

use super::{
    change::{Change, Edit},
    index::{Index, Owner},
    kind::{KINDS, Kind, Rows},
    snapshot,
};

/// A table of one kind of object, with the names that only one of them has.
pub struct Table<K: Kind> {
    objects: MapM<K::Id, Arc<K>>,
    names: MapM<String, K::Id>,
}

impl<K: Kind> Clone for Table<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), names: self.names.clone() }
    }
}

impl<K: Kind> Default for Table<K> {
    fn default() -> Self {
        Self { objects: MapM::new(), names: MapM::new() }
    }
}

impl<K: Kind> Table<K> {
    /// The object with this id.
    pub fn get<Q: Ord + ?Sized>(&self, id: &Q) -> Option<&Arc<K>>
    where
        K::Id: Borrow<Q>,
    {
        self.objects.get(id)
    }

    /// The object with exactly this name, of a kind whose names are unique.
    pub fn named(&self, name: &str) -> Option<&Arc<K>> {
        self.objects.get(self.names.get(name)?)
    }

    /// All objects in id order.
    pub fn iter(&self) -> impl Iterator<Item = (&K::Id, &Arc<K>)> {
        self.objects.into_iter()
    }

    /// All objects in id order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.into_iter().map(|(_, object)| object)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.len() == 0
    }

    /// For [`State::set`] alone.
    pub(super) fn set(&mut self, edit: &Edit<K>) {
        if let Some(name) = edit.old.as_deref().and_then(K::unique_name) {
            self.names.remove_cow(&name.to_owned());
        }
        if let Some(new) = &edit.new {
            if let Some(name) = new.unique_name() {
                self.names.insert_cow(name.to_owned(), new.id().clone());
            }
            self.objects.insert_cow(new.id().clone(), new.clone());
        } else if let Some(old) = &edit.old {
            self.objects.remove_cow(old.id());
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
    pub nodes: Table<Node>,
    /// Networks.
    pub networks: Table<Network>,
    /// Services.
    pub services: Table<Service>,
    /// Secrets.
    pub secrets: Table<Secret>,
    /// Configs.
    pub configs: Table<Config>,
    /// Tasks.
    pub tasks: Table<Task>,
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
        self.services.named(name)
    }

    /// The network with exactly this name.
    pub fn network_by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.named(name)
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
        change.put_into(self);
    }

    /// [`Self::set`] for one kind.
    pub(super) fn set_edit<K: Kind>(&mut self, edit: &Edit<K>) {
        K::index(&mut self.index, edit);
        K::rows_mut(self).edit(edit);
    }

    /// Puts a whole object in place, unchecked: for loading from disk, and for tests that need a state to start from.
    pub(crate) fn put<K: Kind>(&mut self, object: K) {
        let old = K::rows(self).in_place_of(&object).cloned();
        self.set_edit(&Edit { old, new: Some(Arc::new(object)) });
    }

    /// What leads from `self` to `to`.
    pub(crate) fn diff(&self, to: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for kind in KINDS {
            (kind.diff)(self, to, &mut changes);
        }
        changes
    }
}
