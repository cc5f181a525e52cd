//! Task statuses on their way into raft: what arrives while an entry is being written makes the next entry.
//!
//! That needs no timer: an idle dispatcher proposes a single report at once, and a busy one as many as gather during one
//! commit. (Swarm collects for 100 ms.)

use proto::{
    error::ApiError,
    model::{TaskId, TaskStatus},
};
use tokio::sync::{mpsc, oneshot};

use crate::store::{ProposeError, Store, command::Command};

/// Reports in one raft entry: bounds the entry's size, since a report may carry an error text.
const MAX_BATCH: usize = 1000;
/// Requests waiting for an entry.
const QUEUE: usize = 1024;

struct Report {
    commands: Vec<Command>,
    done: oneshot::Sender<Result<(), ProposeError>>,
}

/// The way in.
#[derive(Clone)]
pub struct Reports(mpsc::Sender<Report>);

impl Reports {
    /// Starts the task that proposes; it ends with the last clone of the result.
    pub fn spawn(store: Store) -> Self {
        let (tx, rx) = mpsc::channel(QUEUE);
        tokio::spawn(run(store, rx));
        Self(tx)
    }

    /// Reports statuses; returns when they are committed. A report about a task that is gone, or that would take a task
    /// back, is dropped by `apply`.
    ///
    /// # Errors
    /// They could not be committed now; the worker keeps them and sends them again.
    pub async fn report(&self, statuses: Vec<(TaskId, TaskStatus)>) -> Result<(), ApiError> {
        let commands = statuses.into_iter().map(|(id, status)| Command::ReportTask { id, status }).collect();
        let (done, answer) = oneshot::channel();
        let stopped = || ApiError::unavailable("the dispatcher is shutting down");
        self.0.send(Report { commands, done }).await.map_err(|_| stopped())?;
        Ok(answer.await.map_err(|_| stopped())??)
    }
}

async fn run(store: Store, mut queue: mpsc::Receiver<Report>) {
    while let Some(first) = queue.recv().await {
        let mut commands = first.commands;
        let mut waiting = vec![first.done];
        while commands.len() < MAX_BATCH
            && let Ok(next) = queue.try_recv()
        {
            commands.extend(next.commands);
            waiting.push(next.done);
        }
        let result = store.propose(commands).await.map(|outcomes| {
            for rejected in outcomes.into_iter().filter_map(Result::err) {
                tracing::debug!(%rejected, "a status report was dropped");
            }
        });
        for done in waiting {
            // A worker that hung up sends again.
            let _ = done.send(result.clone());
        }
    }
}
