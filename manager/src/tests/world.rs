//! A cluster in one value: the state, the loops in turn, and agents that do as they are told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, sync::Arc};

use proto::model::{Millis, NodeState, Service, ServiceId, Task, TaskId, TaskState, Timestamp};

use super::fixture;
use crate::{allocator::Allocator, control_loop::Plan, orchestrator, scheduler, store::state::State};

pub(super) struct World {
    pub state: State,
    pub now: Timestamp,
    allocator: Allocator,
    ids: u32,
}

impl World {
    /// Nodes, the ingress network and the overlay `app`, all allocated.
    pub fn new(nodes: &[&str]) -> Self {
        let mut state = fixture::state();
        fixture::add_nodes(&mut state, nodes);
        fixture::add_networks(&mut state, &["app"]);
        let mut world = Self { state, now: Timestamp(1_000_000), allocator: Allocator::default(), ids: 0 };
        world.settle();
        world
    }

    pub fn orchestrate(&mut self) -> Plan {
        let ids = &mut self.ids;
        let mut new_id = || -> TaskId {
            *ids += 1;
            format!("task{ids:08}").parse().unwrap()
        };
        orchestrator::plan(&self.state, self.now, &mut new_id)
    }

    pub fn allocate(&mut self) -> Plan {
        self.allocator.plan(&self.state, self.now)
    }

    pub fn schedule(&mut self) -> Plan {
        scheduler::plan(&self.state, self.now)
    }

    pub fn apply(&mut self, plan: &Plan) {
        fixture::must(&mut self.state, plan.commands.clone(), self.now);
    }

    /// Runs all loops in turn until none has anything to do. The agents do nothing meanwhile. Earliest timer.
    pub fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..30 {
            let mut busy = false;
            let mut next_at: Option<Timestamp> = None;
            for step in [Self::orchestrate, Self::allocate, Self::schedule, Self::reap] {
                let plan = step(self);
                busy |= !plan.commands.is_empty();
                next_at = next_at.into_iter().chain(plan.next_at).min();
                self.apply(&plan);
            }
            if !busy {
                return next_at;
            }
        }
        panic!("the loops do not come to rest");
    }

    fn reap(&mut self) -> Plan {
        orchestrator::reap::plan(&self.state, self.now)
    }

    /// Loops and agents in turn until nothing moves; time stands still.
    pub fn run(&mut self) -> Option<Timestamp> {
        for _ in 0..500 {
            let next_at = self.settle();
            if !self.agents() {
                return next_at;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// The same, with time going on until no timer is set.
    pub fn run_out(&mut self) {
        while let Some(at) = self.run() {
            self.now = at;
        }
    }

    pub fn pass(&mut self, span: Millis) {
        self.now = self.now.after(span);
    }

    /// Every agent on a ready node does what is desired of its tasks. Whether any had to.
    fn agents(&mut self) -> bool {
        let mut moved = false;
        for task in self.tasks() {
            let ready = task.node_id.as_ref().and_then(|id| self.state.nodes.get(id));
            let ready = ready.is_some_and(|n| n.status.state == NodeState::Ready);
            let state = task.status.state;
            if !ready || state < TaskState::Assigned || state.is_terminal() {
                continue;
            }
            let to = if task.desired > TaskState::Running { TaskState::Shutdown } else { task.desired };
            if to > state {
                fixture::report(&mut self.state, &task, to, self.now);
                moved = true;
            }
        }
        moved
    }

    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.state.tasks.values().cloned().collect()
    }

    /// Tasks meant to run, by slot.
    pub fn live(&self, service: &ServiceId) -> Vec<Arc<Task>> {
        let mut live: Vec<_> = self
            .state
            .tasks_by_service(service)
            .filter(|t| t.desired <= TaskState::Running)
            .cloned()
            .collect();
        live.sort_by_key(|t| t.slot);
        live
    }

    /// Number of live tasks on each node that has one.
    pub fn spread(&self, service: &ServiceId) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for node in self.live(service).iter().filter_map(|t| t.node_id.as_ref()) {
            *counts.entry(node.to_string()).or_default() += 1;
        }
        counts
    }

    pub fn service(&self, id: &ServiceId) -> &Arc<Service> {
        self.state.services.get(id).unwrap()
    }

    /// Creates a service on `app` that publishes nothing.
    pub fn serve(&mut self, name: &str, replicas: u64) -> ServiceId {
        let service = fixture::service(&self.state, name, replicas, &["app"], &[]);
        fixture::add_service(&mut self.state, service, self.now)
    }

    pub fn end(&mut self, task: &Task, to: TaskState) {
        fixture::report(&mut self.state, task, to, self.now);
    }
}
