//! A node's membership in a swarm as a whole: the agent's session with the managers and the gossip, whose word the machine's engine
//! follows meanwhile.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use certs::SharedIdentity;
use gossip::{Gossip, GossipConfig, Timing};
use kernel::facts::HostFacts;
use network::desired::Underlay;
use node::{
    engine::{Engine, Membership},
    managers::AgentStatus,
    managers::Reports,
    tasks::NodeName,
};
use proto::{
    error::ApiError,
    model::{ClusterId, NodeDescription, Port},
    pb,
};
use tokio::{sync::watch, task::JoinSet};

use crate::{agent::Agent, agent::AgentConfig, agent::LeaveNotice, agent::Progress, agent::WorkerDir};

/// How long the managers may take to hear the last statuses of a node that leaves.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a worker needs.
pub struct WorkerConfig {
    /// What must survive a reboot.
    pub data_root: PathBuf,
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
    /// The machine's engine, which serves this membership.
    pub engine: Engine,
}

/// A running worker.
pub struct Worker {
    dir: WorkerDir,
    engine: Engine,
    reports: Reports,
    leave_notice: LeaveNotice,
    gossip: Gossip,
    status: watch::Receiver<AgentStatus>,
    session: watch::Receiver<Option<Arc<pb::SessionMessage>>>,
    agent: JoinSet<()>,
    work: JoinSet<()>,
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
            ingress_addrs: agent.assigned().borrow().ingress_addrs(),
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

        let device = facts.device_of(config.data_path_addr);
        let port = agent.session().borrow().as_ref().and_then(|s| Port::try_from(s.data_path_port).ok());
        let underlay = Underlay {
            addr: config.data_path_addr,
            dev: device.map(|d| d.name.clone()),
            port: port.filter(|p| *p != 0).unwrap_or(config.data_path_port),
            mtu: device.map_or(1500, |d| d.mtu),
        };
        let underlay_port = underlay.port;
        let applied = gossip.clone();
        let (reached, progress) = watch::channel(Progress::default());
        let membership = Membership {
            node: NodeName { id: node, hostname },
            underlay,
            gossip: gossip.clone(),
            reports: agent.reports(),
            attachments: agent.attachments(),
            assigned: agent.assigned(),
            status: agent.status(),
            on_applied: Box::new(move |now| {
                applied.applied(now.view.revision, now.failed_networks);
                reached.send_if_modified(|at| {
                    let next = at.clone().after(now.assigned, now.view, now.failed, now.faults);
                    let news = next != *at;
                    *at = next;
                    news
                });
            }),
        };
        if let Err(error) = config.engine.enter(membership).await {
            gossip.shutdown().await;
            return Err(error);
        }
        let mut work = JoinSet::new();
        let (mut told, moved, mut port) = (agent.session(), config.engine.clone(), underlay_port);
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
        let leave_notice = agent.leave_notice();
        let logs = config.engine.task_logs(agent.assigned());
        let agent = agent.start(gossip.clone(), Arc::new(logs), progress);
        Ok(Self { dir, engine: config.engine, reports, leave_notice, gossip, status, session, agent, work })
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

    /// What gossip knows.
    pub fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Stops; containers and their network go on, for the next life to adopt.
    pub async fn shutdown(mut self) {
        self.engine.containers().pause().await;
        self.agent.shutdown().await;
        self.work.shutdown().await;
        self.engine.suspend().await;
        self.gossip.shutdown().await;
    }

    /// Leaves the swarm: tasks are stopped and removed, the network is taken down, what the disk remembers is forgotten.
    pub async fn leave(mut self) -> Result<(), ApiError> {
        self.engine.containers().unplug().await;
        // So that the managers do not keep the places of containers for a node that is down.
        let _ = tokio::time::timeout(LAST_WORDS, self.reports.delivered(|_| true)).await;
        if tokio::time::timeout(LAST_WORDS, self.leave_notice.send()).await.is_err() {
            tracing::warn!("no manager was told that this node leaves: they will notice by its silence");
        }
        self.agent.shutdown().await;
        self.work.shutdown().await;
        self.engine.leave().await;
        self.gossip.leave_cluster().await;
        self.dir.clear().map_err(|e| ApiError::internal(e.to_string()))
    }
}
