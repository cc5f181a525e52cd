//! One pass, and what is remembered from one to the next. Blocks; runs on a blocking thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use gossip::PeerView;
use kernel::{ConntrackFilter, IpFamily, Kernel, Ns, Observed, Scope, Step, facts::bridge_netfilter};
use proto::model::{Network, NetworkDriver, NetworkId, NodeId, Port, PublishMode};

use super::{Config, SandboxInfo, SandboxRequest, Status, WARM_UP, gateway::GatewayStore, ports::Ports};
use crate::{
    assigned::Assigned,
    desired::{DnsPorts, GatewaySubnets, LocalFacts, LocalSandbox, Member, NodeDesired, Swarm},
    error::{NetworkError, UnitError, UnitFailure},
    plan::{
        self, Focus, Known, Plan, Unit, UnitKey,
        firewall::{self, DroppingChain},
        underlay::RecentMembers,
    },
    services::ServiceTable,
    workload::WorkloadId,
};

/// How far a pass looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Where the answer differs from the last one.
    Changes,
    /// The host's tables and devices, and those of all networks.
    Light,
    /// Everything but the elements of tables.
    Everything,
    /// Those too.
    Elements,
}

/// What a pass tells the world.
#[derive(Default)]
pub(super) struct Outcome {
    pub table: Arc<ServiceTable>,
    pub failed_networks: BTreeSet<NetworkId>,
}

pub(super) struct Engine {
    kernel: Arc<dyn Kernel>,
    config: Config,
    local: LocalFacts,
    /// As what it takes part in a swarm, while it does.
    member: Option<Member>,
    /// The kernel may hold what a swarm has wanted of this machine since this start.
    served: bool,
    /// Opened when it is needed first: what subnets are free is best seen then.
    store: Option<GatewayStore>,
    ports: Ports,
    known: Known,
    /// The last answer, and the view it came from.
    last: Option<(NodeDesired, Arc<PeerView>)>,
    /// The inputs of the last table.
    inputs: Option<(Arc<Assigned>, Arc<PeerView>)>,
    failed: BTreeMap<UnitKey, UnitError>,
    dropping: Vec<DroppingChain>,
    members: RecentMembers,
    additive_until: Option<Instant>,
    /// The last pass left things in tables that are not in its answer.
    blind: bool,
    passes: u64,
    repairs: u64,
}

impl Engine {
    /// Touches nothing before [`Engine::enter`] or [`Engine::stand_alone`].
    pub fn new(config: Config, kernel: Arc<dyn Kernel>) -> Self {
        let local = LocalFacts {
            names: config.names.clone(),
            netns_dir: config.netns_dir.clone(),
            gateway: GatewaySubnets::default(),
            sandboxes: BTreeMap::new(),
            port_conflicts: BTreeSet::new(),
            bridge_netfilter: bridge_netfilter(),
            settled: false,
            firewall_compat: config.firewall_compat,
            vxlan_members_only: config.vxlan_members_only,
            recent_members: BTreeSet::new(),
        };
        Self {
            kernel,
            config,
            local,
            member: None,
            served: false,
            store: None,
            ports: Ports::default(),
            known: Known::new(),
            last: None,
            inputs: None,
            failed: BTreeMap::new(),
            dropping: Vec::new(),
            members: RecentMembers::default(),
            additive_until: None,
            blind: false,
            passes: 0,
            repairs: 0,
        }
    }

    fn store(&mut self) -> Result<&mut GatewayStore, NetworkError> {
        if self.store.is_none() {
            let Config { state_dir, gateway_subnet, names, .. } = &self.config;
            let opened = GatewayStore::open(state_dir, *gateway_subnet, self.kernel.as_ref(), names)?;
            self.local.gateway = opened.subnets();
            self.store = Some(opened);
        }
        self.store.as_mut().ok_or(NetworkError::Stopping)
    }

