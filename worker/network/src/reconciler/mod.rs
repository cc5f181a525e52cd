//! Keeps this node's network as it should be: observe, plan, execute, publish, again.
//!
//! The loop is level-triggered. A wake-up (an assignment, a change in the gossip view, a request of the task supervisor, the
//! clock) says that something moved, never what; each pass computes the whole answer anew and looks only where two answers
//! differ in shape. Every second the host's tables and all overlays are checked against the kernel, every ten seconds
//! everything, every minute down to the last map element.
//!
//! A pass cannot fail; units of it can, and each says so in [`Status`]. What failed is looked at again in the next pass.
//!
//! It lives as long as the daemon. Memberships in a swarm come and go: each brings its inputs ([`Reconciler::enter`]), and they go with
//! it ([`Reconciler::stand_alone`]) or until it is taken up again ([`Reconciler::suspend`]). Nothing is touched before one of these, and
//! in a swarm that this node served before nothing is taken away for a few seconds more ([`WARM_UP`]), since gossip has yet to hear of
//! the others.

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
use proto::model::{Network, NetworkId, Port, PortConfig};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    assigned::Assigned,
    desired::DnsPorts,
    error::{Fault, NetworkError, UnitFailure},
    plan::{firewall::DroppingChain, names::Names},
    services::ServiceTable,
    workload::{Workload, WorkloadId},
};

mod engine;
mod gateway;
mod membership;
mod ports;

use engine::{Depth, Engine};
use membership::Inputs;
pub use membership::Membership;
pub use ports::PortConflict;

/// How long after a start, with sandboxes adopted, nothing is taken out of the kernel: a few gossip rounds.
pub const WARM_UP: Duration = Duration::from_secs(5);

const LIGHT: Duration = Duration::from_secs(1);
const FULL_EVERY: u64 = 10;
const DEEP_EVERY: u64 = 60;

/// Where and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names of what this daemon makes.
    pub names: Names,
    /// Where the gateway bridge's subnets and numbers are kept: `<data-root>/network`.
    pub state_dir: PathBuf,
    /// Where namespaces are kept: `<exec-root>/netns`.
    pub netns_dir: PathBuf,
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

/// How the node's network stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Passes so far.
    pub passes: u64,
    /// Steps that the clock's checks had to make: what somebody else changed.
    pub repairs: u64,
    /// Units that are not as they should be.
    pub failed: Vec<UnitFailure>,
    /// Published ports that somebody else holds.
    pub port_conflicts: Vec<PortConflict>,
    /// Other people's forward chains that drop what they do not know.
    pub dropping: Vec<DroppingChain>,
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
        let ports = self.port_conflicts.iter().cloned().map(Fault::Port);
        let blocked = self.dropping.iter().find(|chain| !chain.opened).cloned().map(Fault::Firewall);
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
    pub failed: Option<UnitFailure>,
    /// What somebody else has to put right.
    pub faults: Vec<Fault>,
}

