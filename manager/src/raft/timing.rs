//! How long silence is borne: the election time, as the machines and the lines between them allow it.
//!
//! A fixed time is either slow where everything is well or too short where machines are busy with their tasks, and then
//! leaders come and go without anything having failed. So each manager measures what is late (its own timer ticks, its leader's
//! words, its peers' answers), and bears three times the worst of that beyond the configured election time, up to [`LIMIT`].

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The longest election time that load leads to: a new leader within five seconds, whatever the machines are doing. One that is
/// configured longer stays as it is.
pub(crate) const LIMIT: Duration = Duration::from_millis(2500);
/// How often the worst lateness of all is borne: the next one may be worse.
const MARGIN: u32 = 3;
/// For how long, and up to twice as long, what was late is remembered.
const MEMORY: Duration = Duration::from_secs(15);

/// The election time in force, and what it is measured from. Clones share one measurement.
#[derive(Debug, Clone)]
pub(crate) struct RaftTiming {
    heartbeat: Duration,
    base: Duration,
    worst: Arc<Mutex<WorstDelay>>,
}

/// The worst of the last one to two spans of [`MEMORY`].
#[derive(Debug)]
struct WorstDelay {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl WorstDelay {
    fn turn(&mut self, now: Instant) {
        let age = now.duration_since(self.since);
        if age >= MEMORY {
            self.before = if age < MEMORY * 2 { self.now } else { Duration::ZERO };
            (self.now, self.since) = (Duration::ZERO, now);
        }
    }

    fn note(&mut self, late: Duration, now: Instant) {
        self.turn(now);
        self.now = self.now.max(late);
    }

    fn get(&mut self, now: Instant) -> Duration {
        self.turn(now);
        self.now.max(self.before)
    }
}

impl RaftTiming {
    /// With the cluster's settings, for when nothing is late.
    pub(crate) fn new(heartbeat: Duration, election: Duration) -> Self {
        let worst = WorstDelay { since: Instant::now(), now: Duration::ZERO, before: Duration::ZERO };
        Self { heartbeat, base: election, worst: Arc::new(Mutex::new(worst)) }
    }

    fn worst(&self) -> MutexGuard<'_, WorstDelay> {
        self.worst.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came so much later than it should have. What is later than the longest election time is no load but a fault,
    /// and teaches nothing.
    pub(crate) fn late(&self, by: Duration) {
        if by < self.limit() {
            self.worst().note(by, Instant::now());
        }
    }

    /// Waits for `period`, and learns by how much that was too long. It counts from now: what its caller did before, such as
    /// waiting for the answers of others, is not this manager's lateness.
    pub(crate) async fn wait(&self, period: Duration) {
        let planned = tokio::time::Instant::now() + period;
        tokio::time::sleep_until(planned).await;
        self.late(tokio::time::Instant::now().saturating_duration_since(planned));
    }

    /// The longest election time: what takes longer than that is of no use to anybody.
    pub(crate) fn limit(&self) -> Duration {
        self.base.max(LIMIT)
    }

    /// How often the leader speaks.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// For how long a manager bears silence before it asks the others whether they would vote for it.
    pub(crate) fn election(&self) -> Duration {
        let worst = self.worst().get(Instant::now());
        (self.base + worst * MARGIN).min(self.limit())
    }

    /// After its last message, a leader counts as present for so long; until then this manager votes for no other.
    pub(crate) fn lease(&self) -> Duration {
        self.election().mul_f32(0.75)
    }

    /// For how long without the answers of a majority a leader still counts as one.
    pub(crate) fn patience(&self) -> Duration {
        self.election() * 2
    }

    /// How long an answer to a question before an election is waited for, after so many in a row that too few have answered: longer
    /// and longer, but first the peers' other addresses get their turn.
    pub(crate) fn asking(&self, unanswered: u32) -> Duration {
        let first = (self.election() / 3).max(self.heartbeat * 2);
        (first * (1 + unanswered / 8)).min(self.limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn silence_is_borne_longer_where_things_are_late_and_within_limits() {
        let pace = RaftTiming::new(150 * MS, 900 * MS);
        assert_eq!(pace.election(), 900 * MS, "at rest");
        pace.late(200 * MS);
        pace.late(100 * MS);
        assert_eq!(pace.election(), 1500 * MS, "three times the worst");
        pace.late(2000 * MS);
        assert_eq!(pace.election(), LIMIT);
        let slow = RaftTiming::new(1000 * MS, 10_000 * MS);
        slow.late(900 * MS);
        assert_eq!(slow.election(), 10_000 * MS, "what was asked for is no limit's business");
    }

    #[test]
    fn an_outage_is_no_lateness() {
        let pace = RaftTiming::new(150 * MS, 900 * MS);
        pace.late(10_000 * MS);
        assert_eq!(pace.election(), 900 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_between_two_waits_is_no_lateness() {
        let pace = RaftTiming::new(150 * MS, 900 * MS);
        pace.wait(75 * MS).await;
        tokio::time::advance(400 * MS).await;
        pace.wait(75 * MS).await;
        // The timer's own grain is a millisecond.
        assert!(pace.election() < 910 * MS, "{:?}", pace.election());
        let waiting = pace.wait(75 * MS);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        tokio::time::advance(275 * MS).await;
        waiting.await;
        assert!(pace.election() >= 1500 * MS, "{:?}", pace.election());
    }

    #[test]
    fn what_was_late_is_forgotten() {
        let start = Instant::now();
        let mut worst = WorstDelay { since: start, now: Duration::ZERO, before: Duration::ZERO };
        worst.note(300 * MS, start);
        assert_eq!(worst.get(start + MEMORY), 300 * MS);
        worst.note(20 * MS, start + MEMORY + 500 * MS);
        assert_eq!(worst.get(start + MEMORY * 2 + 600 * MS), 20 * MS);
        assert_eq!(worst.get(start + MEMORY * 10), Duration::ZERO);
    }
}
