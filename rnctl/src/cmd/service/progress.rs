//! Waiting until a service is what its spec says, and showing how far it is.
//!
//! [`Progress::of`] is pure: a service and its tasks into what there is to show. [`wait`] asks ten times a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proto::model::{
    RestartCondition, Service, ServiceMode, Task, TaskSpec, TaskState, UpdateConfig, UpdateState,
};

use crate::{
    cmd::tasks,
    connect::Daemon,
    exit::Failure,
    output::{self, display::Display, ellipsis},
};

const POLL: Duration = Duration::from_millis(100);

/// After a change the managers take a moment to begin with what follows from it.
const BEGINNING: Duration = Duration::from_millis(300);

/// A global service that has just been made has no tasks for a moment, and after that only if no node is for it.
const FIRST_TASKS: Duration = Duration::from_secs(2);

/// Above this many tasks only the total is shown (docker/cli `maxProgressBars`).
const MAX_LINES: u64 = 20;

/// One place of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// `1/3`, or the node's id in a global service.
    label: String,
    state: TaskState,
    /// Whether there is a task of the current spec at all.
    started: bool,
    /// What went wrong, or what it waits for.
    reason: String,
    /// Whether its task has ended by itself and no other follows: the restart policy's word.
    done: bool,
}

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    running: u64,
    wanted: u64,
    places: Vec<Place>,
    /// Tasks beyond the wanted number still have to go.
    surplus: usize,
    /// What the service itself waits for, for instance an address.
    reason: String,
    /// Back to the previous spec, and why; empty when it is not.
    rollback: String,
}

impl Progress {
    fn of(service: &Service, tasks: &[Task]) -> Self {
        let update = service.update_status.as_ref().map(|u| u.state).filter(|state| state.is_going());
        let going = update.is_some();
        // An update may be of what the task's spec does not show (ports); back at the old spec, its tasks may stay.
        let spec_tells = update.is_none_or(UpdateState::is_rollback);
        // Placement alone replaces no task that is in a good place: which ones are not, the update knows.
        let in_place = |t: &Task| {
            let placement = service.spec.task.placement.clone();
            !going && TaskSpec { placement, ..t.spec.clone() } == service.spec.task
        };
        let current = |t: &&Task| {
            let made_for_it =
                t.spec_version == service.spec_version || (spec_tells && t.spec == service.spec.task);
            t.desired <= TaskState::Running && (made_for_it || in_place(t))
        };
        // The furthest task of each place. A replaced one that failed is kept for its reason.
        let mut best: BTreeMap<(u64, String), &Task> = BTreeMap::new();
        let mut failed: BTreeMap<(u64, String), &Task> = BTreeMap::new();
        // The newest task of each place: with none after it, one that ended by itself is the last. A replacement is made in the same
        // step that gives it up.
        let mut last: BTreeMap<(u64, String), &Task> = BTreeMap::new();
        for task in tasks {
            let node = task.node_id.as_ref().filter(|_| task.slot == 0);
            let key = (task.slot, node.map(ToString::to_string).unwrap_or_default());
            let newest = last.entry(key.clone()).or_insert(task);
            if task.meta.created_in >= newest.meta.created_in {
                *newest = task;
            }
            if current(&task) {
                let entry = best.entry(key).or_insert(task);
                if task.status.state > entry.status.state && !task.status.state.is_terminal() {
                    *entry = task;
                }
            } else if !task.status.err.is_empty() && task.spec_version == service.spec_version {
                let entry = failed.entry(key).or_insert(task);
                if task.meta.created_in >= entry.meta.created_in {
                    *entry = task;
                }
            }
        }
        let place = |key: &(u64, String), label: String| {
            let ended = last.get(key).filter(|t| !best.contains_key(key) && is_over_by_itself(t, service));
            let task = best.get(key).or(ended);
            let own = task.map(|t| t.reason().to_owned()).unwrap_or_default();
            let earlier = || failed.get(key).map(|t| t.status.err.clone()).unwrap_or_default();
            Place {
                label,
                state: task.map_or(TaskState::New, |t| t.status.state),
                started: task.is_some(),
                reason: match task {
                    Some(t) if t.status.state == TaskState::Running => String::new(),
                    _ if own.is_empty() => earlier(),
                    _ => own,
                },
                done: ended.is_some(),
            }
        };
        let ended = last.iter().filter(|(_, t)| is_over_by_itself(t, service)).map(|(key, _)| key);
        let known: BTreeSet<_> = best.keys().chain(ended).collect();
        let places: Vec<Place> = match service.spec.mode {
            ServiceMode::Replicated(n) => {
                let slots = slots(known.iter().map(|key| key.0), n);
                let named = (1..=n).zip(slots);
                named.map(|(k, slot)| place(&(slot, String::new()), format!("{k}/{n}"))).collect()
            }
            ServiceMode::Global => known.into_iter().map(|key| place(key, key.1.clone())).collect(),
        };
        let wanted = places.len() as u64;
        let running = places.iter().filter(|p| p.state == TaskState::Running).count() as u64;
        let surplus = tasks
            .iter()
            .filter(|t| t.desired <= TaskState::Running && !t.status.state.is_terminal())
            .count()
            .saturating_sub(places.len());
        let reason = service.conditions.first().map(|c| c.message.clone()).unwrap_or_default();
        let status = service.update_status.as_ref().filter(|u| u.state.is_rollback());
        let rollback = status.map(|u| u.message.clone()).unwrap_or_default();
        Self { running, wanted, places, surplus, reason, rollback }
    }