/// Called after each pass.
pub type OnApplied = Box<dyn Fn(Applied<'_>) + Send + Sync>;

/// What became of each sandbox that was to live on.
pub type Adopted = Vec<(WorkloadId, Result<SandboxInfo, NetworkError>)>;

enum Request {
    Enter(Box<Membership>, oneshot::Sender<Result<Adopted, NetworkError>>),
    StandAlone(oneshot::Sender<()>),
    Suspend(oneshot::Sender<()>),
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
    /// Starts the loop. It ends with `shutdown` and leaves the kernel as it is.
    pub fn start(config: Config, kernel: Arc<dyn Kernel>, shutdown: CancellationToken) -> Self {
        let engine = Engine::new(config, kernel);
        let (requests, inbox) = mpsc::unbounded_channel();
        let table = Arc::new(ArcSwap::default());
        let (status_out, status) = watch::channel(Arc::default());
        let looper = Loop {
            engine: Some(engine),
            inbox,
            inputs: Inputs::Undecided,
            table: Arc::clone(&table),
            status: status_out,
        };
        tokio::spawn(looper.run(shutdown));
        Self { requests, table, status }
    }

    /// A membership begins, or goes on. Sandboxes on its networks other than those to keep are removed. Each one's network is checked,
    /// and repaired, before this returns.
    ///
    /// # Errors
    /// What must be known on disk cannot be read or written: nothing has been touched.
    pub async fn enter(&self, membership: Membership) -> Result<Adopted, NetworkError> {
        self.ask(|reply| Request::Enter(Box::new(membership), reply)).await
    }

    /// There is no swarm, or no longer: all that was there for a membership since this start is taken down before this returns, as far
    /// as the kernel lets us ([`Status::failed`]).
    pub async fn stand_alone(&self) {
        let (reply, answer) = oneshot::channel();
        _ = self.requests.send(Request::StandAlone(reply));
        _ = answer.await;
    }

    /// The membership's inputs go, and what they have led to stays as it is until it is entered again.
    pub async fn suspend(&self) {
        let (reply, answer) = oneshot::channel();
        _ = self.requests.send(Request::Suspend(reply));
        _ = answer.await;
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
    inputs: Inputs,
    table: Arc<ArcSwap<ServiceTable>>,
    status: watch::Sender<Arc<Status>>,
}

/// An answer that is owed once the pass is done.
enum Owed {
    Ensure(WorkloadId, oneshot::Sender<Result<SandboxInfo, NetworkError>>),
    Done(WorkloadId, oneshot::Sender<Result<(), NetworkError>>),
    Enter(Vec<(WorkloadId, Option<NetworkError>)>, oneshot::Sender<Result<Adopted, NetworkError>>),
    StandAlone(oneshot::Sender<()>),
}

impl Loop {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut clock = tokio::time::interval(LIGHT);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u64;
        let mut waiting = Vec::new();
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
                () = self.inputs.changed() => {}
                _ = clock.tick() => {
                    ticks += 1;
                    depth = match ticks {
                        t if t.is_multiple_of(DEEP_EVERY) => Depth::Elements,
                        t if t.is_multiple_of(FULL_EVERY) => Depth::Everything,
                        _ => Depth::Light,
                    };
                    if self.engine.as_ref().is_some_and(Engine::is_idle) && waiting.is_empty() {
                        continue;
                    }
                }
            }
            while let Ok(request) = self.inbox.try_recv() {
                waiting.push(request);
            }
            if let Some(asked) = waiting.iter().position(|r| matches!(r, Request::Suspend(_))) {
                // Who asked for anything else before has gone, or is about to.
                if let Some(Request::Suspend(reply)) = waiting.drain(..=asked).next_back() {
                    self.inputs = Inputs::Undecided;
                    _ = reply.send(());
                }
            }
            let decides = |r: &Request| matches!(r, Request::Enter(..) | Request::StandAlone(_));
            match waiting.iter().position(decides) {
                Some(decision) => {
                    // What was asked for before it is the new membership's business too: from nothing, nothing can be told.
                    waiting[..=decision].rotate_right(1);
                    depth = Depth::Elements;
                }
                None if matches!(self.inputs, Inputs::Undecided) => continue,
                None => {}
            }
            if !self.pass(std::mem::take(&mut waiting), depth).await {
                return;
            }
        }
    }

    /// One pass; false when it broke, which only a bug can cause.
    async fn pass(&mut self, mut requests: Vec<Request>, depth: Depth) -> bool {
        let Some(mut engine) = self.engine.take() else { return false };
        let began = Instant::now();
        let mut entered = None;
        match requests.first() {
            Some(Request::StandAlone(_)) => self.inputs = Inputs::Alone,
            Some(Request::Enter(..)) => {
                let Request::Enter(membership, reply) = requests.remove(0) else { return false };
                let Membership { member, assigned, view, on_applied, keep } = *membership;
                let ids: Vec<WorkloadId> = keep.iter().map(|r| r.workload.id.clone()).collect();
                let job = tokio::task::spawn_blocking(move || {
                    let result = engine.enter(member, &ids);
                    (engine, result)
                });
                let Ok((same, result)) = job.await else { return false };
                engine = same;
                if let Err(error) = result {
                    self.inputs = Inputs::Undecided;
                    self.engine = Some(engine);
                    _ = reply.send(Err(error));
                    return true;
                }
                self.inputs = Inputs::Swarm { assigned, view, on_applied };
                entered = Some((keep, reply));
            }
            _ => {}
        }
        let (assigned, view) = self.inputs.now();
        let job = tokio::task::spawn_blocking(move || {
            let kept = entered.map(|(keep, reply)| {
                let admit = |r: SandboxRequest| (r.workload.id.clone(), engine.admit(r).err());
                Owed::Enter(keep.into_iter().map(admit).collect(), reply)
            });
            let asked = requests.into_iter().filter_map(|r| accept(&mut engine, r)).collect::<Vec<_>>();
            let owed: Vec<Owed> = kept.into_iter().chain(asked).collect();
            let outcome = engine.pass(&assigned, &view, depth);
            (engine, owed, outcome, assigned, view)
        });
        let Ok((engine, owed, outcome, assigned, view)) = job.await else {
            tracing::error!("the network's reconciler broke off; its units are left as they are");
            return false;
        };
        self.table.store(outcome.table);
        let mut status = engine.status();
        let failed = status.failed.first().cloned();
        let faults = status.faults();
        if let Inputs::Swarm { on_applied, .. } = &self.inputs {
            on_applied(Applied {
                assigned: &assigned,
                view: &view,
                failed_networks: outcome.failed_networks,
                failed,
                faults,
            });
        }
        status.last_pass = began.elapsed();
        tracing::trace!(?depth, took = ?status.last_pass, "network pass");
        self.status.send_replace(Arc::new(status));
        for owed in owed {
            settle(&engine, owed);
        }
        self.engine = Some(engine);
        true
    }
}

/// Takes a request into the engine's facts; what can be answered at once is.
fn accept(engine: &mut Engine, request: Request) -> Option<Owed> {
    match request {
        Request::StandAlone(reply) => {
            engine.stand_alone();
            Some(Owed::StandAlone(reply))
        }
        // Taken care of before: only one comes at a time.
        Request::Enter(..) | Request::Suspend(_) => None,
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
        Owed::StandAlone(reply) => _ = reply.send(()),
        Owed::Enter(workloads, reply) => {
            let answer = |(workload, refused): (WorkloadId, Option<NetworkError>)| {
                let info = refused.map_or_else(|| engine.info(&workload), Err);
                (workload, info)
            };
            _ = reply.send(Ok(workloads.into_iter().map(answer).collect()));
        }
    }
}

#[cfg(test)]
mod tests;
