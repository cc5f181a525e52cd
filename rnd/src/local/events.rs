//! `events`: what has happened and what happens.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use manager::events::ClusterEvent;
use proto::pb;
use runtime::{Event, Events};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Events on their way to a client.
const AHEAD: usize = 64;

/// The events that a request asks for; ends at its `until`.
pub(super) fn stream(
    events: &Arc<Events>,
    request: pb::EventsRequest,
) -> BoxStream<'static, Result<pb::Event, Status>> {
    let (since, until) = (request.since_nanos, request.until_nanos);
    let (past, mut coming) = events.subscribe(if since == 0 { u64::MAX } else { since });
    let within = move |event: &Event| until == 0 || event.at_nanos <= until;
    let past = stream::iter(past.into_iter().filter(within).map(|event| Ok(shown(event))));
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let end = async {
            match until {
                0 => std::future::pending().await,
                until => tokio::time::sleep(from_now(until)).await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                event = coming.recv() => event,
                () = &mut end => return,
                () = sender.closed() => return,
            };
            match event {
                Ok(event) if within(&event) => {
                    if sender.send(Ok(shown(event))).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a reader of the events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    past.chain(ReceiverStream::new(receiver)).boxed()
}

fn from_now(at_nanos: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_nanos(at_nanos).saturating_sub(now)
}

fn shown(event: Event) -> pb::Event {
    pb::Event {
        at_nanos: event.at_nanos,
        kind: event.kind.into(),
        action: event.action,
        id: event.id,
        attributes: event.attributes,
        scope: if event.swarm { "swarm" } else { "local" }.into(),
    }
}

/// Publishes what changes in a manager's store, until the manager ends.
pub async fn follow(mut changes: manager::store::Changes, events: Arc<Events>) {
    loop {
        match changes.recv().await {
            Ok(batch) => {
                for ClusterEvent { kind, action, id, attributes } in
                    batch.iter().filter_map(manager::store::Change::event)
                {
                    let event = Event::swarm(kind, action, &id);
                    events.publish(Event { attributes, ..event });
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events of the swarm were missed");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
