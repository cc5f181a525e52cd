//! Nodes that fall silent are reported down; that, and nothing else, makes their tasks be replaced.

use std::{collections::BTreeMap, time::Duration};

use proto::model::{Node, NodeId, NodeState, NodeStatus, Task, TaskState, TaskStatus, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    GRACE_PERIODS, GRACE_PERIODS_NEW_LEADER, Nodes, clock::ClockOffset, faults, grace,
    leader_pause::PauseDetector, sessions::Presence,
};
use crate::store::{ProposeError, command::Command, state::State};

/// The tasks of a node that has been down this long are orphaned (swarmkit `defaultNodeDownPeriod`).
const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How soon a report that could not be proposed is tried again.
const RETRY: Duration = Duration::from_millis(500);

impl Nodes {
    /// Watches over the nodes until `shutdown`.
    ///
    /// # Errors
    /// Proposals fail for good.
    pub(crate) async fn watch(&self, shutdown: CancellationToken) -> Result<(), ProposeError> {
        let store = &self.store;
        let state = store.read();
        let deadline = Instant::now() + grace(&state, GRACE_PERIODS_NEW_LEADER);
        {
            let mut sessions = self.sessions();
            for node in state.nodes.values().filter(|n| n.status.state != NodeState::Down) {
                sessions.expect(&node.id, deadline);
            }
        }
        let mut changed = store.watch();
        let mut down_since: BTreeMap<NodeId, Instant> = BTreeMap::new();
        loop {
            changed.mark_unchanged();
            let mut commands = self.verdicts();
            let (now, state) = (Instant::now(), store.read());
            down_since.retain(|id, _| is_down(&state, id));
            for node in state.nodes.values().filter(|n| n.status.state == NodeState::Down) {
                let since = *down_since.entry(node.id.clone()).or_insert(now);
                if now.duration_since(since) >= ORPHAN_AFTER {
                    commands.extend(orphans(&state, &node.id, Timestamp::now()));
                }
            }
            let mut retry = None;
            if !commands.is_empty() {
                match self.attentive(store.propose(commands)).await {
                    // What was proposed meanwhile by a registration may have crossed with this: look again.
                    Ok(outcomes) if outcomes.iter().any(Result::is_ok) => continue,
                    Ok(_) => retry = Some(now + RETRY),
                    Err(ProposeError::Unavailable(why)) => {
                        tracing::debug!(%why, "cannot report the state of nodes yet");
                        retry = Some(now + RETRY);
                    }
                    // The term is over, and its work is about to end.
                    Err(error @ ProposeError::NotLeader { .. }) => {
                        tracing::debug!(%error, "cannot report the state of nodes");
                        retry = Some(now + RETRY);
                    }
                    Err(error) => return Err(error),
                }
            }
            let orphan = down_since.values().map(|since| *since + ORPHAN_AFTER).filter(|at| *at > now).min();
            let next = [self.sessions().next_deadline(), retry, orphan].into_iter().flatten().min();
            let moved = async {
                tokio::select! {
                    () = self.deadlines.notified() => true,
                    alive = changed.changed() => alive.is_ok(),
                    () = sleep_until(next) => true,
                }
            };
            match shutdown.run_until_cancelled(self.attentive(moved)).await {
                Some(true) => {}
                Some(false) | None => return Ok(()),
            }
        }
    }

    /// Gives up the nodes whose time has passed, unless that is this manager's own fault; what is to be said of the nodes.
    fn verdicts(&self) -> Vec<Command> {
        self.look();
        let state = self.store.read();
        let (beat, grace) = (grace(&state, 1), grace(&state, GRACE_PERIODS));
        let mut sessions = self.sessions();
        let silence = sessions.expire(Instant::now(), beat, grace);
        for node in silence.down {
            tracing::warn!(%node, "no heartbeat: the node is down");
        }
        if !silence.doubted.is_empty() {
            let nodes = silence.doubted.len();
            tracing::warn!(
                nodes,
                "most nodes fell silent together: taken for this manager's fault, not for theirs"
            );
        }
        sessions.retain(|id| state.nodes.get(id).is_some());
        let known = |id: &NodeId| NodeLiveness {
            presence: sessions.presence(id),
            clock: sessions.clock_of(id).unwrap_or_default(),
            remark: sessions.remark_of(id).map(str::to_owned),
        };
        let mut commands = plan(&state, known);
        let said = |id: &NodeId| sessions.progress_of(id).and_then(|p| p.faults.clone());
        commands.extend(faults::plan(&state, said, Timestamp::now()));
        commands
    }

    /// Looks at this manager's own clock: whether it has listened all the time.
    fn look(&self) {
        let state = self.store.read();
        let away = self.sessions().look(Instant::now(), grace(&state, 1), grace(&state, GRACE_PERIODS));
        if let Some(away) = away {
            tracing::warn!(?away, "this manager did not run; nodes have their time anew");
            self.deadlines.notify_one();
        }
    }

    /// Waits for `what`, and looks at the clock meanwhile.
    async fn attentive<T>(&self, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        loop {
            self.look();
            let pause = PauseDetector::pause(grace(&self.store.read(), 1));
            if let Ok(done) = tokio::time::timeout(pause, &mut what).await {
                return done;
            }
        }
    }
}

/// What the leader knows of a node besides the state.
#[derive(Debug, Clone, Default)]
struct NodeLiveness {
    presence: Presence,
    clock: ClockOffset,
    remark: Option<String>,
}

