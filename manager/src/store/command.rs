//! Every way in which the replicated state changes. Each command names its single writer.
//!
//! Ids, times and chosen addresses arrive inside the command: `apply` makes no choice and reads no clock, so managers of
//! two versions that apply one log reach one state.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use proto::model::{
    Cluster, ClusterSpec, Condition, Config, ConfigId, Network, NetworkAllocation, NetworkId, NetworkKey,
    Node, NodeDescription, NodeId, NodeSpec, NodeStatus, Revision, Role, RootRotation, Secret, SecretId,
    Service, ServiceAllocation, ServiceId, ServiceSpec, Task, TaskAllocation, TaskId, TaskState, TaskStatus,
    Timestamp, UnlockKey, UpdateStatus,
};

/// One raft entry: commands that are applied one after the other, each with its own outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What to do.
    pub commands: Vec<Command>,
    /// The proposer's clock.
    pub at: Timestamp,
    /// By which rules it is applied: those of its proposer, whatever version applies it. [`RULES`] are the present ones.
    pub rules: u32,
}

/// What `apply` holds new entries to. Entries of before keep the rules they were written under, so that a log read again gives
/// the same state.
///
/// * 0: names are compared byte by byte.
/// * 1: names of services and of networks differ by more than case: DNS does not tell `web` from `WEB`.
pub const RULES: u32 = 1;

/// An object that can carry conditions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// A node.
    Node(NodeId),
    /// A network.
    Network(NetworkId),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // fields are named after the model's
pub enum Command {
    /// bootstrap: the cluster object itself; refused when there is one.
    InitCluster(Box<Cluster>),
    /// control API: a new spec, if the version is still `expect`.
    SetClusterSpec { expect: Revision, spec: ClusterSpec },
    /// control API: new join tokens; `None` keeps.
    SetJoinTokens { worker: Option<String>, manager: Option<String> },
    /// control API: a new root, which takes the place of one that was to come before.
    BeginRootRotation(Box<RootRotation>),
    /// dispatcher: the node shows a certificate of the root with this digest.
    MoveToRoot { id: NodeId, root: String },
    /// CA: the next root, of this digest, is the root; with new join tokens.
    FinishRootRotation { root: String, worker: String, manager: String },
    /// control API: what unlocks the managers' disks; empty = nothing.
    SetUnlockKey(UnlockKey),
    /// `--force-new-cluster`: the cluster's next epoch; refused when it is not above the present one.
    BeginEpoch(u64),
    /// key manager: the key rings.
    SetNetworkKeys { keys: Vec<NetworkKey>, clock: u64 },

    /// CA: a node that presented a valid token, or control API.
    CreateNode(Box<Node>),
    /// control API.
    SetNodeSpec { id: NodeId, expect: Revision, spec: NodeSpec },
    /// control API: the node is forgotten, its certificate refused, its tasks orphaned.
    RemoveNode(NodeId),
    /// raft membership: the node's raft identity, `raft_id` 0 = none.
    SetNodeRaft { id: NodeId, raft_id: u64, raft_addr: Option<SocketAddr> },
    /// CA: the role that the node's newest certificate has.
    SetNodeRole { id: NodeId, role: Role },
    /// dispatcher: what the session tells; `None` keeps.
    ReportNode { id: NodeId, status: Option<NodeStatus>, description: Option<Box<NodeDescription>> },
    /// allocator: the node's addresses on `ingress`; checked against every other owner of an address there.
    AllocateNode { id: NodeId, ingress_addrs: Vec<IpAddr> },

    /// control API; the name must be free.
    CreateNetwork(Box<Network>),
    /// control API; refused while a service or task uses it.
    RemoveNetwork(NetworkId),
    /// allocator: VNI and subnets; checked against every other network.
    AllocateNetwork { id: NetworkId, allocation: NetworkAllocation },

    /// control API; the name must be free, explicit ingress ports too.
    CreateService(Box<Service>),
    /// control API: a new spec, if the version is still `expect`; the old one becomes the previous one. The same spec again
    /// lets an update go on that is paused.
    SetServiceSpec { id: ServiceId, expect: Revision, spec: Box<ServiceSpec> },
    /// control API, or (`automatic`) orchestrator: back to the previous spec, if the version is still `expect`. By a user the
    /// two change places; the orchestrator, which never rolls a rollback back, forgets the one that failed.
    RollbackService { id: ServiceId, expect: Revision, automatic: bool, message: String },
    /// control API; its tasks get desired state `Remove`.
    RemoveService(ServiceId),
    /// allocator: ports and VIPs for the spec version `allocation.of_version`; checked against every other owner.
    AllocateService { id: ServiceId, allocation: ServiceAllocation },

    /// orchestrator.
    CreateTask(Box<Task>),
    /// dispatcher: the place of a container that a user runs on a node, whole, with its addresses: it is there, or nothing is.
    /// Checked against every other owner of an address.
    Attach(Box<Task>),
    /// orchestrator: desired state only rises.
    SetTaskDesired { id: TaskId, desired: TaskState, start_after: Timestamp },
    /// orchestrator: how far the update to the spec version `of_version` is; refused when there is a newer one.
    SetUpdateStatus { id: ServiceId, of_version: Revision, status: UpdateStatus },
    /// orchestrator (reaper): forget a task that is over.
    RemoveTask(TaskId),
    /// allocator: the task's addresses (New -> Pending); checked against every other owner.
    AllocateTask { id: TaskId, allocation: TaskAllocation },
    /// scheduler: the task's node (Pending -> Assigned).
    PlaceTask { id: TaskId, node: NodeId },
    /// dispatcher: what the agent reports; an observed state that would fall is ignored.
    ReportTask { id: TaskId, status: TaskStatus },

    /// control API; the name must be free.
    CreateSecret(Box<Secret>),
    /// control API: new labels, if the version is still `expect`; all else of a secret stays as it is.
    SetSecretLabels { id: SecretId, expect: Revision, labels: BTreeMap<String, String> },
    /// control API: refused while the spec of a service names it.
    RemoveSecret(SecretId),
    /// control API; the name must be free.
    CreateConfig(Box<Config>),
    /// control API: new labels, if the version is still `expect`; all else of a config stays as it is.
    SetConfigLabels { id: ConfigId, expect: Revision, labels: BTreeMap<String, String> },
    /// control API: refused while the spec of a service names it.
    RemoveConfig(ConfigId),

    /// the loop in charge of `kind`: replaces the condition of that kind; an empty message removes it.
    SetCondition { object: ObjectId, condition: Condition },
}

/// Why `apply` refused a command. A refusal is a reply, never a fault: every manager refuses alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)] // fields are named in the messages
pub enum Rejected {
    /// The object is gone.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The object changed since it was read.
    #[error("update out of sequence: {object} is at version {actual}, not {expected}")]
    OutOfSequence { object: String, expected: Revision, actual: Revision },
    /// The name is taken.
    #[error("{kind} name {name:?} is already in use by {kind} {holder}")]
    NameTaken { kind: Cow<'static, str>, name: String, holder: String },
    /// An address, VNI or port has an owner already.
    #[error("{what} is already in use by {holder}")]
    Taken { what: String, holder: String },
    /// Something still uses the object.
    #[error("{object} is in use by {holder}")]
    InUse { object: String, holder: String },
    /// The command does not fit the object's state.
    #[error("{0}")]
    State(String),
}

/// The answer to one command.
pub type Outcome = Result<(), Rejected>;
