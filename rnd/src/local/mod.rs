//! What the daemon answers about itself, its containers and its images.

mod attach;
mod containers;
pub mod events;
mod exec;
mod images;
mod info;
mod networks;
mod standalone;

use std::{sync::Arc, time::Duration};

use certs::{LockError, UnlockKey};
use futures::stream::BoxStream;
use proto::{
    error::ApiError,
    pb::{self, local_server},
};
use runtime::RuntimeError;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    daemon::Daemon,
    swarm::{self, Member},
    swarm_state::{Change, SwarmState},
};

type Reply<T> = Result<Response<T>, Status>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Local {
    daemon: Arc<Daemon>,
}

impl Local {
    /// For this daemon.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }

    async fn swarm_init(&self, request: pb::SwarmInitRequest) -> Result<pb::SwarmInitReply, ApiError> {
        let daemon = self.daemon.clone();
        if request.force_new_cluster && matches!(&*daemon.swarm_state.read().await, SwarmState::Active(_)) {
            return self.start_over(request).await;
        }
        let init = async move |swarm_state| match daemon.context.init(request).await {
            Ok(member) => {
                let reply = initialised(&member);
                (SwarmState::Active(Box::new(member)), Ok(reply))
            }
            Err(error) => (swarm_state, Err(error)),
        };
        self.daemon.swarm_state.change(Change::Initialising, vacant, init).await
    }

    /// `swarm init --force-new-cluster`.
    async fn start_over(&self, request: pb::SwarmInitRequest) -> Result<pb::SwarmInitReply, ApiError> {
        let daemon = self.daemon.clone();
        let is_manager = |swarm_state: &SwarmState| match swarm_state {
            SwarmState::Active(member) if member.is_manager() => Ok(()),
            _ => Err(crate::front::not_a_manager()),
        };
        let start_over = async move |swarm_state| {
            let SwarmState::Active(member) = swarm_state else {
                return (swarm_state, Err(crate::front::not_a_manager()));
            };
            match daemon.context.start_over(member, &request).await {
                Ok(member) => {
                    let reply = initialised(&member);
                    (SwarmState::Active(member), Ok(reply))
                }
                Err((Some(member), error)) => (SwarmState::Active(member), Err(error)),
                Err((None, error)) => (SwarmState::Failed(error.clone()), Err(error)),
            }
        };
        self.daemon.swarm_state.change(Change::StartingOver, is_manager, start_over).await
    }

    async fn swarm_join(&self, request: pb::SwarmJoinRequest) -> Result<pb::SwarmJoinReply, ApiError> {
        let daemon = self.daemon.clone();
        let join = async move |swarm_state| match daemon.context.join(request).await {
            Ok(member) => {
                let reply = pb::SwarmJoinReply {
                    node_id: member.node_id().to_string(),
                    role: member.identity.current().role().into(),
                };
                (SwarmState::Active(Box::new(member)), Ok(reply))
            }
            Err(error) => (swarm_state, Err(error)),
        };
        self.daemon.swarm_state.change(Change::Joining, vacant, join).await
    }

    async fn swarm_unlock(&self, key: String) -> Result<(), ApiError> {
        let daemon = self.daemon.clone();
        let context = &self.daemon.context;
        let locked = |swarm_state: &SwarmState| match swarm_state {
            SwarmState::Inactive => Err(ApiError::precondition("This node is not part of a swarm")),
            SwarmState::Failed(_) if context.is_locked() => Ok(()),
            SwarmState::Active(_) | SwarmState::Failed(_) | SwarmState::Changing(_) => {
                Err(ApiError::precondition("swarm is not locked"))
            }
        };
        let unlock = async move |swarm_state| {
            let key = match key.parse::<UnlockKey>() {
                Ok(key) => key,
                Err(error) => return (swarm_state, Err(ApiError::invalid(error.to_string()))),
            };
            match daemon.context.resume(Some(key)).await {
                Ok(Some(member)) => (SwarmState::Active(Box::new(member)), Ok(())),
                Ok(None) => (swarm_state, Err(ApiError::precondition("This node is not part of a swarm"))),
                Err(error) => (swarm_state, Err(error)),
            }
        };
        self.daemon.swarm_state.change(Change::Unlocking, locked, unlock).await
    }

