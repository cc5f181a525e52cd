//! One client's stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proto::{
    model::{NodeId, TaskId},
    pb::{self, logs_server},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    LogBroker, OfTerm,
    registry::Event,
    targets::{self, Subject},
};
use crate::{store::state::State, term::no_longer_leads};

/// Chunks on their way to one client.
const STREAM_BUFFER: usize = 64;
/// A node that has said nothing for this long, when all is asked for that there is, is given up.
const SILENCE: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl logs_server::Logs for LogBroker {
    type SubscribeStream = ReceiverStream<Result<pb::LogChunk, Status>>;

    async fn subscribe(
        &self,
        request: Request<pb::LogsRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        let subject = Subject::find(&self.store.read(), &request)?;
        let (tx, rx) = mpsc::channel(STREAM_BUFFER);
        let reader = Reader {
            term: self.readers.get().await?,
            broker: self.clone(),
            subject,
            options: request.options.unwrap_or(pb::LogOptions { tail: -1, ..Default::default() }),
            client: tx,
            asked: BTreeSet::new(),
            open: BTreeMap::new(),
            absent: BTreeSet::new(),
        };
        tokio::spawn(reader.run());
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// The client has hung up.
struct ClientGone;

struct Reader {
    broker: LogBroker,
    term: OfTerm,
    subject: Subject,
    options: pb::LogOptions,
    client: mpsc::Sender<Result<pb::LogChunk, Status>>,
    /// Tasks that some node was asked for.
    asked: BTreeSet<TaskId>,
    /// Subscriptions that are not finished.
    open: BTreeMap<String, NodeId>,
    /// Nodes that did not listen: told once, asked again while following.
    absent: BTreeSet<NodeId>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut registry = self.term.registry();
        for subscription in self.open.keys() {
            registry.close(subscription);
        }
    }
}

impl Reader {
    async fn run(mut self) {
        // A client that hangs up is the usual end of `--follow`.
        if let Err(ClientGone) = self.serve().await {
            tracing::debug!(subject = ?self.subject, "log reader hung up");
        }
    }

    async fn serve(&mut self) -> Result<(), ClientGone> {
        let (sink, mut events) = mpsc::channel(STREAM_BUFFER);
        let mut changed = self.broker.store.watch();
        self.ask(&sink, self.options).await?;
        // Tasks that appear while following are new: all that they say is wanted.
        let later = pb::LogOptions { tail: -1, ..self.options };
        let mut heard = Instant::now();
        loop {
            let state = self.broker.store.read();
            let until = self.until();
            let over = until.is_some_and(|until| until <= Instant::now());
            let more = self.options.follow && !over && self.subject.is_open(&state);
            if self.open.is_empty() && !more {
                return Ok(());
            }
            let silence = if more { None } else { Some(heard + SILENCE) };
            tokio::select! {
                () = self.client.closed() => return Err(ClientGone),
                () = self.broker.stop.cancelled() => return Ok(()),
                // Nodes answer another manager from now on.
                () = self.term.over().cancelled() => {
                    return self.client.send(Err(no_longer_leads().into())).await.map_err(|_| ClientGone);
                }
                event = events.recv() => {
                    heard = Instant::now();
                    if let Some(event) = event {
                        self.event(&state, event).await?;
                    }
                }
                alive = changed.changed(), if self.options.follow => {
                    if alive.is_err() {
                        return Ok(());
                    }
                    self.ask(&sink, later).await?;
                }
                // Then the nodes end too.
                () = sleep_until(until.filter(|_| more)) => {}
                () = sleep_until(silence) => {
                    let silent: BTreeSet<NodeId> = self.open.values().cloned().collect();
                    for node in silent {
                        let why = format!("node {} did not answer", targets::node_label(&state, &node));
                        self.tell(&node, why).await?;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// When no more is wanted; none = never.
    fn until(&self) -> Option<Instant> {
        let until = Duration::from_nanos(Some(self.options.until_nanos).filter(|nanos| *nanos != 0)?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Instant::now().checked_add(until.saturating_sub(now))
    }

    async fn event(&mut self, state: &State, event: Event) -> Result<(), ClientGone> {
        match event {
            Event::Chunk(mut chunk) => {
                if let Some(task) = state.tasks.get(chunk.task_id.as_str()) {
                    chunk.service_id = task.service_id.to_string();
                }
                self.client.send(Ok(chunk)).await.map_err(|_| ClientGone)
            }
            Event::Done { subscription } => {
                self.open.remove(&subscription);
                Ok(())
            }
            Event::Lost { subscription } => match self.open.remove(&subscription) {
                Some(node) => {
                    let why =
                        format!("the connection to node {} was lost", targets::node_label(state, &node));
                    self.tell(&node, why).await
                }
                None => Ok(()),
            },
        }
    }

    /// Asks the nodes for tasks that were not asked for yet.
    async fn ask(&mut self, sink: &mpsc::Sender<Event>, options: pb::LogOptions) -> Result<(), ClientGone> {
        let state = self.broker.store.read();
        for (node, tasks) in targets::by_node(&state, &self.subject, &self.asked) {
            let subscription = self.term.registry().ask(&node, &tasks, options, sink);
            match subscription {
                Some(id) => {
                    self.open.insert(id, node);
                    self.asked.extend(tasks);
                }
                None if self.absent.insert(node.clone()) => {
                    let label = targets::node_label(&state, &node);
                    self.tell(
                        &node,
                        format!("logs of {} tasks are missing: node {label} is not available", tasks.len()),
                    )
                    .await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn tell(&self, node: &NodeId, error: String) -> Result<(), ClientGone> {
        let chunk = pb::LogChunk { node_id: node.to_string(), error, ..pb::LogChunk::default() };
        self.client.send(Ok(chunk)).await.map_err(|_| ClientGone)
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
