//! The tasks of this node: one supervisor each, from assignment to the end.
//!
//! * [`lifecycle`]: pure: what to do next. `actor`: does it, and reports. [`Supervisor`]: one actor per task.
//! * [`StartLimiter`]: how many are started at once.
//! * `image`: a task's image, pulled if need be. `health`, [`listening`]: when it is ready. `announce`: a task's endpoints in the
//!   gossip. [`logs`]: the output of tasks.

mod actor;
mod advertise;
mod files;
mod health;
mod image;
pub mod lifecycle;
pub mod listening;
pub mod logs;
mod start_limit;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use network::workload::{Workload, WorkloadId};
use proto::model::{ContainerId, NodeId, PortConfig, TaskStatus};
use tokio::sync::mpsc;

pub use listening::{LISTEN_TIMEOUT, Sockets};
pub use logs::RuntimeLogs;
pub use start_limit::StartLimiter;
pub(crate) use supervisor::{Deps, supervise};
pub use supervisor::{Supervisor, SupervisorConfig};

use crate::managers::Reports;

/// Where supervisors say how workloads stand.
pub(crate) trait StatusSink: Send + Sync + 'static {
    /// A workload's status has changed.
    fn say(&self, workload: &Workload, status: TaskStatus);
}

/// The managers hear of tasks.
impl StatusSink for Reports {
    fn say(&self, workload: &Workload, status: TaskStatus) {
        if let Some(task) = workload.id.task() {
            self.report(task.clone(), status);
        }
    }
}

/// One who follows a single workload hears each of its statuses.
impl StatusSink for mpsc::UnboundedSender<TaskStatus> {
    fn say(&self, _: &Workload, status: TaskStatus) {
        // Nobody listens any more: the workload is being let go.
        let _ = self.send(status);
    }
}

/// A task's network, as its container needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskNetwork {
    /// File of its network namespace; none = the node's own.
    pub netns: Option<PathBuf>,
    /// Its addresses, the preferred one first, for `/etc/hosts`.
    pub addrs: Vec<IpAddr>,
    /// Host-mode ports as bound on this node.
    pub host_ports: Vec<PortConfig>,
}

/// Why a workload has no network. It becomes text where it goes into a status, for a user to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The kernel's part of it, or what it is made from.
    #[error(transparent)]
    Sandbox(#[from] network::error::NetworkError),
    /// A namespace with nothing in it could not be made.
    #[error("{0}")]
    Namespace(String),
    /// Its resolver has no sockets.
    #[error("resolver sockets: {0}")]
    Resolver(String),
    /// It was made for networks that are not there any more.
    #[error(
        "the container has no network: it was made for networks of a swarm that this node has left; make it anew"
    )]
    LeftSwarm,
}

/// What a supervisor needs of the data plane.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Makes the workload's sandbox and waits until the kernel has all of it. Leaves nothing behind when it fails. A sandbox
    /// that exists already is completed.
    async fn up(
        &self,
        workload: &Arc<Workload>,
        container: &ContainerId,
    ) -> Result<TaskNetwork, NetworkError>;

    /// The container exists: what shall outlive this daemon (the sockets of its resolver) can be left with its shim.
    async fn created(&self, workload: &Arc<Workload>, container: &ContainerId);

    /// Takes over the sandbox of a container that outlived an earlier start of the daemon, and whatever was left with its
    /// shim. Interrupts no packet.
    async fn adopt(
        &self,
        workload: &Arc<Workload>,
        container: &ContainerId,
    ) -> Result<TaskNetwork, NetworkError>;

    /// The sockets of a task that runs: those of its network namespace; in the node's own (none), those of its first process `pid` and
    /// its descendants.
    ///
    /// # Errors
    /// In words. This machine cannot tell.
    async fn sockets(&self, _netns: Option<&Path>, _pid: i32) -> Result<Box<dyn Sockets>, String> {
        Err("the sockets of this network cannot be seen".to_owned())
    }

    /// Takes the sandbox down with everything in it, and forgets its connections. Of an unknown workload: nothing.
    async fn down(&self, workload: &WorkloadId);
}

/// This node's id and host name.
#[derive(Debug, Clone)]
pub struct NodeName {
    /// Its id.
    pub id: NodeId,
    /// Its host name.
    pub hostname: String,
}
