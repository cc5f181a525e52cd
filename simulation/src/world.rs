//! One simulation: hosts, users and misfortune, step by step, everything looked at after each.

mod fault_injection;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use certs::transport::stack::use_stack;
use manager::{
    bootstrap::{Bootstrap, InitOptions},
    store::{Leadership, State, Store},
};
use proto::model::{ClusterSpec, Millis, NodeState, ServiceMode, TaskState};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use self::fault_injection::End;
use crate::{
    agent, clock_and_random,
    disk::Disk,
    faults::FaultLevel,
    host::{Host, Kind},
    invariants::{Circumstances, Invariants, complete},
    net::{Net, addr},
    processes::{self, AgentProcess, ManagerProcess, Origin},
    tcp::Hosts,
    trace::Trace,
    users::{Ledger, Op},
};

/// A step, in microseconds.
const STEP: u64 = 4_000;
/// How long a cluster may take to come up, and to come to rest at the end.
const PATIENCE: u64 = 90_000_000;

/// What is to be simulated.
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Where hosts keep their files.
    pub dir: PathBuf,
    /// Seconds of faults.
    pub chaos: u64,
    /// Whether disks break their promises, which must be found.
    pub lying_disks: bool,
}

/// A simulation as it stands between two steps.
pub struct World {
    net: Net,
    trace: Trace,
    rng: StdRng,
    hosts: Vec<Host>,
    managers: usize,
    ledger: Ledger,
    invariants: Invariants,
    climate: FaultLevel,
    /// What each manager showed last: its revision, and whether it is the same process.
    shown: BTreeMap<usize, (u64, *const State)>,
    /// The term of the last entry that each manager had applied a step ago.
    applied: BTreeMap<usize, u64>,
    /// Since when each term has had a leader, and which.
    terms: BTreeMap<u64, (u64, usize)>,
    ends: Vec<(u64, End)>,
    joins: Option<(String, String)>,
    failures: f64,
    now: u64,
    names: u64,
    services: Vec<String>,
    networks: Vec<String>,
}

