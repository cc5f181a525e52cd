//! Bringing running tasks to a new spec, a few slots at a time.
//!
//! How far an update has come is read off the tasks: those made for the present spec version and not yet running, or
//! running for less than the delay, are in progress. So an update that does not come up stops by itself, and one whose
//! tasks fail is paused with a condition.

use std::cmp::Reverse;

use proto::model::{
    ContainerSpec, FailureAction, PortConfig, PublishMode, Service, Task, TaskState, UpdateConfig,
    UpdateOrder,
};

use super::{
    CONDITION, Pass,
    slot::{self, Slot, Standing},
};
use crate::{
    scheduler::constraint,
    store::{command::ObjectId, state::State},
};

/// Whether the service's task spec is no longer the one that `task` was made from, placement aside.
pub(super) fn is_task_spec_changed(task: &Task, service: &Service) -> bool {
    if task.spec_version == service.spec_version {
        return false;
    }
    let (old, new) = (&task.spec, &service.spec.task);
    is_container_changed(task, &new.container)
        || old.limits != new.limits
        || old.reservations != new.reservations
        || old.restart != new.restart
        || old.networks != new.networks
        || old.force_update != new.force_update
}

/// Who may pull the image matters to a task that does not have it yet.
fn is_container_changed(task: &Task, new: &ContainerSpec) -> bool {
    let old = &task.spec.container;
    let pulled = (TaskState::Ready..=TaskState::Running).contains(&task.status.state);
    match pulled && old.pull_auth != new.pull_auth {
        true => *old != ContainerSpec { pull_auth: old.pull_auth.clone(), ..new.clone() },
        false => old != new,
    }
}

/// Whether a task must be replaced to do what the service's spec says. Replicas, labels, update settings, and placement
/// that still holds where the task is, replace nothing; nor do ports of the mesh, which never reach the container.
pub(super) fn is_outdated(task: &Task, service: &Service, state: &State) -> bool {
    if task.spec_version == service.spec_version {
        return false;
    }
    is_task_spec_changed(task, service)
        || is_misplaced(task, service, state)
        || needs_other_ports(task, service)
}

fn is_misplaced(task: &Task, service: &Service, state: &State) -> bool {
    let (old, new) = (&task.spec.placement, &service.spec.task.placement);
    if old == new {
        return false;
    }
    match task.node_id.as_ref().and_then(|id| state.nodes.get(id)) {
        Some(node) => !constraint::all_match(&new.constraints, node),
        // Still looking for a node, by the old rules.
        None => true,
    }
}

fn needs_other_ports(task: &Task, service: &Service) -> bool {
    let Some(allocation) = &task.allocation else { return false };
    let host = |ports: &[PortConfig]| {
        let mut ports: Vec<PortConfig> =
            ports.iter().filter(|p| p.mode == PublishMode::Host).cloned().collect();
        ports.sort();
        ports
    };
    let lacks_mesh = service.spec.uses_ingress() && allocation.ingress_addrs.is_empty();
    lacks_mesh || host(&allocation.ports) != host(&service.spec.endpoint.ports)
}

/// Takes the update of a service one step further. `slots` are those that stay and that nothing else happened to in this
/// pass; `restarting` is the number of the others.
pub(super) fn advance(pass: &mut Pass<'_>, slots: &[&Slot<'_>], restarting: usize) {
    let update = pass.service.spec.update.clone().unwrap_or_default();
    let mut outdated: Vec<&Slot<'_>> = Vec::new();
    let mut current: Vec<&Task> = Vec::new();
    for slot in slots.iter().filter(|s| s.has_live()) {
        let is_current = |t: &&Task| !is_outdated(t, pass.service, pass.state);
        match slot.live().filter(is_current).max_by_key(|t| t.status.state == TaskState::Running) {
            Some(task) => {
                finish_start_first(pass, slot, task);
                current.push(task);
            }
            None => outdated.push(slot),
        }
    }
    let verdict = if outdated.is_empty() { Ok(()) } else { verdict(pass.service, &update, slots) };
    let object = ObjectId::Service(pass.service.id.clone());
    let going = pass.plan.settle(object, &pass.service.conditions, CONDITION, verdict, pass.now).is_some();
    if outdated.is_empty() || !going {
        return;
    }
    let busy = restarting + current.into_iter().filter(|t| is_in_progress(pass, t, &update)).count();
    let room = match update.parallelism {
        0 => usize::MAX,
        n => usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(busy),
    };
    // Slots that serve nobody first.
    outdated.sort_by_key(|s| s.running().is_some());
    for slot in outdated.into_iter().take(room) {
        match update.order {
            UpdateOrder::StartFirst if slot.running().is_some() => {
                pass.create(&slot.key, TaskState::Running, pass.now);
            }
            UpdateOrder::StartFirst | UpdateOrder::StopFirst => {
                for task in slot.live() {
                    pass.desire(task, TaskState::Shutdown);
                }
                pass.replace(slot, pass.now);
            }
        }
    }
}

/// Once the new task runs, the others of its slot stop.
fn finish_start_first(pass: &mut Pass<'_>, slot: &Slot<'_>, keeper: &Task) {
    if keeper.status.state != TaskState::Running {
        return;
    }
    for task in slot.live().filter(|t| t.id != keeper.id) {
        pass.desire(task, TaskState::Shutdown);
    }
}

/// Whether a task of the present spec version still occupies a place in the update.
fn is_in_progress(pass: &mut Pass<'_>, task: &Task, update: &UpdateConfig) -> bool {
    if task.spec_version != pass.service.spec_version || slot::standing(task, pass.state) != Standing::Fine {
        return false;
    }
    if task.status.state < TaskState::Running {
        return true;
    }
    let until = task.status.at.after(update.delay);
    if pass.now < until {
        pass.plan.wake(until);
    }
    pass.now < until
}

/// Whether the update may go on, else why it is paused. Automatic rollback is left to the user: it pauses too.
fn verdict(service: &Service, update: &UpdateConfig, slots: &[&Slot<'_>]) -> Result<(), String> {
    if update.failure_action == FailureAction::Continue {
        return Ok(());
    }
    let has_failed = |t: &&&Task| {
        t.spec_version == service.spec_version
            && matches!(t.status.state, TaskState::Failed | TaskState::Rejected)
    };
    let failed: Vec<&Task> = slots.iter().filter_map(|s| s.tasks.iter().find(has_failed).copied()).collect();
    let Some(example) = failed.iter().max_by_key(|t| (t.status.at, Reverse(&t.id))) else { return Ok(()) };
    // Both are small counts: exact in f64.
    let ratio = failed.len() as f64 / slots.len() as f64;
    if ratio <= update.max_failure_ratio {
        return Ok(());
    }
    let why = if example.status.err.is_empty() { &example.status.message } else { &example.status.err };
    Err(format!(
        "update paused: task {} {}: {why}",
        example.name(),
        example.status.state.as_str().to_lowercase()
    ))
}
