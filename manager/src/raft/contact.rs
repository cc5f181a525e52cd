//! What is heard of the leader, and whether this manager's own raft still answers.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Vote, timing::RaftTiming};

/// A core that has not answered for so long is not waited for by others: its manager says nothing in its name any more. Less
/// than a new leader may take.
const STUCK: Duration = Duration::from_secs(3);

/// When this manager last heard from a leader, and from whom. Clones share one state.
#[derive(Debug, Clone)]
pub(crate) struct LeaderContact {
    pace: RaftTiming,
    last: Arc<Mutex<LastContact>>,
}

/// The last message from a leader: from which, and when.
#[derive(Debug)]
struct LastContact {
    at: Instant,
    /// Term and raft id.
    by: Option<(u64, u64)>,
}

impl LeaderContact {
    /// As if a leader had spoken just now: a manager that starts gives the others time to be heard.
    pub(crate) fn new(pace: RaftTiming) -> Self {
        Self { pace, last: Arc::new(Mutex::new(LastContact { at: Instant::now(), by: None })) }
    }

    fn last(&self) -> MutexGuard<'_, LastContact> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader of this vote has spoken.
    pub(crate) fn heard(&self, vote: &Vote) {
        let before = self.set(vote);
        // Between two leaders it is silent for other reasons than lateness.
        if before.by == by(vote) {
            self.pace.late(before.at.elapsed().saturating_sub(self.pace.heartbeat()));
        }
    }

    /// This manager leads by this vote, with a majority behind it.
    pub(crate) fn leads(&self, vote: &Vote) {
        self.set(vote);
    }

    fn set(&self, vote: &Vote) -> LastContact {
        std::mem::replace(&mut *self.last(), LastContact { at: Instant::now(), by: by(vote) })
    }

    /// How long no leader has spoken.
    pub(crate) fn silence(&self) -> Duration {
        self.last().at.elapsed()
    }

    /// The raft id of the leader that spoke last.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.last().by.map(|(_, id)| id)
    }
}

fn by(vote: &Vote) -> Option<(u64, u64)> {
    Some((vote.leader_id.term, vote.leader_id.node_id))
}

/// Whether raft's core answers. It is asked beside the heartbeats, so that they need not wait for it (it may be waiting for the
/// disk), and yet end when it hangs: a leader that decides nothing any more has to be replaced. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct RaftHealth {
    asked: Arc<Mutex<Option<Instant>>>,
    stopped: Arc<AtomicBool>,
}

impl RaftHealth {
    fn asked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question to the core, unless one is on its way. `ask` tells whether there was an answer.
    pub(crate) fn ask(&self, ask: impl Future<Output = bool> + Send + 'static) {
        if self.asked().is_some() {
            return;
        }
        *self.asked() = Some(Instant::now());
        let this = self.clone();
        tokio::spawn(async move {
            if !ask.await {
                this.stopped.store(true, Ordering::Relaxed);
            }
            *this.asked() = None;
        });
    }

    /// Whether it has stopped, or has not answered for long.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.asked().is_some_and(|at| at.elapsed() > STUCK)
    }
}
