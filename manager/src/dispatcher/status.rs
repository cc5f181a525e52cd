//! Task statuses on their way into raft: what arrives while an entry is being written makes the next entry.
//!
//! That needs no timer: an idle dispatcher proposes a single report at once, and a busy one as many as gather during one
//! commit. (Swarm collects for 100 ms.)

use proto::{
    error::ApiError,
    model::{TaskId, TaskStatus},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    store::{ProposeError, Store, command::Command},
    term::no_longer_leads,
};

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
    /// Starts the task that proposes; it ends when the term is `over`, with all that waits for it.
    pub fn spawn(store: Store, over: CancellationToken) -> Self {
        let (tx, rx) = mpsc::channel(QUEUE);
        tokio::spawn(async move { over.run_until_cancelled(run(store, rx)).await });
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
        self.0.send(Report { commands, done }).await.map_err(|_| no_longer_leads())?;
        Ok(answer.await.map_err(|_| no_longer_leads())??)
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
