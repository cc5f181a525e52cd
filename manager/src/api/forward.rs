//! The gate before the services: it asks the role table, and passes to the leader what only the leader can answer.
//!
//! Requests are passed on as HTTP/2 messages, not decoded: every RPC, streams of both directions among them, takes the same
//! path. The caller's identity goes along in headers, which the leader believes from a manager only.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use certs::{ConnInfo, Connector, SharedIdentity, Target};
use http::{Request, Response};
use proto::{error::ApiError, model::NodeId};
use tokio::time::timeout;
use tonic::{body::Body, service::Routes, transport::Channel};
use tower::{Service, ServiceExt};

use super::auth::{self, Caller};
use crate::store::{Leadership, Store};

/// Services that the leader alone answers. The others (`Raft`, and the root certificate) any manager does.
const LEADERS: [&str; 6] =
    ["Control/", "Dispatcher/", "LogBroker/", "Logs/", "Membership/", "Ca/IssueCertificate"];

/// How long a request waits for a leader to be elected: about three elections of the default settings.
const ELECTION: Duration = Duration::from_secs(3);

/// Where a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The TLS listener: callers are what their certificates say.
    Network,
    /// The daemon's own socket: callers are administrators.
    Local,
}

/// The services of a manager behind their gate. Cheap to clone; one per connection.
#[derive(Clone)]
pub struct Gate {
    door: Door,
    routes: Routes,
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    connector: Connector,
    /// The channel to the manager that led last.
    leader: Mutex<Option<(NodeId, SocketAddr, Channel)>>,
}

impl Gate {
    /// A gate at `door` before `routes`; `identity` is what the manager shows to the leader.
    pub fn new(door: Door, routes: Routes, store: Store, identity: SharedIdentity) -> Self {
        let connector = Connector::member(identity);
        Self { door, routes, shared: Arc::new(Shared { store, connector, leader: Mutex::new(None) }) }
    }

    async fn pass(self, mut request: Request<Body>) -> Response<Body> {
        match self.admit(&mut request).await {
            Ok(None) => match self.routes.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Ok(Some(leader)) => forward(leader, request).await,
            Err(error) => tonic::Status::from(error).into_http(),
        }
    }

    /// Checks the caller and decides who answers: this manager (`None`) or the leader.
    async fn admit(&self, request: &mut Request<Body>) -> Result<Option<Channel>, ApiError> {
        let path = request.uri().path();
        let caller = match self.door {
            Door::Local => Caller::LOCAL,
            Door::Network => {
                let conn = request.extensions().get::<ConnInfo>();
                auth::authorize(&self.shared.store.read(), conn, path, request.headers())?
            }
        };
        let rpc = auth::rpc(path).unwrap_or_default();
        let leader = match LEADERS.iter().any(|prefix| rpc.starts_with(prefix)) {
            true => self.shared.leader(&caller).await?,
            false => None,
        };
        if leader.is_some() {
            auth::stamp(&caller, request.headers_mut())?;
        }
        request.extensions_mut().insert(caller);
        Ok(leader)
    }
}

impl Shared {
    /// The channel to the leader, or `None` where this manager leads.
    async fn leader(&self, caller: &Caller) -> Result<Option<Channel>, ApiError> {
        let mut leadership = self.store.leadership();
        let known =
            leadership.wait_for(|l| !matches!(l, Leadership::Follower { leader: None } | Leadership::None));
        let (id, addr) = match timeout(ELECTION, known).await.map(|known| known.map(|l| l.clone())) {
            Ok(Ok(Leadership::Leader { .. })) => return Ok(None),
            Ok(Ok(Leadership::Follower { leader: Some(leader) })) => leader,
            Ok(_) | Err(_) => return Err(no_leader()),
        };
        if caller.forwarded {
            // Two managers that take each other for the leader would pass it to and fro.
            return Err(
                ApiError::unavailable("the leader of the swarm is changing").help("try again in a second")
            );
        }
        Ok(Some(self.channel(&id, addr)))
    }

    fn channel(&self, id: &NodeId, addr: SocketAddr) -> Channel {
        let mut cached = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((known, at, channel)) if known == id && *at == addr => channel.clone(),
            _ => {
                tracing::debug!(leader = %id, %addr, "passing requests to the leader");
                let channel = self.connector.channel(Target::manager_node(addr, id.clone()));
                *cached = Some((id.clone(), addr, channel.clone()));
                channel
            }
        }
    }
}

/// What everyone hears while there is no leader (wording as Docker's).
pub fn no_leader() -> ApiError {
    ApiError::unavailable(
        "the swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.",
    )
    .help("tasks that are running go on; what waits is decisions. To start over from this manager alone: rnctl swarm init --force-new-cluster")
}

async fn forward(leader: Channel, request: Request<Body>) -> Response<Body> {
    match leader.oneshot(request).await {
        Ok(response) => response,
        Err(error) => {
            let cause = certs::transport::explain(&tonic::Status::from_error(error.into()));
            let error =
                ApiError::unavailable(format!("the leader of the swarm does not answer: {}", cause.message));
            tonic::Status::from(
                error.help("try again in a second: a new leader is elected when it stays away"),
            )
            .into_http()
        }
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move { Ok(gate.pass(request).await) })
    }
}
