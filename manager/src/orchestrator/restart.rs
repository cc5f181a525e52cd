//! Replacing tasks that ended or were lost.

use proto::model::{Millis, RestartCondition, RestartPolicy, Service, Task, TaskState, Timestamp};

use super::{
    Pass, rolling,
    slot::{self, Slot, TaskCondition},
};

/// How long a replacement waits for its predecessor to stop (swarmkit `restart/restart.go`).
const MAX_STOP_WAIT: Millis = Millis::secs(60);

/// Keeps a slot's task alive as its restart policy says. Whether something was replaced, so that an update leaves the
/// slot alone in this pass.
pub(super) fn keep(pass: &mut Pass<'_>, slot: &Slot<'_>) -> bool {
    let mut fine = false;
    let mut ended = false;
    let mut start_at: Option<Timestamp> = None;
    for task in slot.live() {
        match slot::condition_of(task, pass.state) {
            TaskCondition::Running => fine = true,
            TaskCondition::Misplaced => {
                // The node's fault, not the task's: neither policy nor delay applies, but for a delay that has begun before.
                pass.desire(task, TaskState::Shutdown);
                let at = soonest(pass, slot);
                start_at = Some(start_at.map_or(at, |other| other.min(at)));
                ended = true;
            }
            // It failed while it was made ready, before its delay was over. The delay counts: what can't be had (an image) would
            // else be tried for again without a pause.
            TaskCondition::Ended
                if task.desired == TaskState::Ready && pass.waits(task.start_after, policy(task).delay) => {}
            TaskCondition::Ended => {
                pass.desire(task, TaskState::Shutdown);
                if may_restart(task, slot, pass.service) {
                    let at = pass.now.after(policy(task).delay);
                    start_at = Some(start_at.map_or(at, |other| other.min(at)));
                }
                ended = true;
            }
        }
    }
    if let Some(at) = start_at
        && !fine
    {
        pass.replace(slot, at);
    }
    ended
}

/// Starts what was made ready, once its delay is over and what it replaces has stopped.
pub(super) fn promote(pass: &mut Pass<'_>, slot: &Slot<'_>) {
    for task in slot.live().filter(|t| t.desired == TaskState::Ready) {
        if slot::condition_of(task, pass.state) != TaskCondition::Running {
            continue;
        }
        if pass.waits(task.start_after, policy(task).delay) {
            continue;
        }
        let stopping = slot.tasks.iter().any(|t| !slot::is_live(t) && slot::is_holding(t, pass.state));
        if stopping && pass.lasts(task.start_after.max(task.meta.created_at), MAX_STOP_WAIT) {
            continue;
        }
        pass.desire(task, TaskState::Running);
    }
}

/// When a slot may have another task of the service's spec: at once, or when the delay is over after the last one of it that ended by
/// itself, or that one was to begin which never did. However the slot came to be without a task, what fails is not started again
/// without its pause.
pub(super) fn soonest(pass: &mut Pass<'_>, slot: &Slot<'_>) -> Timestamp {
    let at = |task: &&Task| {
        let delay = policy(task).delay;
        match (has_ended(task), task.running_at == Timestamp::default()) {
            (true, _) => Some((task.ended_at.after(delay), delay)),
            (false, true) => Some((task.start_after, delay)),
            (false, false) => None,
        }
    };
    let service = pass.service;
    let same = slot.tasks.iter().copied().filter(|t| !rolling::is_task_spec_changed(t, service));
    match same.filter_map(|t| at(&t)).max() {
        Some((at, delay)) if pass.waits(at, delay) => at,
        _ => pass.now,
    }
}

/// Whether a task ended without being told to.
fn has_ended(task: &Task) -> bool {
    matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
}

/// Whether the slot's tasks of the present spec version have ended for good, by their restart policy. An older task may still run
/// there: it goes on.
pub(super) fn is_given_up(slot: &Slot<'_>, service: &Service) -> bool {
    let newest = slot.tasks.iter().find(|t| t.spec_version == service.spec_version);
    newest.is_some_and(|t| has_ended(t) && !slot::is_live(t) && !may_restart(t, slot, service))
}

/// Whether a slot is done: its last task ended by itself, its policy forbids another, and the spec has not changed since.
pub(super) fn is_settled(slot: &Slot<'_>, service: &Service) -> bool {
    let Some(last) = slot.tasks.first().filter(|_| !slot.has_live()) else { return false };
    has_ended(last)
        && last.desired == TaskState::Shutdown
        && !rolling::is_task_spec_changed(last, service)
        && !may_restart(last, slot, service)
}

fn policy(task: &Task) -> RestartPolicy {
    task.spec.restart.clone().unwrap_or_default()
}

/// Whether the policy of `task`, which ended, allows another one in its slot. Restarts are counted in the slot's
/// history, which is kept long enough (see [`super::reap`]); a new spec starts a new count.
fn may_restart(task: &Task, slot: &Slot<'_>, service: &Service) -> bool {
    if rolling::is_task_spec_changed(task, service) {
        return true;
    }
    let policy = policy(task);
    let wanted = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => task.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    if !wanted || policy.max_attempts == 0 {
        return wanted;
    }
    let age = |t: &Task| (t.meta.created_in, t.id.clone());
    let same_spec = |t: &&&Task| !rolling::is_task_spec_changed(t, service);
    let mut until_now: Vec<&Task> =
        slot.tasks.iter().filter(same_spec).copied().filter(|t| age(t) <= age(task)).collect();
    // The oldest is the first start, not a restart.
    until_now.pop();
    // Judged at the end of the task, so that the answer does not change by waiting.
    let in_window =
        |t: &&Task| policy.window.0 == 0 || t.meta.created_at.after(policy.window) >= task.ended_at;
    let restarts = until_now.into_iter().filter(in_window).count();
    u64::try_from(restarts).unwrap_or(u64::MAX) < policy.max_attempts
}
