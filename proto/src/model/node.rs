//! Nodes.

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr};

use super::{Condition, Meta, NodeId, Revision};

/// What a node may do; the organisational unit of its certificate.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks.
    #[default]
    Worker,
    /// Runs tasks and takes part in raft.
    Manager,
}

impl Role {
    /// `worker` or `manager`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Manager => "manager",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the scheduler may do with a node.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Gets tasks.
    #[default]
    Active,
    /// Keeps its tasks, gets no new ones.
    Pause,
    /// Loses its tasks.
    Drain,
}

/// Whether a node is there, as its dispatcher session tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Not yet heard of since the leader changed.
    #[default]
    Unknown,
    /// Silent for three heartbeats.
    Down,
    /// In session.
    Ready,
    /// Left by itself.
    Disconnected,
}

/// Whether a manager answers the leader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reachability {
    /// Not known.
    #[default]
    Unknown,
    /// Does not answer.
    Unreachable,
    /// Answers.
    Reachable,
}

/// What a user sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSpec {
    /// Optional name; not unique.
    pub name: String,
    /// Labels (`node.labels.X` in constraints).
    pub labels: BTreeMap<String, String>,
    /// The wanted role.
    pub role: Role,
    /// What the scheduler may do.
    pub availability: Availability,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// `linux`.
    pub os: String,
    /// As `uname -m`: `x86_64`, `aarch64`.
    pub arch: String,
    /// CPUs in billionths.
    pub nano_cpus: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Version of the daemon.
    pub engine_version: String,
    /// Labels from the daemon's configuration (`engine.labels.X`).
    pub engine_labels: BTreeMap<String, String>,
    /// Where others reach it for control and gossip.
    pub advertise_addr: Option<IpAddr>,
    /// Where others send VXLAN to.
    pub data_path_addr: Option<IpAddr>,
    /// MTU of the interface that holds the data-path address.
    pub underlay_mtu: u32,
    /// Kernel features that are missing, each with what does not work without it.
    pub missing_features: Vec<String>,
}

/// Written by the dispatcher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// Whether it is there.
    pub state: NodeState,
    /// Why, when it is not.
    pub message: String,
    /// The address it was last seen from.
    pub addr: Option<IpAddr>,
}

/// A manager as its peers see it; computed on read, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerStatus {
    /// Its raft id.
    pub raft_id: u64,
    /// Where it listens.
    pub addr: Option<SocketAddr>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it answers.
    pub reachability: Reachability,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id: the common name of its certificate.
    pub id: NodeId,
    /// Bookkeeping.
    pub meta: Meta,
    /// What the user set.
    pub spec: NodeSpec,
    /// What the node said of itself; none before its first session.
    pub description: Option<NodeDescription>,
    /// Whether it is there.
    pub status: NodeStatus,
    /// Filled on read for managers.
    pub manager_status: Option<ManagerStatus>,
    /// The role that its certificate has.
    pub role: Role,
    /// Its addresses on the ingress network, at most one of each family. Written by the allocator.
    pub ingress_addrs: Vec<IpAddr>,
    /// Raft id, 0 for a worker. Written by raft membership.
    pub raft_id: u64,
    /// Where its raft listens.
    pub raft_addr: Option<SocketAddr>,
    /// What is wrong with it.
    pub conditions: Vec<Condition>,
    /// The version at which the spec changed last; 0 = never since it joined.
    pub spec_version: Revision,
}

impl Node {
    /// Host name, or the empty string before the first session.
    pub fn hostname(&self) -> &str {
        self.description.as_ref().map_or("", |d| d.hostname.as_str())
    }
}
