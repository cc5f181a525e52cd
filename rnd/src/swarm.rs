//! This node's place in a swarm: init, join, leave, and coming back after a restart.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use certs::{CertificateDir, JoinToken, SharedIdentity, join, transport::DialOptions};
use manager::{
    bootstrap::{Bootstrap, InitOptions},
    run::{Manager, ManagerConfig, Start},
};
use proto::{
    error::ApiError,
    model::{self, Availability, Role},
    pb,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use worker::{
    kernel::facts::HostFacts,
    runtime::Runtime,
    worker::{Worker, WorkerConfig},
};

use crate::{
    config::Config,
    machine::{self, Machine},
    paths::{Paths, write_atomically},
    renewal,
};

/// Port of the control plane, TCP.
const CONTROL_PORT: u16 = 2377;
/// Port of the gossip, UDP.
const GOSSIP_PORT: u16 = 7946;
/// How long `swarm join` waits for the first session (Docker's client waits 20 s).
const FIRST_SESSION: Duration = Duration::from_secs(20);

/// What is remembered of `swarm init` or `swarm join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Membership {
    /// Where a manager here listens.
    pub listen_addr: SocketAddr,
    /// Where others reach this node.
    pub advertise_addr: SocketAddr,
    /// Where others send VXLAN to.
    pub data_path_addr: IpAddr,
    /// UDP port of VXLAN, as far as this node was told.
    pub data_path_port: u16,
    /// Managers that were named.
    pub managers: Vec<SocketAddr>,
}

/// This node as a member of a swarm.
pub struct Member {
    /// What it was told.
    pub membership: Membership,
    /// Who it is.
    pub identity: SharedIdentity,
    /// Set on managers.
    pub manager: Option<Manager>,
    /// Set once started.
    pub worker: Worker,
    renewal: JoinHandle<()>,
}

/// What members are made with.
pub struct Grounds {
    /// Settings.
    pub config: Config,
    /// Directories.
    pub paths: Paths,
    /// The machine.
    pub machine: Machine,
    /// The daemon's id.
    pub daemon_id: String,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
}

fn internal(error: anyhow::Error) -> ApiError {
    ApiError::internal(format!("{error:#}"))
}

impl Grounds {
    fn certificates(&self) -> CertificateDir {
        CertificateDir::new(&self.paths.data_root)
    }

