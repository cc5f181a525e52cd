//! The daemon's socket: `Local` is answered here, the user's API goes to the manager of this node, if it has one.

use std::{
    convert::Infallible,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::{Request, Response};
use proto::{error::ApiError, pb::local_server::LocalServer};
use tokio::net::UnixListener;
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::{Service, ServiceExt};

use crate::{
    api::{self, http::Api},
    daemon::Daemon,
    local::Local,
    swarm_state::{Change, SwarmState},
};

/// How long a request waits for a member that starts anew.
const PASSING: Duration = Duration::from_secs(20);

/// Starts to listen; the future serves until it fails.
pub fn serve(daemon: Arc<Daemon>, socket: &Path) -> Result<impl Future<Output = ()> + use<>> {
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // The data root's lock says that no other daemon of ours listens; what is there is left from an earlier life.
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot replace {}", socket.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    let docker = api::http::routes::router(Api::new(daemon.clone()));
    Ok(api::http::connection::serve(listener, docker, Front::new(daemon)))
}

/// Sends each request where it belongs.
#[derive(Clone)]
pub struct Front {
    local: Routes,
    daemon: Arc<Daemon>,
}

impl Front {
    /// Of this daemon.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { local: Routes::new(LocalServer::new(Local::new(daemon.clone()))), daemon }
    }

    async fn pass(self, request: Request<Body>) -> Response<Body> {
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        if service == LocalServer::<Local>::NAME {
            return match self.local.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        }
        // Who stays a member is one again in a moment.
        self.daemon.swarm_state.settled(Change::is_passing, PASSING).await;
        let gate = match &*self.daemon.swarm_state.read().await {
            SwarmState::Active(member) => {
                member.local_manager.api().ok_or_else(|| match member.is_manager() {
                    true => member.local_manager.error().unwrap_or_else(becoming_a_manager),
                    false => not_a_manager(),
                })
            }
            SwarmState::Inactive => Err(not_in_a_swarm()),
            SwarmState::Failed(error) => Err(error.clone()),
            SwarmState::Changing(change) => Err(change.refusal()),
        };
        match gate {
            Ok(gate) => match gate.oneshot(request).await {
                Ok(response) => {
                    api::http::stale::note(response.headers());
                    response
                }
                Err(never) => match never {},
            },
            Err(error) => tonic::Status::from(error).into_http(),
        }
    }
}

/// A worker was asked for a manager's work (wording as Docker's).
pub fn not_a_manager() -> ApiError {
    ApiError::precondition(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. \
         Please run this command on a manager node or promote the current node to a manager.",
    )
}

/// The manager of this node is just starting.
fn becoming_a_manager() -> ApiError {
    ApiError::unavailable("this node is about to become a manager").help("try again in a second")
}

/// A machine outside any swarm was asked for a manager's work (wording as Docker's).
pub fn not_in_a_swarm() -> ApiError {
    ApiError::precondition(
        "This node is not a swarm manager. Use \"rnctl swarm init\" or \"rnctl swarm join\" to connect this node to swarm and try again.",
    )
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.pass(request).await) })
    }
}
