//! From commands to outcomes. Proposals that arrive while one is on its way to the disk share the next entry: each command
//! answers on its own anyway, and an entry costs a flush and a round whatever its size.

use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use prost::Message;
use proto::{model::Timestamp, pb};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Leadership,
    command::{Command, Outcome, RULES},
    error::ProposeError,
};
use crate::raft::{Encoded, Raft, timing::RaftTiming};

/// Bytes of commands from which on an entry takes no more (swarmkit: 1.5 MiB a transaction).
const ENTRY_BYTES: usize = 3 << 19;

/// Somebody's commands and where their outcomes go.
pub(crate) struct Pending {
    commands: Vec<pb::Command>,
    bytes: usize,
    /// They are of the work of this term, and of no other.
    term: Option<u64>,
    reply: oneshot::Sender<Result<Vec<Outcome>, ProposeError>>,
}

impl Pending {
    pub(crate) fn new(
        commands: Vec<Command>,
        term: Option<u64>,
        reply: oneshot::Sender<Result<Vec<Outcome>, ProposeError>>,
    ) -> Self {
        let commands: Vec<pb::Command> = commands.into_iter().map(Into::into).collect();
        Self { bytes: commands.iter().map(Message::encoded_len).sum(), commands, term, reply }
    }
}

/// Proposes what arrives in `queue`, one entry at a time, until `stop`.
pub(crate) async fn run(
    raft: Raft,
    mut queue: mpsc::Receiver<Pending>,
    mut leadership: watch::Receiver<Leadership>,
    pace: RaftTiming,
    stop: CancellationToken,
) {
    let mut held_back: Option<Pending> = None;
    loop {
        let first = match held_back.take() {
            Some(pending) => pending,
            None => match stop.run_until_cancelled(queue.recv()).await {
                Some(Some(pending)) => pending,
                Some(None) | None => return,
            },
        };
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while let Ok(next) = queue.try_recv() {
            bytes += next.bytes;
            if bytes > ENTRY_BYTES {
                held_back = Some(next);
                break;
            }
            batch.push(next);
        }
        let led = stop
            .run_until_cancelled(term(&mut leadership, pace.patience()))
            .await
            .unwrap_or_else(|| Err(stopping()));
        let another = |p: &Pending| led.as_ref().is_ok_and(|led| p.term.is_some_and(|term| term != *led));
        let (past, now): (Vec<_>, Vec<_>) = batch.into_iter().partition(another);
        for pending in past {
            // A caller that has gone away is no error, here and below.
            let _ = pending.reply.send(Err(ProposeError::NotLeader { leader: None }));
        }
        if now.is_empty() {
            continue;
        }
        let mut commands = Vec::new();
        let replies: Vec<_> = now
            .into_iter()
            .map(|p| {
                let count = p.commands.len();
                commands.extend(p.commands);
                (count, p.reply)
            })
            .collect();
        let proposal = pb::Proposal { commands, at: Timestamp::now().0, rules: RULES };
        let result = match led {
            Ok(term) => {
                let written = write(&raft, &mut leadership, term, &proposal);
                stop.run_until_cancelled(written).await.unwrap_or_else(|| Err(stopping()))
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (count, reply) in replies {
                    let _ = reply.send(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(e) => {
                for (_, reply) in replies {
                    let _ = reply.send(Err(e.clone()));
                }
            }
        }
    }
}

fn stopping() -> ProposeError {
    ProposeError::Fatal("the manager is stopping".into())
}

/// The term in which this manager leads.
async fn term(leadership: &mut watch::Receiver<Leadership>, patience: Duration) -> Result<u64, ProposeError> {
    // Between two leaders there is a moment without one; most callers would only come back.
    let known = async { leadership.wait_for(|l| *l != Leadership::None).await.map(|now| now.clone()) };
    match timeout(patience, known).await {
        Ok(Ok(Leadership::Leader { term })) => Ok(term),
        Ok(Ok(Leadership::Follower { leader })) => Err(ProposeError::NotLeader { leader }),
        Ok(Ok(Leadership::None)) | Err(_) => Err(ProposeError::no_quorum()),
        Ok(Err(_)) => Err(stopping()),
    }
}

async fn write(
    raft: &Raft,
    leadership: &mut watch::Receiver<Leadership>,
    term: u64,
    proposal: &pb::Proposal,
) -> Result<Vec<Outcome>, ProposeError> {
    let lost = async { drop(leadership.wait_for(|l| *l != Leadership::Leader { term }).await) };
    tokio::select! {
        biased;
        written = raft.client_write(Encoded(proposal.encode_to_vec())) => match written {
            Ok(response) => Ok(response.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                let member = forward.leader_node.and_then(|m| Some((m.node_id?, m.addr?)));
                Err(ProposeError::NotLeader { leader: member })
            }
            Err(RaftError::APIError(e)) => Err(ProposeError::Unavailable(e.to_string())),
            Err(RaftError::Fatal(e)) => Err(ProposeError::Fatal(e.to_string())),
        },
        _ = lost => Err(ProposeError::Unavailable(
            "this manager lost the leadership before the change was confirmed; it may still be carried out".into(),
        )),
    }
}