    /// Whether nothing more is to come: each place has its running task, or had its last one.
    fn converged(&self) -> bool {
        self.surplus == 0 && self.places.iter().all(|p| p.state == TaskState::Running || p.done)
    }

    /// The places whose last task has ended.
    fn done(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|p| p.done)
    }

    /// How it ended, of a service that has converged.
    fn verdict(&self, service: &Service) -> Result<String, Failure> {
        let (name, count) = (&service.spec.name, self.done().count());
        let Some(failed) = self.done().find(|p| p.state != TaskState::Complete) else {
            return Ok(match count {
                0 => format!("Service {} converged", service.id),
                _ => {
                    format!("Service {} converged: {count} of {} tasks are complete", service.id, self.wanted)
                }
            });
        };
        let error = format!(
            "{count} of {} tasks of service {name} have ended, and its restart policy starts no other: {}: {}",
            self.wanted, failed.label, failed.reason
        );
        Err(Failure::local(error).with_help(format!(
            "look closer: rnctl service logs {name}; again: rnctl service update --force {name}"
        )))
    }

    /// What is shown; `width` is that of the bars.
    fn lines(&self, width: usize) -> Vec<String> {
        let back = if self.rollback.is_empty() { "" } else { "rolling back update: " };
        let mut lines =
            vec![format!("overall progress: {back}{} out of {} tasks", self.running, self.wanted)];
        if !self.rollback.is_empty() {
            lines.insert(0, format!("rollback: {}", self.rollback));
        }
        // A global service without a node for it waits for one, with nothing else to show.
        if !self.reason.is_empty() && (self.wanted == 0 || !self.converged()) {
            lines.push(format!("waiting: {}", self.reason));
        }
        if self.wanted <= MAX_LINES {
            lines.extend(self.places.iter().map(|p| p.line(width)));
        }
        lines
    }
}

/// Swarm's order of the states on the way up (docker/cli `numberedStates`).
const STEPS: [TaskState; 8] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
];

impl Place {
    fn line(&self, width: usize) -> String {
        if !self.reason.is_empty() {
            return format!("{}: {}", self.label, ellipsis(&self.reason.replace('\n', " "), 100));
        }
        if !self.started {
            return format!("{}: ", self.label);
        }
        let state = self.state.as_str().to_lowercase();
        let step = STEPS.iter().position(|s| *s == self.state).map_or(0, |k| k + 1);
        if width == 0 {
            return format!("{}: {state}", self.label);
        }
        let done = width * step / STEPS.len();
        let bar = match done {
            0 => String::new(),
            n => format!("{}>", "=".repeat(n - 1)),
        };
        format!("{}: {state:<9} [{bar:<width$}]", self.label)
    }
}

