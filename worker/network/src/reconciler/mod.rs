//! Keeps this node's network as it should be: observe, plan, execute, publish, again.
//!
//! The loop is level-triggered. A wake-up (an assignment, a change in the gossip view, a request of the task supervisor, the
//! clock) says that something moved, never what; each pass computes the whole answer anew and looks only where two answers
//! differ in shape. Every second the host's tables and all overlays are checked against the kernel, every ten seconds
//! everything, every minute down to the last map element.
//!
//! A pass cannot fail; units of it can, and each says so in [`Status`]. What failed is looked at again in the next pass.
//!
//! After a start nothing is touched until the supervisor has said which sandboxes live on ([`Reconciler::adopt`]), and for a
//! few seconds more nothing is taken away ([`WARM_UP`]), since gossip has yet to hear of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use gossip::PeerView;
use kernel::Kernel;
use proto::model::{Network, NetworkId, NodeId, Port, PortConfig};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    assigned::Assigned,
    assigned::Fault,
    desired::{DnsPorts, Underlay},
    plan::{
        UnitKey,
        firewall::Dropping,
        names::{Marks, Names},
    },
    services::ServiceTable,
    workload::{Workload, WorkloadId},
};

mod engine;
mod gateway;
mod ports;

use engine::{Depth, Engine};
pub use ports::PortConflict;

/// How long after a start, with sandboxes adopted, nothing is taken out of the kernel: a few gossip rounds.
pub const WARM_UP: Duration = Duration::from_secs(5);

const LIGHT: Duration = Duration::from_secs(1);
const FULL_EVERY: u64 = 10;
const DEEP_EVERY: u64 = 60;

/// Where and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Names of what this daemon makes.
    pub names: Names,
    /// Where the gateway bridge's subnets and numbers are kept: `<data-root>/network`.
    pub state_dir: PathBuf,
    /// Where namespaces are kept: `<exec-root>/netns`.
    pub netns_dir: PathBuf,
    /// Where VXLAN goes.
    pub underlay: Underlay,
    /// Packet marks of the mesh.
    pub marks: Marks,
    /// The gateway bridge's IPv4 subnet; none = the first that this machine does not use.
    pub gateway_subnet: Option<ipnet::Ipv4Net>,
    /// Let our flows through other people's forward chains that drop what they do not know.
    pub firewall_compat: bool,
    /// Take VXLAN from members' data-path addresses only.
    pub vxlan_members_only: bool,
}

/// A workload that is to have a sandbox, with its overlays.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The networks of its attachments.
    pub networks: Vec<Arc<Network>>,
}

impl SandboxRequest {
    /// A workload with its networks; an error names one that has not been assigned.
    pub fn of(workload: &Arc<Workload>, assigned: &Assigned) -> Result<Self, NetworkError> {
        let networks = workload.attachments.iter().map(|a| {
            assigned
                .networks
                .get(&a.network)
                .cloned()
                .ok_or_else(|| NetworkError::NoNetwork(a.network.clone()))
        });
        Ok(Self { workload: Arc::clone(workload), networks: networks.collect::<Result<_, _>>()? })
    }
}

/// A sandbox that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxInfo {
    /// Its namespace.
    pub netns: PathBuf,
    /// Its networks, in order: what its resolver answers from.
    pub networks: Vec<NetworkId>,
    /// Its addresses on overlays, for `/etc/hosts`.
    pub addrs: Vec<IpAddr>,
    /// Its addresses on the gateway bridge.
    pub gateway_addrs: Vec<IpAddr>,
    /// Host-mode ports as bound.
    pub host_ports: Vec<PortConfig>,
}

