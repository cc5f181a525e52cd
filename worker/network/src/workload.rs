//! What runs on this machine, as sandboxes, supervisors and the resolver know it: a task of a swarm and a container that a user runs are
//! the same to them. Who wants it is its [`Owner`], for the few who have to tell.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use proto::model::{
    Attachment, ContainerId, ContainerSpec, InvalidId, PortConfig, Resources, ServiceId, Task, TaskId,
    TaskState, TaskStatus,
};
use serde::{Deserialize, Serialize};

/// Length of a container's id; a task's is shorter.
const CONTAINER_ID: usize = 64;

/// What a workload is told apart by, on its machine. As text it is the id of the task or of the container; their lengths differ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WorkloadId {
    /// A task of a swarm: its container is a new one each time it is made.
    Task(TaskId),
    /// A container that a user runs: it stays the same from one start to the next.
    Container(ContainerId),
}

impl WorkloadId {
    /// As text, for files and devices.
    pub fn as_str(&self) -> &str {
        match self {
            WorkloadId::Task(task) => task.as_str(),
            WorkloadId::Container(container) => container.as_str(),
        }
    }

    /// The task, if it is one.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            WorkloadId::Task(task) => Some(task),
            WorkloadId::Container(_) => None,
        }
    }

    /// `task` or `container`.
    pub const fn kind(&self) -> &'static str {
        match self {
            WorkloadId::Task(_) => "task",
            WorkloadId::Container(_) => "container",
        }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.kind())
    }
}

impl FromStr for WorkloadId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.len() {
            CONTAINER_ID => text.parse().map(Self::Container),
            _ => text.parse().map(Self::Task),
        }
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.as_str().to_owned()
    }
}

impl From<&TaskId> for WorkloadId {
    fn from(task: &TaskId) -> Self {
        WorkloadId::Task(task.clone())
    }
}

impl From<&ContainerId> for WorkloadId {
    fn from(container: &ContainerId) -> Self {
        WorkloadId::Container(container.clone())
    }
}

/// Who wants a workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Owner {
    /// A swarm. What it says of the task is for records, templates and labels.
    Task(Arc<Task>),
    /// A user of this machine.
    User {
        /// The container.
        container: ContainerId,
        /// What holds its addresses on networks of a swarm, if it is on such.
        attachment: Option<AttachmentId>,
    },
}

/// What holds the addresses of a user's container in the swarm's state, and names it to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentId {
    /// The task.
    pub task: TaskId,
    /// The service's id that is this task's alone.
    pub service: ServiceId,
}

/// Something that runs, or is to run, on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its id.
    pub id: WorkloadId,
    /// Its container's name.
    pub name: String,
    /// What runs.
    pub spec: ContainerSpec,
    /// Upper limits.
    pub limits: Resources,
    /// It runs in the machine's own network, and has no sandbox.
    pub host_network: bool,
    /// Its networks, in order, with its addresses there.
    pub attachments: Vec<Attachment>,
    /// Its addresses on `ingress`; empty unless it serves ports of the routing mesh.
    pub ingress_addrs: Vec<IpAddr>,
    /// Its published ports.
    pub ports: Vec<PortConfig>,
    /// `Ready` (prepare, do not start yet), `Running` or `Shutdown`.
    pub desired: TaskState,
    /// How it stood when it was last heard of.
    pub status: TaskStatus,
    /// Who wants it.
    pub owner: Owner,
}

impl Workload {
    /// A task of a swarm.
    pub fn of_task(task: &Arc<Task>) -> Self {
        let allocation = task.allocation.clone().unwrap_or_default();
        Self {
            id: WorkloadId::Task(task.id.clone()),
            name: task.name(),
            spec: task.spec.container.clone(),
            limits: task.spec.limits,
            host_network: task.spec.is_on_host_network(),
            attachments: allocation.attachments,
            ingress_addrs: allocation.ingress_addrs,
            ports: allocation.ports,
            desired: task.desired,
            status: task.status.clone(),
            owner: Owner::Task(task.clone()),
        }
    }

    /// The task, if it is one of a swarm's.
    pub fn task(&self) -> Option<&Arc<Task>> {
        match &self.owner {
            Owner::Task(task) => Some(task),
            Owner::User { .. } => None,
        }
    }

    /// What it is to a user, with its name: `task web.1.x`, `container db`.
    pub fn described(&self) -> String {
        format!("{} {}", self.id.kind(), self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for id in [WorkloadId::Task(TaskId::random()), WorkloadId::Container(ContainerId::random())] {
            let text = serde_json::to_string(&id).unwrap();
            assert_eq!(text, format!("\"{id}\""));
            assert_eq!(serde_json::from_str::<WorkloadId>(&text).unwrap(), id);
        }
        assert!(serde_json::from_str::<WorkloadId>("\"../x\"").is_err());
    }
}