    /// The member that the disk remembers, started again.
    pub async fn resume(&self) -> Result<Option<Member>, ApiError> {
        let text = match std::fs::read(self.paths.membership()) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ApiError::internal(format!("{}: {e}", self.paths.membership().display()))),
        };
        let membership: Membership = serde_json::from_slice(&text)
            .with_context(|| format!("{}", self.paths.membership().display()))
            .map_err(internal)?;
        let identity = self.certificates().load().map_err(|e| ApiError::internal(e.to_string()))?;
        let Some(identity) = identity else {
            return Err(ApiError::internal(format!(
                "{} is without its certificate",
                self.paths.swarm().display()
            ))
            .help("rnctl swarm leave --force, then join again"));
        };
        self.start(membership, SharedIdentity::new(identity), Start::Again).await.map(Some)
    }

    /// `swarm init`.
    pub async fn init(&self, request: pb::SwarmInitRequest) -> Result<Member, ApiError> {
        if request.force_new_cluster {
            return Err(ApiError::unsupported("--force-new-cluster is not available in this version")
                .help("a cluster with one manager never needs it"));
        }
        let membership =
            self.addresses(&request.advertise_addr, &request.listen_addr, &request.data_path_addr, None)?;
        let defaults = InitOptions::default();
        let pools = request.default_addr_pools.iter().map(|pool| {
            pool.parse()
                .map_err(|_| ApiError::invalid(format!("--default-addr-pool {pool:?} is not a subnet")))
        });
        let pools = pools.collect::<Result<Vec<_>, _>>()?;
        let number = |value: u32, default: u16, name: &str| match value {
            0 => Ok(default),
            n => u16::try_from(n).map_err(|_| ApiError::invalid(format!("{name} {n} is above 65535"))),
        };
        let options = InitOptions {
            spec: request.spec.map_or(defaults.spec, Into::into),
            default_addr_pools: if pools.is_empty() { defaults.default_addr_pools } else { pools },
            subnet_size: match request.subnet_size {
                0 => defaults.subnet_size,
                n => u8::try_from(n).map_err(|_| {
                    ApiError::invalid(format!("--default-addr-pool-mask-length {n}: at most 29"))
                })?,
            },
            data_path_port: number(request.data_path_port, defaults.data_path_port, "--data-path-port")?,
            availability: Availability::from_wire(request.availability).map_err(ApiError::from)?,
        };
        let membership = Membership { data_path_port: options.data_path_port, ..membership };
        let bootstrap = Bootstrap::new(options)?;
        let identity = SharedIdentity::new(bootstrap.identity.clone());
        self.begin(membership, identity, Start::First(Box::new(bootstrap))).await
    }

    /// `swarm join`.
    pub async fn join(&self, request: pb::SwarmJoinRequest) -> Result<Member, ApiError> {
        let token: JoinToken = request.token.parse()?;
        let managers = request.remote_addrs.iter().map(|a| manager_addr(a)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = managers.first().copied() else {
            return Err(ApiError::invalid(
                "swarm join needs the address of a manager: rnctl swarm join --token TOKEN HOST:PORT",
            ));
        };
        let availability = pb::Availability::try_from(request.availability).unwrap_or_default();
        // What is wrong with our own addresses must show before the managers make a node of us.
        let early = self.addresses(
            &request.advertise_addr,
            &request.listen_addr,
            &request.data_path_addr,
            Some(first),
        )?;
        let joined =
            join::join(first, &token, availability, &self.machine.hostname, DialOptions::default()).await?;
        let membership = match joined.observed_addr {
            Some(seen) if request.advertise_addr.is_empty() && !seen.is_loopback() => Membership {
                advertise_addr: SocketAddr::new(seen, early.advertise_addr.port()),
                data_path_addr: if request.data_path_addr.is_empty() { seen } else { early.data_path_addr },
                ..early
            },
            _ => early,
        };
        let member = self
            .begin(membership, SharedIdentity::new(joined.identity), Start::Joining(managers.clone()))
            .await?;
        let mut status = member.worker.watch_status();
        let session = status.wait_for(|s| s.synced);
        match tokio::time::timeout(FIRST_SESSION, session).await {
            Ok(_) => Ok(member),
            Err(_) => {
                let error = member.worker.status().error;
                // Not undone: as with Docker, the node is a member and keeps trying.
                tracing::warn!(%error, "joined, but no session with a manager yet");
                Ok(member)
            }
        }
    }

    /// Puts a new member on disk and starts it; nothing stays if that fails.
    async fn begin(
        &self,
        membership: Membership,
        identity: SharedIdentity,
        start: Start,
    ) -> Result<Member, ApiError> {
        // What an earlier membership left would be mistaken for this one's.
        self.forget().map_err(internal)?;
        let saved = self
            .certificates()
            .save(&identity.current())
            .map_err(|e| ApiError::internal(e.to_string()))
            .and_then(|()| {
                serde_json::to_vec_pretty(&membership).map_err(|e| ApiError::internal(e.to_string()))
            })
            .and_then(|text| write_atomically(&self.paths.membership(), &text).map_err(internal));
        let started = match saved {
            Ok(()) => self.start(membership, identity, start).await,
            Err(error) => Err(error),
        };
        if started.is_err()
            && let Err(error) = self.forget()
        {
            tracing::warn!(%error, "left behind");
        }
        started
    }

    async fn start(
        &self,
        membership: Membership,
        identity: SharedIdentity,
        start: Start,
    ) -> Result<Member, ApiError> {
        let me = identity.current();
        let manager = if me.role() == Role::Manager {
            let config = ManagerConfig {
                dir: self.paths.raft(),
                identity: identity.clone(),
                listen_addr: membership.listen_addr,
                advertise_addr: membership.advertise_addr,
                loops: Default::default(),
            };
            Some(Manager::start(config, start).await?)
        } else {
            None
        };
        let worker = self.worker(&membership, &identity, manager.as_ref()).await;
        let worker = match (worker, manager) {
            (Ok(worker), manager) => (worker, manager),
            (Err(error), manager) => {
                if let Some(manager) = manager {
                    manager.shutdown().await;
                }
                return Err(error);
            }
        };
        let (worker, manager) = worker;
        let renewal =
            tokio::spawn(renewal::run(identity.clone(), self.certificates(), worker.watch_status()));
        Ok(Member { membership, identity, manager, worker, renewal })
    }

    async fn worker(
        &self,
        membership: &Membership,
        identity: &SharedIdentity,
        manager: Option<&Manager>,
    ) -> Result<Worker, ApiError> {
        let advertise = membership.advertise_addr.ip();
        let mut managers = membership.managers.clone();
        if let Some(manager) = manager {
            // A manager's own worker speaks to it over loopback or its own address, whichever is listened on.
            let ip = if membership.listen_addr.ip().is_unspecified() {
                advertise
            } else {
                membership.listen_addr.ip()
            };
            managers.insert(0, SocketAddr::new(ip, manager.listening().port()));
        }
        let any: IpAddr = Ipv6Addr::UNSPECIFIED.into();
        Worker::start(WorkerConfig {
            data_root: self.paths.data_root.clone(),
            exec_root: self.paths.exec_root.clone(),
            daemon_id: self.daemon_id.clone(),
            identity: identity.clone(),
            description: self.machine.describe(advertise, membership.data_path_addr, self.labels()),
            managers,
            gossip_bind: SocketAddr::new(
                if advertise.is_ipv4() { [0, 0, 0, 0].into() } else { any },
                GOSSIP_PORT,
            ),
            gossip_advertise: SocketAddr::new(advertise, GOSSIP_PORT),
            data_path_addr: membership.data_path_addr,
            data_path_port: membership.data_path_port,
            shared_namespace: false,
            firewall_compat: self.config.firewall_compat,
            search: machine::search_domains(),
            runtime: self.runtime.clone(),
        })
        .await
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.config.labels.clone()
    }

    /// Deletes everything that the disk remembers of a swarm.
    pub fn forget(&self) -> anyhow::Result<()> {
        match std::fs::remove_dir_all(self.paths.swarm()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {}", self.paths.swarm().display()))
            }
            _ => Ok(()),
        }
    }

    /// The rules of swarm-behaviour 3.10: flag, else the daemon's default, else the only address there is.
    fn addresses(
        &self,
        advertise: &str,
        listen: &str,
        data_path: &str,
        manager: Option<SocketAddr>,
    ) -> Result<Membership, ApiError> {
        let facts = HostFacts::read().map_err(|e| ApiError::internal(e.to_string()))?;
        let listen_addr = match listen {
            "" => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), CONTROL_PORT),
            text => {
                let (host, port) = host_port(text, CONTROL_PORT, "--listen-addr")?;
                let addr = match host.parse::<IpAddr>() {
                    // One socket takes both families.
                    Ok(addr) if addr == IpAddr::from([0, 0, 0, 0]) => Ipv6Addr::UNSPECIFIED.into(),
                    Ok(addr) => addr,
                    Err(_) => facts
                        .advertise(Some(&host))
                        .map_err(|e| ApiError::invalid(format!("--listen-addr: {e}")))?,
                };
                SocketAddr::new(addr, port)
            }
        };
        let wanted =
            Some(advertise).filter(|a| !a.is_empty()).or(self.config.default_advertise_addr.as_deref());
        let (host, port) = match wanted {
            Some(text) => {
                let (host, port) = host_port(text, listen_addr.port(), "--advertise-addr")?;
                (Some(host), port)
            }
            None => (None, listen_addr.port()),
        };
        let ip = match (facts.advertise(host.as_deref()), manager) {
            (Ok(ip), _) => ip,
            // A joiner's address is what the manager sees, or what the route to the manager would use.
            (Err(_), Some(manager)) if host.is_none() => route_to(manager).ok_or_else(|| {
                ApiError::invalid(format!("there is no route to manager {manager}"))
                    .help("give --advertise-addr")
            })?,
            (Err(error), _) => return Err(ApiError::invalid(error.to_string())),
        };
        let ours = facts.addresses().any(|a| a == ip) || ip.is_loopback();
        if !ours && host.is_some() {
            tracing::warn!(%ip, "the advertise address is not on any interface of this machine");
        }
        let data_path_addr = match data_path {
            "" => ip,
            text if text.parse::<SocketAddr>().is_ok() => {
                return Err(ApiError::invalid(format!(
                    "--data-path-addr {text:?}: a port is not allowed here"
                ))
                .help("the port is set for the whole swarm by swarm init --data-path-port"));
            }
            text => facts
                .advertise(Some(text))
                .map_err(|e| ApiError::invalid(format!("--data-path-addr: {e}")))?,
        };
        Ok(Membership {
            listen_addr,
            advertise_addr: SocketAddr::new(ip, port),
            data_path_addr,
            data_path_port: 4789,
            managers: manager.into_iter().collect(),
        })
    }
}

