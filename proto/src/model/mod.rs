//! The typed form of the cluster's objects.
//!
//! A task has one writer per part: spec (the user, through its service), allocation (allocator), node (scheduler),
//! desired (orchestrator), status (agent). The same holds for the other objects; `manager::store::apply` enforces it.

mod addr;
mod cluster;
mod digest;
mod driver;
mod file;
mod id;
mod log;
mod meta;
mod network;
mod node;
mod service;
mod task;
mod usage;

pub use addr::{Mac, Port, Protocol, SubnetAddr, Vni};
pub use cluster::{Cluster, ClusterSpec, KeySubsystem, NetworkKey, RootCa, RootRotation, UnlockKey};
pub use digest::{EndpointDigest, endpoint_digest};
pub use driver::{
    DRIVERS, DriverError, DriverInfo, NetworkDriver, NetworkScope, OPTION_ENCRYPTED, OPTION_MTU, OPTION_VNI,
    OverlayOptions,
};
pub use file::{Config, FileReference, FileSpec, Payload, Secret, Templating};
pub use id::{
    ClusterId, ConfigId, ContainerId, InvalidId, NetworkId, NodeId, SecretId, ServiceId, SessionId, TaskId,
};
pub use log::{JSON_FILE, LogDriver, LogFileOptions};
pub use meta::{Condition, Meta, Millis, Revision, Timestamp};
pub use network::{IpamConfig, Network, NetworkAllocation, NetworkSpec, Subnet};
pub use node::{
    Availability, ManagerStatus, Node, NodeDescription, NodeSpec, NodeState, NodeStatus, Reachability, Role,
};
pub use service::{
    EndpointMode, EndpointSpec, FailureAction, PortConfig, PublishMode, Service, ServiceAllocation,
    ServiceMode, ServiceSpec, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus, Vip,
};
pub use task::{
    Attachment, ContainerSpec, DnsConfig, EndpointSettings, HOST_NETWORK, Healthcheck, Mount, NO_NETWORK,
    NetworkAttachmentConfig, Placement, RegistryAuth, Resources, RestartCondition, RestartPolicy, Task,
    TaskAllocation, TaskSpec, TaskState, TaskStatus, Ulimit,
};
pub use usage::{BlockUsage, ContainerUsage, CpuUsage, InterfaceUsage, MemoryUsage};
