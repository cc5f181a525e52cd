//! The replicated state: in-memory tables that are persistent maps, so a read view or a snapshot is a cheap clone.

use std::{borrow::Borrow, sync::Arc};

use immutable_chunkmap::map::MapM;
use proto::model::{Cluster, Network, NetworkId, Node, NodeId, Revision, Service, ServiceId, Task, TaskId};

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

    pub(crate) fn insert(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        self.0.insert_cow(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.0.remove_cow(key)
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
}
