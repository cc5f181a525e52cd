//! The daemon's socket: `Local` is answered here, the user's API goes to the manager of this node, if it has one.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use futures::FutureExt;
use http::{Request, Response};
use proto::{error::ApiError, pb::local_server::LocalServer};
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

/// Starts to listen everywhere; the future serves until it fails.
///
/// # Errors
/// One of the sockets cannot be had.
pub fn serve(daemon: Arc<Daemon>) -> Result<impl Future<Output = ()> + use<>> {
    let hosts = &daemon.context.config.hosts;
    let listeners: Vec<_> = hosts.iter().map(api::http::listener::open).collect::<Result<_>>()?;
    let docker = api::http::routes::router(Api::new(daemon.clone()));
    let front = Front::new(daemon);
    let all =
        listeners.into_iter().map(move |l| api::http::connection::serve(l, docker.clone(), front.clone()));
    Ok(futures::future::join_all(all).map(drop))
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
