//! Dialling members.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use proto::model::{ClusterId, NodeId, Role};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{ConnectError, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Lane, Refusal, stack::Socket};
use crate::{CertError, Peer, SharedIdentity, issue::role_name, tls};

/// Whom to reach. The address is only where to look: the certificate found there must have the role, and be the node if one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where to look.
    pub addr: SocketAddr,
    /// The role that the peer must have.
    pub role: Role,
    /// The node that the peer must be; any of that role when none.
    pub node: Option<NodeId>,
}

impl Target {
    /// Any manager at `addr`.
    pub fn manager(addr: SocketAddr) -> Self {
        Self { addr, role: Role::Manager, node: None }
    }

    /// The manager `node`, last seen at `addr`.
    pub fn manager_node(addr: SocketAddr, node: NodeId) -> Self {
        Self { addr, role: Role::Manager, node: Some(node) }
    }
}

/// Times of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialOptions {
    /// For TCP, TLS and the server's first word together.
    pub connect_timeout: Duration,
    /// How often the connection is probed, idle or not.
    pub keepalive_interval: Duration,
    /// How long the answer may take.
    pub keepalive_timeout: Duration,
    /// For each call; none by default, as streams last.
    pub call_timeout: Option<Duration>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: KEEPALIVE_INTERVAL,
            keepalive_timeout: KEEPALIVE_TIMEOUT,
            call_timeout: None,
        }
    }
}

/// As whom to dial, and so what is checked.
#[derive(Clone)]
enum Credentials {
    /// A member: mutual.
    Member(SharedIdentity),
    /// No certificate yet; the server is verified.
    Joiner(Arc<ClientConfig>),
    /// Nothing is known yet; nothing is verified.
    Unverified(Arc<ClientConfig>),
}

/// Makes channels.
#[derive(Clone)]
pub struct Connector {
    credentials: Credentials,
    options: DialOptions,
    lane: Option<Lane>,
}

impl Connector {
    /// Dials as a member, with the identity in use at each (re)connection.
    pub fn member(identity: SharedIdentity) -> Self {
        Self { credentials: Credentials::Member(identity), options: DialOptions::default(), lane: None }
    }

    /// Dials without a certificate; the server must be of the cluster whose root this is.
    pub fn joiner(root_pem: &str) -> Result<Self, CertError> {
        let config = Arc::new(tls::joiner_client_config(root_pem)?);
        Ok(Self { credentials: Credentials::Joiner(config), options: DialOptions::default(), lane: None })
    }

    /// Dials anyone. For `GetRootCa` only: the answer is worth what the token's digest says of it.
    pub fn unverified() -> Result<Self, CertError> {
        let config = Arc::new(tls::unverified_client_config()?);
        Ok(Self { credentials: Credentials::Unverified(config), options: DialOptions::default(), lane: None })
    }

    /// The same with other times.
    pub fn with_options(mut self, options: DialOptions) -> Self {
        self.options = options;
        self
    }

    /// The same for connections of a lane.
    pub fn with_lane(mut self, lane: Lane) -> Self {
        self.lane = Some(lane);
        self
    }

