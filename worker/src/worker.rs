//! A node's worker as a whole: agent, gossip, supervisors, reconciler and resolver, put together.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use certs::SharedIdentity;
use dns::{DnsCounts, DnsServer, Forwarder, UpstreamConfig};
use gossip::{Gossip, GossipConfig, Timing};
use kernel::{LinuxKernel, facts::HostFacts};
use network::{
    assigned::Assigned,
    desired::Underlay,
    plan::names::{Marks, Names},
    reconciler::{self, Reconciler},
};
use node::{
    containers::{Containers, Fabric},
    dataplane::DataPlane,
    managers::AgentStatus,
    managers::Reports,
    tasks::{Network, NodeName, RuntimeLogs, Supervisor, SupervisorConfig, Turns},
};
use proto::{
    error::ApiError,
    model::{ClusterId, NodeDescription, Port},
    pb,
};
use runtime::Runtime;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{agent::Agent, agent::AgentConfig, agent::Farewell, agent::Progress, agent::WorkerDir};

/// How long `swarm leave` waits for tasks to end, beyond the longest grace period among them.
const LEAVE: Duration = Duration::from_secs(20);

/// How long the managers may take to hear the last statuses of a node that leaves.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a worker needs.
pub struct WorkerConfig {
    /// What must survive a reboot.
    pub data_root: PathBuf,
    /// What must not.
    pub exec_root: PathBuf,
    /// Id of the daemon, kept in its data root: what we make in the kernel carries it.
    pub daemon_id: String,
    /// Who this node is.
    pub identity: SharedIdentity,
    /// What it says of itself; the data-path address among it.
    pub description: NodeDescription,
    /// Managers to speak to, besides those remembered on disk.
    pub managers: Vec<SocketAddr>,
    /// Where to listen for gossip.
    pub gossip_bind: SocketAddr,
    /// Where others reach that.
    pub gossip_advertise: SocketAddr,
    /// Where others send VXLAN to.
    pub data_path_addr: IpAddr,
    /// UDP port of VXLAN, if known already; otherwise the managers tell.
    pub data_path_port: Port,
    /// Another rn daemon lives in the same network namespace: names of devices and tables differ from the well-known ones.
    pub shared_namespace: bool,
    /// Let our flows through other people's forward chains that drop what they do not know.
    pub firewall_compat: bool,
    /// Take VXLAN from members' data-path addresses only.
    pub vxlan_members_only: bool,
    /// How many tasks are started at once.
    pub turns: Turns,
    /// Search domains of the host.
    pub search: Vec<String>,
    /// How long a task without a health check may take to listen before it counts as ready all the same; zero = no time.
    pub listen_timeout: Duration,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Those that users run by hand.
    pub containers: Containers,
}

/// A running worker.
pub struct Worker {
    dir: WorkerDir,
    runtime: Arc<dyn Runtime>,
    containers: Containers,
    reports: Reports,
    farewell: Farewell,
    gossip: Gossip,
    reconciler: Reconciler,
    assigned: Arc<watch::Sender<Arc<Assigned>>>,
    status: watch::Receiver<AgentStatus>,
    session: watch::Receiver<Option<Arc<pb::SessionMessage>>>,
    stop: CancellationToken,
    agent: JoinSet<()>,
    work: JoinSet<()>,
    /// Passes on what the agent hears.
    relay: JoinSet<()>,
    dns_counts: Arc<DnsCounts>,
}

