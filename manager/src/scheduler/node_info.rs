//! A node as the scheduler sees it: what it has, and what its tasks take of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use proto::model::{
    Millis, Node, Port, Protocol, PublishMode, Resources, Revision, ServiceId, Task, TaskState, Timestamp,
};

use crate::store::state::State;

/// Failures of one service version within this time count against a node (swarmkit `scheduler/nodeinfo.go`).
const FAILURE_WINDOW: Millis = Millis::secs(5 * 60);
/// From this many failures on a node is a last resort.
const MAX_FAILURES: u32 = 5;

/// A node with its tasks and what they take of it. Tasks that the plan places are added as it goes.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// Tasks meant to run here, per service.
    by_service: HashMap<ServiceId, u64>,
    /// Tasks here that are not over.
    total: u64,
    reserved: Resources,
    host_ports: BTreeSet<(Protocol, Port)>,
    failures: HashMap<(ServiceId, Revision), u32>,
}

impl NodeInfo {
    /// The node and what runs on it at this state.
    pub fn of(node: &Arc<Node>, state: &State, now: Timestamp) -> Self {
        let mut info = Self {
            node: node.clone(),
            by_service: HashMap::new(),
            total: 0,
            reserved: Resources::default(),
            host_ports: BTreeSet::new(),
            failures: HashMap::new(),
        };
        for task in state.tasks_by_node(&node.id) {
            // A task that is not placed yet, but bound to this node (global service), takes nothing so far.
            if task.status.state >= TaskState::Assigned {
                info.add(task);
            }
            let failed = matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
            if failed && task.ended_at.after(FAILURE_WINDOW) > now {
                *info.failures.entry((task.service_id.clone(), task.spec_version)).or_default() += 1;
            }
        }
        info
    }

    /// Counts a task that is, or is about to be, on this node. What a task has it holds until it is over.
    pub fn add(&mut self, task: &Task) {
        if task.status.state.is_terminal() {
            return;
        }
        self.total += 1;
        let reserved = task.spec.reservations;
        self.reserved.nano_cpus = self.reserved.nano_cpus.saturating_add(reserved.nano_cpus);
        self.reserved.memory_bytes = self.reserved.memory_bytes.saturating_add(reserved.memory_bytes);
        self.host_ports.extend(host_ports(task));
        if task.desired <= TaskState::Running {
            *self.by_service.entry(task.service_id.clone()).or_default() += 1;
        }
    }

    /// Tasks of a service that are meant to run here.
    pub fn tasks_of(&self, service: &ServiceId) -> u64 {
        self.by_service.get(service).copied().unwrap_or_default()
    }

    /// Tasks here that are not over.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What is left to reserve; all zero before the node has described itself.
    pub fn available(&self) -> Resources {
        let (cpus, memory) = self.node.description.as_ref().map_or((0, 0), |d| (d.nano_cpus, d.memory_bytes));
        Resources {
            nano_cpus: cpus.saturating_sub(self.reserved.nano_cpus),
            memory_bytes: memory.saturating_sub(self.reserved.memory_bytes),
            pids: 0,
        }
    }

    /// Whether a task here holds a port of the node.
    pub fn holds_port(&self, protocol: Protocol, port: Port) -> bool {
        self.host_ports.contains(&(protocol, port))
    }

    /// Whether tasks like this one keep failing here.
    pub fn is_failing(&self, task: &Task) -> bool {
        let key = (task.service_id.clone(), task.spec_version);
        self.failures.get(&key).is_some_and(|n| *n >= MAX_FAILURES)
    }
}

/// The ports that a task binds on its node by number.
pub(super) fn host_ports(task: &Task) -> impl Iterator<Item = (Protocol, Port)> {
    let ports = task.allocation.iter().flat_map(|a| &a.ports);
    ports.filter(|p| p.mode == PublishMode::Host && p.published != 0).map(|p| (p.protocol, p.published))
}