    /// A channel that connects with its first call, and again whenever the connection is lost. A failure to connect is the failure
    /// of the call: [`super::explain`] says why.
    pub fn channel(&self, target: Target) -> Channel {
        let dial = self.clone();
        self.endpoint()
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| dial.clone().open(target.clone())))
    }

    /// A channel that is connected, or the reason why not. Later losses are mended as by [`Self::channel`].
    pub async fn connect(&self, target: Target) -> Result<Channel, ConnectError> {
        // The first connection is made here, where its error keeps its type, and handed to the channel.
        let addr = target.addr;
        let first = self.dial(&target).await?;
        let (dial, slot) = (self.clone(), Arc::new(std::sync::Mutex::new(Some(first))));
        let connector = tower::service_fn(move |_: Uri| {
            let (dial, target) = (dial.clone(), target.clone());
            let ready = slot.lock().ok().and_then(|mut slot| slot.take());
            async move {
                match ready {
                    Some(io) => Ok(TokioIo::new(io)),
                    None => dial.open(target).await,
                }
            }
        });
        // Eager, so that HTTP/2 with its keep-alive begins now, not with the first call.
        let channel = self.endpoint().connect_with_connector(connector).await;
        channel.map_err(|e| ConnectError::Io { addr, source: io::Error::other(e) })
    }

    fn endpoint(&self) -> Endpoint {
        let options = &self.options;
        // `http`: TLS is ours. The name is of no use but for the `:authority` header.
        let endpoint = Endpoint::from_static("http://swarm-manager")
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout)
            .keep_alive_while_idle(true);
        match options.call_timeout {
            Some(limit) => endpoint.timeout(limit),
            None => endpoint,
        }
    }

    async fn open(self, target: Target) -> Result<TokioIo<Io>, ConnectError> {
        self.dial(&target).await.map(TokioIo::new)
    }

    async fn dial(&self, target: &Target) -> Result<Io, ConnectError> {
        let limit = self.options.connect_timeout;
        match timeout(limit, self.handshake(target)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut { addr: target.addr, limit }),
        }
    }

    async fn handshake(&self, target: &Target) -> Result<Io, ConnectError> {
        let addr = target.addr;
        let tcp = Socket::dial(addr).await.map_err(|e| ConnectError::from_tcp(addr, e))?;
        tcp.set_nodelay().map_err(|e| ConnectError::from_tcp(addr, e))?;
        let (config, cluster) = match &self.credentials {
            Credentials::Member(identity) => {
                let identity = identity.current();
                (identity.client_config(), Some(identity.cluster_id().clone()))
            }
            Credentials::Joiner(config) | Credentials::Unverified(config) => (config.clone(), None),
        };
        let config = match self.lane {
            Some(lane) => {
                // What is sent and not acknowledged must not keep a lost peer's connection: one that is back is dialled anew.
                tcp.set_user_timeout(UNACKNOWLEDGED).map_err(|e| ConnectError::from_tcp(addr, e))?;
                Arc::new(tls::on_lane(&config, lane))
            }
            None => config,
        };
        let name = ServerName::try_from(role_name(target.role))
            .map_err(|e| ConnectError::Io { addr, source: io::Error::other(e) })?;
        let tls = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|e| ConnectError::from_handshake(addr, target.role, e))?;
        if !matches!(self.credentials, Credentials::Unverified(_)) {
            check_peer(target, cluster.as_ref(), &tls)?;
        }
        // In TLS 1.3 our side is done before the server has looked at our certificate. Its first word (an HTTP/2 SETTINGS frame,
        // or an alert) tells whether it took us; without this wait the refusal would only break the first call.
        let mut io = BufReader::with_capacity(FIRST_WORD, tls);
        match io.fill_buf().await {
            Ok([]) => Err(ConnectError::Closed { addr }),
            Ok(_) => Ok(io),
            Err(e) => Err(ConnectError::from_handshake(addr, target.role, e)),
        }
    }
}

/// For how long the kernel sends data of a lane again before it gives the connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Small, so that later reads go straight through.
const FIRST_WORD: usize = 64;

type Io = BufReader<TlsStream<Socket>>;

fn check_peer(
    target: &Target,
    cluster: Option<&ClusterId>,
    tls: &TlsStream<Socket>,
) -> Result<(), ConnectError> {
    let addr = target.addr;
    let refused = |refusal| Err(ConnectError::Refused { addr, refusal });
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = match leaf.map(|der| Peer::from_der(der)) {
        Some(Ok(peer)) => peer,
        Some(Err(error)) => return refused(Refusal::NotAMember(error.to_string())),
        None => return refused(Refusal::NotAMember("it showed no certificate".into())),
    };
    if cluster.is_some_and(|cluster| *cluster != peer.cluster_id) {
        return refused(Refusal::OtherCluster);
    }
    if peer.role != target.role {
        return refused(Refusal::OtherRole { wanted: target.role });
    }
    match &target.node {
        Some(wanted) if *wanted != peer.node_id => {
            refused(Refusal::OtherNode { wanted: wanted.clone(), found: peer.node_id })
        }
        _ => Ok(()),
    }
}