/// Waits until the service has converged and stayed so for its monitor time (5 s by default). Ctrl-C stops waiting, not
/// the service.
pub async fn wait(rn: &Daemon, id: &str, quiet: bool) -> Result<(), Failure> {
    tokio::select! {
        result = converge(rn, id, quiet) => result,
        _ = tokio::signal::ctrl_c() => {
            if !quiet {
                output::line(&format!(
                    "\nOperation continuing in background.\nUse `rnctl service ps {id}` to check progress."
                ));
            }
            Err(Failure::Code(130))
        }
    }
}

async fn converge(rn: &Daemon, id: &str, quiet: bool) -> Result<(), Failure> {
    let mut display = Display::new(quiet);
    let mut stable: Option<Instant> = None;
    let began = Instant::now();
    loop {
        let service = super::fetch(rn, id).await?;
        stopped(&service)?;
        let progress = Progress::of(&service, &tasks(rn, vec![id.to_owned()], Vec::new()).await?);
        if progress.places.is_empty()
            && service.spec.mode == ServiceMode::Global
            && began.elapsed() < FIRST_TASKS
        {
            tokio::time::sleep(POLL).await;
            continue;
        }
        let monitor: Duration = service
            .spec
            .update
            .as_ref()
            .map_or_else(|| UpdateConfig::default().monitor, |u| u.monitor)
            .into();
        let mut lines = progress.lines(display.bar_width());
        if !progress.converged() {
            if stable.take().is_some_and(|since| since.elapsed() >= BEGINNING) {
                lines.push("verify: Detected task failure".into());
            }
            display.show(lines);
        } else {
            let since = *stable.get_or_insert_with(Instant::now);
            if since.elapsed() < BEGINNING.min(monitor) {
                display.show(lines);
                tokio::time::sleep(POLL).await;
                continue;
            }
            // What has ended cannot become unstable.
            if since.elapsed() >= monitor || progress.running == 0 && progress.wanted > 0 {
                let verdict = progress.verdict(&service);
                if let Ok(said) = &verdict {
                    lines.push(format!("verify: {said}"));
                }
                display.show(lines);
                return verdict.map(drop);
            }
            let left = if display.is_terminal() { monitor.saturating_sub(since.elapsed()) } else { monitor };
            let seconds = left.as_millis().div_ceil(1000);
            lines.push(format!("verify: Waiting {seconds} seconds to verify that tasks are stable..."));
            display.show(lines);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The slots of a service of `n` tasks, of which `known` have one, in order. They are the first `n` numbers, unless it was made
/// smaller: then any may have been kept.
fn slots(known: impl Iterator<Item = u64> + Clone, n: u64) -> Vec<u64> {
    if known.clone().all(|slot| slot <= n) {
        return (1..=n).collect();
    }
    let kept: Vec<u64> = known.collect();
    let free = (1..).filter(|slot| !kept.contains(slot));
    kept.iter().copied().chain(free).take(usize::try_from(n).unwrap_or(usize::MAX)).collect()
}

/// Whether a task of the service's spec ended without being told to, was given up, and may be the last one by its policy.
fn is_over_by_itself(task: &Task, service: &Service) -> bool {
    let ended = matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected);
    let policy = task.spec.restart.clone().unwrap_or_default();
    let may_be_last = policy.max_attempts > 0
        || match policy.condition {
            RestartCondition::None => true,
            RestartCondition::OnFailure => task.status.state == TaskState::Complete,
            RestartCondition::Any => false,
        };
    ended && may_be_last && task.desired == TaskState::Shutdown && task.spec == service.spec.task
}

/// An update that waits for the user will not converge by itself.
fn stopped(service: &Service) -> Result<(), Failure> {
    let Some(status) = service.update_status.as_ref().filter(|u| u.state.is_paused()) else { return Ok(()) };
    let (what, way_out) = match status.state {
        UpdateState::RollbackPaused => ("rollback", String::new()),
        _ => ("update", format!("go back: rnctl service rollback {}; ", service.spec.name)),
    };
    Err(Failure::local(format!("service {what} paused: {}", status.message)).with_help(format!(
        "{way_out}go on: rnctl service update {name}; look closer: rnctl service ps --no-trunc {name}",
        name = service.spec.name
    )))
}

#[cfg(test)]
mod tests;
