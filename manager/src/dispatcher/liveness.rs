//! Nodes that fall silent are reported down; that, and nothing else, makes their tasks be replaced.

use std::{collections::BTreeMap, time::Duration};

use proto::model::{Node, NodeId, NodeState, NodeStatus, Task, TaskState, TaskStatus, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, GRACE_PERIODS_NEW_LEADER, grace};
use crate::store::{ProposeError, command::Command, state::State};

/// The tasks of a node that has been down this long are orphaned (swarmkit `defaultNodeDownPeriod`).
const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How soon a report that could not be proposed is tried again.
const RETRY: Duration = Duration::from_millis(500);

impl Dispatcher {
    /// Watches over the nodes until `shutdown`, or until this manager no longer leads. Sessions end with it.
    ///
    /// # Errors
    /// Proposals fail for good.
    pub async fn watch_nodes(&self, shutdown: CancellationToken) -> Result<(), ProposeError> {
        self.sessions().clear();
        let result = self.watch_until(shutdown).await;
        self.sessions().clear();
        result
    }

    async fn watch_until(&self, shutdown: CancellationToken) -> Result<(), ProposeError> {
        let store = &self.inner.store;
        let state = store.read();
        let deadline = Instant::now() + grace(&state, GRACE_PERIODS_NEW_LEADER);
        {
            let mut sessions = self.sessions();
            for node in state.nodes.values().filter(|n| n.status.state != NodeState::Down) {
                sessions.expect(&node.id, deadline);
            }
        }
        let mut overdue = unknown(&state, |id| self.sessions().contains(id));
        let mut down_since: BTreeMap<NodeId, Instant> = BTreeMap::new();
        loop {
            if !overdue.is_empty() {
                match store.propose(overdue.clone()).await {
                    // A node that was removed in the meantime needs no report.
                    Ok(_) => overdue.clear(),
                    Err(ProposeError::Unavailable(why)) => {
                        tracing::debug!(%why, "cannot report the state of nodes yet")
                    }
                    Err(error) => return Err(error),
                }
            }
            let retry = (!overdue.is_empty()).then(|| Instant::now() + RETRY);
            let orphan = down_since.values().min().map(|since| *since + ORPHAN_AFTER);
            let next = [self.sessions().next_deadline(), retry, orphan].into_iter().flatten().min();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.inner.deadlines.notified() => {}
                () = sleep_until(next) => {}
            }
            let (now, state) = (Instant::now(), store.read());
            for node in self.sessions().expire(now) {
                tracing::warn!(%node, "no heartbeat: the node is down");
                overdue
                    .extend(state.nodes.get(&node).map(|n| report(n, NodeState::Down, "heartbeat failure")));
            }
            down_since.retain(|id, _| is_down(&state, id));
            for node in state.nodes.values().filter(|n| n.status.state == NodeState::Down) {
                let since = *down_since.entry(node.id.clone()).or_insert(now);
                if now.duration_since(since) >= ORPHAN_AFTER {
                    overdue.extend(orphans(&state, &node.id, Timestamp::now()));
                    down_since.insert(node.id.clone(), now);
                }
            }
        }
    }
}

/// What a new leader says of nodes that an older one knew: it cannot tell until they register.
fn unknown(state: &State, in_session: impl Fn(&NodeId) -> bool) -> Vec<Command> {
    let waiting = |s: NodeState| matches!(s, NodeState::Ready | NodeState::Disconnected);
    let nodes = state.nodes.values().filter(|n| waiting(n.status.state) && !in_session(&n.id));
    nodes
        .map(|n| report(n, NodeState::Unknown, "waiting for the node to register with a new leader"))
        .collect()
}

fn report(node: &Node, state: NodeState, message: &str) -> Command {
    Command::ReportNode {
        id: node.id.clone(),
        status: Some(NodeStatus { state, message: message.to_owned(), addr: node.status.addr }),
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
