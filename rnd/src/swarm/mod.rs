//! This node's place in a swarm: init, join, leave, and coming back after a restart.
//!
//! * [`member`]: what runs while it is part of one. [`local_manager`]: its manager, while it is one. [`reconciler`]: certificate and seat as
//!   the managers want them.
//! * [`manager_addresses`]: where managers may be. [`addresses`]: this node's own, and what becomes of them when the machine moves.

mod addresses;
mod local_manager;
mod manager_addresses;
mod member;
mod role;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use certs::{
    CertificateDir, Connector, JoinToken, LockError, SharedIdentity, Target, UnlockKey, disk::DiskError,
    join, transport::DialOptions,
};
use durable::PRIVATE;
use manager::{
    api::validate::cluster::Limits,
    bootstrap::{Bootstrap, InitOptions},
    loops::LoopSettings,
    run::Start,
};
use node::engine::Engine;
use proto::{
    error::ApiError,
    model::{Availability, Protocol, Role},
    pb::{self, control_client::ControlClient},
};
use runtime::Events;
use serde::{Deserialize, Serialize};
use worker::agent::WorkerDir;
use worker::worker::{Worker, WorkerConfig};

use crate::{config::Config, machine::Machine, paths::Paths, port};

pub use manager_addresses::ManagerAddresses;
pub use member::{Member, refusal};

use addresses::manager_addr;
use local_manager::LocalManager;
use member::RunningReconciler;
use role::RoleReconciler;

/// Port of the control plane, TCP.
const CONTROL_PORT: u16 = 2377;
/// Port of the gossip, UDP.
const GOSSIP_PORT: u16 = 7946;
/// How long `swarm join` waits for the first session (Docker's client waits 20 s).
const FIRST_SESSION: Duration = Duration::from_secs(20);

/// How long the other managers may take to let go one that does not come up.
const RESIGN: Duration = Duration::from_secs(10);

/// How often the removal of a membership's files is tried again, and the pause before it.
const FORGET_ATTEMPTS: u32 = 50;
const FORGET_PAUSE: Duration = Duration::from_millis(20);

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
    /// The device that held the advertised address, where that was one of the machine's own: the address is its, if it changes.
    #[serde(default)]
    pub advertise_device: Option<String>,
    /// The same for the data path.
    #[serde(default)]
    pub data_path_device: Option<String>,
}

/// What members are made with.
pub struct NodeContext {
    /// Settings.
    pub config: Config,
    /// Directories.
    pub paths: Paths,
    /// The machine.
    pub machine: Machine,
    /// The daemon's id.
    pub daemon_id: String,
    /// What serves them.
    pub engine: Engine,
    /// Where its users hear what happens.
    pub events: Arc<Events>,
}

fn internal(error: anyhow::Error) -> ApiError {
    ApiError::internal(format!("{error:#}"))
}

impl NodeContext {
    /// Whether what the disk remembers of a swarm is locked.
    pub fn is_locked(&self) -> bool {
        matches!(self.certificates().load(), Err(DiskError::Locked(LockError::Locked)))
    }

    fn limits(&self) -> Limits {
        Limits { min_cert_expiry: self.config.min_cert_expiry }
    }

    fn certificates(&self) -> CertificateDir {
        CertificateDir::new(&self.paths.data_root)
    }

    /// The member that the disk remembers, started again.
    ///
    /// # Errors
    /// It cannot be read, or started; or it is locked, and `unlock` is not what it is locked with.
    pub async fn resume(&self, unlock: Option<UnlockKey>) -> Result<Option<Member>, ApiError> {
        let kept =
            durable::load_as(&self.paths.membership(), |text| serde_json::from_slice::<Membership>(text));
        let Some(membership) = kept.map_err(|e| {
            ApiError::internal(e.to_string()).help(
                "put the file back from a backup and restart rnd, or let the node join anew: rnctl swarm leave --force, then \
                 rnctl swarm join",
            )
        })?
        else {
            return Ok(None);
        };
        let files = self.certificates().with_unlock(unlock);
        let identity = files.load()?;
        let Some(identity) = identity else {
            return Err(ApiError::internal(format!(
                "{} is without its certificate",
                self.paths.swarm().display()
            ))
            .help("rnctl swarm leave --force, then join again"));
        };
        let membership = match membership.moved() {
            Some(moved) => {
                tracing::warn!(from = %membership.advertise_addr, to = %moved.advertise_addr, "this machine has moved");
                self.remember(&moved)?;
                moved
            }
            None => membership,
        };
        self.start(membership, SharedIdentity::new(identity), files, Start::Again).await.map(Some)
    }

