//! The gate before the services: it asks the role table, and passes to the leader what only the leader can answer.
//!
//! Requests are passed on as HTTP/2 messages, not decoded: every RPC, streams of both directions among them, takes the same
//! path. The caller's identity goes along in headers, which the leader believes from a manager only.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use certs::{ConnInfo, Connector, SharedIdentity, Target, transport::DialOptions};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proto::{
    error::{ApiError, Kind},
    model::NodeId,
};
use tokio::time::{Instant, timeout};
use tonic::{body::Body, service::Routes, transport::Channel};
use tower::{Service, ServiceExt};

use super::{
    auth::{self, Caller},
    unauthenticated::{self, UnauthenticatedLimits},
};
use crate::store::{Leadership, Store};

/// gRPC's `Unavailable`, as it stands in a header.
const UNAVAILABLE: &str = "14";

/// Header of an answer that was given without a leader: for how many milliseconds none has been heard of.
pub const STALE: &str = "rn-stale";

/// Header: how many managers have passed a request on.
const HOPS: &str = "rn-forwarded-hops";
/// Managers that pass a request on, at most: one that does not reach the leader asks one that does. More would be a circle.
const MOST_HOPS: u8 = 2;

/// How many managers have passed this request on; in its extensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hops(u8);

/// How long a request waits for a leader to be elected: about three elections of the default settings.
const ELECTION: Duration = Duration::from_secs(3);
/// For a connection to the leader: one that cannot be had leaves time to go round by another manager.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a waiting request looks whether the leader is heard of again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Where a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// The TLS listener: callers are what their certificates say.
    Network,
    /// The daemon's own socket: callers are administrators.
    Local,
}

/// The services of a manager behind their gate. Cheap to clone; one per connection.
#[derive(Clone)]
pub struct LeaderProxy {
    exposure: Exposure,
    routes: Routes,
    stale: Option<Routes>,
    shared: Arc<Shared>,
}

/// The manager that a request is passed to, and the channel to it.
type Way = (NodeId, Channel);

struct Shared {
    store: Store,
    connector: Connector,
    strangers: UnauthenticatedLimits,
    /// The channel to the manager that led last.
    leader: Mutex<Option<(NodeId, SocketAddr, Channel)>>,
}

impl LeaderProxy {
    /// A gate at `exposure` before `routes`; `identity` is what the manager shows to the leader.
    pub fn new(exposure: Exposure, routes: Routes, store: Store, identity: SharedIdentity) -> Self {
        let options = DialOptions { connect_timeout: CONNECT, ..DialOptions::default() };
        let connector = Connector::member(identity).with_options(options);
        let shared = Arc::new(Shared {
            store,
            connector,
            strangers: UnauthenticatedLimits::default(),
            leader: Mutex::new(None),
        });
        Self { exposure, routes, stale: None, shared }
    }

    /// The same; while there is no leader, `stale` answers what only reads.
    pub fn or_stale(mut self, stale: Routes) -> Self {
        self.stale = Some(stale);
        self
    }

    async fn pass(self, request: Request<Body>) -> Response<Body> {
        let stranger = match self.exposure {
            Exposure::Network => request.extensions().get::<ConnInfo>().filter(|conn| conn.peer.is_none()),
            Exposure::Local => None,
        };
        let Some(conn) = stranger else { return self.let_in(request).await };
        let place = match self.shared.strangers.admit(conn) {
            Ok(place) => place,
            Err(error) => return tonic::Status::from(error).into_http(),
        };
        let response = match unauthenticated::whole(request).await {
            Ok(request) => self.let_in(request).await,
            Err(error) => tonic::Status::from(error).into_http(),
        };
        drop(place);
        response
    }

    async fn let_in(self, mut request: Request<Body>) -> Response<Body> {
        match self.admit(&mut request).await {
            Ok(None) if self.stale.is_some() && only_reads(request.uri().path()) => {
                self.read_here(request).await
            }
            Ok(None) => answer(self.routes, request).await,
            Ok(Some(leader)) if is_users(request.uri().path()) => self.insist(leader, request).await,
            Ok(Some((_, leader))) => forward(leader, request).await,
            Err(error) => self.without_leader(error, request).await,
        }
    }

