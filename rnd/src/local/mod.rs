//! What the daemon answers about itself, its containers and its images.

mod attach;
mod containers;
mod detach;
pub mod events;
mod exec;
mod images;
mod info;
mod networks;
mod standalone;

use std::sync::Arc;

use certs::{LockError, UnlockKey};
use futures::stream::BoxStream;
use proto::{
    error::ApiError,
    pb::{self, local_server},
};
use tonic::{Request, Response, Status, Streaming};
use worker::runtime::RuntimeError;

use crate::{
    daemon::{Daemon, Standing},
    swarm::Member,
};

type Reply<T> = Result<Response<T>, Status>;

/// The service.
pub struct Local {
    daemon: Arc<Daemon>,
}

impl Local {
    /// For this daemon.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }

    async fn swarm_init(&self, request: pb::SwarmInitRequest) -> Result<pb::SwarmInitReply, ApiError> {
        let mut standing = self.daemon.standing.write().await;
        if request.force_new_cluster
            && let Standing::Active(_) = &*standing
        {
            return self.start_over(&mut standing, request).await;
        }
        vacant(&standing)?;
        let member = Box::new(self.daemon.grounds.init(request).await?);
        let reply = initialised(&member);
        *standing = Standing::Active(member);
        Ok(reply)
    }

    /// `swarm init --force-new-cluster`.
    async fn start_over(
        &self,
        standing: &mut Standing,
        request: pb::SwarmInitRequest,
    ) -> Result<pb::SwarmInitReply, ApiError> {
        let member = match std::mem::replace(standing, Standing::Inactive) {
            Standing::Active(member) if member.is_manager() => member,
            other => {
                *standing = other;
                return Err(crate::front::not_a_manager());
            }
        };
        match self.daemon.grounds.start_over(member, &request).await {
            Ok(member) => {
                let reply = initialised(&member);
                *standing = Standing::Active(member);
                Ok(reply)
            }
            Err((Some(member), error)) => {
                *standing = Standing::Active(member);
                Err(error)
            }
            Err((None, error)) => {
                *standing = Standing::Failed(error.clone());
                Err(error)
            }
        }
    }

    async fn swarm_join(&self, request: pb::SwarmJoinRequest) -> Result<pb::SwarmJoinReply, ApiError> {
        let mut standing = self.daemon.standing.write().await;
        vacant(&standing)?;
        let member = self.daemon.grounds.join(request).await?;
        let reply = pb::SwarmJoinReply {
            node_id: member.node_id().to_string(),
            role: member.identity.current().role().into(),
        };
        *standing = Standing::Active(Box::new(member));
        Ok(reply)
    }

    async fn swarm_unlock(&self, key: &str) -> Result<(), ApiError> {
        let mut standing = self.daemon.standing.write().await;
        match &*standing {
            Standing::Inactive => return Err(ApiError::precondition("This node is not part of a swarm")),
            Standing::Failed(_) if self.daemon.grounds.is_locked() => {}
            Standing::Active(_) | Standing::Failed(_) => {
                return Err(ApiError::precondition("swarm is not locked"));
            }
        }
        let key = key.parse::<UnlockKey>().map_err(|e| ApiError::invalid(e.to_string()))?;
        match self.daemon.grounds.resume(Some(key)).await? {
            Some(member) => {
                *standing = Standing::Active(Box::new(member));
                Ok(())
            }
            None => Err(ApiError::precondition("This node is not part of a swarm")),
        }
    }

    async fn swarm_leave(&self, force: bool) -> Result<(), ApiError> {
        let mut standing = self.daemon.standing.write().await;
        match std::mem::replace(&mut *standing, Standing::Inactive) {
            Standing::Inactive => return Err(ApiError::precondition("This node is not part of a swarm")),
            Standing::Failed(error) if !force => {
                *standing = Standing::Failed(error.clone());
                return Err(error);
            }
            Standing::Failed(_) => {}
            Standing::Active(member) => match member.leave(force).await {
                Ok(()) => {}
                Err((Some(member), error)) => {
                    *standing = Standing::Active(member);
                    return Err(error);
                }
                Err((None, error)) => tracing::warn!(%error, "leaving the swarm"),
            },
        }
        self.daemon.grounds.forget().map_err(|e| ApiError::internal(format!("{e:#}")))
    }
}

fn initialised(member: &Member) -> pb::SwarmInitReply {
    let cluster = member.seat.store().and_then(|s| s.read().cluster.clone());
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

fn vacant(standing: &Standing) -> Result<(), ApiError> {
    match standing {
        Standing::Inactive => Ok(()),
        Standing::Failed(error) if error.message == LockError::Locked.to_string() => Err(error.clone()),
        Standing::Active(_) | Standing::Failed(_) => Err(ApiError::precondition(
            "This node is already part of a swarm. Use \"rnctl swarm leave\" to leave this swarm and join another one.",
        )),
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
        self.swarm_unlock(&request.get_ref().key).await?;
        Ok(Response::new(pb::SwarmUnlockReply {}))
    }

    async fn import(&self, request: Request<Streaming<pb::ImportRequest>>) -> Reply<pb::ImportReply> {
        self.import_image(request.into_inner()).await
    }

    async fn list_images(&self, _: Request<pb::ListImagesRequest>) -> Reply<pb::ListImagesReply> {
        let images = self.daemon.runtime.images().list().into_iter().map(images::to_pb).collect();
        Ok(Response::new(pb::ListImagesReply { images }))
    }

    async fn remove_image(&self, request: Request<pb::RemoveImageRequest>) -> Reply<pb::RemoveImageReply> {
        self.remove_image(request.into_inner()).await
    }

    async fn load(&self, request: Request<Streaming<pb::LoadRequest>>) -> Reply<pb::LoadReply> {
        self.load_images(request.into_inner()).await
    }

    async fn tag_image(&self, request: Request<pb::TagImageRequest>) -> Reply<pb::TagImageReply> {
        self.tag_image(request.into_inner())
    }

    async fn prune_images(&self, request: Request<pb::PruneImagesRequest>) -> Reply<pb::PruneImagesReply> {
        self.prune_images(request.into_inner()).await
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
