//! Bringing running tasks to a new spec, a few slots at a time.
//!
//! How far an update has come is read off the tasks: those made for the present spec version and not yet running, or
//! running for less than the delay, are in progress. So an update that does not come up stops by itself. A task that ends
//! within the monitor time of its start is a failure; too many of them pause the update or roll it back. Only the verdicts
//! are written down ([`UpdateStatus`]); a new leader goes on where the old one stopped.

use std::cmp::Reverse;

use proto::model::{
    ContainerSpec, FailureAction, Millis, PortConfig, PublishMode, Service, Task, TaskState, Timestamp,
    UpdateConfig, UpdateOrder, UpdateState, UpdateStatus,
};

use super::{
    Pass, restart,
    slot::{self, Slot, TaskCondition},
};
use crate::{
    scheduler::constraint,
    store::{command::Command, state::State},
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

/// Takes the update of a service one step further. `slots` are those that stay; `quiet` those of them that nothing else
/// happened to in this pass.
pub(super) fn advance(pass: &mut Pass<'_>, slots: &[&Slot<'_>], quiet: &[&Slot<'_>]) {
    let mut outdated: Vec<&Slot<'_>> = Vec::new();
    let mut current: Vec<(&Slot<'_>, &Task)> = Vec::new();
    for slot in quiet.iter().filter(|s| s.has_live()) {
        let is_current = |t: &&Task| !is_outdated(t, pass.service, pass.state);
        match slot.live().filter(is_current).max_by_key(|t| t.status.state == TaskState::Running) {
            Some(task) => {
                finish_start_first(pass, slot, task);
                current.push((slot, task));
            }
            // Its policy starts no other task of this spec; what still runs there goes on.
            None if restart::is_given_up(slot, pass.service) => {}
            None => outdated.push(slot),
        }
    }
    let Some(status) = under_way(pass, outdated.len()) else { return };
    let config = config(pass.service, status.state);
    if let Some(failed) = failure(pass.service, &config, &status, slots)
        && give_up(pass, &config, &status, failed)
    {
        return;
    }
    if outdated.is_empty() && slots.len() == quiet.len() {
        return complete(pass, &config, status, &current);
    }
    replace_some(pass, &config, outdated, &current, slots.len() - quiet.len());
}

/// The settings that hold in this state.
fn config(service: &Service, state: UpdateState) -> UpdateConfig {
    let config = if state.is_rollback() { &service.spec.rollback } else { &service.spec.update };
    config.clone().unwrap_or_default()
}

/// The update that is going on; one begins when there are outdated slots. None when there is nothing to do, or the user
/// has to say what.
fn under_way(pass: &mut Pass<'_>, outdated: usize) -> Option<UpdateStatus> {
    let slots = u64::try_from(outdated).unwrap_or(u64::MAX);
    let status = match &pass.service.update_status {
        Some(status) if status.state.is_paused() => return None,
        // A rollback begins with the spec, and here learns how much there is to do.
        Some(status) if status.state.is_going() && (status.slots > 0 || slots == 0) => {
            return Some(status.clone());
        }
        Some(status) if status.state.is_going() => UpdateStatus { slots, ..status.clone() },
        _ if slots == 0 => return None,
        _ => UpdateStatus {
            state: UpdateState::Updating,
            started_at: pass.now,
            completed_at: Timestamp::default(),
            message: "update in progress".into(),
            slots,
        },
    };
    say(pass, status.clone());
    Some(status)
}

fn say(pass: &mut Pass<'_>, status: UpdateStatus) {
    let (id, of_version) = (pass.service.id.clone(), pass.service.spec_version);
    pass.plan.push(Command::SetUpdateStatus { id, of_version, status });
}

/// How long a new task is watched (swarmkit `updater.go`): longer than the pause between two of them.
fn watched(config: &UpdateConfig) -> Millis {
    if config.delay < config.monitor { config.monitor } else { Millis(config.delay.0.saturating_add(1000)) }
}

/// The newest failure, if there are more of them than are borne.
fn failure<'a>(
    service: &Service,
    config: &UpdateConfig,
    status: &UpdateStatus,
    slots: &[&Slot<'a>],
) -> Option<&'a Task> {
    let has_failed = |t: &&&Task| {
        let in_time =
            t.running_at == Timestamp::default() || t.ended_at <= t.running_at.after(watched(config));
        has_ended(t, service) && in_time
    };
    let failed: Vec<&Task> = slots.iter().filter_map(|s| s.tasks.iter().find(has_failed).copied()).collect();
    // Both are small counts: exact in f64.
    let ratio = failed.len() as f64 / status.slots.max(1) as f64;
    let newest = failed.into_iter().max_by_key(|t| (t.ended_at, Reverse(&t.id)));
    newest.filter(|_| ratio > config.max_failure_ratio)
}

/// Whether a task made for the present spec has ended by itself.
fn has_ended(task: &Task, service: &Service) -> bool {
    let by_itself =
        matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected);
    by_itself && task.spec_version == service.spec_version
}

