//! Forgetting tasks that are over.

use std::sync::Arc;

use proto::model::{Service, Task, TaskState, Timestamp};

use super::{
    rolling,
    slot::{self, Slot},
};
use crate::{
    control_loop::Plan,
    store::{command::Command, state::State},
};

/// What can be forgotten: tasks that were to be removed and are over, tasks that never got a node and no longer need
/// one, and history beyond the cluster's limit.
pub fn plan(state: &State, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(cluster) = &state.cluster else { return plan };
    for task in state.tasks.values() {
        if task.attached_container.is_some() {
            // Its node's to end.
            if task.status.state.is_terminal()
                || task.node_id.as_ref().is_none_or(|id| state.nodes.get(id).is_none())
            {
                plan.push(Command::RemoveTask(task.id.clone()));
            }
        } else if state.services.get(&task.service_id).is_none() && task.desired < TaskState::Remove {
            let (id, start_after) = (task.id.clone(), task.start_after);
            plan.push(Command::SetTaskDesired { id, desired: TaskState::Remove, start_after });
        } else if is_to_go(task, state) {
            plan.push(Command::RemoveTask(task.id.clone()));
        }
    }
    for service in state.services.values() {
        let Some(limit) = limit(cluster.spec.task_history_limit, service) else { continue };
        for slot in slot::group(state.tasks_by_service(&service.id).map(Arc::as_ref)) {
            for task in beyond(&slot, limit, service, state) {
                plan.push(Command::RemoveTask(task.id.clone()));
            }
        }
    }
    plan
}

fn is_to_go(task: &Task, state: &State) -> bool {
    let unwanted = task.desired == TaskState::Remove;
    let pointless = !slot::is_live(task) && slot::is_unplaced(task);
    pointless || (unwanted && is_over(task, state))
}

/// Whether nothing more will be heard of a task. One on a node that is down counts: should the node come back, its
/// first assignment no longer has the task, and it stops it.
fn is_over(task: &Task, state: &State) -> bool {
    task.status.state.is_terminal()
        || slot::is_unplaced(task)
        || task.node_id.as_ref().is_none_or(|id| slot::is_node_down(id, state))
}

/// Tasks kept per slot, the live ones among them; none = all. A restart policy with `max_attempts` is counted in the
/// history, so as much of it is kept as that needs.
fn limit(history: i64, service: &Service) -> Option<usize> {
    let attempts = service.spec.task.restart.as_ref().map_or(0, |r| r.max_attempts);
    if attempts > 0 {
        return usize::try_from(attempts.saturating_add(1)).ok();
    }
    // The last task of a slot tells whether the slot is done: it always stays.
    usize::try_from(history).ok().map(|n| n.max(1))
}

/// The oldest finished tasks of a slot that are more than `limit`; those that [`is_to_go`] names are not counted. Nor are live ones of
/// an older spec: beside them the last task tells how the update fares.
fn beyond<'a>(slot: &Slot<'a>, limit: usize, service: &Service, state: &State) -> Vec<&'a Task> {
    let kept: Vec<&Task> = slot.tasks.iter().copied().filter(|t| !is_to_go(t, state)).collect();
    let current = |t: &&&Task| slot::is_live(t) && !rolling::is_task_spec_changed(t, service);
    let live = kept.iter().filter(current).count();
    kept.into_iter()
        .filter(|t| !slot::is_live(t) && t.desired != TaskState::Remove)
        .skip(limit.saturating_sub(live))
        .filter(|t| is_over(t, state))
        .collect()
}
