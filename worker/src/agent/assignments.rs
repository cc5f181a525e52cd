//! What the managers want of this node.

use std::{collections::BTreeMap, sync::Arc};

use proto::model::{EndpointDigest, Network, NetworkId, Node, Service, ServiceId, Task, TaskId};

/// This node's assignments: everything a worker needs to know of the cluster, whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assigned {
    /// Raft index that this answers; 0 = nothing received yet.
    pub generation: u64,
    /// This node.
    pub node: Option<Arc<Node>>,
    /// Its tasks.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// The networks of its tasks, and `ingress`.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// The services on those networks, and all that publish through the mesh.
    pub services: BTreeMap<ServiceId, Arc<Service>>,
    /// Digests of the endpoints of those networks.
    pub digests: BTreeMap<NetworkId, EndpointDigest>,
}
