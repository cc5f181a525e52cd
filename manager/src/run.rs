//! A manager as a whole: its store, its listener, and the work that it does while it leads.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use certs::{
    Connector, Listener, SharedIdentity, Target, UnlockKey,
    transport::{self, Lane},
};
use proto::{
    error::{ApiError, with_causes},
    model::Cluster,
    pb::{
        self, ca_server::CaServer, control_server::ControlServer, dispatcher_server::DispatcherServer,
        log_broker_server::LogBrokerServer, logs_server::LogsServer, membership_client::MembershipClient,
        membership_server::MembershipServer, raft_server::RaftServer,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::layer::layer_fn;

use crate::{
    address_update,
    api::{
        Api,
        forward::{Exposure, LeaderProxy},
        membership::Members,
        validate::cluster::Limits,
    },
    bootstrap::Bootstrap,
    ca::Ca,
    dispatcher::Dispatcher,
    lanes, leader,
    logs::LogBroker,
    loops::LoopSettings,
    peers::Peers,
    raft::{AddressLookup, MAX_MESSAGE, PeerServer, PeerTransport, Threads},
    store::{CommandError, OpenDatabase, OpenError, Store, StoreConfig},
};

/// How long a stopping manager waits for its connections to end (swarm-behaviour 3.1: a manager stops within 8 s).
const DRAIN: Duration = Duration::from_secs(3);
/// How long a joiner waits for the leader's answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a joiner waits until it votes; after that it goes on catching up by itself.
const CATCH_UP: Duration = Duration::from_secs(15);

/// How a manager begins.
#[derive(Debug)]
pub enum Start {
    /// From what is on its disk.
    Again,
    /// As the first one of a new swarm: `swarm init`.
    First(Box<Bootstrap>),
    /// As a further one: `swarm join` with a manager's token, or promotion. One of these managers answers. What an earlier
    /// membership has left on the disk is deleted once they have agreed.
    Joining(Vec<SocketAddr>),
    /// As the only manager left: `swarm init --force-new-cluster`.
    ForceNewCluster,
}

/// What a manager needs.
pub struct ManagerConfig {
    /// `<data-root>/swarm/raft`.
    pub dir: PathBuf,
    /// The node's identity, with a manager's certificate.
    pub identity: SharedIdentity,
    /// Where to listen, as a rule port 2377 on all addresses.
    pub listen_addr: SocketAddr,
    /// Where others reach this manager.
    pub advertise_addr: SocketAddr,
    /// Settings of the leader's loops.
    pub loops: LoopSettings,
    /// What unwraps the key in `dir`, where autolock is on.
    pub unlock: Option<UnlockKey>,
    /// What users may ask for.
    pub limits: Limits,
    /// What others than the managers say of where nodes are.
    pub hints: AddressLookup,
    /// What a manager stands on.
    pub environment: Environment,
}

/// Database and raft transport that a manager uses: the real ones, or the simulation's.
#[derive(Clone, Default)]
pub struct Environment {
    /// What opens its database.
    pub database: OpenDatabase,
    /// Carries raft's messages; none: mutual TLS.
    pub peers: Option<Arc<dyn PeerTransport>>,
}

/// Why a manager cannot start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The port is taken, or the address is not this machine's.
    #[error("{0}")]
    Listen(#[source] io::Error),
    /// No threads for raft.
    #[error("raft's threads cannot be started: {0}")]
    Threads(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The first entry of a new cluster.
    #[error("the new swarm could not be written: {0}")]
    Initialise(#[from] CommandError),
    /// The managers of the swarm do not take this one in.
    #[error("{0}")]
    Join(ApiError),
    /// The server stopped.
    #[error("the manager's server stopped: {}", with_causes(.0))]
    Serve(#[from] tonic::transport::Error),
    /// A defect.
    #[error("a part of the manager ended: {0}")]
    Ended(String),
}

impl From<ManagerError> for ApiError {
    fn from(error: ManagerError) -> Self {
        match error {
            ManagerError::Listen(_) => ApiError::precondition(error.to_string())
                .help("another program, or another daemon, uses the port; see --listen-addr"),
            ManagerError::Join(error) => error,
            ManagerError::Initialise(error) => error.into(),
            ManagerError::Store(OpenError::Content(_) | OpenError::Database { .. }) => {
                ApiError::internal(error.to_string()).help(
                    "this manager's state cannot be had from its disk. With other managers, let it join anew: rnctl swarm leave \
                     --force here, rnctl node rm --force on another one, then rnctl swarm join. Alone, put its data root's swarm/ \
                     back from a backup",
                )
            }
            ManagerError::Threads(_)
            | ManagerError::Store(_)
            | ManagerError::Serve(_)
            | ManagerError::Ended(_) => ApiError::internal(error.to_string()),
        }
    }
}

/// A running manager.
pub struct Manager {
    store: Store,
    local: LeaderProxy,
    listening: SocketAddr,
    stop: CancellationToken,
    streams: CancellationToken,
    /// Ends connections that have not ended by themselves.
    cut: CancellationToken,
    work: JoinSet<Result<(), ManagerError>>,
}

impl Manager {
    /// Starts a manager; returns when it answers. A new cluster is on disk then.
    ///
    /// # Errors
    /// See [`ManagerError`]. What was started is stopped again.
    pub async fn start(config: ManagerConfig, start: Start) -> Result<Self, ManagerError> {
        let ManagerConfig {
            dir,
            identity,
            listen_addr,
            advertise_addr,
            loops,
            unlock,
            limits,
            hints,
            environment,
        } = config;
        // First of all: a port that is taken must not leave half a cluster on the disk.
        let listener = Listener::bind(listen_addr, identity.clone()).await.map_err(ManagerError::Listen)?;
        let listening = listener.local_addr().map_err(ManagerError::Listen)?;
        let addr = resolved(advertise_addr, listening);
        let node_id = identity.current().node_id().clone();
        let mut store_config = StoreConfig::new(dir, node_id, addr);
        if let Start::Joining(managers) = &start {
            store_config.raft_id = Some(join(managers, addr, &identity).await.map_err(ManagerError::Join)?);
            let dir = store_config.dir.clone();
            match std::fs::remove_dir_all(&dir) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(OpenError::Io { path: dir, source }.into());
                }
                _ => {}
            }
        }
        store_config.unlock = unlock;
        store_config.database = environment.database;
        store_config.alone = matches!(start, Start::ForceNewCluster);
        let threads = Threads::start().map_err(ManagerError::Threads)?;
        store_config.threads = Some(threads.clone());
        let peers =
            environment.peers.unwrap_or_else(|| Arc::new(Peers::new(identity.clone(), threads.clone())));
        let store = Store::open_over(store_config, peers, hints).await?;
        let begun = match &start {
            Start::First(bootstrap) => store.initialise(bootstrap.commands()).await,
            Start::ForceNewCluster => store.settle_alone().await,
            Start::Again | Start::Joining(_) => Ok(()),
        };
        if let Err(error) = begun {
            store.shutdown().await;
            return Err(error.into());
        }
        for node in store.read().nodes.values() {
            let addrs = [node.status.addr, node.raft_addr.map(|a| a.ip())];
            addrs.into_iter().flatten().for_each(|addr| listener.vouch(addr));
        }
        let (stop, streams, cut) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let dispatcher = Dispatcher::new(store.clone());
        let logs = LogBroker::new(store.clone(), streams.clone());
        let control = Routes::new(ControlServer::new(Api::new(store.clone(), limits, dispatcher.clone())))
            .add_service(LogsServer::new(logs.clone()));
        let stale = Routes::new(ControlServer::new(Api::stale(store.clone())));
        let local = LeaderProxy::new(Exposure::Local, control.clone(), store.clone(), identity.clone())
            .or_stale(stale);
        let network = control
            .add_service(CaServer::new(Ca::new(store.clone())))
            .add_service(DispatcherServer::new(dispatcher.clone()))
            .add_service(LogBrokerServer::new(logs.clone()))
            .add_service(MembershipServer::new(Members::new(store.clone())))
            // For managers of versions that dial one connection for everything.
            .add_service(raft_server(&store));
        let mut work = JoinSet::new();
        work.spawn(address_update::run(store.clone(), addr, identity.clone(), stop.clone()));
        let (gated, gate_identity) = (store.clone(), identity);
        let gate = layer_fn(move |routes| {
            LeaderProxy::new(Exposure::Network, routes, gated.clone(), gate_identity.clone())
        });
        let sorted = lanes::sort(listener.incoming_until(cut.clone()));
        for (lane, connections) in sorted.lanes {
            let raft = Routes::new(raft_server(&store));
            let server = transport::server_builder()
                .layer(gate.clone())
                .add_routes(raft)
                .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
            let runtime = match lane {
                Lane::Pulse => threads.pulse(),
                Lane::Entries => threads.core(),
            };
            work.spawn_on(async move { Ok(server.await?) }, runtime);
        }
        let server = transport::server_builder()
            .layer(gate)
            .add_routes(network)
            .serve_with_incoming_shutdown(sorted.others, stop.clone().cancelled_owned());
        work.spawn(async move { Ok(server.await?) });
        let leading = leader::run(store.clone(), dispatcher, logs, loops, stop.clone());
        work.spawn(async move {
            leading.await;
            Ok(())
        });
        // Who joins is told when the others count on it.
        if matches!(start, Start::Joining(_)) && !store.wait_voter(CATCH_UP).await {
            tracing::warn!("this manager has joined, and has not caught up yet");
        }
        tracing::info!(%listening, %addr, "manager started");
        Ok(Self { store, local, listening, stop, streams, cut, work })
    }

    /// The replicated store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// `Control` and `Logs` for the daemon's own socket: a tower service that takes HTTP/2 requests, and passes them to the
    /// leader where this manager does not lead. Its callers are not subject to the role table.
    pub fn local(&self) -> LeaderProxy {
        self.local.clone()
    }

    /// Where the listener is: tells the port when 0 was asked for.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// The cluster as this manager has it; none before a joiner has caught up.
    pub fn cluster(&self) -> Option<std::sync::Arc<Cluster>> {
        self.store.read().cluster.clone()
    }

    /// Waits until the manager stops by itself, which it does on a fault only.
    pub async fn failed(&mut self) -> ManagerError {
        match self.work.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) | None => ManagerError::Ended("its work is done".into()),
            Some(Err(panic)) => ManagerError::Ended(panic.to_string()),
        }
    }

    /// Takes this manager out of raft, so that the others no longer count on it: `swarm leave`, demotion.
    ///
    /// # Errors
    /// The others could not decide without it, or nobody answers.
    pub async fn leave(&self, identity: &SharedIdentity) -> Result<(), ApiError> {
        if self.store.leadership().borrow().is_leader() {
            return self.store.remove_member(self.store.node_id()).await;
        }
        match self.store.way_to_leader() {
            Some((node, addr)) => {
                let connector = Connector::member(identity.clone());
                let channel = connector.channel(Target::manager_node(addr, node));
                let request = pb::LeaveRaftRequest { node_id: self.store.node_id().to_string() };
                let reply = MembershipClient::new(channel).leave(request).await;
                reply.map(|_| ()).map_err(|status| transport::explain(&status))
            }
            None => Err(crate::api::forward::no_leader()),
        }
    }

    /// Stops: no new requests, streams end, raft stops. What was acknowledged is on disk.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.streams.cancel();
        let drained = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::debug!("connections are still open; closing them");
            self.work.shutdown().await;
        }
        // What is passed on to the leader never ends by itself, and would hold the database of a manager that is no more.
        self.cut.cancel();
        self.store.shutdown().await;
    }
}

