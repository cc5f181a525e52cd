//! One actor per task, started and told as assignments change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use gossip::Gossip;
use network::{
    assigned::Assigned,
    workload::{Workload, WorkloadId},
};
use proto::model::{NetworkId, Task, TaskId};
use runtime::{Container, ContainerState, Runtime};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{Network, NodeName, actor::Actor, start_limit::StartLimiter};
use crate::{managers::AgentStatus, managers::Reports, tasks::StatusSink};

/// Less than peers wait by themselves ([`gossip::Timing::settle`]).
const SETTLE: Duration = Duration::from_secs(4);

/// What supervisors need.
pub struct SupervisorConfig {
    /// This node.
    pub node: NodeName,
    /// Search domains of the host, for containers that have none of their own.
    pub search: Vec<String>,
    /// How long a task without a health check may take to listen before it counts as ready all the same; zero = no time.
    pub listen_timeout: Duration,
    /// How many tasks are started at once.
    pub starts: StartLimiter,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Sandboxes.
    pub network: Arc<dyn Network>,
    /// Endpoints.
    pub gossip: Gossip,
    /// Statuses.
    pub reports: Reports,
    /// What is assigned.
    pub assigned: watch::Receiver<Arc<Assigned>>,
    /// Whether a manager has said so yet.
    pub status: watch::Receiver<AgentStatus>,
    /// Held by whoever has yet to adopt something that runs; peers are told when nobody does any more.
    pub settling: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

/// What the supervisor of one workload works with.
pub(crate) struct Deps {
    pub(super) node: NodeName,
    pub(super) search: Vec<String>,
    pub(super) listen_timeout: Duration,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) network: Arc<dyn Network>,
    pub(super) gossip: Gossip,
    pub(super) reports: Arc<dyn StatusSink>,
    pub(super) assigned: watch::Receiver<Arc<Assigned>>,
    pub(super) starts: StartLimiter,
}

impl Deps {
    /// For workloads of `node` that nobody waits for: neither to listen, nor for their turn.
    pub(crate) fn new(
        node: NodeName,
        search: Vec<String>,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        gossip: Gossip,
        reports: Arc<dyn StatusSink>,
        assigned: watch::Receiver<Arc<Assigned>>,
    ) -> Self {
        let (listen_timeout, starts) = (Duration::ZERO, StartLimiter::unlimited());
        Self { node, search, listen_timeout, runtime, network, gossip, reports, assigned, starts }
    }
}

/// Supervises what is not assigned, but wished for here: a container that a user runs.
pub(crate) fn supervise(
    deps: Deps,
    workload: Arc<Workload>,
    wish: watch::Receiver<Option<Arc<Workload>>>,
    found: Option<Container>,
    settling: Option<mpsc::Sender<()>>,
) -> JoinHandle<WorkloadId> {
    tokio::spawn(Actor::new(Arc::new(deps), workload, wish, found, settling).run())
}

/// All tasks of the node.
pub struct Supervisor {
    deps: Arc<Deps>,
    assigned: watch::Receiver<Arc<Assigned>>,
    status: watch::Receiver<AgentStatus>,
    wishes: BTreeMap<TaskId, watch::Sender<Option<Arc<Workload>>>>,
    actors: JoinSet<WorkloadId>,
    networks: BTreeSet<NetworkId>,
    swept: bool,
    settling: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
}

impl Supervisor {
    /// Nothing happens before [`Supervisor::run`].
    pub fn new(config: SupervisorConfig) -> Self {
        let SupervisorConfig {
            node,
            search,
            listen_timeout,
            starts,
            runtime,
            network,
            gossip,
            reports,
            assigned,
            status,
            settling,
        } = config;
        let deps = Deps::new(node, search, runtime, network, gossip, Arc::new(reports), assigned.clone());
        let deps = Deps { listen_timeout, starts, ..deps };
        Self {
            deps: Arc::new(deps),
            assigned,
            status,
            wishes: BTreeMap::new(),
            actors: JoinSet::new(),
            networks: BTreeSet::new(),
            swept: false,
            settling: Some(settling),
        }
    }

