//! What only the leader does, for as long as it leads: the loops over the state, and watching over the nodes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api::membership,
    dispatcher::{Dispatcher, Nodes},
    logs::LogBroker,
    loops::{self, LoopSettings},
    store::{Leadership, Store},
    term::Term,
};

/// Before a term's work begins anew after a part of it ended: a fault that comes at once must not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// Does the leader's work whenever this manager leads, until `shutdown`.
pub async fn run(
    store: Store,
    dispatcher: Dispatcher,
    logs: LogBroker,
    settings: LoopSettings,
    shutdown: CancellationToken,
) {
    let mut leadership = store.leadership();
    loop {
        let term = tokio::select! {
            () = shutdown.cancelled() => return,
            led = leadership.wait_for(Leadership::is_leader) => match led {
                Ok(led) => led.clone(),
                // The store has gone.
                Err(_) => return,
            },
        };
        let Leadership::Leader { term: number } = term else { continue };
        tracing::info!(?term, "this manager leads");
        let stop = shutdown.child_token();
        // What was begun with the term ends with this future, however it ends.
        let work = async {
            let (nodes, _readers) = (dispatcher.begin(number), logs.begin(number));
            lead(&store.of_term(number), nodes.term().clone(), settings, stop.clone()).await
        };
        let ended = tokio::select! {
            ended = work => Some(ended),
            () = deposed(&mut leadership, &term) => None,
        };
        // Whatever ended it, the rest of the term's work ends too.
        stop.cancel();
        match ended {
            Some(culprit) if !shutdown.is_cancelled() => {
                tracing::error!(culprit, "a part of the leader's work ended; beginning anew");
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            Some(_) => {}
            None => tracing::info!(?term, "this manager no longer leads"),
        }
    }
}

/// Returns when `leadership` is no longer `term`.
async fn deposed(leadership: &mut watch::Receiver<Leadership>, term: &Leadership) {
    // An error means that the store has gone, and the leadership with it.
    let _ = leadership.wait_for(|now| now != term).await;
}

/// Does the work until a part of it ends, and names that part.
async fn lead(
    store: &Store,
    nodes: Arc<Term<Nodes>>,
    settings: LoopSettings,
    stop: CancellationToken,
) -> String {
    // Decisions are made over a state that has everything that earlier leaders committed.
    while let Err(error) = store.read_index().await {
        tracing::debug!(%error, "waiting for the state to catch up");
        tokio::select! {
            () = stop.cancelled() => return "shutdown".into(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    let mut work: JoinSet<String> = JoinSet::new();
    let token = stop.clone();
    work.spawn(async move { named("node watch", nodes.watch(token).await) });
    let (members, token) = (store.clone(), stop.clone());
    work.spawn(async move { named("demotion", membership::demote(members, token).await) });
    let mut loops = loops::spawn(store, settings, &stop);
    let culprit = tokio::select! {
        ended = work.join_next() => match ended {
            Some(Ok(name)) => name,
            Some(Err(panic)) => panic.to_string(),
            None => "nothing".into(),
        },
        ended = loops.join_next() => match ended {
            Some(Ok(Ok(()))) | None => "a loop without an error".into(),
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(panic)) => panic.to_string(),
        },
    };
    stop.cancel();
    // Ends in order: a loop may be in the middle of a proposal.
    while work.join_next().await.is_some() {}
    while loops.join_next().await.is_some() {}
    culprit
}

fn named<E: std::fmt::Display>(name: &str, result: Result<(), E>) -> String {
    match result {
        Ok(()) => name.to_owned(),
        Err(error) => format!("{name}: {error}"),
    }
}
