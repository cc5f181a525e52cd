//! How many tasks there are, and which of them are meant to run.
//!
//! Every answer is derived from the tables alone: a slot's history tells whether it may restart, the tasks of a spec
//! version tell how far an update has come. A new leader goes on where the old one stopped.

mod global;
pub mod reap;
mod replicated;
mod restart;
mod rolling;
mod slot;

use std::sync::Arc;

use proto::model::{Meta, Millis, Service, ServiceMode, Task, TaskId, TaskState, TaskStatus, Timestamp};

use crate::{
    control_loop::Plan,
    store::{command::Command, state::State},
};
use slot::{Key, Slot};

/// Brings every service's tasks nearer to its spec. `new_id` draws the ids of new tasks.
pub fn plan(state: &State, now: Timestamp, new_id: &mut dyn FnMut() -> TaskId) -> Plan {
    let mut plan = Plan::default();
    for service in state.services.values() {
        let tasks = state.tasks_by_service(&service.id).map(Arc::as_ref);
        let slots = slot::group(tasks);
        let mut pass = Pass { state, now, service, new_id, plan: &mut plan };
        match service.spec.mode {
            ServiceMode::Replicated(replicas) => replicated::reconcile(&mut pass, replicas, &slots),
            ServiceMode::Global => global::reconcile(&mut pass, &slots),
        }
    }
    plan
}

/// How many places of a service are done: what ran there has ended, and its restart policy starts no other.
pub fn done(state: &State, service: &Service) -> usize {
    let slots = slot::group(state.tasks_by_service(&service.id).map(Arc::as_ref));
    slots.iter().filter(|slot| restart::is_settled(slot, service)).count()
}

/// What the steps for one service share.
struct Pass<'a> {
    state: &'a State,
    now: Timestamp,
    service: &'a Service,
    new_id: &'a mut dyn FnMut() -> TaskId,
    plan: &'a mut Plan,
}

impl Pass<'_> {
    /// Whether to wait for a moment that is at most so far away, and then a wake-up at it.
    ///
    /// One further away was set by a leader whose clock was ahead of this one's: waiting for it could take as long as that clock was
    /// wrong.
    fn waits(&mut self, until: Timestamp, at_most: Millis) -> bool {
        let waits = self.now < until && until <= self.now.after(at_most);
        if waits {
            self.plan.wake(until);
        }
        waits
    }

    /// Whether `span` since `start` is not over. A start that is ahead by less than the span is borne.
    fn lasts(&mut self, start: Timestamp, span: Millis) -> bool {
        self.waits(start.after(span), Millis(span.0.saturating_mul(2)))
    }

    /// Raises a task's desired state; one that is there or beyond stays.
    fn desire(&mut self, task: &Task, desired: TaskState) {
        if task.desired < desired {
            let (id, start_after) = (task.id.clone(), task.start_after);
            self.plan.push(Command::SetTaskDesired { id, desired, start_after });
        }
    }

    /// A new task after the service's present spec.
    fn create(&mut self, key: &Key, desired: TaskState, start_after: Timestamp) {
        let (slot, node_id) = match key {
            Key::Slot(slot) => (*slot, None),
            Key::Node(node) => (0, Some(node.clone())),
        };
        let service = self.service;
        let task = Task {
            id: (self.new_id)(),
            meta: Meta { created_at: self.now, updated_at: self.now, ..Meta::default() },
            service_id: service.id.clone(),
            service_name: service.spec.name.clone(),
            slot,
            spec: service.spec.task.clone(),
            spec_version: service.spec_version,
            allocation: None,
            node_id,
            desired,
            status: TaskStatus {
                state: TaskState::New,
                at: self.now,
                message: "created".into(),
                ..TaskStatus::default()
            },
            conditions: Vec::new(),
            start_after,
            running_at: Timestamp::default(),
            ended_at: Timestamp::default(),
            attached_container: None,
        };
        self.plan.push(Command::CreateTask(Box::new(task)));
    }

    /// A new task in a slot where none is meant to run, or beside one that gives way to it: started at `at`.
    fn fill(&mut self, key: &Key, at: Timestamp) {
        let desired = if at <= self.now { TaskState::Running } else { TaskState::Ready };
        self.create(key, desired, at);
    }

    /// A new task in the place of those of `slot` that were just told to stop: ready at once, started at `at` and not
    /// before they have stopped.
    fn replace(&mut self, slot: &Slot<'_>, at: Timestamp) {
        let free = !slot.tasks.iter().any(|t| slot::is_holding(t, self.state));
        let desired = if free && at <= self.now { TaskState::Running } else { TaskState::Ready };
        self.create(&slot.key, desired, at);
    }
}
