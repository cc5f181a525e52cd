//! Whether all that was decided has come about: pure.
//!
//! Nodes say in their heartbeats how far they are; the tasks' states say the rest.

use proto::model::{NodeId, NodeState, Revision, Service, ServiceMode, Task, TaskId, TaskState, Timestamp};

use super::{faults, sessions::Progress};
use crate::{orchestrator, scheduler, store::state::State};

/// What is not yet where it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsettled {
    /// A node that has not applied every change.
    Node {
        /// Its host name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A service whose tasks are on their way.
    Service {
        /// Its name.
        name: String,
        /// Where they are.
        reason: String,
    },
}

/// All of it, of the changes up to `revision`. Nodes that are down are left out: nobody waits for them.
pub fn unsettled(
    state: &State,
    now: Timestamp,
    revision: Revision,
    progress: impl Fn(&NodeId) -> Option<Progress>,
) -> Vec<Unsettled> {
    let mut all: Vec<_> = state
        .services
        .values()
        .filter_map(|s| Some(Unsettled::Service { name: s.spec.name.clone(), reason: of_service(state, s)? }))
        .collect();
    // Nothing to see yet of what the next pass of a loop will do.
    let open = !orchestrator::plan(state, now, &mut TaskId::random).commands.is_empty()
        || !scheduler::plan(state, now).commands.is_empty();
    if open && all.is_empty() {
        let reason = "the managers have not placed everything yet".to_owned();
        all.push(Unsettled::Service { name: "(all)".into(), reason });
    }
    for node in state.nodes.values().filter(|n| n.status.state == NodeState::Ready) {
        let name = node.description.as_ref().map_or_else(|| node.id.to_string(), |d| d.hostname.clone());
        let reason = match progress(&node.id) {
            None => "is not in session with the managers".to_owned(),
            Some(at) if faults::first(&at).is_some() => faults::first(&at).unwrap_or_default().to_owned(),
            Some(at) if at.has(revision) => continue,
            Some(at) if at.lag.is_empty() => {
                format!("has applied changes up to {}, not {}", at.applied, at.sent.max(revision))
            }
            Some(at) => at.lag,
        };
        all.push(Unsettled::Node { name, reason });
    }
    all
}

fn of_service(state: &State, service: &Service) -> Option<String> {
    if service.update_status.as_ref().is_some_and(|u| u.state.is_going()) {
        return Some("is being updated".to_owned());
    }
    let tasks = || state.tasks_by_service(&service.id);
    let wanted = || tasks().filter(|t| t.desired <= TaskState::Running);
    let running = wanted().filter(|t| t.status.state == TaskState::Running).count();
    let desired = match service.spec.mode {
        ServiceMode::Replicated(n) => {
            usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(orchestrator::done(state, service))
        }
        ServiceMode::Global => wanted().count(),
    };
    if running < desired {
        let late = wanted().find(|t| t.status.state != TaskState::Running);
        let why = late.map(|t| format!(": {}", of_task(t))).unwrap_or_default();
        let held = service.conditions.first().map(|c| format!(" ({})", c.message)).unwrap_or_default();
        return Some(format!("{running} of {desired} tasks run{why}{held}"));
    }
    // Where a node is down nobody can say what its tasks do.
    let lives = |t: &Task| {
        let node = t.node_id.as_ref().and_then(|id| state.nodes.get(id));
        node.is_some_and(|n| n.status.state == NodeState::Ready)
    };
    let stopping = tasks()
        .filter(|t| t.desired > TaskState::Running && !t.status.state.is_terminal())
        .filter(|t| t.status.state >= TaskState::Assigned && lives(t))
        .count();
    (stopping > 0).then(|| format!("{stopping} tasks are still stopping"))
}

fn of_task(task: &Task) -> String {
    match task.reason() {
        "" => format!("one is {}", task.status.state),
        why => format!("one is {}: {why}", task.status.state),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_node_has_what_concerns_it() {
        let at = |seen, sent, applied| Progress {
            seen: Revision(seen),
            sent: Revision(sent),
            applied: Revision(applied),
            ..Progress::default()
        };
        assert!(at(9, 5, 5).has(Revision(9)), "nothing after 5 concerned it");
        assert!(!at(9, 8, 5).has(Revision(9)), "8 is on its way");
        assert!(!at(7, 5, 5).has(Revision(9)), "8 and 9 have not been looked through");
        assert!(at(20, 18, 12).has(Revision(9)), "what came later does not count");
    }
}
