//! Which nodes are alive: pure, the clock is an argument.
//!
//! chitchat's phi detector scales with the mean interval between signs of life, which in a small cluster is a fraction of a
//! round; its answer then comes too early or, with a threshold that is safe there, much too late elsewhere. The question here
//! is simple enough for a deadline: a node that nobody has heard of for [`Limits::dead_after`] is dead, and alive again at
//! the next sign of life.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proto::model::NodeId;

/// The detector's limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Silence that makes a node dead.
    pub(super) dead_after: Duration,
    /// Silence after which it is forgotten.
    pub(super) forget_after: Duration,
    /// How often [`Liveness::tick`] is called.
    pub(super) tick: Duration,
}

/// What changed in a tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) died: Vec<NodeId>,
    pub(super) forgotten: Vec<NodeId>,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    alive: bool,
}

/// When each node was last heard.
#[derive(Debug)]
pub(super) struct Liveness {
    limits: Limits,
    seen: BTreeMap<NodeId, Seen>,
    last_tick: Instant,
}

impl Liveness {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, seen: BTreeMap::new(), last_tick: now }
    }

    /// A sign of life. True when the node was dead or unknown until now.
    pub(super) fn heard(&mut self, node: &NodeId, now: Instant) -> bool {
        match self.seen.get_mut(node) {
            Some(seen) => {
                seen.last = now;
                !std::mem::replace(&mut seen.alive, true)
            }
            None => {
                self.seen.insert(node.clone(), Seen { last: now, alive: true });
                true
            }
        }
    }

    /// Judges all nodes.
    pub(super) fn tick(&mut self, now: Instant) -> Verdicts {
        let overslept = now.duration_since(self.last_tick).saturating_sub(self.limits.tick * 2);
        self.last_tick = now;
        let mut verdicts = Verdicts::default();
        for (node, seen) in &mut self.seen {
            if seen.alive && !overslept.is_zero() {
                // While this process did not run it could not hear anybody: that silence accuses no one.
                seen.last = (seen.last + overslept).min(now);
            }
            let silence = now.duration_since(seen.last);
            if seen.alive && silence >= self.limits.dead_after {
                seen.alive = false;
                verdicts.died.push(node.clone());
            } else if !seen.alive && silence >= self.limits.forget_after {
                verdicts.forgotten.push(node.clone());
            }
        }
        for node in &verdicts.forgotten {
            self.seen.remove(node);
        }
        verdicts
    }

    #[cfg(test)]
    fn is_alive(&self, node: &NodeId) -> bool {
        self.seen.get(node).is_some_and(|seen| seen.alive)
    }

    /// Stops watching a node that has left.
    pub(super) fn remove(&mut self, node: &NodeId) {
        self.seen.remove(node);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> (Liveness, Instant, NodeId) {
        let limits = Limits { dead_after: 3000 * MS, forget_after: 60_000 * MS, tick: 250 * MS };
        let now = Instant::now();
        (Liveness::new(limits, now), now, "a".parse().unwrap())
    }

    fn run(liveness: &mut Liveness, from: Instant, ms: u32) -> (Vec<u32>, Vec<u32>) {
        let (mut died, mut forgotten) = (Vec::new(), Vec::new());
        for t in (250..=ms).step_by(250) {
            let verdicts = liveness.tick(from + t * MS);
            died.extend(verdicts.died.iter().map(|_| t));
            forgotten.extend(verdicts.forgotten.iter().map(|_| t));
        }
        (died, forgotten)
    }

    #[test]
    fn silence_kills_once_and_a_word_revives() {
        let (mut liveness, t0, node) = start();
        assert!(liveness.heard(&node, t0));
        assert!(!liveness.heard(&node, t0));
        assert_eq!(run(&mut liveness, t0, 10_000), (vec![3000], vec![]));
        assert!(!liveness.is_alive(&node));
        assert!(liveness.heard(&node, t0 + 10_000 * MS));
        assert!(liveness.is_alive(&node));
    }

    #[test]
    fn the_long_dead_are_forgotten() {
        let (mut liveness, t0, node) = start();
        liveness.heard(&node, t0);
        assert_eq!(run(&mut liveness, t0, 100_000), (vec![3000], vec![60_000]));
    }

    #[test]
    fn a_detector_that_was_asleep_accuses_nobody() {
        let (mut liveness, t0, node) = start();
        liveness.heard(&node, t0);
        run(&mut liveness, t0, 1000);
        let woke = t0 + 20_000 * MS;
        assert_eq!(liveness.tick(woke), Verdicts::default());
        // The rest of the limit still counts from there.
        let (died, _) = run(&mut liveness, woke, 5000);
        assert_eq!(died.len(), 1);
        assert!(died[0] <= 3000);
    }
}