    /// Adopts what runs, then follows the assignments until it is dropped. Containers go on when it ends.
    pub async fn run(mut self) {
        let (settling, settled) = self.settling.take().unwrap_or_else(|| mpsc::channel(1));
        self.follow(Some(&settling));
        drop(settling);
        let gossip = self.deps.gossip.clone();
        let settle = tokio::spawn(all_settled(settled, gossip));
        let mut has_agent = true;
        loop {
            tokio::select! {
                changed = self.assigned.changed() => if changed.is_err() { break },
                // A node that leaves has no agent any more, and tasks to stop.
                changed = self.status.changed(), if has_agent => has_agent = changed.is_ok(),
                Some(ended) = self.actors.join_next() => match ended {
                    Ok(WorkloadId::Task(task)) => {
                        self.wishes.remove(&task);
                    }
                    Ok(WorkloadId::Container(_)) => {}
                    // A defect; the task is supervised anew from what is there.
                    Err(error) if error.is_panic() => {
                        tracing::error!(%error, "a task's supervisor failed");
                        self.wishes.retain(|_, wish| wish.receiver_count() > 0);
                    }
                    Err(_) => {}
                },
            }
            self.follow(None);
        }
        settle.abort();
    }

    /// Brings actors and networks in line with the assignments.
    fn follow(&mut self, settling: Option<&mpsc::Sender<()>>) {
        let assigned = self.assigned.borrow_and_update().clone();
        let status = self.status.borrow_and_update().clone();
        // The assignments may take longer to get here than the news that there are some.
        let synced = status.synced && assigned.fence() >= status.since;
        let networks: BTreeSet<_> = assigned.networks.keys().cloned().collect();
        for network in networks.difference(&self.networks) {
            self.deps.gossip.join(network.clone());
        }
        for network in self.networks.difference(&networks) {
            self.deps.gossip.leave(network.clone());
        }
        self.networks = networks;

        // Places of containers that users run are theirs (`crate::containers`).
        let ours = |t: &&Arc<Task>| t.attached_container.is_none() && !self.wishes.contains_key(&t.id);
        let mut missing = assigned.tasks.values().filter(ours).peekable();
        let found: BTreeMap<TaskId, Container> = if missing.peek().is_some() {
            let containers = self.deps.runtime.list().into_iter();
            containers.filter_map(|c| Some((c.record.task.as_ref()?.task.clone(), c))).collect()
        } else {
            BTreeMap::new()
        };
        let missing: Vec<_> = missing.cloned().collect();
        for task in missing {
            let workload = Arc::new(Workload::of_task(&task));
            let (tx, rx) = watch::channel(Some(workload.clone()));
            self.wishes.insert(task.id.clone(), tx);
            let found = found.get(&task.id).cloned();
            let lives = found.as_ref().is_some_and(|c| !matches!(c.state, ContainerState::Exited(_)));
            let settling = settling.filter(|_| lives).cloned();
            self.actors.spawn(Actor::new(self.deps.clone(), workload, rx, found, settling).run());
        }
        for (id, wish) in &self.wishes {
            let task = assigned.tasks.get(id);
            wish.send_if_modified(|old| {
                let news = old.as_deref().and_then(Workload::task) != task;
                if news {
                    *old = task.map(|task| Arc::new(Workload::of_task(task)));
                }
                news
            });
        }
        if synced && !self.swept {
            self.swept = true;
            self.sweep(&assigned);
        }
    }

    /// Once a manager has said what is assigned here: containers of tasks that are not go, with their sandboxes.
    fn sweep(&mut self, assigned: &Assigned) {
        for container in self.deps.runtime.list() {
            let Some(task) = container.record.task.map(|t| t.task) else { continue };
            if assigned.tasks.contains_key(&task) || self.wishes.contains_key(&task) {
                continue;
            }
            tracing::info!(%task, container = %container.record.id.short(), "no longer assigned: removed");
            let (deps, record_id) = (self.deps.clone(), container.record.id.clone());
            let (signal, grace) = (container.record.stop_signal, container.record.stop_grace_ms);
            self.actors.spawn(async move {
                if let Err(error) = deps.runtime.stop(&record_id, signal, Duration::from_millis(grace)).await
                {
                    tracing::warn!(%task, %error, "not stopped");
                }
                let workload = WorkloadId::Task(task);
                deps.network.down(&workload).await;
                if let Err(error) = deps.runtime.delete(&record_id, true).await {
                    tracing::warn!(%workload, %error, "not deleted");
                }
                workload
            });
        }
    }
}

/// Tells peers, once every container that was found running has been published again, that what they were told before this
/// start is void.
async fn all_settled(mut settled: mpsc::Receiver<()>, gossip: Gossip) {
    // Nothing is ever sent: the channel ends with the last actor that had something to adopt.
    let _ = timeout(SETTLE, settled.recv()).await;
    gossip.settled();
}