    /// Takes part in a swarm from here on. Sandboxes on its networks that are not among `keep` may go; on a node that served before
    /// this start only after a while, since gossip has yet to hear of the others.
    pub fn enter(&mut self, member: Member, keep: &[WorkloadId]) -> Result<(), NetworkError> {
        self.store()?;
        self.forget(keep);
        (self.member, self.served) = (Some(member), true);
        let serving = |o: Observed| o.link(&Ns::Host, &self.local.names.mesh_device).is_some();
        let served = !keep.is_empty() || self.kernel.observe(&Scope::host()).is_ok_and(serving);
        self.additive_until = served.then(|| Instant::now() + WARM_UP);
        Ok(())
    }

    /// Is in no swarm from here on: all that was there for one goes.
    pub fn stand_alone(&mut self) {
        self.forget(&[]);
        self.member = None;
        self.members = RecentMembers::default();
        self.additive_until = None;
    }

    /// What was true of another membership, or of none, says nothing any more.
    fn forget(&mut self, keep: &[WorkloadId]) {
        let on_swarm = self.local.sandboxes.values().filter(|s| !s.networks.is_empty());
        let gone = on_swarm.map(|s| s.workload.id.clone()).filter(|id| !keep.contains(id));
        for id in gone.collect::<Vec<_>>() {
            self.dismiss(&id);
        }
        (self.last, self.inputs) = (None, None);
        self.known.clear();
        self.failed.clear();
        self.local.settled = true;
    }

    /// Outside a swarm, nothing here needs a network, and what a swarm has needed is gone: the kernel is left alone. Another daemon's
    /// network may be in the same namespace, under the same names.
    pub fn is_idle(&self) -> bool {
        self.member.is_none() && self.local.sandboxes.is_empty() && !self.served
    }

    /// Takes a sandbox into what is wanted; one that is there already gets its newer workload.
    pub fn admit(&mut self, request: SandboxRequest) -> Result<(), NetworkError> {
        let SandboxRequest { workload, networks } = request;
        let encrypted = |n: &Network| {
            let NetworkDriver::Overlay(options) = &n.spec.driver;
            options.encrypted
        };
        if let Some(network) = networks.iter().find(|n| encrypted(n)) {
            return Err(NetworkError::Encrypted(network.spec.name.clone()));
        }
        let published = !workload.ports.is_empty() || !workload.ingress_addrs.is_empty();
        let internal_only = !networks.is_empty() && networks.iter().all(|n| n.spec.internal);
        let gateway_host =
            if internal_only && !published { None } else { Some(self.store()?.number(&workload.id)?) };

        let before = self.local.sandboxes.get(&workload.id);
        let dns = before.and_then(|s| s.dns);
        let host_ports = match before {
            Some(s) => s.host_ports.clone(),
            None => {
                let ports = workload.ports.iter().filter(|p| p.mode == PublishMode::Host);
                self.ports.bind(&workload.id, &workload.described(), ports)?
            }
        };
        let id = workload.id.clone();
        let sandbox = LocalSandbox { workload, networks, gateway_host, host_ports, dns };
        self.local.sandboxes.insert(id, sandbox);
        Ok(())
    }

    pub fn set_dns(&mut self, workload: &WorkloadId, ports: DnsPorts) {
        if let Some(sandbox) = self.local.sandboxes.get_mut(workload) {
            sandbox.dns = Some(ports);
        }
    }

    pub fn set_vxlan_port(&mut self, port: Port) {
        if let Some(member) = &mut self.member {
            member.underlay.port = port;
        }
    }

    pub fn dismiss(&mut self, workload: &WorkloadId) {
        self.local.sandboxes.remove(workload);
        if let Some(store) = &mut self.store {
            store.forget(workload);
        }
        self.ports.unbind(workload);
    }

    /// The sandbox's data when it is up, else what is wrong with it.
    pub fn info(&self, workload: &WorkloadId) -> Result<SandboxInfo, NetworkError> {
        if let Some(fault) = self.fault(workload) {
            return Err(fault);
        }
        let sandbox = self.last.as_ref().and_then(|(desired, _)| desired.sandboxes.get(workload));
        let sandbox = sandbox.ok_or(NetworkError::Stopping)?;
        Ok(SandboxInfo {
            netns: sandbox.netns.clone(),
            networks: sandbox.networks().cloned().collect(),
            addrs: sandbox.interfaces.iter().flat_map(|l| &l.addrs).map(|a| a.addr).collect(),
            gateway_addrs: sandbox.gateway.iter().flat_map(|l| &l.addrs).map(|a| a.addr).collect(),
            host_ports: self.local.sandboxes.get(workload).map(|s| s.host_ports.clone()).unwrap_or_default(),
        })
    }

