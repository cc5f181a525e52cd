//! The machine's engine: started once, with the daemon, and ended with it, whether there is a swarm or not. It owns the reconciler, the
//! resolver, the data plane, the supervisors and the containers. A membership in a swarm adds inputs ([`Engine::enter`]) and takes them
//! away ([`Engine::suspend`], [`Engine::leave`]).

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use dns::{DnsCounts, DnsServer, Forwarder, UpstreamConfig};
use gossip::Gossip;
use kernel::LinuxKernel;
use network::{
    assigned::Assigned,
    desired::{Member, Underlay},
    plan::names::{Marks, Names},
    reconciler::{self, OnApplied, Reconciler},
};
use proto::{error::ApiError, model::Port};
use runtime::{ContainerRecord, Runtime};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    containers::{Containers, NoNetwork, SwarmServices},
    dataplane::DataPlane,
    managers::{AgentStatus, Attachments, Reports},
    tasks::{NodeName, RuntimeLogs, StartLimiter, Supervisor, SupervisorConfig},
};

/// How long [`Engine::leave`] waits for tasks to end, beyond the longest grace period among them, and for the network to go.
const LEAVE: Duration = Duration::from_secs(20);

/// What an engine needs.
pub struct EngineConfig {
    /// What must survive a reboot.
    pub data_root: PathBuf,
    /// What must not.
    pub exec_root: PathBuf,
    /// Id of the daemon, kept in its data root: what we make in the kernel carries it.
    pub daemon_id: String,
    /// Name of this machine.
    pub hostname: String,
    /// Search domains of the host.
    pub search: Vec<String>,
    /// Another rn daemon lives in the same network namespace: names of devices and tables differ from the well-known ones.
    pub shared_namespace: bool,
    /// Let our flows through other people's forward chains that drop what they do not know.
    pub firewall_compat: bool,
    /// Take VXLAN from members' data-path addresses only.
    pub vxlan_members_only: bool,
    /// How many tasks are started at once.
    pub starts: StartLimiter,
    /// How long a task without a health check may take to listen before it counts as ready all the same; zero = no time.
    pub listen_timeout: Duration,
    /// Containers and images.
    pub runtime: Arc<dyn Runtime>,
}

/// What a membership in a swarm gives to the engine.
pub struct Membership {
    /// This node.
    pub node: NodeName,
    /// Where VXLAN goes.
    pub underlay: Underlay,
    /// Endpoints, this node's and the others'.
    pub gossip: Gossip,
    /// Where statuses of tasks go.
    pub reports: Reports,
    /// Where places on networks are had.
    pub attachments: Attachments,
    /// What is assigned to this node.
    pub assigned: watch::Receiver<Arc<Assigned>>,
    /// Whether a manager has said so yet.
    pub status: watch::Receiver<AgentStatus>,
    /// Told of each pass of the reconciler.
    pub on_applied: OnApplied,
}

/// What runs for a membership.
#[derive(Default)]
struct Work {
    /// Passes on what is assigned.
    relay: JoinSet<()>,
    supervisor: JoinSet<()>,
}

struct Inner {
    runtime: Arc<dyn Runtime>,
    containers: Containers,
    reconciler: Reconciler,
    network: Arc<DataPlane>,
    dns_counts: Arc<DnsCounts>,
    search: Vec<String>,
    starts: StartLimiter,
    listen_timeout: Duration,
    /// What all parts follow: what the managers want, nothing outside a swarm.
    assigned: watch::Sender<Arc<Assigned>>,
    work: Mutex<Work>,
    _stop: DropGuard,
}

/// The engine. Cheap to clone; it ends with the last clone, and leaves containers and kernel as they are.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

impl Engine {
    /// Starts. Containers that run in the machine's own network are taken up at once; nothing else is touched before the first of
    /// [`Engine::enter`] and [`Engine::stand_alone`].
    ///
    /// # Errors
    /// The definitions of containers cannot be read, or the resolver's thread not be started.
    pub fn start(config: EngineConfig) -> Result<Self, ApiError> {
        let internal = |error: &dyn std::fmt::Display| ApiError::internal(error.to_string());
        let stop = CancellationToken::new();
        let kernel = Arc::new(LinuxKernel::new());
        let names = if config.shared_namespace { Names::shared } else { Names::well_known };
        let reconciler = Reconciler::start(
            reconciler::Config {
                names: names(&config.daemon_id),
                state_dir: config.data_root.join("network"),
                netns_dir: config.exec_root.join("netns"),
                gateway_subnet: None,
                firewall_compat: config.firewall_compat,
                vxlan_members_only: config.vxlan_members_only,
            },
            kernel.clone(),
            stop.clone(),
        );
        let forwarder = Arc::new(Forwarder::new(UpstreamConfig::default()));
        let dns = DnsServer::new(reconciler.table(), forwarder).map_err(|e| internal(&e))?;
        let dns_counts = dns.counts();
        let assigned = watch::Sender::new(Arc::default());
        let runtime = config.runtime;
        let network = DataPlane::new(reconciler.clone(), dns, runtime.clone(), assigned.subscribe());
        let no_network = NoNetwork::new(kernel, config.exec_root.join("isolated"));
        let (search, hostname) = (config.search.clone(), config.hostname);
        let containers = Containers::open(&config.data_root, runtime.clone(), search, hostname, no_network)
            .map_err(|e| internal(&format!("the containers of users: {e}")))?;
        Ok(Self(Arc::new(Inner {
            runtime,
            containers,
            reconciler,
            network: Arc::new(network),
            dns_counts,
            search: config.search,
            starts: config.starts,
            listen_timeout: config.listen_timeout,
            assigned,
            work: Mutex::default(),
            _stop: stop.drop_guard(),
        })))
    }

