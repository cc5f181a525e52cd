//! The workers' side: they listen for questions and send answers.

use std::collections::BTreeSet;

use proto::pb::{self, log_broker_server};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{LogBroker, registry::Event};
use crate::{api::auth::Caller, term::no_longer_leads};

/// Questions on their way to one worker.
const STREAM_BUFFER: usize = 16;

#[tonic::async_trait]
impl log_broker_server::LogBroker for LogBroker {
    type ListenStream = ReceiverStream<Result<pb::LogSubscription, Status>>;

    async fn listen(
        &self,
        request: Request<pb::ListenLogsRequest>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let node = Caller::of(&request)?.node()?.clone();
        let term = self.readers.get().await?;
        let (serial, mut questions) = term.registry().listen(&node);
        let (tx, rx) = tokio::sync::mpsc::channel(STREAM_BUFFER);
        let stop = self.stop.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tx.closed() => break,
                    () = stop.cancelled() => break,
                    () = term.over().cancelled() => {
                        // The worker asks for the leader; nobody may be left to be told.
                        let _ = tx.try_send(Err(no_longer_leads().into()));
                        break;
                    }
                    question = questions.recv() => {
                        // The registry replaced this listener by a newer one, or the worker hung up.
                        let Some(question) = question else { break };
                        if tx.send(Ok(question)).await.is_err() {
                            break;
                        }
                    }
                }
            }
            let lost = term.registry().gone(&node, serial);
            for (subscription, sink) in lost {
                // A client that has gone does not miss it.
                let _ = sink.send(Event::Lost { subscription }).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn publish(
        &self,
        request: Request<Streaming<pb::PublishLogsRequest>>,
    ) -> Result<Response<pb::PublishLogsReply>, Status> {
        let node = Caller::of(&request)?.node()?.clone();
        let term = self.readers.get().await?;
        let mut messages = request.into_inner();
        // Subscriptions that this stream serves and has not finished: when it breaks off they are lost.
        let mut serving = BTreeSet::new();
        let outcome = loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = self.stop.cancelled() => break Err(Status::unavailable("the manager is stopping")),
                () = term.over().cancelled() => break Err(no_longer_leads().into()),
            };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(status)) => break Err(status),
                None => break Ok(()),
            };
            let subscription = message.subscription_id;
            serving.insert(subscription.clone());
            if let Some(chunk) = message.chunk {
                // The node's word counts for its own id only.
                let chunk = pb::LogChunk { node_id: node.to_string(), ..chunk };
                let sink = {
                    let registry = term.registry();
                    // What goes wrong as a whole is of no task.
                    let asked =
                        chunk.task_id.is_empty() || registry.asked(&node, &subscription, &chunk.task_id);
                    registry.sink(&node, &subscription).filter(|_| asked)
                };
                // Waiting here is what slows a worker down to the pace of the client. A question that was closed in the
                // meantime is no error: its `close` is under way.
                if let Some(sink) = sink {
                    let _ = sink.send(Event::Chunk(chunk)).await;
                }
            }
            if message.done {
                serving.remove(&subscription);
                let sink = term.registry().finish(&node, &subscription);
                if let Some(sink) = sink {
                    let _ = sink.send(Event::Done { subscription }).await;
                }
            }
        };
        for subscription in serving {
            let sink = term.registry().finish(&node, &subscription);
            if let Some(sink) = sink {
                let event = match outcome {
                    Ok(()) => Event::Done { subscription },
                    Err(_) => Event::Lost { subscription },
                };
                let _ = sink.send(event).await;
            }
        }
        outcome.map(|()| Response::new(pb::PublishLogsReply {}))
    }
}