impl Member {
    /// Stops; containers and their network go on.
    pub async fn shutdown(self) {
        self.renewal.abort();
        self.worker.shutdown().await;
        if let Some(manager) = self.manager {
            manager.shutdown().await;
        }
    }

    /// `swarm leave`: the tasks end, the network goes, raft is told.
    pub async fn leave(self, force: bool) -> Result<(), (Option<Box<Self>>, ApiError)> {
        if let Some(manager) = &self.manager {
            if !force {
                let error = refusal(manager);
                return Err((Some(Box::new(self)), error));
            }
            let managers = manager.store().read().nodes.values().filter(|n| n.raft_id != 0).count();
            if managers > 1
                && let Err(error) = manager.leave(&self.identity).await
            {
                tracing::warn!(%error, "leaving without the other managers' consent");
            }
        }
        self.renewal.abort();
        let left = self.worker.leave().await;
        if let Some(manager) = self.manager {
            manager.shutdown().await;
        }
        left.map_err(|error| (None, error))
    }

    /// This node's id.
    pub fn node_id(&self) -> model::NodeId {
        self.identity.current().node_id().clone()
    }
}

/// Why a manager does not simply leave (wording as Docker's).
fn refusal(manager: &Manager) -> ApiError {
    let state = manager.store().read();
    let managers = state.nodes.values().filter(|n| n.raft_id != 0).count();
    let message = "You are attempting to leave the swarm on a node that is participating as a manager.";
    let more = match managers {
        0 | 1 => "Removing the last manager erases all current state of the swarm. Use --force to ignore this message.".into(),
        n if n - 1 < n / 2 + 1 => format!(
            "Removing this node leaves {} managers out of {n}. Without a Raft quorum your swarm will be inaccessible. \
             The only way to restore a swarm that has lost consensus is to reinitialize it with --force-new-cluster. \
             Use --force to suppress this message.",
            n - 1
        ),
        _ => "Demote it first: rnctl node demote. Use --force to suppress this message.".into(),
    };
    ApiError::precondition(format!("{message} {more}"))
}

fn host_port(text: &str, default: u16, flag: &str) -> Result<(String, u16), ApiError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), default));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok((addr.ip().to_string(), addr.port()));
    }
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), default)),
        Some((host, port)) => match port.parse() {
            Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
            _ => Err(ApiError::invalid(format!("{flag} {text:?} is not an address"))
                .help("use IP, INTERFACE, IP:PORT or INTERFACE:PORT; IPv6 with a port as [IP]:PORT")),
        },
    }
}

fn manager_addr(text: &str) -> Result<SocketAddr, ApiError> {
    use std::net::ToSocketAddrs;
    let bad = |why: String| {
        ApiError::invalid(format!("manager address {text:?}: {why}"))
            .help("use HOST:PORT; the port is 2377 when left out")
    };
    let (host, port) = host_port(text, CONTROL_PORT, "address")?;
    let mut found =
        (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(|e| bad(e.to_string()))?;
    found.next().ok_or_else(|| bad("no address".into()))
}

/// The source address that the kernel would use towards `manager`; no packet is sent.
fn route_to(manager: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if manager.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(manager).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}