/// Why a workload has no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A part of it failed; the kernel's words.
    #[error("{unit}: {reason}")]
    Unit {
        /// Which part.
        unit: UnitKey,
        /// Why.
        reason: String,
    },
    /// A host-mode port is taken.
    #[error(transparent)]
    Port(#[from] PortConflict),
    /// The network did not come with the assignment.
    #[error("network {0} has not been assigned to this node")]
    NoNetwork(NetworkId),
    /// Encrypted overlays fail closed.
    #[error(
        "network {0} is encrypted, which this node cannot do: nothing is sent rather than in the clear; \
         create the network without --opt encrypted"
    )]
    Encrypted(String),
    /// The gateway bridge has no address left.
    #[error("the gateway bridge's subnet {0} is full")]
    GatewayFull(ipnet::Ipv4Net),
    /// State could not be written.
    #[error("{0}")]
    State(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// The unit.
    pub key: UnitKey,
    /// Why it failed.
    pub error: String,
}

/// How the node's network stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Passes so far.
    pub passes: u64,
    /// Steps that the clock's checks had to make: what somebody else changed.
    pub repairs: u64,
    /// Units that are not as they should be.
    pub failed: Vec<UnitStatus>,
    /// Published ports that somebody else holds.
    pub port_conflicts: Vec<PortConflict>,
    /// Other people's forward chains that drop what they do not know.
    pub dropping: Vec<Dropping>,
    /// From how many addresses VXLAN is taken; none = from everybody, or there is none on this node.
    pub senders: Option<usize>,
    /// Host-mode ports of workloads as bound.
    pub host_ports: BTreeMap<WorkloadId, Vec<PortConfig>>,
    /// Time of the last pass.
    pub last_pass: Duration,
}

impl Status {
    /// What this node cannot put right by itself.
    fn faults(&self) -> Vec<Fault> {
        let ports = self.port_conflicts.iter().map(|conflict| Fault {
            kind: format!("port {}/{}", conflict.port, conflict.protocol),
            message: conflict.to_string(),
        });
        let blocked = self.dropping.iter().find(|chain| !chain.opened);
        let blocked = blocked.map(|chain| Fault { kind: "firewall".to_owned(), message: chain.to_string() });
        ports.chain(blocked).collect()
    }
}

/// What a pass has brought the kernel to.
pub struct Applied<'a> {
    /// These assignments,
    pub assigned: &'a Assigned,
    /// and this view,
    pub view: &'a PeerView,
    /// except these networks.
    pub failed_networks: BTreeSet<NetworkId>,
    /// What could not be brought to what it should be, and why.
    pub failed: Option<String>,
    /// What somebody else has to put right.
    pub faults: Vec<Fault>,
}