impl Worker {
    /// Starts; adopts what an earlier life has left. Returns once the network of adopted tasks has been checked.
    ///
    /// # Errors
    /// The disk, the gossip's port, or the kernel.
    pub async fn start(config: WorkerConfig) -> Result<Self, ApiError> {
        let internal = |error: &dyn std::fmt::Display| ApiError::internal(error.to_string());
        let dir = WorkerDir::open(&config.data_root).map_err(|e| internal(&e))?;
        let me = config.identity.current();
        let (node, cluster): (_, ClusterId) = (me.node_id().clone(), me.cluster_id().clone());
        let hostname = config.description.hostname.clone();
        let agent = Agent::open(AgentConfig {
            dir: dir.clone(),
            identity: config.identity.clone(),
            description: config.description,
            managers: config.managers,
        })
        .map_err(|e| internal(&e))?;

        let seeds =
            agent.session().borrow().as_ref().map(|s| {
                s.gossip_seeds.iter().filter_map(|seed| seed.parse().ok()).collect::<Vec<SocketAddr>>()
            });
        let facts = HostFacts::read().map_err(|e| internal(&e))?;
        let gossip = GossipConfig {
            cluster,
            node: node.clone(),
            hostname: hostname.clone(),
            bind: config.gossip_bind,
            advertise: config.gossip_advertise,
            vtep: config.data_path_addr,
            host_addrs: facts.global().map(|(_, addr)| addr).collect(),
            seeds: seeds.unwrap_or_default(),
            generation: dir.next_generation().map_err(|e| internal(&e))?,
            timing: Timing::default(),
        };
        let gossip = Gossip::start(gossip, agent.keys()).await.map_err(|e| {
            ApiError::precondition(e.to_string()).help("another program, or another daemon, uses the port")
        })?;

        let stop = CancellationToken::new();
        let mut work = JoinSet::new();
        // What the data plane follows: the agent's word, until `leave` takes everything away.
        let (assigned, mut upstream) =
            (Arc::new(watch::Sender::new(agent.assigned().borrow().clone())), agent.assigned());
        let out = assigned.clone();
        let (told, mut known_ingress) = (gossip.clone(), Vec::new());
        let mut relay = JoinSet::new();
        relay.spawn(async move {
            loop {
                let now = upstream.borrow_and_update().clone();
                let ingress = now.node.as_ref().map(|n| n.ingress_addrs.clone()).unwrap_or_default();
                if ingress != known_ingress {
                    told.set_ingress_addrs(ingress.clone());
                    known_ingress = ingress;
                }
                out.send_replace(now);
                if upstream.changed().await.is_err() {
                    return;
                }
            }
        });

        let device = facts.device_of(config.data_path_addr);
        let port = agent.session().borrow().as_ref().and_then(|s| Port::try_from(s.data_path_port).ok());
        let underlay = Underlay {
            addr: config.data_path_addr,
            dev: device.map(|d| d.name.clone()),
            port: port.filter(|p| *p != 0).unwrap_or(config.data_path_port),
            mtu: device.map_or(1500, |d| d.mtu),
        };
        let underlay_port = underlay.port;
        let names = if config.shared_namespace { Names::shared } else { Names::well_known };
        let applied = gossip.clone();
        let (reached, progress) = watch::channel(Progress::default());
        let reconciler = Reconciler::start(
            reconciler::Config {
                me: node.clone(),
                names: names(&config.daemon_id),
                state_dir: config.data_root.join("network"),
                netns_dir: config.exec_root.join("netns"),
                underlay,
                marks: Marks::default(),
                gateway_subnet: None,
                firewall_compat: config.firewall_compat,
                vxlan_members_only: config.vxlan_members_only,
            },
            Arc::new(LinuxKernel::new()),
            assigned.subscribe(),
            gossip.view(),
            Box::new(move |now| {
                applied.applied(now.view.revision, now.failed_networks);
                reached.send_if_modified(|at| {
                    let next = at.clone().after(now.assigned, now.view, now.failed, now.faults);
                    let news = next != *at;
                    *at = next;
                    news
                });
            }),
            stop.clone(),
        )
        .map_err(|e| internal(&e))?;

        let forwarder = Arc::new(Forwarder::new(UpstreamConfig::default()));
        let dns = DnsServer::new(reconciler.table(), forwarder).map_err(|e| internal(&e))?;
        let dns_counts = dns.counts();
        let by_hand = config.containers.returning(&assigned.borrow());
        let dataplane =
            DataPlane::start(reconciler.clone(), dns, config.runtime.clone(), assigned.subscribe(), by_hand)
                .await;
        let (network, name): (Arc<dyn Network>, _) = (Arc::new(dataplane), NodeName { id: node, hostname });
        let settling = mpsc::channel(1);
        let fabric = Fabric {
            node: name.clone(),
            network: network.clone(),
            gossip: gossip.clone(),
            reports: agent.reports(),
            assigned: assigned.subscribe(),
            attachments: agent.attachments(),
        };
        config.containers.enter(fabric, settling.0.clone()).await;
        let supervisor = Supervisor::new(SupervisorConfig {
            node: name,
            search: config.search,
            listen_timeout: config.listen_timeout,
            turns: config.turns,
            runtime: config.runtime.clone(),
            network,
            gossip: gossip.clone(),
            reports: agent.reports(),
            assigned: assigned.subscribe(),
            status: agent.status(),
            settling,
        });
        work.spawn(supervisor.run());
        let (mut told, moved, mut port) = (agent.session(), reconciler.clone(), underlay_port);
        work.spawn(async move {
            loop {
                let now = told.borrow_and_update().as_ref().map_or(0, |s| s.data_path_port);
                if let Some(now) = Port::try_from(now).ok().filter(|now| *now != 0 && *now != port) {
                    port = now;
                    moved.set_vxlan_port(now);
                }
                if told.changed().await.is_err() {
                    return;
                }
            }
        });
        let (status, session, reports) = (agent.status(), agent.session(), agent.reports());
        let farewell = agent.farewell();
        let logs = RuntimeLogs { runtime: config.runtime.clone(), assigned: agent.assigned() };
        let agent = agent.start(gossip.clone(), Arc::new(logs), progress);
        Ok(Self {
            dir,
            runtime: config.runtime,
            containers: config.containers,
            reports,
            farewell,
            gossip,
            reconciler,
            assigned,
            status,
            session,
            stop,
            agent,
            work,
            relay,
            dns_counts,
        })
    }