/// Does what the settings say about a failed update; false when it goes on.
fn give_up(pass: &mut Pass<'_>, config: &UpdateConfig, status: &UpdateStatus, failed: &Task) -> bool {
    let why = if failed.status.err.is_empty() { &failed.status.message } else { &failed.status.err };
    let because = format!("due to failure or early termination of task {}: {why}", failed.id);
    let (id, expect) = (pass.service.id.clone(), pass.service.spec_version);
    let rolling_back = status.state.is_rollback();
    match config.failure_action {
        FailureAction::Continue => return false,
        // A rollback never rolls back.
        FailureAction::Rollback if !rolling_back && pass.service.previous_spec.is_some() => {
            let message = format!("update rolled back {because}");
            pass.plan.push(Command::RollbackService { id, expect, automatic: true, message });
        }
        FailureAction::Rollback | FailureAction::Pause => {
            let (state, what) = match rolling_back {
                true => (UpdateState::RollbackPaused, "rollback"),
                false => (UpdateState::Paused, "update"),
            };
            say(pass, UpdateStatus { state, message: format!("{what} paused {because}"), ..status.clone() });
        }
    }
    true
}

/// All slots have their new task: the update is done once the last one has been watched.
fn complete(
    pass: &mut Pass<'_>,
    config: &UpdateConfig,
    status: UpdateStatus,
    current: &[(&Slot<'_>, &Task)],
) {
    for (_, task) in current.iter().filter(|(slot, task)| is_first(slot, task, pass.service)) {
        if slot::condition_of(task, pass.state) != TaskCondition::Running {
            continue;
        }
        if task.status.state < TaskState::Running {
            return;
        }
        if pass.lasts(task.running_at, watched(config)) {
            return;
        }
    }
    let (state, message) = match status.state.is_rollback() {
        true => (UpdateState::RollbackCompleted, "rollback completed"),
        false => (UpdateState::Completed, "update completed"),
    };
    say(pass, UpdateStatus { state, message: message.into(), completed_at: pass.now, ..status });
}

/// Whether a task is the first one that its slot has of the present spec: what comes after it are restarts, which hold up
/// no update.
fn is_first(slot: &Slot<'_>, task: &Task, service: &Service) -> bool {
    task.spec_version == service.spec_version
        && !slot.tasks.iter().any(|t| t.id != task.id && has_ended(t, service))
}

/// Begins with as many slots as there is room for.
fn replace_some(
    pass: &mut Pass<'_>,
    config: &UpdateConfig,
    mut outdated: Vec<&Slot<'_>>,
    current: &[(&Slot<'_>, &Task)],
    restarting: usize,
) {
    let mut busy = restarting;
    for (slot, task) in current {
        busy += usize::from(is_in_progress(pass, slot, task, config));
    }
    let room = match config.parallelism {
        0 => usize::MAX,
        n => usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(busy),
    };
    // Slots that serve nobody first.
    outdated.sort_by_key(|s| s.running().is_some());
    for slot in outdated.into_iter().take(room) {
        match config.order {
            UpdateOrder::StartFirst if slot.running().is_some() => {
                let at = restart::soonest(pass, slot);
                pass.fill(&slot.key, at);
            }
            UpdateOrder::StartFirst | UpdateOrder::StopFirst => {
                for task in slot.live() {
                    pass.desire(task, TaskState::Shutdown);
                }
                // Who serves nobody is in no haste.
                let at = if slot.running().is_some() { pass.now } else { restart::soonest(pass, slot) };
                pass.replace(slot, at);
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
fn is_in_progress(pass: &mut Pass<'_>, slot: &Slot<'_>, task: &Task, config: &UpdateConfig) -> bool {
    if !is_first(slot, task, pass.service) || slot::condition_of(task, pass.state) != TaskCondition::Running {
        return false;
    }
    task.status.state < TaskState::Running || pass.lasts(task.running_at, config.delay)
}
