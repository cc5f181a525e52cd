//! What the managers want of this node, and what it tells them of itself.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use proto::model::{
    Config, ConfigId, EndpointDigest, Network, NetworkId, Node, Secret, SecretId, Service, ServiceId, Task,
    TaskId,
};

/// What tells older assignments from newer ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    /// The cluster's epoch, 0 until one has been begun: raft's indices begin anew in each.
    pub epoch: u64,
    /// The raft index.
    pub generation: u64,
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.epoch {
            0 => write!(f, "{}", self.generation),
            epoch => write!(f, "{} of epoch {epoch}", self.generation),
        }
    }
}

/// This node's assignments: everything a worker needs to know of the cluster, whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assigned {
    /// The cluster's epoch, in which `generation` counts.
    pub epoch: u64,
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
    /// The secrets that its tasks use; on no disk.
    pub secrets: BTreeMap<SecretId, Arc<Secret>>,
    /// The configs that its tasks use; likewise.
    pub configs: BTreeMap<ConfigId, Arc<Config>>,
    /// Digests of the endpoints of those networks.
    pub digests: BTreeMap<NetworkId, EndpointDigest>,
}

impl Assigned {
    /// How new it is.
    pub fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, generation: self.generation }
    }

    /// This node's addresses on `ingress`.
    pub fn ingress_addrs(&self) -> Vec<IpAddr> {
        self.node.as_ref().map(|node| node.ingress_addrs.clone()).unwrap_or_default()
    }
}