    /// A read where this manager leads. It may find out by that very request that it has no majority any more.
    async fn read_here(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return status.into_http(),
        };
        let again = Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
        let response = answer(self.routes.clone(), again).await;
        let status = response.headers().get("grpc-status").and_then(|s| s.to_str().ok());
        if status != Some(UNAVAILABLE) {
            return response;
        }
        self.without_leader(no_leader(), Request::from_parts(parts, Body::new(Full::new(body)))).await
    }

    /// Answers what only reads from what this manager knows, and refuses the rest.
    async fn without_leader(self, error: ApiError, request: Request<Body>) -> Response<Body> {
        match self.stale {
            Some(stale) if error.kind == Kind::Unavailable && only_reads(request.uri().path()) => {
                let silence = self.shared.store.leader_silence().as_millis().to_string();
                let mut response = answer(stale, request).await;
                if let Ok(silence) = silence.parse() {
                    response.headers_mut().insert(STALE, silence);
                }
                response
            }
            _ => tonic::Status::from(error).into_http(),
        }
    }

    /// Passes a user's request on, which is short and has one answer. One that did not reach the leader goes round by another
    /// manager, as the leader may be out of this one's reach alone, or is kept for the next leader: users need not know of elections.
    async fn insist(self, (mut to, mut leader): Way, request: Request<Body>) -> Response<Body> {
        let deadline = Instant::now() + ELECTION;
        let mut unreached = BTreeSet::new();
        let (parts, body) = request.into_parts();
        let hops = parts.extensions.get::<Hops>().copied().unwrap_or_default();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return status.into_http(),
        };
        loop {
            let again = Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
            let error = match leader.clone().oneshot(again).await {
                Ok(response) => return response,
                Err(error) => tonic::Status::from_error(error.into()),
            };
            let again = certs::transport::never_sent(&error) || only_reads(parts.uri.path());
            if !again || Instant::now() >= deadline {
                return unanswered(&error);
            }
            if certs::transport::never_sent(&error) {
                unreached.insert(to);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            (to, leader) = match self.shared.leader(hops, &unreached).await {
                Ok(Some(way)) => way,
                // It is this manager now.
                Ok(None) => {
                    let request = Request::from_parts(parts, Body::new(Full::new(body)));
                    return answer(self.routes, request).await;
                }
                Err(error) => {
                    let request = Request::from_parts(parts, Body::new(Full::new(body)));
                    return self.without_leader(error, request).await;
                }
            };
        }
    }

    /// Checks the caller and decides who answers: this manager (`None`) or the leader.
    async fn admit(&self, request: &mut Request<Body>) -> Result<Option<Way>, ApiError> {
        let path = request.uri().path();
        let caller = match self.exposure {
            Exposure::Local => Caller::LOCAL,
            Exposure::Network => {
                let conn = request.extensions().get::<ConnInfo>();
                let store = &self.shared.store;
                auth::authorize(&store.read(), &|id| store.counts_on(id), conn, path, request.headers())?
            }
        };
        let hops = if caller.forwarded { hops(request.headers()) } else { Hops(0) };
        let rpc = auth::rpc(path).unwrap_or_default();
        let leader = match auth::is_leaders(rpc) {
            true => self.shared.leader(hops, &BTreeSet::new()).await?,
            false => None,
        };
        if leader.is_some() {
            auth::stamp(&caller, request.headers_mut())?;
            request.headers_mut().insert(HOPS, http::HeaderValue::from(u16::from(hops.0) + 1));
        }
        request.extensions_mut().insert(hops);
        request.extensions_mut().insert(caller);
        Ok(leader)
    }
}