    /// What is wrong with a workload's sandbox, or with what it rests on.
    pub fn fault(&self, workload: &WorkloadId) -> Option<NetworkError> {
        let sandbox = self.last.as_ref().and_then(|(desired, _)| desired.sandboxes.get(workload));
        let networks = sandbox.iter().flat_map(|s| s.networks()).map(|id| UnitKey::Network(id.clone()));
        // The overlay's failure explains the sandbox's, so it is named first.
        let bases =
            networks.chain(sandbox.map(|_| UnitKey::Gateway)).chain([UnitKey::Sandbox(workload.clone())]);
        let failure = |key: UnitKey| Some(UnitFailure { error: self.failed.get(&key)?.clone(), key });
        bases.into_iter().find_map(failure).map(NetworkError::Unit)
    }

    pub fn status(&self) -> Status {
        let failed =
            self.failed.iter().map(|(key, error)| UnitFailure { key: key.clone(), error: error.clone() });
        Status {
            passes: self.passes,
            repairs: self.repairs,
            failed: failed.collect(),
            port_conflicts: self.ports.conflicts(),
            dropping: self.dropping.clone(),
            senders: self.last.as_ref().and_then(|(desired, _)| desired.senders.as_ref()).map(BTreeSet::len),
            host_ports: self
                .local
                .sandboxes
                .iter()
                .filter(|(_, sandbox)| !sandbox.host_ports.is_empty())
                .map(|(workload, sandbox)| (workload.clone(), sandbox.host_ports.clone()))
                .collect(),
            ..Status::default()
        }
    }

    /// One pass over what `depth` says. Outside a swarm nothing is assigned, and nobody is in view.
    pub fn pass(&mut self, assigned: &Arc<Assigned>, view: &Arc<PeerView>, depth: Depth) -> Outcome {
        if self.is_idle() {
            return Outcome::default();
        }
        self.passes += 1;
        let table = self.table(assigned, view);
        let wanted = table.published.iter().map(|(key, p)| (*key, p.service_name.as_str()));
        // Reservations that failed are tried again when the clock says, not at each change.
        self.local.port_conflicts = self.ports.reserve(wanted, depth != Depth::Changes);
        self.local.bridge_netfilter = bridge_netfilter();
        self.local.recent_members = self.members.after(view, Instant::now());

        let swarm = self.member.as_ref().map(|member| Swarm { member, assigned, view });
        let desired = NodeDesired::compute(swarm, &self.local, Arc::clone(&table));
        let warm = self.additive_until.is_none_or(|until| Instant::now() >= until);
        if warm {
            self.additive_until = None;
        }
        let focus = self.focus(&desired, depth);
        let plan = self.look(&desired, &focus).map(|observed| {
            if let Some(host) = observed.ns(&Ns::Host) {
                self.dropping = firewall::dropping(&desired, host);
            }
            let plan = plan::plan(&desired, &observed, &self.known, &focus);
            if warm { plan } else { plan.without_removals() }
        });
        match plan {
            Ok(plan) => {
                let done = self.carry_out(plan);
                if matches!(depth, Depth::Light | Depth::Everything | Depth::Elements) && self.last.is_some()
                {
                    self.repairs += done;
                }
                // Something else than we knew is there: look again, once, at what failed.
                let again: BTreeSet<UnitKey> = self.failed.keys().cloned().collect();
                if !again.is_empty() && depth == Depth::Changes {
                    let focus = Focus::Units(again);
                    if let Ok(observed) = self.look(&desired, &focus) {
                        let plan = plan::plan(&desired, &observed, &self.known, &focus);
                        self.carry_out(if warm { plan } else { plan.without_removals() });
                    }
                }
            }
            Err(error) => {
                for key in units(&desired, &focus) {
                    self.failed.insert(key, error.clone());
                }
            }
        }
        // Until removals begin there may be more in the tables than the answer: it is read anew each time, the first time after
        // that included.
        self.blind = !warm;
        if self.blind {
            self.known.clear();
        }
        let live = |ns: &Ns| match ns {
            Ns::Host => true,
            Ns::Path(path) => desired.sandboxes.values().any(|s| s.netns == *path),
        };
        self.known.retain(|(ns, ..), _| live(ns));
        self.failed.retain(|key, _| match key {
            UnitKey::Sandbox(id) => desired.sandboxes.contains_key(id),
            UnitKey::Network(id) => desired.networks.contains_key(id),
            _ => true,
        });

        if let Some((_, before)) = &self.last {
            self.forget_flows(&desired, &gone(before, view), 17, false);
            // A SYN that nobody answered is sent again, to somebody else then.
            self.forget_flows(&desired, &died(before, view), 6, true);
        }
        let failed_networks = self.failed_networks(&desired);
        self.served &= self.member.is_some() || !self.failed.is_empty();
        self.last = Some((desired, Arc::clone(view)));
        Outcome { table, failed_networks }
    }

