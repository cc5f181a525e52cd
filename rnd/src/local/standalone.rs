//! Containers that a user runs by hand.

use std::time::Duration;

use node::containers::{Definition, signal};
use proto::{error::ApiError, model::ContainerId, pb};
use tonic::Response;

use super::{Local, Reply, refused};

impl Local {
    /// The container of a user's that `key` means.
    pub(crate) fn by_hand(&self, key: &str) -> Result<ContainerId, ApiError> {
        if let Some(id) = self.daemon.containers.find(key) {
            return Ok(id);
        }
        // One of a task is there to be seen, and not to be ordered about.
        match self.daemon.runtime.find(key) {
            Ok(id) => Err(ApiError::precondition(format!(
                "container {} is a task of a service: the managers would only replace it",
                id.short()
            ))
            .help("change the service: rnctl service scale, update or rm")),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn create_container(
        &self,
        wanted: pb::ContainerDefinition,
    ) -> Reply<pb::CreateContainerReply> {
        let mut definition = Definition::try_from(pb::ContainerDefinition { id: String::new(), ..wanted })?;
        definition.check()?;
        // Here already, or brought here; then nobody needs the credentials any more.
        definition.spec.pull_auth = None;
        self.daemon.runtime.images().resolve(&definition.spec.image).map_err(refused)?;
        let (id, name) = self.daemon.containers.create(definition)?;
        Ok(Response::new(pb::CreateContainerReply { id: id.to_string(), name }))
    }

    pub(super) async fn start_container(&self, key: &str) -> Reply<pb::ContainerDone> {
        let id = self.by_hand(key)?;
        self.daemon.containers.start(&id).await?;
        done(&id)
    }

    pub(super) async fn stop_container(&self, request: pb::StopContainerRequest) -> Reply<pb::ContainerDone> {
        let id = self.by_hand(&request.key)?;
        self.daemon.containers.stop(&id, request.grace.map(Duration::from_millis)).await?;
        done(&id)
    }

    pub(super) async fn kill_container(&self, request: pb::KillContainerRequest) -> Reply<pb::ContainerDone> {
        let id = self.by_hand(&request.key)?;
        self.daemon.containers.kill(&id, signal(&request.signal)?).await?;
        done(&id)
    }

    pub(super) async fn remove_container(
        &self,
        request: pb::RemoveContainerRequest,
    ) -> Reply<pb::ContainerDone> {
        let id = self.by_hand(&request.key)?;
        self.daemon.containers.remove(&id, request.force).await?;
        done(&id)
    }

    pub(super) async fn wait_container(&self, key: &str) -> Reply<pb::WaitContainerReply> {
        let id = self.by_hand(key)?;
        let (exit_code, error) = self.daemon.containers.wait(&id).await?;
        Ok(Response::new(pb::WaitContainerReply { exit_code, error }))
    }
}

fn done(id: &ContainerId) -> Reply<pb::ContainerDone> {
    Ok(Response::new(pb::ContainerDone { id: id.to_string() }))
}