    /// Containers that users run.
    pub fn containers(&self) -> &Containers {
        &self.0.containers
    }

    /// What is assigned to this node; nothing outside a swarm.
    pub fn assigned(&self) -> Arc<Assigned> {
        self.0.assigned.borrow().clone()
    }

    /// How the machine's network stands.
    pub fn network_status(&self) -> Arc<reconciler::Status> {
        self.0.reconciler.status().borrow().clone()
    }

    /// What the resolver has done.
    pub fn dns_counts(&self) -> &DnsCounts {
        &self.0.dns_counts
    }

    /// The output of tasks, of those that are assigned or still here.
    pub fn task_logs(&self, assigned: watch::Receiver<Arc<Assigned>>) -> RuntimeLogs {
        RuntimeLogs { runtime: self.0.runtime.clone(), assigned }
    }

    /// Moves VXLAN to another UDP port, which the managers have named: a node that has just joined does not know it before.
    pub fn set_vxlan_port(&self, port: Port) {
        self.0.reconciler.set_vxlan_port(port);
    }

    /// A membership begins, or goes on after a restart of the daemon or [`Engine::suspend`]: tasks and containers that run are
    /// adopted. Returns once their network has been checked.
    ///
    /// # Errors
    /// The disk: then nothing has been touched.
    pub async fn enter(&self, membership: Membership) -> Result<(), ApiError> {
        let Membership { node, underlay, gossip, reports, attachments, assigned, status, on_applied } =
            membership;
        let inner = &self.0;
        let mut work = inner.work.lock().await;
        let known = assigned.borrow().clone();
        inner.assigned.send_replace(known.clone());
        let by_hand = inner.containers.returning(&known);
        let entry = reconciler::Membership {
            member: Member { me: node.id.clone(), underlay, marks: Marks::default() },
            assigned: inner.assigned.subscribe(),
            view: gossip.view(),
            on_applied,
            keep: inner.network.kept(&known, by_hand),
        };
        let adopted = inner.reconciler.enter(entry).await.map_err(|e| ApiError::internal(e.to_string()))?;
        inner.network.adopted(adopted);
        let relay = relay(self.clone(), gossip.clone(), assigned);
        work.relay.spawn(relay);
        let settling = mpsc::channel(1);
        let swarm = SwarmServices {
            node: node.clone(),
            network: inner.network.clone(),
            gossip: gossip.clone(),
            reports: reports.clone(),
            assigned: inner.assigned.subscribe(),
            attachments,
        };
        inner.containers.enter(swarm, settling.0.clone()).await;
        let supervisor = Supervisor::new(SupervisorConfig {
            node,
            search: inner.search.clone(),
            listen_timeout: inner.listen_timeout,
            starts: inner.starts.clone(),
            runtime: inner.runtime.clone(),
            network: inner.network.clone(),
            gossip,
            reports,
            assigned: inner.assigned.subscribe(),
            status,
            settling,
        });
        work.supervisor.spawn(supervisor.run());
        Ok(())
    }

    /// The membership ends for now: the daemon stops, or its member starts anew. Containers and their network go on.
    pub async fn suspend(&self) {
        let mut work = self.0.work.lock().await;
        work.relay.shutdown().await;
        // It ends before its requests do, so that none is left behind.
        work.supervisor.shutdown().await;
        self.0.reconciler.suspend().await;
    }

    /// The swarm is left: its tasks are stopped and removed, its networks taken down. Containers of users have been told before
    /// ([`Containers::unplug`]), and nobody assigns anything any more.
    pub async fn leave(&self) {
        let mut work = self.0.work.lock().await;
        // What was heard last must not come after what is said here.
        work.relay.shutdown().await;
        // Tasks end while their networks are still there: their peers are told, and open no new connections to them.
        self.0.assigned.send_modify(|assigned| Arc::make_mut(assigned).tasks = BTreeMap::new());
        let grace = self.task_records().iter().map(|record| record.stop_grace_ms).max().unwrap_or_default();
        let patience = Duration::from_millis(grace) + LEAVE;
        let ended = async {
            while !self.task_records().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("tasks did not end in {} s; they are killed", patience.as_secs());
        }
        for record in self.task_records() {
            if let Err(error) = self.0.runtime.delete(&record.id, true).await {
                tracing::warn!(container = %record.id, %error, "left behind");
            }
        }
        work.supervisor.shutdown().await;
        drop(work);
        self.stand_alone().await;
    }

    /// There is no swarm: what a membership has led to in the kernel since this start goes.
    pub async fn stand_alone(&self) {
        self.0.assigned.send_replace(Arc::default());
        self.0.network.release();
        let gone = async {
            let mut status = self.0.reconciler.status();
            self.0.reconciler.stand_alone().await;
            // What could not be taken down is tried again by the next passes.
            let _ = status.wait_for(|status| status.failed.is_empty()).await;
        };
        if tokio::time::timeout(LEAVE, gone).await.is_err() {
            tracing::warn!("not all of the swarm's network could be taken down");
        }
    }

    /// Containers of tasks.
    fn task_records(&self) -> Vec<ContainerRecord> {
        let all = self.0.runtime.list().into_iter().map(|container| container.record);
        all.filter(|record| record.task.is_some()).collect()
    }
}

/// Passes on what is assigned, to the gossip first, which says it to the other nodes.
async fn relay(engine: Engine, gossip: Gossip, mut assigned: watch::Receiver<Arc<Assigned>>) {
    loop {
        let now = assigned.borrow_and_update().clone();
        gossip.set_ingress_addrs(now.ingress_addrs());
        engine.0.assigned.send_replace(now);
        if assigned.changed().await.is_err() {
            return;
        }
    }
}