    /// What a pass over everything would do now, had nothing been remembered.
    #[cfg(test)]
    pub fn dry_run(&self) -> Plan {
        let focus = Focus::All(true);
        let Some((desired, _)) = &self.last else { return Plan::default() };
        let observed = self.look(desired, &focus).unwrap_or_default();
        plan::plan(desired, &observed, &Known::new(), &focus)
    }

    #[cfg(test)]
    pub fn use_kernel(&mut self, kernel: Arc<dyn Kernel>) {
        self.kernel = kernel;
    }

    fn table(&mut self, assigned: &Arc<Assigned>, view: &Arc<PeerView>) -> Arc<ServiceTable> {
        if let (Some((a, v)), Some((last, _))) = (&self.inputs, &self.last)
            && Arc::ptr_eq(a, assigned)
            && Arc::ptr_eq(v, view)
        {
            return Arc::clone(&last.table);
        }
        self.inputs = Some((Arc::clone(assigned), Arc::clone(view)));
        let table = self.member.as_ref().map(|member| ServiceTable::compute(assigned, view, &member.me));
        Arc::new(table.unwrap_or_default())
    }

    fn focus(&self, desired: &NodeDesired, depth: Depth) -> Focus {
        let Some((last, _)) = self.last.as_ref().filter(|_| !self.blind) else { return Focus::All(true) };
        match depth {
            Depth::Elements => Focus::All(true),
            Depth::Everything => Focus::All(false),
            Depth::Light | Depth::Changes => {
                let mut keys = match Focus::between(last, desired) {
                    Focus::Units(keys) => keys,
                    all => return all,
                };
                keys.extend(self.failed.keys().cloned());
                if depth == Depth::Light {
                    keys.extend(FIXED);
                    keys.extend(desired.networks.keys().cloned().map(UnitKey::Network));
                }
                Focus::Units(keys)
            }
        }
    }

    fn look(&self, desired: &NodeDesired, focus: &Focus) -> Result<Observed, UnitError> {
        if matches!(focus, Focus::Units(keys) if keys.is_empty()) {
            return Ok(Observed::default());
        }
        Ok(self.kernel.observe(&plan::scope(desired, &self.known, focus))?)
    }

    /// Executes the units; each stops at its own first failure. Says how many steps were made.
    fn carry_out(&mut self, plan: Plan) -> u64 {
        let mut done = 0;
        for Unit { key, steps, known, obstacle } in plan.units {
            let result = match obstacle {
                Some(obstacle) => Err(UnitError::from(obstacle)),
                None => steps.iter().try_for_each(|step| {
                    tracing::debug!(unit = %key, %step, "network");
                    done += 1;
                    self.kernel.execute(step).map_err(UnitError::from)
                }),
            };
            match result {
                Ok(()) => {
                    if self.failed.remove(&key).is_some() {
                        tracing::info!(unit = %key, "is as it should be again");
                    }
                    self.known.extend(known);
                }
                Err(error) => {
                    for (table, _) in known {
                        self.known.remove(&table);
                    }
                    if self.failed.get(&key) != Some(&error) {
                        tracing::warn!(unit = %key, %error, "cannot be brought to what it should be");
                    }
                    self.failed.insert(key, error);
                }
            }
        }
        done
    }

