//! A start of a container, as a workload.

use std::{sync::Arc, time::Duration};

use gossip::Gossip;
use network::workload::{AttachmentId, Owner, Workload, WorkloadId};
use proto::model::{NodeId, Task, TaskId, TaskState, TaskStatus, Timestamp};
use runtime::{Container, ContainerState};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Containers, Definition, SwarmServices, own_network::OwnNetwork};
use crate::tasks::{Deps, Network, NodeName, supervise};

/// How long the managers may take to hear of an end.
const TELLING: Duration = Duration::from_secs(3);

/// A start of the container, under supervision.
pub(super) struct Run {
    pub(super) workload: Arc<Workload>,
    pub(super) wish: watch::Sender<Option<Arc<Workload>>>,
    /// What the supervisor says.
    pub(super) statuses: mpsc::UnboundedReceiver<TaskStatus>,
    pub(super) actor: AbortOnDropHandle<WorkloadId>,
    /// Its place is the managers' to know of.
    pub(super) swarm: Option<Arc<SwarmServices>>,
    pub(super) began: Instant,
    /// When it is killed, once it has been asked to stop.
    pub(super) kill_at: Option<Instant>,
    pub(super) up: bool,
}

impl Run {
    /// Has a supervisor see to a workload: on the swarm's networks, on the machine's own or, `isolated`, on none. `found` runs already.
    pub(super) fn begin(
        containers: &Containers,
        workload: Arc<Workload>,
        swarm: Option<Arc<SwarmServices>>,
        isolated: bool,
        found: Option<Container>,
    ) -> Self {
        let (wish, wished) = watch::channel(Some(workload.clone()));
        let ((say, statuses), shared) = (mpsc::unbounded_channel(), &containers.0);
        let (network, gossip, assigned, node): (Arc<dyn Network>, _, _, _) = match &swarm {
            Some(f) => (f.network.clone(), f.gossip.clone(), f.assigned.clone(), f.node.clone()),
            None => {
                let node = NodeName { id: NodeId::random(), hostname: shared.hostname.clone() };
                let network: Arc<dyn Network> =
                    if isolated { Arc::new(shared.no_network.clone()) } else { Arc::new(OwnNetwork) };
                (network, Gossip::silent(), watch::channel(Arc::default()).1, node)
            }
        };
        let search = shared.search.clone();
        let deps = Deps::new(node, search, shared.runtime.clone(), network, gossip, Arc::new(say), assigned);
        let up = found.is_some();
        let settling = containers.settling().clone().filter(|_| up);
        let actor = AbortOnDropHandle::new(supervise(deps, workload.clone(), wished, found, settling));
        Self { workload, wish, statuses, actor, swarm, began: Instant::now(), kill_at: None, up }
    }

    /// The task that holds its addresses, and to whom its end is of interest; none in the machine's own network.
    pub(super) fn attachment(&self) -> Option<(&Arc<SwarmServices>, &TaskId)> {
        let Owner::User { attachment, .. } = &self.workload.owner else { return None };
        Some((self.swarm.as_ref()?, &attachment.as_ref()?.task))
    }

    /// Until the managers know how it ended, so that its addresses and networks are free: for a moment, should none answer.
    pub(super) fn told(&self) -> impl Future<Output = ()> + Send + use<> {
        let attachment = self.attachment().map(|(swarm, task)| (swarm.reports.clone(), task.clone()));
        async move {
            if let Some((reports, id)) = attachment {
                let _ = timeout(TELLING, reports.delivered(|task| *task == id)).await;
            }
        }
    }

    /// Tells the managers, where the container's place is theirs.
    pub(super) fn forward(&self, status: TaskStatus) {
        if let Some((swarm, task)) = self.attachment() {
            swarm.reports.report(task.clone(), status);
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

/// A container as its supervisor has it; with `place`, the task that holds its addresses, on networks of a swarm.
pub(super) fn workload(definition: &Definition, place: Option<&Task>) -> Workload {
    let allocation = place.and_then(|place| place.allocation.clone()).unwrap_or_default();
    let attachment =
        place.map(|place| AttachmentId { task: place.id.clone(), service: place.service_id.clone() });
    let unknown = || TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() };
    Workload {
        id: WorkloadId::from(&definition.id),
        name: definition.name.clone(),
        spec: definition.spec.clone(),
        limits: definition.limits,
        host_network: definition.is_on_host_network(),
        attachments: allocation.attachments,
        ingress_addrs: allocation.ingress_addrs,
        ports: allocation.ports,
        desired: TaskState::Running,
        status: place.map_or_else(unknown, |place| place.status.clone()),
        owner: Owner::User { container: definition.id.clone(), attachment },
    }
}

/// A container's exit code, also of one that never ran.
pub(super) fn exit_code(status: &TaskStatus) -> i32 {
    let not_started = || if status.err.is_empty() { 0 } else { proto::exit_code::not_started(&status.err) };
    status.exit_code.unwrap_or_else(not_started)
}