/// Raft's messages, as a service.
fn raft_server(store: &Store) -> RaftServer<PeerServer> {
    RaftServer::new(store.peer_server())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// The address to tell others: with the port that was bound when 0 was asked for.
fn resolved(advertise: SocketAddr, listening: SocketAddr) -> SocketAddr {
    let port = if advertise.port() == 0 { listening.port() } else { advertise.port() };
    SocketAddr::new(advertise.ip(), port)
}

/// Asks the managers to take this one into raft; returns the raft id that the leader gave.
async fn join(managers: &[SocketAddr], addr: SocketAddr, identity: &SharedIdentity) -> Result<u64, ApiError> {
    let mut last = ApiError::invalid("no manager to join was named");
    for manager in managers {
        let ask = async {
            let channel = Connector::member(identity.clone()).connect(Target::manager(*manager)).await?;
            let request = pb::JoinRaftRequest { addr: addr.to_string() };
            let reply =
                MembershipClient::new(channel).join(request).await.map_err(|s| transport::explain(&s))?;
            Ok::<u64, ApiError>(reply.into_inner().raft_id)
        };
        match tokio::time::timeout(JOIN_TIMEOUT, ask).await {
            Ok(Ok(raft_id)) => return Ok(raft_id),
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = ApiError::timeout(format!(
                    "manager {manager} did not answer in {} s",
                    JOIN_TIMEOUT.as_secs()
                ))
            }
        }
    }
    Err(last)
}