/// Called after each pass.
pub type OnApplied = Box<dyn Fn(Applied<'_>) + Send + Sync>;

enum Request {
    Adopt(Vec<SandboxRequest>, oneshot::Sender<Vec<(WorkloadId, Result<SandboxInfo, NetworkError>)>>),
    Ensure(SandboxRequest, oneshot::Sender<Result<SandboxInfo, NetworkError>>),
    Dns(WorkloadId, DnsPorts, oneshot::Sender<Result<(), NetworkError>>),
    Remove(WorkloadId, oneshot::Sender<Result<(), NetworkError>>),
    VxlanPort(Port),
}

/// The running loop. Clones are handles of the same.
#[derive(Clone)]
pub struct Reconciler {
    requests: mpsc::UnboundedSender<Request>,
    table: Arc<ArcSwap<ServiceTable>>,
    status: watch::Receiver<Arc<Status>>,
}

impl Reconciler {
    /// Starts the loop. It does nothing before [`Reconciler::adopt`]; it ends with `shutdown` and leaves the kernel as it is.
    pub fn start(
        config: Config,
        kernel: Arc<dyn Kernel>,
        assigned: watch::Receiver<Arc<Assigned>>,
        view: watch::Receiver<Arc<PeerView>>,
        on_applied: OnApplied,
        shutdown: CancellationToken,
    ) -> Result<Self, NetworkError> {
        let engine = Engine::new(config, kernel)?;
        let (requests, inbox) = mpsc::unbounded_channel();
        let table = Arc::new(ArcSwap::default());
        let (status_out, status) = watch::channel(Arc::default());
        let looper = Loop {
            engine: Some(engine),
            inbox,
            assigned,
            view,
            table: Arc::clone(&table),
            status: status_out,
            on_applied,
        };
        tokio::spawn(looper.run(shutdown));
        Ok(Self { requests, table, status })
    }

    /// Says, once after a start, which workloads of an earlier life go on; an empty list on a new node. Sandboxes of all others are
    /// removed. Each one's network is checked, and repaired, before this returns.
    pub async fn adopt(
        &self,
        workloads: Vec<SandboxRequest>,
    ) -> Vec<(WorkloadId, Result<SandboxInfo, NetworkError>)> {
        let (reply, answer) = oneshot::channel();
        _ = self.requests.send(Request::Adopt(workloads, reply));
        answer.await.unwrap_or_default()
    }

    /// Makes a workload's sandbox, or makes sure of it, and returns when its network is up.
    pub async fn ensure(&self, request: SandboxRequest) -> Result<SandboxInfo, NetworkError> {
        self.ask(|reply| Request::Ensure(request, reply)).await
    }

    /// Leads port 53 of the sandbox's 127.0.0.11 to its resolver; returns when it does.
    pub async fn set_dns(&self, workload: WorkloadId, ports: DnsPorts) -> Result<(), NetworkError> {
        self.ask(|reply| Request::Dns(workload, ports, reply)).await
    }

    /// Removes a workload's sandbox; fine when there is none.
    pub async fn remove(&self, workload: WorkloadId) -> Result<(), NetworkError> {
        self.ask(|reply| Request::Remove(workload, reply)).await
    }

    /// Moves VXLAN to another UDP port, which the managers have named: a node that has just joined does not know it before.
    pub fn set_vxlan_port(&self, port: Port) {
        _ = self.requests.send(Request::VxlanPort(port));
    }

    /// What the resolver answers from; swapped after the kernel has been brought up to it.
    pub fn table(&self) -> Arc<ArcSwap<ServiceTable>> {
        Arc::clone(&self.table)
    }

    /// How the network stands, after each pass.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, NetworkError>>) -> Request,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| NetworkError::Stopping)?;
        answer.await.unwrap_or(Err(NetworkError::Stopping))
    }
}

struct Loop {
    /// Away while a pass runs on a blocking thread.
    engine: Option<Engine>,
    inbox: mpsc::UnboundedReceiver<Request>,
    assigned: watch::Receiver<Arc<Assigned>>,
    view: watch::Receiver<Arc<PeerView>>,
    table: Arc<ArcSwap<ServiceTable>>,
    status: watch::Sender<Arc<Status>>,
    on_applied: OnApplied,
}

/// An answer that is owed once the pass is done.
enum Owed {
    Ensure(WorkloadId, oneshot::Sender<Result<SandboxInfo, NetworkError>>),
    Done(WorkloadId, oneshot::Sender<Result<(), NetworkError>>),
    Adopt(
        Vec<(WorkloadId, Option<NetworkError>)>,
        oneshot::Sender<Vec<(WorkloadId, Result<SandboxInfo, NetworkError>)>>,
    ),
}