impl World {
    /// Hosts, none of which runs anything yet.
    pub fn new(plan: &Plan, trace: Trace) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let managers = *[3, 3, 5].get(rng.random_range(0..3)).context("a number")?;
        let count = managers + rng.random_range(2..=4);
        let net = Net::new(count, rng.random(), trace.clone());
        use_stack(Some(Arc::new(Hosts(net.clone()))));
        let mut hosts = Vec::new();
        for n in 0..count {
            let kind = if n < managers { Kind::Manager } else { Kind::Agent };
            let dir = plan.dir.join(format!("host{n}"));
            std::fs::create_dir_all(&dir)?;
            hosts.push(Host::new(n, kind, dir, Disk::new(rng.random(), plan.lying_disks)));
        }
        let climate = if rng.random_bool(0.25) { FaultLevel::Mild } else { FaultLevel::Rough };
        let failures = if climate == FaultLevel::Rough && rng.random_bool(0.5) { 0.02 } else { 0.0 };
        trace.count(if climate == FaultLevel::Mild { "mild seeds" } else { "rough seeds" }, 1);
        Ok(Self {
            net,
            ledger: Ledger::new(trace.clone()),
            trace,
            hosts,
            managers,
            invariants: Invariants::default(),
            climate,
            shown: BTreeMap::new(),
            applied: BTreeMap::new(),
            terms: BTreeMap::new(),
            ends: Vec::new(),
            joins: None,
            failures,
            now: 0,
            names: 0,
            services: Vec::new(),
            networks: Vec::new(),
            rng,
        })
    }

    /// The whole of it.
    ///
    /// # Errors
    /// A rule was broken, or the cluster did not come up or to rest.
    pub fn run(&mut self, plan: &Plan) -> Result<()> {
        self.come_up()?;
        let end = self.now + plan.chaos * 1_000_000;
        let (mut next_fault, mut next_op) = (self.now, self.now);
        while self.now < end {
            if self.now >= next_fault {
                next_fault = self.now + self.misfortune();
            }
            if self.now >= next_op {
                self.ask();
                next_op = self.now + self.rng.random_range(10_000..300_000);
            }
            self.end_faults()?;
            self.step()?;
        }
        self.come_to_rest()
    }

    fn step(&mut self) -> Result<()> {
        self.now += STEP;
        self.trace.at(self.now);
        self.net.deliver(self.now);
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        order.shuffle(&mut self.rng);
        for n in order {
            clock_and_random::set_now(self.now);
            self.hosts[n].run(&self.net, self.now);
        }
        clock_and_random::set_skew(0);
        self.trace.count("steps", 1);
        if let Some(panic) = self.trace.panic() {
            bail!("a panic: {panic}");
        }
        self.look()
    }

    fn look(&mut self) -> Result<()> {
        for host in &self.hosts[..self.managers] {
            let Some(store) = host.store() else {
                self.shown.remove(&host.n);
                self.applied.remove(&host.n);
                continue;
            };
            if let Leadership::Leader { term } = *store.leadership().borrow()
                && !self.terms.contains_key(&term)
            {
                let again = self.terms.values().any(|(_, leader)| *leader == host.n)
                    && self.terms.last_key_value().is_some_and(|(_, (_, leader))| *leader != host.n);
                self.trace.count("terms of leaders", 1);
                if again {
                    self.trace.count("terms of a former leader, after another's", 1);
                }
                self.terms.insert(term, (self.now, host.n));
            }
            let state = store.read();
            let term = store.metrics().applied_term;
            let before = self.applied.insert(host.n, term);
            let now = (state.revision.0, Arc::as_ptr(&state));
            if self.shown.insert(host.n, now) == Some(now) {
                continue;
            }
            // Whose entries these are is certain where the term did not change on the way.
            let leads_since = self.terms.get(&term).filter(|_| before == Some(term)).map(|(since, _)| *since);
            let around = Circumstances {
                leads_us: leads_since.map(|since| self.now - since),
                mild: self.climate == FaultLevel::Mild,
            };
            let digest = self.invariants.look(host.n, &state, &self.ledger.book(), around);
            let digest = digest.map_err(anyhow::Error::msg)?;
            self.trace.numbers(&[9, host.n as u64, state.revision.0, digest]);
            self.trace.count("states checked", 1);
        }
        Ok(())
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        let end = self.now + PATIENCE;
        while !done(self) {
            if self.now >= end {
                self.describe();
                bail!("after {} s still not: {what}", PATIENCE / 1_000_000);
            }
            self.end_faults()?;
            self.step()?;
        }
        self.trace.line(format_args!("{what}"));
        Ok(())
    }

    /// Where everybody stands, for the trace.
    fn describe(&self) {
        for host in &self.hosts {
            let ended = host.seen(|shown| (shown.ended.clone(), shown.in_session));
            let raft = host.store().map(|s| (s.leadership().borrow().clone(), s.metrics()));
            self.trace.line(format_args!("host {}: {ended:?} {raft:?}", host.n));
        }
        let Some(state) = self.stores().first().map(Store::read) else { return };
        for node in state.nodes.values() {
            let (state, drain) = (node.status.state, node.spec.availability);
            self.trace.line(format_args!("node {} {state:?} {drain:?} {:?}", node.id, node.status.addr));
        }
        for task in
            state.tasks.values().filter(|t| !t.status.state.is_terminal() || t.desired <= TaskState::Running)
        {
            let (name, node, status) = (task.name(), &task.node_id, &task.status);
            self.trace.line(format_args!("task {name} {node:?} {} {status:?}", task.desired));
        }
    }

    fn stores(&self) -> Vec<Store> {
        self.hosts[..self.managers].iter().filter_map(Host::store).collect()
    }

    fn come_up(&mut self) -> Result<()> {
        let spec = ClusterSpec {
            dispatcher_heartbeat: Millis(1000),
            // So that logs are cut, and who was away is sent a snapshot.
            snapshot_interval: *[40, 200, 10_000].get(self.rng.random_range(0..3)).context("a number")?,
            log_entries_for_slow_followers: self.rng.random_range(5..60),
            ..ClusterSpec::default()
        };
        let options = InitOptions { spec, ..InitOptions::default() };
        let first = Bootstrap::new(options).map_err(|e| anyhow::anyhow!("{}", e.message))?;
        self.start_manager(0, Some(Origin::First(Box::new(first))))?;
        self.until("the first manager leads", |w| {
            w.stores().iter().any(|s| s.leadership().borrow().is_leader() && s.read().cluster.is_some())
        })?;
        let state = self.stores().first().context("a manager")?.read();
        let ca = &state.cluster.as_ref().context("a cluster")?.root_ca;
        let (worker, manager) = (ca.worker_token.clone(), ca.manager_token.clone());
        self.joins = Some((worker, manager.clone()));
        for n in 1..self.managers {
            self.start_manager(n, Some(Origin::Joins(addr(0), manager.clone())))?;
            self.until("another manager has joined", |w| {
                let voters = |s: &Store| s.metrics().members.iter().filter(|m| m.voter).count();
                w.stores().len() == n + 1 && w.stores().iter().all(|s| voters(s) == n + 1)
            })?;
        }
        for n in self.managers..self.hosts.len() {
            self.start_agent(n)?;
        }
        self.until("all agents are in session", Self::all_in_session)
    }

    fn all_in_session(&self) -> bool {
        let mut agents = self.hosts[self.managers..].iter();
        agents.all(|h| h.seen(|shown| shown.in_session) == Some(true))
    }

    fn start_manager(&mut self, n: usize, origin: Option<Origin>) -> Result<()> {
        let host = &mut self.hosts[n];
        let process = ManagerProcess {
            host: n,
            dir: host.dir.clone(),
            disk: host.disk.clone(),
            net: self.net.clone(),
            origin,
            ledger: self.ledger.clone(),
        };
        host.start(&self.net, self.now, |window, ops| processes::manager(process, window, ops))?;
        Ok(())
    }

    fn start_agent(&mut self, n: usize) -> Result<()> {
        let (token, _) = self.joins.clone().context("there is no cluster yet")?;
        let host = &mut self.hosts[n];
        let process = AgentProcess {
            host: n,
            dir: host.dir.clone(),
            containers: host.containers.clone(),
            joins: (addr(0), token),
            failures: self.failures,
        };
        host.start(&self.net, self.now, |window, _| processes::worker(process, window))?;
        Ok(())
    }

    fn restart(&mut self, n: usize) -> Result<()> {
        if self.hosts[n].is_up() {
            return Ok(());
        }
        self.trace.line(format_args!("host {n} starts"));
        self.trace.count("restarts", 1);
        match self.hosts[n].kind {
            Kind::Manager => self.start_manager(n, None),
            Kind::Agent => self.start_agent(n),
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn ask(&mut self) {
        let some = |rng: &mut StdRng, from: &[String]| -> Vec<String> {
            let mut all = from.to_vec();
            all.shuffle(rng);
            all.truncate(rng.random_range(0..=2));
            all
        };
        let any = |rng: &mut StdRng, from: &[String]| {
            (!from.is_empty()).then(|| from[rng.random_range(0..from.len())].clone())
        };
        let service = any(&mut self.rng, &self.services);
        // Nothing that is a reason to replace a task.
        let kinds = if self.climate == FaultLevel::Mild { 0..40 } else { 0..100 };
        let op = match (self.rng.random_range(kinds), service) {
            (0..25, _) => {
                let name = self.name("net");
                self.networks.push(name.clone());
                Op::Network(name)
            }
            (25..50, None) | (25..40, _) => {
                let name = self.name("svc");
                self.services.push(name.clone());
                let networks = some(&mut self.rng, &self.networks);
                let ports = (0..self.rng.random_range(0..3))
                    // A small range, so that users want the same.
                    .map(|_| {
                        let port = [0, self.rng.random_range(8000..8010)][self.rng.random_range(0..2)];
                        (port, port != 0 && self.rng.random_bool(0.3))
                    })
                    .collect();
                Op::Service { name, replicas: self.rng.random_range(1..5), networks, ports }
            }
            (40..80, Some(name)) => {
                self.names += 1;
                let replicas = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..6));
                Op::Update { name, number: self.names, replicas }
            }
            (80..90, Some(name)) => {
                self.services.retain(|s| *s != name);
                Op::Remove(name)
            }
            _ => {
                let n = self.rng.random_range(self.managers..self.hosts.len());
                Op::Drain(format!("host{n}"), self.rng.random_bool(0.3))
            }
        };
        let n = self.rng.random_range(0..self.managers);
        self.trace.count("writes asked", 1);
        self.hosts[n].ask(op);
    }

    fn come_to_rest(&mut self) -> Result<()> {
        self.trace.line(format_args!("all faults end"));
        for (at, _) in &mut self.ends {
            *at = 0;
        }
        self.end_faults()?;
        self.net.heal();
        agent::calm();
        for n in 0..self.hosts.len() {
            self.restart(n)?;
        }
        self.until("all managers agree, and all agents are in session", |w| {
            let stores = w.stores();
            let leaders = stores.iter().filter(|s| s.leadership().borrow().is_leader()).count();
            stores.len() == w.managers && leaders == 1 && w.all_in_session() && agreed(&stores)
        })?;
        self.until("services are as users want them", |w| {
            let stores = w.stores();
            agreed(&stores) && stores.iter().all(|s| served(&s.read()))
        })?;
        let stores = self.stores();
        ensure!(stores.len() == self.managers, "a manager has ended");
        for store in stores {
            complete(&store.read(), &self.ledger.book()).map_err(anyhow::Error::msg)?;
        }
        self.trace.count("revisions", self.stores().first().map_or(0, |s| s.read().revision.0));
        Ok(())
    }
}

fn agreed(stores: &[Store]) -> bool {
    let revisions: Vec<u64> = stores.iter().map(|s| s.metrics().applied).collect();
    revisions.windows(2).all(|w| w[0] == w[1])
}

/// Whether each service has as many running tasks as it should, unless the managers say why not.
fn served(state: &State) -> bool {
    let mut agents = state.nodes.values().filter(|n| n.raft_id == 0);
    let ready = agents.all(|n| n.status.state == NodeState::Ready && n.status.addr.is_some());
    ready
        && state.services.values().all(|service| {
            let ServiceMode::Replicated(wanted) = service.spec.mode else { return true };
            let live: Vec<_> =
                state.tasks_by_service(&service.id).filter(|t| t.desired <= TaskState::Running).collect();
            let excused = service.conditions.iter().any(|c| !c.message.is_empty())
                || live.iter().any(|t| t.conditions.iter().any(|c| !c.message.is_empty()));
            let running = live.iter().filter(|t| t.status.state == TaskState::Running).count() as u64;
            excused || running == wanted
        })
}
