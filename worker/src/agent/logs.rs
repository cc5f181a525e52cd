//! Output of this node's tasks for whoever asks a manager: subscriptions come down one stream, lines go up others.

use std::{collections::HashMap, sync::Arc};

use futures::StreamExt;
use node::managers::{TaskLogOptions, TaskLogs};
use proto::pb::{self, log_broker_client::LogBrokerClient};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::session::SessionError;

/// Lines that go in one message at most. They have 16 KiB each at most, and a message 4 MiB.
const LINES_PER_CHUNK: usize = 128;
/// Messages on their way to a slow reader; then the log file waits, not memory.
const CHUNKS_AHEAD: usize = 8;

/// Serves subscriptions until the stream ends.
pub(super) async fn serve(
    channel: Channel,
    session: String,
    source: Arc<dyn TaskLogs>,
) -> Result<std::convert::Infallible, SessionError> {
    let mut client = LogBrokerClient::new(channel);
    let request = pb::ListenLogsRequest { session_id: session };
    let mut subscriptions = client.listen(request).await?.into_inner();
    // Dropped with this future: no answer outlives the session it was asked in.
    let mut running = JoinSet::new();
    let mut by_id: HashMap<String, AbortHandle> = HashMap::new();
    while let Some(subscription) = subscriptions.message().await? {
        while running.try_join_next().is_some() {}
        by_id.retain(|_, handle| !handle.is_finished());
        if subscription.close {
            if let Some(handle) = by_id.remove(&subscription.id) {
                handle.abort();
            }
            continue;
        }
        let id = subscription.id.clone();
        by_id.insert(id, running.spawn(answer(client.clone(), subscription, source.clone())));
    }
    Err(SessionError::Ended("log"))
}

async fn answer(
    mut client: LogBrokerClient<Channel>,
    subscription: pb::LogSubscription,
    source: Arc<dyn TaskLogs>,
) {
    let (tx, rx) = mpsc::channel(CHUNKS_AHEAD);
    let id = subscription.id.clone();
    let read = async move {
        let options = subscription.options.unwrap_or(pb::LogOptions { tail: -1, ..Default::default() });
        let options = TaskLogOptions {
            follow: options.follow,
            tail: usize::try_from(options.tail).ok(),
            since: match options.since_nanos {
                0 => options.since.saturating_mul(1_000_000),
                nanos => nanos,
            },
            until: options.until_nanos,
        };
        let all = subscription.task_ids.into_iter().map(|task| {
            let (tx, source, id) = (tx.clone(), source.clone(), subscription.id.clone());
            async move { read_task(&id, task, options, &*source, &tx).await }
        });
        futures::future::join_all(all).await;
        let done = pb::PublishLogsRequest { subscription_id: subscription.id, chunk: None, done: true };
        let _ = tx.send(done).await;
    };
    // `read` owns the only sender left, so the call ends after it.
    let (published, ()) = tokio::join!(client.publish(ReceiverStream::new(rx)), read);
    if let Err(status) = published {
        tracing::debug!(subscription = %id, %status, "log lines not taken");
    }
}

/// Sends a task's lines; stops when nobody takes them any more.
async fn read_task(
    subscription: &str,
    task: String,
    options: TaskLogOptions,
    source: &dyn TaskLogs,
    tx: &mpsc::Sender<pb::PublishLogsRequest>,
) {
    let message = |lines: Vec<pb::LogLine>, error: String| pb::PublishLogsRequest {
        subscription_id: subscription.to_owned(),
        chunk: Some(pb::LogChunk { task_id: task.clone(), lines, error, ..pb::LogChunk::default() }),
        done: false,
    };
    let lines = match task.parse() {
        Ok(id) => source.logs(&id, options).await,
        Err(e) => Err(format!("{e}")),
    };
    let mut chunks = match lines {
        Ok(lines) => lines.ready_chunks(LINES_PER_CHUNK),
        Err(error) => {
            let _ = tx.send(message(Vec::new(), error)).await;
            return;
        }
    };
    while let Some(chunk) = chunks.next().await {
        let (mut lines, mut error) = (Vec::with_capacity(chunk.len()), String::new());
        for line in chunk {
            match line {
                Ok(line) => lines.push(line),
                Err(e) => error = e,
            }
        }
        if tx.send(message(lines, error)).await.is_err() {
            return;
        }
    }
}
