//! Sorting connections: those of raft's messages go on where raft runs, so that nothing else keeps them waiting.

use std::io;

use certs::transport::{Conn, Incoming, Lane};
use futures::{Stream, StreamExt};
use proto::model::Role;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// New connections that wait to be taken over.
const WAITING: usize = 32;

/// Accepted connections, sorted.
pub(crate) struct SplitConnections<O, L> {
    pub(crate) others: O,
    pub(crate) lanes: [(Lane, L); 2],
}

/// Sorts what comes in. Handshakes are made where `others` is polled: strangers get nowhere near raft's threads, nor do members
/// that are no managers.
pub(crate) fn sort(
    incoming: Incoming,
) -> SplitConnections<impl Stream<Item = io::Result<Conn>>, impl Stream<Item = io::Result<Conn>>> {
    let (to_pulse, pulse) = mpsc::channel(WAITING);
    let (to_entries, entries) = mpsc::channel(WAITING);
    let others = incoming.filter_map(move |accepted| {
        std::future::ready(match accepted {
            Ok(conn) => {
                let manager = conn.info().peer.as_ref().is_some_and(|peer| peer.role == Role::Manager);
                match conn.lane().filter(|_| manager) {
                    Some(lane) => {
                        let to = match lane {
                            Lane::Pulse => &to_pulse,
                            Lane::Entries => &to_entries,
                        };
                        // One that cannot be handed over is closed, and its peer dials again.
                        let handed = conn.detach().map(|conn| to.try_send(conn).is_ok());
                        if !matches!(handed, Ok(true)) {
                            tracing::debug!(?lane, "a connection could not be handed over");
                        }
                        None
                    }
                    None => Some(Ok(conn)),
                }
            }
            Err(error) => Some(Err(error)),
        })
    });
    // Polled, and so attached, on the runtime that serves them.
    let taken = |waiting| ReceiverStream::new(waiting).map(Conn::attach);
    SplitConnections { others, lanes: [(Lane::Pulse, taken(pulse)), (Lane::Entries, taken(entries))] }
}