    async fn swarm_leave(&self, force: bool) -> Result<(), ApiError> {
        // Who has interrupted `swarm join`, and leaves, means that one: as with Docker, no error says that it is still under way.
        self.daemon.swarm_state.settled(|change| change != Change::Leaving, UNDER_WAY).await;
        // Refused without a change that others would have to wait for.
        let refused = match &*self.daemon.swarm_state.read().await {
            SwarmState::Active(member) if member.is_manager() && !force => Some(member.local_manager.api()),
            _ => None,
        };
        if let Some(gate) = refused {
            return Err(swarm::refusal(gate).await);
        }
        let daemon = self.daemon.clone();
        let member = |swarm_state: &SwarmState| match swarm_state {
            SwarmState::Inactive => Err(ApiError::precondition("This node is not part of a swarm")),
            SwarmState::Failed(error) if !force => Err(error.clone()),
            SwarmState::Active(_) | SwarmState::Failed(_) | SwarmState::Changing(_) => Ok(()),
        };
        let leave = async move |swarm_state| {
            if let SwarmState::Active(member) = swarm_state {
                match member.leave(force).await {
                    Ok(()) => {}
                    Err((Some(member), error)) => return (SwarmState::Active(member), Err(error)),
                    Err((None, error)) => tracing::warn!(%error, "leaving the swarm"),
                }
            }
            match daemon.context.forget() {
                Ok(()) => (SwarmState::Inactive, Ok(())),
                Err(error) => {
                    let error = ApiError::internal(format!("{error:#}"));
                    // What is still there would be a swarm again at the next start.
                    (SwarmState::Failed(error.clone()), Err(error))
                }
            }
        };
        self.daemon.swarm_state.change(Change::Leaving, member, leave).await
    }
}

/// How long `swarm leave` waits for a join that is under way: as long as one may take.
const UNDER_WAY: Duration = Duration::from_secs(120);

/// Does something in a task of its own: when the client goes away, what has been begun comes to its end all the same, with locks and
/// clean-up.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Reply<T>> + Send + 'static) -> Reply<T> {
    tokio::spawn(work).await.unwrap_or_else(|e| Err(ApiError::internal(e.to_string()).into()))
}

fn initialised(member: &Member) -> pb::SwarmInitReply {
    let cluster = member.local_manager.store().and_then(|s| s.read().cluster.clone());
    let (worker_token, manager_token, unlock_key) = cluster
        .map(|c| (c.root_ca.worker_token.clone(), c.root_ca.manager_token.clone(), c.unlock_key.0.clone()))
        .unwrap_or_default();
    pb::SwarmInitReply {
        node_id: member.node_id().to_string(),
        worker_token,
        manager_token,
        addr: member.membership.advertise_addr.to_string(),
        unlock_key,
    }
}

fn vacant(swarm_state: &SwarmState) -> Result<(), ApiError> {
    match swarm_state {
        SwarmState::Inactive => Ok(()),
        SwarmState::Failed(error) if error.message == LockError::Locked.to_string() => Err(error.clone()),
        SwarmState::Active(_) | SwarmState::Failed(_) | SwarmState::Changing(_) => {
            Err(ApiError::precondition(
                "This node is already part of a swarm. Use \"rnctl swarm leave\" to leave this swarm and join another one.",
            ))
        }
    }
}

/// The runtime's errors as a user sees them.
fn refused(error: RuntimeError) -> Status {
    ApiError::from(error).into()
}

#[tonic::async_trait]
impl local_server::Local for Local {
    type ContainerLogsStream = BoxStream<'static, Result<pb::LogChunk, Status>>;
    type PullImageStream = BoxStream<'static, Result<pb::PullProgress, Status>>;
    type EventsStream = BoxStream<'static, Result<pb::Event, Status>>;
    type AttachContainerStream = BoxStream<'static, Result<pb::AttachContainerReply, Status>>;
    type ExecStream = BoxStream<'static, Result<pb::ExecReply, Status>>;

    async fn version(&self, _: Request<pb::VersionRequest>) -> Reply<pb::VersionReply> {
        Ok(Response::new(self.version_reply()))
    }

    async fn info(&self, _: Request<pb::InfoRequest>) -> Reply<pb::InfoReply> {
        Ok(Response::new(self.info_reply().await))
    }

    async fn swarm_init(&self, request: Request<pb::SwarmInitRequest>) -> Reply<pb::SwarmInitReply> {
        Ok(Response::new(self.swarm_init(request.into_inner()).await?))
    }

    async fn swarm_join(&self, request: Request<pb::SwarmJoinRequest>) -> Reply<pb::SwarmJoinReply> {
        Ok(Response::new(self.swarm_join(request.into_inner()).await?))
    }

    async fn swarm_leave(&self, request: Request<pb::SwarmLeaveRequest>) -> Reply<pb::SwarmLeaveReply> {
        self.swarm_leave(request.into_inner().force).await?;
        Ok(Response::new(pb::SwarmLeaveReply {}))
    }

    async fn swarm_unlock(&self, request: Request<pb::SwarmUnlockRequest>) -> Reply<pb::SwarmUnlockReply> {
        self.swarm_unlock(request.into_inner().key).await?;
        Ok(Response::new(pb::SwarmUnlockReply {}))
    }