    /// What is assigned to this node.
    pub fn assigned(&self) -> Arc<Assigned> {
        self.assigned.borrow().clone()
    }

    /// Where the agent stands.
    pub fn status(&self) -> AgentStatus {
        self.status.borrow().clone()
    }

    /// What the managers said last of the cluster.
    pub fn session(&self) -> Option<Arc<pb::SessionMessage>> {
        self.session.borrow().clone()
    }

    /// The same, as it changes.
    pub fn watch_status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// What the managers say of the cluster, as it changes.
    pub fn watch_session(&self) -> watch::Receiver<Option<Arc<pb::SessionMessage>>> {
        self.session.clone()
    }

    /// How the node's network stands.
    pub fn network_status(&self) -> Arc<reconciler::Status> {
        self.reconciler.status().borrow().clone()
    }

    /// What its resolver has done.
    pub fn dns_counts(&self) -> &DnsCounts {
        &self.dns_counts
    }

    /// What gossip knows.
    pub fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Stops; containers and their network go on, for the next life to adopt.
    pub async fn shutdown(mut self) {
        self.containers.pause().await;
        self.agent.shutdown().await;
        self.relay.shutdown().await;
        self.stop.cancel();
        self.work.shutdown().await;
        self.gossip.shutdown().await;
    }

    /// Leaves the swarm: tasks are stopped and removed, the network is taken down, what the disk remembers is forgotten.
    pub async fn leave(mut self) -> Result<(), ApiError> {
        self.containers.unplug().await;
        // So that the managers do not keep the places of containers for a node that is down.
        let _ = tokio::time::timeout(LAST_WORDS, self.reports.delivered(|_| true)).await;
        if tokio::time::timeout(LAST_WORDS, self.farewell.say()).await.is_err() {
            tracing::warn!("no manager was told that this node leaves: they will notice by its silence");
        }
        self.agent.shutdown().await;
        // What the agent heard last must not come after what is said here.
        self.relay.shutdown().await;
        // Tasks end while their networks are still there: their peers are told, and open no new connections to them.
        let no_task = Assigned { tasks: BTreeMap::new(), ..Assigned::clone(&self.assigned()) };
        self.assigned.send_replace(Arc::new(no_task));
        let ours = |runtime: &dyn Runtime| -> Vec<_> {
            runtime.list().into_iter().map(|c| c.record).filter(|record| record.task.is_some()).collect()
        };
        let grace = ours(&*self.runtime).iter().map(|record| record.stop_grace_ms).max().unwrap_or_default();
        let patience = Duration::from_millis(grace) + LEAVE;
        let ended = async {
            while !ours(&*self.runtime).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!("tasks did not end in {} s; they are killed", patience.as_secs());
        }
        for record in ours(&*self.runtime) {
            if let Err(error) = self.runtime.delete(&record.id, true).await {
                tracing::warn!(container = %record.id, %error, "left behind");
            }
        }
        // Not the default one, which says that nothing has been received yet.
        let last = self.assigned().fence();
        let nothing =
            Assigned { epoch: last.epoch, generation: last.generation.max(1), ..Assigned::default() };
        self.assigned.send_replace(Arc::new(nothing));
        // The next pass sees nothing assigned: mesh, overlays and sandboxes go.
        let mut status = self.reconciler.status();
        let before = status.borrow_and_update().passes;
        let passed = status.wait_for(|s| s.passes > before + 1);
        if tokio::time::timeout(LEAVE, passed).await.is_err() {
            tracing::warn!("the network could not be checked after leaving");
        }
        self.gossip.leave_cluster().await;
        self.stop.cancel();
        self.work.shutdown().await;
        self.dir.clear().map_err(|e| ApiError::internal(e.to_string()))
    }
}