    /// `swarm init --force-new-cluster` on a manager: it goes on alone; with other addresses if some are given.
    pub async fn start_over(
        &self,
        member: Box<Member>,
        request: &pb::SwarmInitRequest,
    ) -> Result<Box<Member>, (Option<Box<Member>>, ApiError)> {
        let given = [&request.advertise_addr, &request.data_path_addr];
        if given.iter().all(|a| a.is_empty()) {
            return match member.start_over().await {
                Ok(()) => Ok(member),
                Err(error) => Err((Some(member), error)),
            };
        }
        let addresses =
            self.addresses(&request.advertise_addr, &request.listen_addr, &request.data_path_addr, None);
        let membership = match addresses {
            Ok(m) => {
                let old = &member.membership;
                Membership { data_path_port: old.data_path_port, managers: old.managers.clone(), ..m }
            }
            Err(error) => return Err((Some(member), error)),
        };
        let (identity, lock) = (member.identity.clone(), member.local_manager.wanted_unlock_key().flatten());
        let files = self.certificates().with_unlock(lock);
        member.shutdown().await;
        let started = match self.remember(&membership) {
            Ok(()) => self.start(membership, identity, files, Start::ForceNewCluster).await,
            Err(error) => Err(error),
        };
        started.map(Box::new).map_err(|error| (None, error))
    }