    /// A UDP sender that never pauses would stay with a task that is gone, a connection that is being opened with one whose node
    /// has died: conntrack must forget them.
    fn forget_flows(
        &self,
        desired: &NodeDesired,
        gone: &BTreeSet<(NetworkId, IpAddr)>,
        proto: u8,
        unanswered: bool,
    ) {
        for (network, addr) in gone {
            let mut namespaces: Vec<Ns> = Vec::new();
            if desired.mesh.as_ref().is_some_and(|m| m.id == *network) {
                namespaces.push(Ns::Host);
            }
            let on = desired.sandboxes.values().filter(|s| s.networks().any(|n| n == network));
            namespaces.extend(on.map(|s| Ns::Path(s.netns.clone())));
            let family = IpFamily::of(*addr);
            for ns in namespaces {
                let filter = ConntrackFilter {
                    proto: Some(proto),
                    reply_src: Some(*addr),
                    unanswered,
                    ..ConntrackFilter::family(family)
                };
                if let Err(error) = self.kernel.execute(&Step::FlushConntrack { ns, filter }) {
                    tracing::debug!(%error, "old flows stay until they time out");
                }
            }
        }
    }

    /// Networks that this node has not been brought up to date on.
    fn failed_networks(&self, desired: &NodeDesired) -> BTreeSet<NetworkId> {
        let mut out = BTreeSet::new();
        for key in self.failed.keys() {
            match key {
                UnitKey::Network(id) => _ = out.insert(id.clone()),
                UnitKey::Sandbox(id) => {
                    out.extend(desired.sandboxes.get(id).iter().flat_map(|s| s.networks()).cloned());
                }
                UnitKey::Mesh => out.extend(desired.mesh.as_ref().map(|m| m.id.clone())),
                UnitKey::Gateway
                | UnitKey::Underlay
                | UnitKey::Leftovers
                | UnitKey::User
                | UnitKey::Firewall => {}
            }
        }
        out
    }
}

/// What there is on every node.
const FIXED: [UnitKey; 5] =
    [UnitKey::Gateway, UnitKey::Mesh, UnitKey::Underlay, UnitKey::User, UnitKey::Firewall];

fn units(desired: &NodeDesired, focus: &Focus) -> Vec<UnitKey> {
    match focus {
        Focus::Units(keys) => keys.iter().cloned().collect(),
        Focus::All(_) => {
            let networks = desired.networks.keys().cloned().map(UnitKey::Network);
            let sandboxes = desired.sandboxes.keys().cloned().map(UnitKey::Sandbox);
            FIXED.into_iter().chain(networks).chain(sandboxes).collect()
        }
    }
}

/// Addresses whose node has died since `before`.
fn died(before: &PeerView, now: &PeerView) -> BTreeSet<(NetworkId, IpAddr)> {
    let dead = |node: &NodeId| before.is_alive(node) && !now.is_alive(node);
    let lost = before.endpoints.iter().filter(|(_, record)| dead(&record.node));
    lost.flat_map(|((network, _), r)| r.addrs.iter().map(|a| (network.clone(), *a))).collect()
}

/// Addresses whose task is gone, or whose node has died, since `before`.
fn gone(before: &PeerView, now: &PeerView) -> BTreeSet<(NetworkId, IpAddr)> {
    let lost = before.endpoints.iter().filter(|(key, record)| {
        !now.endpoints.contains_key(*key) || before.is_alive(&record.node) && !now.is_alive(&record.node)
    });
    lost.flat_map(|((network, _), r)| r.addrs.iter().map(|a| (network.clone(), *a))).collect()
}
