//! The worker's side of the dispatcher.
//!
//! * `session`: one session with a manager after another. [`assignments`]: what it brings, folded into [`Assigned`].
//! * [`leave_notice`]: the last word of a node that leaves.
//! * [`attach`]: places for containers that users run by hand. [`report`]: task statuses upward. [`logs`]: output of tasks upward. `digest`: where gossip has lost something.
//! * [`persist`]: what outlives the daemon, so that a node serves after a reboot without a manager.

pub mod assignments;
mod attach;
mod digest;
pub mod leave_notice;
mod logs;
pub mod persist;
mod progress;
mod session;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use certs::SharedIdentity;
use network::assigned::Assigned;
use node::managers::{AgentStatus, Attachments, Reports, TaskLogs, attachments};
use proto::{
    model::{NetworkKey, NodeDescription},
    pb,
};
use tokio::{sync::watch, task::JoinSet};

pub use leave_notice::LeaveNotice;
pub use persist::{PersistError, WorkerDir};
pub use progress::Progress;
pub use session::SessionError;

use gossip::{Gossip, KeyRing};
use session::Sessions;

/// What an agent needs.
pub struct AgentConfig {
    /// Where it keeps things.
    pub dir: WorkerDir,
    /// Who it is.
    pub identity: SharedIdentity,
    /// What it says of the node.
    pub description: NodeDescription,
    /// Managers known besides those remembered on disk: the one that the node joined by, or its own.
    pub managers: Vec<SocketAddr>,
}

/// An agent that has read what the disk remembers and speaks to nobody yet.
pub struct Agent {
    config: AgentConfig,
    assigned: watch::Sender<Arc<Assigned>>,
    session: watch::Sender<Option<Arc<pb::SessionMessage>>>,
    keys: watch::Sender<KeyRing>,
    status: watch::Sender<AgentStatus>,
    reports: Reports,
    attachments: (Attachments, attachments::Inbox),
    leave_notice: (LeaveNotice, leave_notice::Inbox),
}

impl Agent {
    /// Reads the disk.
    pub fn open(config: AgentConfig) -> Result<Self, PersistError> {
        let assigned = config.dir.assigned()?.unwrap_or_default();
        let session = config.dir.session()?.map(Arc::new);
        let keys: Vec<_> = session
            .iter()
            .flat_map(|s| s.network_keys.iter().cloned().filter_map(|k| NetworkKey::try_from(k).ok()))
            .collect();
        Ok(Self {
            config,
            assigned: watch::Sender::new(Arc::new(assigned)),
            session: watch::Sender::new(session),
            keys: watch::Sender::new(KeyRing::new(&keys)),
            status: watch::Sender::new(AgentStatus::default()),
            reports: Reports::default(),
            attachments: attachments::channel(),
            leave_notice: leave_notice::channel(),
        })
    }

    /// What is assigned here; at first what the disk remembers.
    pub fn assigned(&self) -> watch::Receiver<Arc<Assigned>> {
        self.assigned.subscribe()
    }

    /// What the managers say of the cluster (data-path port, seeds, …); at first what the disk remembers.
    pub fn session(&self) -> watch::Receiver<Option<Arc<pb::SessionMessage>>> {
        self.session.subscribe()
    }

    /// The gossip keys.
    pub fn keys(&self) -> watch::Receiver<KeyRing> {
        self.keys.subscribe()
    }

    /// Where the agent stands.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    /// Where task statuses go.
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// Where containers that users run get their places on networks.
    pub fn attachments(&self) -> Attachments {
        self.attachments.0.clone()
    }

    /// How the node takes leave.
    pub fn leave_notice(&self) -> LeaveNotice {
        self.leave_notice.0.clone()
    }

    /// Starts to talk to the managers. Ends when the returned set is dropped.
    pub fn start(
        self,
        gossip: Gossip,
        logs: Arc<dyn TaskLogs>,
        progress: watch::Receiver<Progress>,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(persist::flush(self.config.dir.clone(), self.assigned.subscribe()));
        let sessions = Sessions {
            dir: self.config.dir,
            identity: self.config.identity,
            description: self.config.description,
            managers: self.config.managers,
            assigned: self.assigned,
            session: self.session,
            keys: self.keys,
            status: self.status,
            reports: self.reports,
            attachments: self.attachments.1,
            leave_notice: self.leave_notice.1,
            gossip,
            logs,
            progress,
            pace: Default::default(),
        };
        tasks.spawn(async move { match sessions.run().await {} });
        tasks
    }
}