    fn remember(&self, membership: &Membership) -> Result<(), ApiError> {
        let text = serde_json::to_vec_pretty(membership).map_err(|e| ApiError::internal(e.to_string()))?;
        let path = self.paths.membership();
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(self.paths.swarm())?;
            durable::save(&path, &text, PRIVATE)
        };
        write().map_err(|e| ApiError::internal(format!("cannot write {}: {e}", path.display())))
    }

    /// `swarm init`.
    pub async fn init(&self, request: pb::SwarmInitRequest) -> Result<Member, ApiError> {
        if request.force_new_cluster {
            return Err(ApiError::precondition(
                "This node is not part of a swarm: there is no state that a new cluster could be made of",
            )
            .help("leave out --force-new-cluster, or run it on a manager"));
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
            limits: self.limits(),
        };
        let membership = Membership { data_path_port: options.data_path_port, ..membership };
        let bootstrap = Bootstrap::new(options)?;
        let identity = SharedIdentity::new(bootstrap.identity.clone());
        self.begin(membership, identity, self.certificates(), Start::First(Box::new(bootstrap))).await
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
        self.can_gossip(&early)?;
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
        let identity = SharedIdentity::new(joined.identity);
        let begun = async {
            // What a manager keeps is locked from its first byte, where the swarm wants that.
            let lock = match identity.current().role() {
                Role::Manager => role::unlock_key(&managers, &identity).await?,
                Role::Worker => None,
            };
            let files = self.certificates().with_unlock(lock);
            self.begin(membership, identity.clone(), files, Start::Joining(managers.clone())).await
        };
        let member = match begun.await {
            Ok(member) => member,
            Err(error) => {
                take_back(&managers, &identity).await;
                return Err(error);
            }
        };
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

    /// The port that every member needs is free, as far as one can tell before it is one.
    fn can_gossip(&self, membership: &Membership) -> Result<(), ApiError> {
        let addr = gossip_bind(membership.advertise_addr.ip());
        match std::net::UdpSocket::bind(addr) {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = port::reason(&error, Protocol::Udp, addr);
                Err(ApiError::precondition(format!("cannot listen for gossip on {addr}/udp: {why}"))
                    .help("another program, or another daemon, uses the port"))
            }
        }
    }

    /// Puts a new member on disk and starts it; nothing stays if that fails.
    async fn begin(
        &self,
        membership: Membership,
        identity: SharedIdentity,
        files: CertificateDir,
        start: Start,
    ) -> Result<Member, ApiError> {
        // What an earlier membership left would be mistaken for this one's.
        self.forget().map_err(internal)?;
        let saved = files
            .save(&identity.current())
            .map_err(|e| ApiError::internal(e.to_string()))
            .and_then(|()| self.remember(&membership));
        let started = match saved {
            Ok(()) => self.start(membership, identity, files, start).await,
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
        files: CertificateDir,
        start: Start,
    ) -> Result<Member, ApiError> {
        let manager_addresses = ManagerAddresses::new(membership.managers.clone());
        let local_manager = LocalManager::new(
            self.paths.raft(),
            identity.clone(),
            membership.clone(),
            (LoopSettings { key_rotation: self.config.network_key_rotation }, self.limits()),
            manager_addresses.hints(),
            files.unlock().cloned(),
            self.events.clone(),
        );
        // After a restart the keeper goes on trying, while the node serves as the worker that it is too.
        let (again, joining) = (matches!(start, Start::Again), matches!(start, Start::Joining(_)));
        let is_manager = identity.current().role() == Role::Manager;
        if is_manager && (!again || local_manager.has_state()) {
            match local_manager.start(start).await {
                Err(error) if again => tracing::error!(%error, "cannot return to the managers"),
                taken => taken?,
            }
        }
        let worker = match self.worker(&membership, &identity, is_manager).await {
            Ok(worker) => worker,
            Err(error) => {
                if joining {
                    // The managers have just begun to count on this one.
                    let _ = tokio::time::timeout(RESIGN, local_manager.leave_raft()).await;
                }
                local_manager.stop().await;
                return Err(error);
            }
        };
        manager_addresses.listen(worker.watch_session(), worker.gossip().view());
        let reconciler = RoleReconciler {
            local_manager: local_manager.clone(),
            identity: identity.clone(),
            files,
            manager_addresses,
            status: worker.watch_status(),
            session: worker.watch_session(),
        };
        Ok(Member {
            membership,
            identity,
            local_manager,
            worker,
            reconciler: RunningReconciler::begin(reconciler),
        })
    }

    async fn worker(
        &self,
        membership: &Membership,
        identity: &SharedIdentity,
        is_manager: bool,
    ) -> Result<Worker, ApiError> {
        let advertise = membership.advertise_addr.ip();
        let mut managers = membership.managers.clone();
        if is_manager {
            // A manager's own worker speaks to it over loopback or its own address, whichever is listened on.
            let listen = membership.listen_addr;
            let ip = if listen.ip().is_unspecified() { advertise } else { listen.ip() };
            managers.insert(0, SocketAddr::new(ip, listen.port()));
        }
        Worker::start(WorkerConfig {
            data_root: self.paths.data_root.clone(),
            identity: identity.clone(),
            description: self.machine.describe(advertise, membership.data_path_addr, self.labels()),
            managers,
            gossip_bind: gossip_bind(advertise),
            gossip_advertise: SocketAddr::new(advertise, GOSSIP_PORT),
            data_path_addr: membership.data_path_addr,
            data_path_port: membership.data_path_port,
            engine: self.engine.clone(),
        })
        .await
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.config.labels.clone()
    }

    /// Deletes everything that the disk remembers of a swarm.
    pub fn forget(&self) -> anyhow::Result<()> {
        use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
        let mut attempts = 0;
        loop {
            match fs::remove_dir_all(self.paths.swarm()) {
                // What is just coming to its end may have written one more file meanwhile.
                Err(e) if e.kind() == DirectoryNotEmpty && attempts < FORGET_ATTEMPTS => {
                    attempts += 1;
                    std::thread::sleep(FORGET_PAUSE);
                }
                Err(e) if e.kind() != NotFound => {
                    return Err(e).with_context(|| format!("cannot remove {}", self.paths.swarm().display()));
                }
                _ => break,
            }
        }
        // What an interrupted leave has left would be taken for this membership's: assignments of another swarm, newer than its own.
        if self.paths.data_root.join("worker").is_dir() {
            WorkerDir::open(&self.paths.data_root)?.clear()?;
        }
        Ok(())
    }
}

/// Where a node with this address listens for gossip.
fn gossip_bind(advertise: IpAddr) -> SocketAddr {
    let any = if advertise.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, GOSSIP_PORT)
}

/// The managers made a node of this one, which then did not come up as a manager: they forget it. A worker may not ask for that, and
/// has nothing to fail at.
async fn take_back(managers: &[SocketAddr], identity: &SharedIdentity) {
    if identity.current().role() != Role::Manager {
        return;
    }
    let key = identity.current().node_id().to_string();
    for manager in managers {
        let asked = async {
            let channel = Connector::member(identity.clone()).connect(Target::manager(*manager)).await?;
            let request = pb::RemoveRequest { key: key.clone(), force: true };
            ControlClient::new(channel).remove_node(request).await.map_err(ApiError::from)
        };
        match tokio::time::timeout(RESIGN, asked).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => tracing::warn!(%error, "the managers still list this node"),
            Err(_) => tracing::warn!(%manager, "the managers still list this node: no answer"),
        }
    }
}