    async fn import(&self, request: Request<Streaming<pb::ImportRequest>>) -> Reply<pb::ImportReply> {
        let local = self.clone();
        to_its_end(async move { local.import_image(request.into_inner()).await }).await
    }

    async fn list_images(&self, _: Request<pb::ListImagesRequest>) -> Reply<pb::ListImagesReply> {
        let images = self.daemon.runtime.images().list().into_iter().map(images::to_pb).collect();
        Ok(Response::new(pb::ListImagesReply { images }))
    }

    async fn remove_image(&self, request: Request<pb::RemoveImageRequest>) -> Reply<pb::RemoveImageReply> {
        let local = self.clone();
        to_its_end(async move { local.remove_image(request.into_inner()).await }).await
    }

    async fn load(&self, request: Request<Streaming<pb::LoadRequest>>) -> Reply<pb::LoadReply> {
        let local = self.clone();
        to_its_end(async move { local.load_images(request.into_inner()).await }).await
    }

    async fn tag_image(&self, request: Request<pb::TagImageRequest>) -> Reply<pb::TagImageReply> {
        self.tag_image(request.into_inner())
    }

    async fn prune_images(&self, request: Request<pb::PruneImagesRequest>) -> Reply<pb::PruneImagesReply> {
        let local = self.clone();
        to_its_end(async move { local.prune_images(request.into_inner()).await }).await
    }

    async fn pull_image(&self, request: Request<pb::PullImageRequest>) -> Reply<Self::PullImageStream> {
        self.pull_image(request.into_inner())
    }

    async fn resolve_image(&self, request: Request<pb::ResolveImageRequest>) -> Reply<pb::ResolveImageReply> {
        self.resolve_image(request.into_inner()).await
    }

    async fn login(&self, request: Request<pb::RegistryAuth>) -> Reply<pb::LoginReply> {
        self.login(request.into_inner()).await
    }

    async fn events(&self, request: Request<pb::EventsRequest>) -> Reply<Self::EventsStream> {
        Ok(Response::new(events::stream(self.daemon.runtime.events(), request.into_inner())))
    }

    async fn inspect_image(&self, request: Request<pb::GetRequest>) -> Reply<pb::Image> {
        let image = self.daemon.runtime.images().resolve(&request.into_inner().key).map_err(refused)?;
        Ok(Response::new(images::to_pb(image)))
    }

    async fn list_containers(
        &self,
        request: Request<pb::ListContainersRequest>,
    ) -> Reply<pb::ListContainersReply> {
        let all = request.into_inner().all;
        Ok(Response::new(pb::ListContainersReply { containers: self.containers(all).await }))
    }

    async fn inspect_container(&self, request: Request<pb::GetRequest>) -> Reply<pb::ContainerDetail> {
        self.container_detail(&request.into_inner().key).await
    }

    async fn create_container(
        &self,
        request: Request<pb::ContainerDefinition>,
    ) -> Reply<pb::CreateContainerReply> {
        self.create_container(request.into_inner()).await
    }

    async fn start_container(&self, request: Request<pb::GetRequest>) -> Reply<pb::ContainerDone> {
        self.start_container(&request.get_ref().key).await
    }

    async fn stop_container(&self, request: Request<pb::StopContainerRequest>) -> Reply<pb::ContainerDone> {
        self.stop_container(request.into_inner()).await
    }

    async fn kill_container(&self, request: Request<pb::KillContainerRequest>) -> Reply<pb::ContainerDone> {
        self.kill_container(request.into_inner()).await
    }

    async fn remove_container(
        &self,
        request: Request<pb::RemoveContainerRequest>,
    ) -> Reply<pb::ContainerDone> {
        self.remove_container(request.into_inner()).await
    }

    async fn wait_container(&self, request: Request<pb::GetRequest>) -> Reply<pb::WaitContainerReply> {
        self.wait_container(&request.get_ref().key).await
    }

    async fn container_logs(
        &self,
        request: Request<pb::ContainerLogsRequest>,
    ) -> Reply<Self::ContainerLogsStream> {
        self.logs(request.into_inner()).await
    }

    async fn attach_container(
        &self,
        request: Request<Streaming<pb::AttachContainerRequest>>,
    ) -> Reply<Self::AttachContainerStream> {
        self.attach_container(request.into_inner()).await
    }

    async fn exec(&self, request: Request<Streaming<pb::ExecRequest>>) -> Reply<Self::ExecStream> {
        exec::run(self.daemon.runtime.clone(), request.into_inner()).await
    }

    async fn list_local_networks(
        &self,
        _: Request<pb::ListNetworksRequest>,
    ) -> Reply<pb::ListLocalNetworksReply> {
        Ok(Response::new(pb::ListLocalNetworksReply { networks: self.local_networks().await }))
    }
}
