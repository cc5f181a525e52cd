//! A slot: one place of a service, and the tasks that had or have it.

use std::collections::BTreeMap;

use proto::model::{Availability, NodeId, NodeState, Task, TaskState};

use crate::{scheduler::constraint, store::state::State};

/// What a service has one task for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A number, from 1: replicated services.
    Slot(u64),
    /// A node: global services.
    Node(NodeId),
}

/// One slot of a service, with the tasks that have had it.
#[derive(Debug, Clone)]
pub(super) struct Slot<'a> {
    pub key: Key,
    /// Newest first.
    pub tasks: Vec<&'a Task>,
}

impl<'a> Slot<'a> {
    /// Tasks that are meant to run.
    pub fn live(&self) -> impl Iterator<Item = &'a Task> + Clone + '_ {
        self.tasks.iter().copied().filter(|t| is_live(t))
    }

    pub fn has_live(&self) -> bool {
        self.live().next().is_some()
    }

    /// The task that runs, of those meant to.
    pub fn running(&self) -> Option<&'a Task> {
        self.live().find(|t| t.status.state == TaskState::Running)
    }
}

/// The slots of a service, in key order.
pub(super) fn group<'a>(tasks: impl Iterator<Item = &'a Task>) -> Vec<Slot<'a>> {
    let mut slots: BTreeMap<Key, Vec<&Task>> = BTreeMap::new();
    for task in tasks {
        let key = match (task.slot, &task.node_id) {
            (0, Some(node)) => Key::Node(node.clone()),
            (slot, _) => Key::Slot(slot),
        };
        slots.entry(key).or_default().push(task);
    }
    let newest_first = |(key, mut tasks): (Key, Vec<&'a Task>)| {
        tasks.sort_by(|a, b| (b.meta.created_in, &b.id).cmp(&(a.meta.created_in, &a.id)));
        Slot { key, tasks }
    };
    slots.into_iter().map(newest_first).collect()
}

/// Whether a task is meant to run.
pub(super) fn is_live(task: &Task) -> bool {
    task.desired <= TaskState::Running
}

/// Whether a task runs, has ended, or must move to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskCondition {
    /// On its way or running.
    Running,
    /// It ended: the restart policy decides.
    Ended,
    /// It cannot stay where it is: the node is gone, drained, or no longer allowed by the task's own constraints.
    Misplaced,
}

pub(super) fn condition_of(task: &Task, state: &State) -> TaskCondition {
    if task.status.state == TaskState::Orphaned {
        return TaskCondition::Misplaced;
    }
    if task.status.state.is_terminal() {
        return TaskCondition::Ended;
    }
    let Some(id) = &task.node_id else { return TaskCondition::Running };
    let Some(node) = state.nodes.get(id).filter(|_| !is_node_gone(id, state)) else {
        return TaskCondition::Misplaced;
    };
    let stays = match node.spec.availability {
        Availability::Active => constraint::all_match(&task.spec.placement.constraints, node),
        Availability::Pause => true,
        Availability::Drain => false,
    };
    if stays { TaskCondition::Running } else { TaskCondition::Misplaced }
}

/// Whether a node is removed, down, or has left: nothing can be asked of it.
pub(super) fn is_node_gone(id: &NodeId, state: &State) -> bool {
    state.nodes.get(id).is_none_or(|n| matches!(n.status.state, NodeState::Down | NodeState::Disconnected))
}

/// Whether a node is removed or known to be down. One that has left by itself may still be stopping its tasks.
pub(super) fn is_node_down(id: &NodeId, state: &State) -> bool {
    state.nodes.get(id).is_none_or(|n| n.status.state == NodeState::Down)
}

/// Whether a task was never given to a node.
pub(super) fn is_unplaced(task: &Task) -> bool {
    task.status.state < TaskState::Assigned
}

/// Whether a task may still occupy its node: placed, not over, and the node is there to say so.
pub(super) fn is_holding(task: &Task, state: &State) -> bool {
    let there = task.node_id.as_ref().is_some_and(|id| !is_node_gone(id, state));
    there && !is_unplaced(task) && !task.status.state.is_terminal()
}