impl Shared {
    /// The way to the leader, or `None` where this manager leads. One that does not hear the leader, and knows another manager
    /// that does, goes round by that one; and by any other where the leader is among `unreached`.
    async fn leader(&self, hops: Hops, unreached: &BTreeSet<NodeId>) -> Result<Option<Way>, ApiError> {
        let mut leadership = self.store.leadership();
        let deadline = Instant::now() + ELECTION;
        let (id, addr) = loop {
            let mut relay_peers = if hops == Hops(0) { self.store.relay_peers() } else { Vec::new() };
            if hops == Hops(0) && !unreached.is_empty() {
                relay_peers.extend(self.store.other_managers());
            }
            let relay_peer = relay_peers.into_iter().find(|(id, _)| !unreached.contains(id));
            // Who has been without one for long does not get one by waiting a little longer.
            let over = Instant::now() >= deadline || self.store.leader_silence() > ELECTION * 2;
            match leadership.borrow_and_update().clone() {
                Leadership::Leader { .. } => return Ok(None),
                // One that has fallen silent may be about to be replaced: what is sent to it now would be lost.
                Leadership::Follower { leader: Some(leader) }
                    if !self.store.leader_is_late()
                        && (relay_peer.is_none() || !unreached.contains(&leader.0)) =>
                {
                    break leader;
                }
                Leadership::Follower { .. } | Leadership::None if relay_peer.is_some() => {
                    if let Some(relay_peer) = relay_peer {
                        break relay_peer;
                    }
                }
                Leadership::Follower { leader: Some(leader) } if over => break leader,
                Leadership::Follower { .. } | Leadership::None if over => return Err(no_leader()),
                Leadership::Follower { .. } | Leadership::None => {}
            }
            if let Ok(Err(_)) = timeout(LOOK_AGAIN, leadership.changed()).await {
                return Err(no_leader());
            }
        };
        if hops.0 >= MOST_HOPS {
            // Two managers that take each other for the leader would pass it to and fro.
            return Err(
                ApiError::unavailable("the leader of the swarm is changing").help("try again in a second")
            );
        }
        let channel = self.channel(&id, addr);
        Ok(Some((id, channel)))
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
        "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.",
    )
    .help("running tasks and their traffic go on, and nothing is lost: start the missing managers again. If they are gone for good, go on from this manager alone: rnctl swarm init --force-new-cluster")
}

/// Answers here. A user's change goes on to its end in a task of its own: a client that goes away between two of its steps would leave
/// half of it.
async fn answer(routes: Routes, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let changes = is_users(path) && !only_reads(path);
    let answered = routes.oneshot(request);
    if !changes {
        let Ok(response) = answered.await;
        return response;
    }
    match tokio::spawn(answered).await {
        Ok(Ok(response)) => response,
        Err(panic) => tonic::Status::from(ApiError::internal(panic.to_string())).into_http(),
    }
}

/// How often a request that comes from another manager was passed on: at least by that one.
fn hops(headers: &http::HeaderMap) -> Hops {
    let said = headers.get(HOPS).and_then(|v| v.to_str().ok()?.parse().ok());
    Hops(said.unwrap_or(1).max(1))
}

/// Whether a request of this path changes nothing.
fn only_reads(path: &str) -> bool {
    let method = auth::rpc(path).and_then(|rpc| rpc.strip_prefix("Control/")).unwrap_or_default();
    method.starts_with("Get") || method.starts_with("List")
}

async fn forward(leader: Channel, request: Request<Body>) -> Response<Body> {
    match leader.oneshot(request).await {
        Ok(response) => response,
        Err(error) => unanswered(&tonic::Status::from_error(error.into())),
    }
}

fn unanswered(status: &tonic::Status) -> Response<Body> {
    let cause = certs::transport::explain(status);
    let error = ApiError::unavailable(format!("the leader of the swarm does not answer: {}", cause.message));
    tonic::Status::from(error.help("try again in a second: a new leader is elected when it stays away"))
        .into_http()
}

/// Whether a request of this path is a user's: with one message each way.
fn is_users(path: &str) -> bool {
    auth::rpc(path).is_some_and(|rpc| rpc.starts_with("Control/"))
}

impl Service<Request<Body>> for LeaderProxy {
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
