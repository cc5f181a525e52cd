//! The one loop that all of the leader's concerns share: wait until something moved, read a snapshot, plan, propose.
//!
//! Level-triggered: a wake-up says that something moved, never what. A plan is a value computed from a snapshot; when
//! `apply` refuses part of it because the world has moved on, the next pass plans again. Correctness lies in the
//! preconditions of the commands, not in there being one leader.

use std::time::Duration;

use proto::model::{Condition, Millis, Timestamp};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::store::{
    ProposeError, Store,
    command::{Command, ObjectId},
    state::State,
};

/// Commands per proposal (swarmkit `store.MaxChangesPerTransaction`), so that no entry delays the others for long.
const BATCH: usize = 200;
/// Pause before a pass: changes that come together are planned together.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// Longest pause before a pass, however long the last one took.
const MAX_REST: Duration = Duration::from_millis(250);
/// First wait after a pass that got nothing through; doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What a pass wants done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub commands: Vec<Command>,
    /// The plan changes by the mere passing of time, then.
    pub next_at: Option<Timestamp>,
}

impl Plan {
    /// Adds a command.
    pub fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Asks for another pass at `at`.
    pub fn wake(&mut self, at: Timestamp) {
        self.next_at = Some(self.next_at.map_or(at, |next| next.min(at)));
    }

    /// Takes a decision or says on the object why there is none. A reason that stands already is not written again.
    pub fn settle<T, E: ToString>(
        &mut self,
        object: ObjectId,
        conditions: &[Condition],
        kind: &str,
        result: Result<T, E>,
        now: Timestamp,
    ) -> Option<T> {
        let (value, message) = match result {
            Ok(value) => (Some(value), String::new()),
            Err(error) => (None, error.to_string()),
        };
        let standing = conditions.iter().find(|c| c.kind == kind).map_or("", |c| c.message.as_str());
        if standing != message {
            let condition = Condition { kind: kind.to_owned(), message, since: now };
            self.push(Command::SetCondition { object, condition });
        }
        value
    }
}

/// A loop that cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub struct LoopError {
    /// Which loop.
    pub name: &'static str,
    /// Why.
    pub source: ProposeError,
}

/// Runs `plan` at once, at every change of the state, when it asked to be, and every `period`, until `shutdown`.
///
/// # Errors
/// Only a fault of the store ends it. While this manager does not lead, or has no quorum, it waits.
pub async fn run(
    name: &'static str,
    store: Store,
    period: Duration,
    mut plan: impl FnMut(&State, Timestamp) -> Plan + Send,
    shutdown: CancellationToken,
) -> Result<(), LoopError> {
    let mut changed = store.watch();
    let mut backoff = MIN_BACKOFF;
    loop {
        changed.borrow_and_update();
        let started = Instant::now();
        let Plan { commands, next_at } = plan(&store.read(), Timestamp::now());
        let took = started.elapsed();
        let proposed = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            proposed = propose(name, &store, commands) => proposed,
        };
        let wait = match proposed {
            Ok(Progress::Made) => {
                backoff = MIN_BACKOFF;
                let until = next_at
                    .map_or(period, |at| Duration::from(Millis(at.0.saturating_sub(Timestamp::now().0))));
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    // The sender lives as long as the store; an error is as good as a change.
                    _ = timeout(until.min(period), changed.changed()) => {}
                }
                // A pass over a large state must not occupy a core: rest as long as it took.
                took.clamp(DEBOUNCE, MAX_REST)
            }
            Ok(Progress::None) => grow(&mut backoff),
            Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Unavailable(_))) => {
                tracing::debug!(task = name, %error, "cannot propose now");
                grow(&mut backoff)
            }
            Err(source) => return Err(LoopError { name, source }),
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(wait) => {}
        }
    }
}

/// Whether a pass got anywhere.
enum Progress {
    /// Something was accepted, or there was nothing to propose.
    Made,
    /// All of it was refused.
    None,
}

async fn propose(
    name: &'static str,
    store: &Store,
    commands: Vec<Command>,
) -> Result<Progress, ProposeError> {
    let total = commands.len();
    let mut refused = 0;
    let mut commands = commands.into_iter();
    loop {
        let batch: Vec<Command> = commands.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let outcomes = store.propose(batch).await?;
        for error in outcomes.into_iter().filter_map(Result::err) {
            tracing::debug!(task = name, %error, "refused; planning again");
            refused += 1;
        }
    }
    if total > 0 {
        tracing::trace!(task = name, commands = total, refused, "proposed");
    }
    Ok(if total > 0 && refused == total { Progress::None } else { Progress::Made })
}

fn grow(backoff: &mut Duration) -> Duration {
    let wait = *backoff;
    *backoff = (wait * 2).min(MAX_BACKOFF);
    wait
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proto::model::TaskId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::tests::fixture;

    /// Runs a loop over a store of its own until `wanted` passes were made; how long that took.
    async fn passes(
        wanted: usize,
        mut plan: impl FnMut(&State, Timestamp) -> Plan + Send + 'static,
    ) -> (Duration, std::sync::Arc<State>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::for_tests(dir.path()).await.unwrap();
        let (passed, mut passes) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let started = Instant::now();
        let counted = move |state: &State, now: Timestamp| {
            passed.send(()).unwrap();
            plan(state, now)
        };
        let running =
            tokio::spawn(run("test", store.clone(), Duration::from_secs(60), counted, shutdown.clone()));
        for _ in 0..wanted {
            tokio::time::timeout(Duration::from_secs(10), passes.recv())
                .await
                .expect("no further pass")
                .unwrap();
        }
        let took = started.elapsed();
        shutdown.cancel();
        running.await.unwrap().unwrap();
        let state = store.read();
        store.shutdown().await;
        (took, state)
    }

    #[tokio::test]
    async fn refusals_are_not_retried_in_haste() {
        let plan = |_: &State, _: Timestamp| Plan {
            commands: vec![Command::RemoveTask(TaskId::random())],
            next_at: None,
        };
        let (took, _) = passes(6, plan).await;
        assert!(took >= MIN_BACKOFF * (1 + 2 + 4 + 8 + 16), "{took:?}");
    }

    #[tokio::test]
    async fn a_plan_is_made_again_when_it_asked_to_be() {
        let mut first = None;
        let plan = move |_: &State, now: Timestamp| {
            let due = *first.get_or_insert(now.after(Millis(100)));
            Plan { commands: Vec::new(), next_at: (now < due).then_some(due) }
        };
        let (took, _) = passes(2, plan).await;
        assert!(took >= Duration::from_millis(90), "{took:?}");
    }

    #[tokio::test]
    async fn a_large_plan_goes_through_in_batches_and_wakes_the_next_pass() {
        let count = 2 * BATCH + 50;
        let plan = move |state: &State, _: Timestamp| {
            let missing = (state.nodes.len()..count).map(|n| fixture::node(&format!("node{n}")));
            Plan { commands: missing.map(|n| Command::CreateNode(Box::new(n))).collect(), next_at: None }
        };
        let (_, state) = passes(2, plan).await;
        assert_eq!(state.nodes.len(), count);
    }
}