/// What the state should say of nodes and does not. Computed anew each time from who is in session, so that reports that
/// cross each other are put right by the next pass.
fn plan(state: &State, known: impl Fn(&NodeId) -> NodeLiveness) -> Vec<Command> {
    let mut commands = Vec::new();
    for node in state.nodes.values() {
        let NodeLiveness { presence, clock, remark } = known(&node.id);
        let remarked = remark.is_some();
        let (wanted, message) = match (presence, node.status.state) {
            (Presence::Here, _) => (NodeState::Ready, remark.unwrap_or_else(|| clock.remark())),
            (Presence::Silent, _) => (NodeState::Down, "heartbeat failure".to_owned()),
            (Presence::Left, _) => (NodeState::Down, "it has left the swarm".to_owned()),
            // An older leader knew it; this one cannot tell until it registers.
            (Presence::Awaited, NodeState::Ready | NodeState::Disconnected) => {
                let waits = || "waiting for the node to register with a new leader".to_owned();
                (NodeState::Unknown, remark.unwrap_or_else(waits))
            }
            (Presence::Awaited, NodeState::Unknown) if remarked => {
                (NodeState::Unknown, remark.unwrap_or_default())
            }
            (Presence::Awaited | Presence::Unheard, _) => continue,
        };
        let says = wanted == NodeState::Ready || remarked;
        if node.status.state != wanted || (says && node.status.message != message) {
            commands.push(report(node, wanted, message));
        }
    }
    commands
}

/// The address is for the registration to say.
fn report(node: &Node, state: NodeState, message: String) -> Command {
    Command::ReportNode {
        id: node.id.clone(),
        status: Some(NodeStatus { state, message, addr: None }),
        description: None,
    }
}

fn is_down(state: &State, id: &NodeId) -> bool {
    state.nodes.get(id).is_some_and(|n| n.status.state == NodeState::Down)
}

/// The tasks of a node that will not come back, given up: nobody can say any more how they ended.
fn orphans(state: &State, node: &NodeId, at: Timestamp) -> Vec<Command> {
    let lost =
        |t: &&std::sync::Arc<Task>| (TaskState::Assigned..=TaskState::Running).contains(&t.status.state);
    let tasks = state.tasks_by_node(node).filter(lost);
    tasks
        .map(|t| Command::ReportTask {
            id: t.id.clone(),
            status: TaskStatus {
                state: TaskState::Orphaned,
                at,
                message: "the node has been down for a day".into(),
                ..t.status.clone()
            },
        })
        .collect()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::{Availability, Role};

    use super::*;
    use crate::ca::joined;

    #[test]
    fn each_pass_says_what_is_not_said_yet() {
        let mut state = State::default();
        let id = NodeId::random();
        for (presence, from, to) in [
            (Presence::Here, NodeState::Unknown, Some(NodeState::Ready)),
            (Presence::Here, NodeState::Down, Some(NodeState::Ready)),
            (Presence::Here, NodeState::Ready, None),
            (Presence::Silent, NodeState::Ready, Some(NodeState::Down)),
            (Presence::Silent, NodeState::Unknown, Some(NodeState::Down)),
            (Presence::Silent, NodeState::Down, None),
            (Presence::Left, NodeState::Ready, Some(NodeState::Down)),
            (Presence::Left, NodeState::Down, None),
            (Presence::Awaited, NodeState::Ready, Some(NodeState::Unknown)),
            (Presence::Awaited, NodeState::Unknown, None),
            (Presence::Unheard, NodeState::Unknown, None),
            (Presence::Unheard, NodeState::Down, None),
        ] {
            let mut node = joined(&id, Role::Worker, Availability::Active);
            node.status.state = from;
            state.put(node);
            let commands = plan(&state, |_| NodeLiveness { presence, ..NodeLiveness::default() });
            let said = commands.first().map(|c| match c {
                Command::ReportNode { status: Some(status), .. } => status.state,
                other => panic!("{other:?}"),
            });
            assert_eq!(said, to, "{presence:?} {from:?}");
        }
    }
    #[test]
    fn a_clock_that_is_far_off_is_named_and_named_right_again() {
        let mut state = State::default();
        let id = NodeId::random();
        let mut node = joined(&id, Role::Worker, Availability::Active);
        node.status.state = NodeState::Ready;
        state.put(node.clone());
        let off = ClockOffset::heard(Timestamp(1_000_000), Timestamp(400_000));
        let said = |state: &State, clock: ClockOffset| {
            let commands = plan(state, |_| NodeLiveness { presence: Presence::Here, clock, remark: None });
            commands.into_iter().next().map(|c| match c {
                Command::ReportNode { status: Some(status), .. } => status,
                other => panic!("{other:?}"),
            })
        };
        let status = said(&state, off).unwrap();
        assert_eq!(status.state, NodeState::Ready);
        assert_eq!(status.message, "its clock is 10 minutes ahead of the leader's");
        node.status.message = status.message;
        state.put(node);
        assert_eq!(said(&state, off), None);
        assert_eq!(said(&state, ClockOffset::default()).unwrap().message, "");
    }

    #[test]
    fn why_a_nodes_time_began_anew_is_on_the_node() {
        let mut state = State::default();
        let id = NodeId::random();
        let mut node = joined(&id, Role::Worker, Availability::Active);
        for (presence, stands) in
            [(Presence::Here, NodeState::Ready), (Presence::Awaited, NodeState::Unknown)]
        {
            (node.status.state, node.status.message) = (stands, String::new());
            state.put(node.clone());
            let deaf = NodeLiveness { presence, remark: Some("deaf".into()), ..NodeLiveness::default() };
            let [Command::ReportNode { status: Some(status), .. }] = &plan(&state, |_| deaf.clone())[..]
            else {
                panic!("it is said")
            };
            assert_eq!((status.state, status.message.as_str()), (stands, "deaf"));
            node.status.message = "deaf".into();
            state.put(node.clone());
            assert_eq!(plan(&state, |_| deaf.clone()), []);
        }
    }
}
