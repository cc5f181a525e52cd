//! A start of a container, and the task that stands for it.

use std::{sync::Arc, time::Duration};

use gossip::Gossip;
use proto::model::{
    NetworkAttachmentConfig, NodeId, Task, TaskAllocation, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp,
};
use runtime::{Container, ContainerState};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Containers, Definition, Fabric, own_network::OwnNetwork};
use crate::{
    managers::Reports,
    tasks::{Deps, Network, NodeName, supervise},
};

/// How long the managers may take to hear of an end.
const TELLING: Duration = Duration::from_secs(3);

/// A start of the container, under supervision.
pub(super) struct Run {
    pub(super) task: Arc<Task>,
    pub(super) wish: watch::Sender<Option<Arc<Task>>>,
    /// What the supervisor reports.
    pub(super) own: Reports,
    pub(super) actor: AbortOnDropHandle<TaskId>,
    /// Its place is the managers' to know of.
    pub(super) fabric: Option<Arc<Fabric>>,
    pub(super) began: Instant,
    /// When it is killed, once it has been asked to stop.
    pub(super) kill_at: Option<Instant>,
    pub(super) up: bool,
}

impl Run {
    /// Has a supervisor see to a task: on the swarm's networks, or on the machine's own. `found` runs already.
    pub(super) fn begin(
        containers: &Containers,
        task: Arc<Task>,
        fabric: Option<Arc<Fabric>>,
        found: Option<Container>,
    ) -> Self {
        let (wish, wished) = watch::channel(Some(task.clone()));
        let (own, shared) = (Reports::default(), &containers.0);
        let (network, gossip, assigned, node): (Arc<dyn Network>, _, _, _) = match &fabric {
            Some(f) => (f.network.clone(), f.gossip.clone(), f.assigned.clone(), f.node.clone()),
            None => {
                let node = NodeName { id: NodeId::random(), hostname: shared.hostname.clone() };
                (Arc::new(OwnNetwork), Gossip::silent(), watch::channel(Arc::default()).1, node)
            }
        };
        let search = shared.search.clone();
        let deps = Deps::new(node, search, shared.runtime.clone(), network, gossip, own.clone(), assigned);
        let up = found.is_some();
        let settling = containers.settling().clone().filter(|_| up);
        let actor = AbortOnDropHandle::new(supervise(deps, task.clone(), wished, found, settling));
        Self { task, wish, own, actor, fabric, began: Instant::now(), kill_at: None, up }
    }

    /// Until the managers know how it ended, so that its addresses and networks are free: for a moment, should none answer.
    pub(super) fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        let (reports, id) = (self.fabric.as_ref().map(|f| f.reports.clone()), self.task.id.clone());
        async move {
            if let Some(reports) = reports {
                let _ = timeout(TELLING, reports.delivered(|task| *task == id)).await;
            }
        }
    }

    /// Tells the managers, where the container's place is theirs.
    pub(super) fn forward(&self, batch: Vec<(TaskId, TaskStatus)>) {
        let Some(fabric) = &self.fabric else { return };
        for (task, status) in batch {
            fabric.reports.report(task, status);
        }
    }
}

/// The end of a place that no container has any more.
pub(super) fn void(why: &str) -> TaskStatus {
    TaskStatus {
        state: TaskState::Shutdown,
        at: Timestamp::now(),
        message: why.to_owned(),
        ..TaskStatus::default()
    }
}

/// How a container has ended, for one that was not watched.
pub(super) fn ended(container: &Container) -> Option<TaskStatus> {
    let ContainerState::Exited(end) = &container.state else { return None };
    let state = if end.code == 0 && end.error.is_empty() { TaskState::Complete } else { TaskState::Failed };
    Some(TaskStatus { state, err: end.error.clone(), exit_code: Some(end.code), ..TaskStatus::default() })
}

/// A container's place as its supervisor has it: with what runs there.
pub(super) fn merged(definition: &Definition, place: &Task) -> Task {
    let spec =
        TaskSpec { container: definition.spec.clone(), limits: definition.limits, ..place.spec.clone() };
    Task { spec, desired: TaskState::Running, ..place.clone() }
}

/// The same for one in the machine's own network, which no manager knows of.
pub(super) fn on_host(definition: &Definition) -> Task {
    let networks = definition.networks.iter().map(|n| NetworkAttachmentConfig {
        target: n.network.clone(),
        aliases: Vec::new(),
        driver_opts: Default::default(),
    });
    let spec = TaskSpec {
        container: definition.spec.clone(),
        limits: definition.limits,
        networks: networks.collect(),
        ..TaskSpec::default()
    };
    Task::attached(definition.id.clone(), definition.name.clone(), spec, TaskAllocation::default())
}

/// A container's exit code, also of one that never ran.
pub(super) fn exit_code(status: &TaskStatus) -> i32 {
    let not_started = || if status.err.is_empty() { 0 } else { proto::exit_code::not_started(&status.err) };
    status.exit_code.unwrap_or_else(not_started)
}
