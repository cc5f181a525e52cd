//! Networks of containers without a place on the swarm's: the machine's own, and none at all.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use kernel::{Kernel, Step};
use network::workload::{Workload, WorkloadId};
use proto::model::ContainerId;

use crate::tasks::{Network, NetworkError, TaskNetwork};

/// The machine's own network; and what is left to a container whose swarm has been left.
pub(super) struct OwnNetwork;

fn of_machine() -> TaskNetwork {
    TaskNetwork { netns: None, addrs: Vec::new(), host_ports: Vec::new() }
}

#[async_trait]
impl Network for OwnNetwork {
    async fn up(&self, workload: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        if workload.host_network {
            return Ok(of_machine());
        }
        Err(NetworkError::LeftSwarm)
    }

    async fn created(&self, _: &Arc<Workload>, _: &ContainerId) {}

    async fn adopt(&self, _: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        Ok(of_machine())
    }

    async fn down(&self, _: &WorkloadId) {}
}

/// No network: a namespace for each container, with its loopback interface and nothing else. They are kept apart from those that
/// the reconciler keeps, which takes away what it does not know.
#[derive(Clone)]
pub struct NoNetwork {
    kernel: Arc<dyn Kernel>,
    dir: PathBuf,
}

impl NoNetwork {
    /// Keeps the namespaces in a directory.
    pub fn new(kernel: Arc<dyn Kernel>, dir: PathBuf) -> Self {
        Self { kernel, dir }
    }

    fn path(&self, workload: &WorkloadId) -> PathBuf {
        self.dir.join(workload.to_string())
    }

    /// Removes the namespaces of containers that are no more. Blocks.
    pub(super) fn sweep(&self, is_there: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(&is_there) {
                self.delete(&entry.path());
            }
        }
    }

    fn delete(&self, path: &Path) {
        if let Err(error) = self.kernel.execute(&Step::DeleteNetns { path: path.to_owned() }) {
            tracing::warn!(path = %path.display(), %error, "a network namespace is left behind");
        }
    }
}

#[async_trait]
impl Network for NoNetwork {
    async fn up(&self, workload: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        let (kernel, dir, path) = (self.kernel.clone(), self.dir.clone(), self.path(&workload.id));
        let made = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
            // With its loopback interface up.
            let step = Step::CreateNetns { path: path.clone() };
            kernel.execute(&step).map(|()| path).map_err(|error| error.to_string())
        });
        let path = made
            .await
            .map_err(|e| NetworkError::Namespace(e.to_string()))?
            .map_err(NetworkError::Namespace)?;
        Ok(TaskNetwork { netns: Some(path), ..of_machine() })
    }

    async fn created(&self, _: &Arc<Workload>, _: &ContainerId) {}

    async fn adopt(&self, workload: &Arc<Workload>, _: &ContainerId) -> Result<TaskNetwork, NetworkError> {
        Ok(TaskNetwork { netns: Some(self.path(&workload.id)), ..of_machine() })
    }

    async fn down(&self, workload: &WorkloadId) {
        let (this, path) = (self.clone(), self.path(workload));
        let _ = tokio::task::spawn_blocking(move || {
            if path.exists() {
                this.delete(&path);
            }
        })
        .await;
    }
}