impl Loop {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut clock = tokio::time::interval(LIGHT);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u64;
        let mut waiting = Vec::new();
        let mut adopted = false;
        loop {
            let mut depth = Depth::Changes;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                request = self.inbox.recv() => match request {
                    Some(request) => waiting.push(request),
                    // The last handle is gone; the network is kept as long as the daemon lives.
                    None => {
                        shutdown.cancelled().await;
                        return;
                    }
                },
                Ok(()) = self.assigned.changed() => {}
                Ok(()) = self.view.changed() => {}
                _ = clock.tick() => {
                    ticks += 1;
                    depth = match ticks {
                        t if t.is_multiple_of(DEEP_EVERY) => Depth::Elements,
                        t if t.is_multiple_of(FULL_EVERY) => Depth::Everything,
                        _ => Depth::Light,
                    };
                }
            }
            while let Ok(request) = self.inbox.try_recv() {
                waiting.push(request);
            }
            if !adopted {
                // Nothing can be told from nothing yet.
                let Some(adopt) = waiting.iter().position(|r| matches!(r, Request::Adopt(..))) else {
                    continue;
                };
                waiting.swap(0, adopt);
                adopted = true;
                depth = Depth::Elements;
            }
            if !self.pass(std::mem::take(&mut waiting), depth).await {
                return;
            }
        }
    }

    /// One pass; false when it broke, which only a bug can cause.
    async fn pass(&mut self, requests: Vec<Request>, depth: Depth) -> bool {
        let Some(mut engine) = self.engine.take() else { return false };
        let assigned = Arc::clone(&self.assigned.borrow_and_update());
        let view = Arc::clone(&self.view.borrow_and_update());
        let began = Instant::now();
        let job = tokio::task::spawn_blocking(move || {
            let owed: Vec<Owed> = requests.into_iter().filter_map(|r| accept(&mut engine, r)).collect();
            let outcome = engine.pass(&assigned, &view, depth);
            (engine, owed, outcome, assigned, view)
        });
        let Ok((engine, owed, outcome, assigned, view)) = job.await else {
            tracing::error!("the network's reconciler broke off; its units are left as they are");
            return false;
        };
        self.table.store(outcome.table);
        let mut status = engine.status();
        let failed = status.failed.first().map(|unit| format!("{}: {}", unit.key, unit.error));
        let faults = status.faults();
        (self.on_applied)(Applied {
            assigned: &assigned,
            view: &view,
            failed_networks: outcome.failed_networks,
            failed,
            faults,
        });
        for owed in owed {
            settle(&engine, owed);
        }
        status.last_pass = began.elapsed();
        tracing::trace!(?depth, took = ?status.last_pass, "network pass");
        self.status.send_replace(Arc::new(status));
        self.engine = Some(engine);
        true
    }
}

/// Takes a request into the engine's facts; what can be answered at once is.
fn accept(engine: &mut Engine, request: Request) -> Option<Owed> {
    match request {
        Request::Adopt(workloads, reply) => {
            engine.begin(!workloads.is_empty());
            let admit = |r: SandboxRequest| (r.workload.id.clone(), engine.admit(r).err());
            Some(Owed::Adopt(workloads.into_iter().map(admit).collect(), reply))
        }
        Request::Ensure(request, reply) => {
            let workload = request.workload.id.clone();
            match engine.admit(request) {
                Ok(()) => Some(Owed::Ensure(workload, reply)),
                Err(error) => {
                    _ = reply.send(Err(error));
                    None
                }
            }
        }
        Request::Dns(workload, ports, reply) => {
            engine.set_dns(&workload, ports);
            Some(Owed::Done(workload, reply))
        }
        Request::VxlanPort(port) => {
            engine.set_vxlan_port(port);
            None
        }
        Request::Remove(workload, reply) => {
            engine.dismiss(&workload);
            Some(Owed::Done(workload, reply))
        }
    }
}

fn settle(engine: &Engine, owed: Owed) {
    match owed {
        Owed::Ensure(workload, reply) => _ = reply.send(engine.info(&workload)),
        Owed::Done(workload, reply) => _ = reply.send(engine.fault(&workload).map_or(Ok(()), Err)),
        Owed::Adopt(workloads, reply) => {
            let answer = |(workload, refused): (WorkloadId, Option<NetworkError>)| {
                let info = refused.map_or_else(|| engine.info(&workload), Err);
                (workload, info)
            };
            _ = reply.send(workloads.into_iter().map(answer).collect());
        }
    }
}

#[cfg(test)]
mod tests;
