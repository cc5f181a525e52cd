//! What this node's engine hears of the managers, asks of them and tells them. Who talks to them is not its business.
//!
//! * [`AgentStatus`]: where the talk stands. [`Reports`]: statuses of tasks. [`attachments`]: places on networks. [`TaskLogs`]: output.

pub mod attachments;
mod reports;

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::stream::BoxStream;
use network::assigned::Fence;
use proto::{model::TaskId, pb};

pub use attachments::{AttachmentRequest, Attachments};
pub use reports::Reports;

/// Where the agent stands, for `info` and for the supervisors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// The manager that this node is in session with.
    pub manager: Option<SocketAddr>,
    /// A manager has said since this start what is assigned here; until then it is what the disk remembers.
    pub synced: bool,
    /// The first assignments that it has said since this start.
    pub since: Fence,
    /// Why there is no session.
    pub error: String,
}

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLogOptions {
    /// Go on until the task has ended.
    pub follow: bool,
    /// Only the last so many of what is there; none = all.
    pub tail: Option<usize>,
    /// Only lines from then on, ns since the epoch.
    pub since: u64,
    /// Only lines up to then, ns since the epoch; 0 = all.
    pub until: u64,
}

/// Where the output of tasks is found.
#[async_trait]
pub trait TaskLogs: Send + Sync + 'static {
    /// The output of a task that runs, or ran, here; or why there is none.
    async fn logs(
        &self,
        task: &TaskId,
        options: TaskLogOptions,
    ) -> Result<BoxStream<'static, Result<pb::LogLine, String>>, String>;
}
