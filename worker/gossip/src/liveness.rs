//! Which nodes are alive: pure, the clock is an argument.
//!
//! chitchat's phi detector scales with the mean interval between signs of life, which in a small cluster is a fraction of a
//! round; its answer then comes too early or, with a threshold that is safe there, much too late elsewhere. The question here
//! is simple enough for a deadline: a node that nobody has heard of for [`Limits::dead_after`] is dead, and alive again at
//! the next sign of life.
//!
//! Signs that others pass on come late, and say nothing of the way between that node and this one. Nor does what the node says
//! itself prove that it hears this one: a line may fail in one direction only, and connections that are sent that way are lost.
//! So every node is asked, [`Limits::ask_after`] after its last answer, and is dead to this node if it does not answer by the
//! deadline, whatever else is heard; its answer shows that both directions work, and its own question, answered or not, makes it
//! notice as well. In a large cluster some are asked at a time, those without an answer for longest first, and what is heard
//! otherwise counts for the rest.

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
    /// Time since its last answer after which a node is asked; shorter than `dead_after`.
    pub(super) ask_after: Duration,
    /// Nodes asked in one tick, at most.
    pub(super) asked_per_tick: usize,
    /// Silence after which it is forgotten.
    pub(super) forget_after: Duration,
    /// How often [`Liveness::tick`] is called.
    pub(super) tick: Duration,
}

/// What changed in a tick.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) died: Vec<NodeId>,
    /// To be asked for a sign.
    pub(super) ask: Vec<NodeId>,
    pub(super) forgotten: Vec<NodeId>,
}

#[derive(Debug)]
struct Seen {
    /// Last sign, by whichever way.
    last: Instant,
    /// When it last answered a question; at first when it became known.
    answered: Instant,
    /// When it was asked, since that.
    asked: Option<Instant>,
    alive: bool,
    /// It has not answered: nothing but an answer revives it.
    unreachable: bool,
    /// When it was last heard itself.
    last_direct: Instant,
    /// It did not answer, fell silent, and is heard again: it is to be asked at once.
    calls: bool,
    /// The same, until it has answered or has not.
    returning: bool,
}

impl Seen {
    fn revive(&mut self, now: Instant) -> bool {
        self.last = now;
        !self.unreachable && !std::mem::replace(&mut self.alive, true)
    }
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

    /// The node has answered: it lives, and hears this one. True when it was dead or unknown until now.
    pub(super) fn answered(&mut self, node: &NodeId, now: Instant) -> bool {
        let fresh = Seen {
            last: now,
            answered: now,
            asked: None,
            alive: true,
            unreachable: false,
            last_direct: now,
            calls: false,
            returning: false,
        };
        self.seen.insert(node.clone(), fresh).is_none_or(|before| !before.alive)
    }

    /// A sign of life from the node itself. True when it was dead or unknown until now, and need not answer first.
    pub(super) fn heard(&mut self, node: &NodeId, now: Instant) -> bool {
        let Some(seen) = self.seen.get_mut(node) else { return self.answered(node, now) };
        // One that never fell silent does not hear this node: nothing new.
        let again = seen.unreachable && now.duration_since(seen.last_direct) >= self.limits.ask_after;
        seen.last_direct = now;
        seen.calls |= again;
        seen.returning |= again;
        seen.revive(now)
    }

    /// A sign of life that another node passed on. True when the node was dead or unknown until now.
    pub(super) fn told(&mut self, node: &NodeId, now: Instant) -> bool {
        let Some(seen) = self.seen.get_mut(node) else { return self.answered(node, now) };
        seen.revive(now)
    }

    /// Whether the node is just coming back: it may have heard this one, and trust it, before this one has its answer.
    pub(super) fn is_returning(&self, node: &NodeId) -> bool {
        self.seen.get(node).is_some_and(|seen| seen.returning)
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
                seen.answered = (seen.answered + overslept).min(now);
                seen.asked = seen.asked.map(|at| (at + overslept).min(now));
            }
            let silence = now.duration_since(seen.last);
            let patience = self.limits.dead_after.saturating_sub(self.limits.ask_after);
            let silent = seen.alive && silence >= self.limits.dead_after;
            // The question to one that dies is not repeated, so that no answer will come.
            let unanswered = seen.asked.is_some_and(|at| silent || now.duration_since(at) >= patience);
            if unanswered {
                // To be asked again, when it is its turn.
                (seen.unreachable, seen.asked, seen.answered) = (true, None, now);
                (seen.calls, seen.returning) = (false, false);
            }
            if silent || (seen.alive && unanswered) {
                seen.alive = false;
                verdicts.died.push(node.clone());
            } else if !seen.alive && silence >= self.limits.forget_after {
                verdicts.forgotten.push(node.clone());
            }
        }
        for node in &verdicts.forgotten {
            self.seen.remove(node);
        }
        let due = |s: &Seen| {
            s.asked.is_none() && (s.calls || now.duration_since(s.answered) >= self.limits.ask_after)
        };
        let mut ask: Vec<_> = self.seen.iter_mut().filter(|(_, seen)| due(seen)).collect();
        ask.sort_by_key(|(_, seen)| (!seen.calls, seen.answered));
        for (node, seen) in ask.into_iter().take(self.limits.asked_per_tick) {
            (seen.asked, seen.calls) = (Some(now), false);
            verdicts.ask.push(node.clone());
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
        let limits = Limits {
            dead_after: 3000 * MS,
            ask_after: 1000 * MS,
            asked_per_tick: 2,
            forget_after: 60_000 * MS,
            tick: 250 * MS,
        };
        let now = Instant::now();
        (Liveness::new(limits, now), now, "a".parse().unwrap())
    }

    fn run(liveness: &mut Liveness, from: Instant, ms: u32) -> (Vec<u32>, Vec<u32>) {
        run_with(liveness, from, ms, |_, _, _| {})
    }

    fn run_with(
        liveness: &mut Liveness,
        from: Instant,
        ms: u32,
        mut each: impl FnMut(&mut Liveness, Instant, &Verdicts),
    ) -> (Vec<u32>, Vec<u32>) {
        let (mut died, mut forgotten) = (Vec::new(), Vec::new());
        for t in (250..=ms).step_by(250) {
            let verdicts = liveness.tick(from + t * MS);
            died.extend(verdicts.died.iter().map(|_| t));
            forgotten.extend(verdicts.forgotten.iter().map(|_| t));
            each(liveness, from + t * MS, &verdicts);
        }
        (died, forgotten)
    }

    #[test]
    fn silence_kills_once_and_an_answer_revives() {
        let (mut liveness, t0, node) = start();
        assert!(liveness.heard(&node, t0));
        assert!(!liveness.heard(&node, t0));
        assert_eq!(run(&mut liveness, t0, 10_000), (vec![3000], vec![]));
        assert!(!liveness.is_alive(&node));
        assert!(liveness.answered(&node, t0 + 10_000 * MS));
        assert!(liveness.is_alive(&node));
    }

    #[test]
    fn a_node_that_speaks_and_does_not_hear_is_dead_until_it_answers() {
        let (mut liveness, t0, node) = start();
        liveness.heard(&node, t0);
        // It is heard four times a second, as by its own questions, and answers none.
        let speak = |liveness: &mut Liveness, now, _: &Verdicts| {
            assert!(!liveness.heard(&"a".parse().unwrap(), now));
        };
        assert_eq!(run_with(&mut liveness, t0, 20_000, speak).0, [3000]);
        assert!(!liveness.is_alive(&node));
        // One that is heard again after it was gone is asked at once, and back with its answer.
        let later = t0 + 20_250 * MS;
        run(&mut liveness, t0 + 20_000 * MS, 5000);
        let back = later + 5000 * MS;
        liveness.heard(&node, back);
        assert!(liveness.is_returning(&node));
        let mut asked = false;
        for n in 0..12 {
            asked |= liveness.tick(back + n * 250 * MS).ask == [node.clone()];
        }
        assert!(asked);
        assert!(liveness.answered(&node, back + 3000 * MS));
        assert!(liveness.is_alive(&node) && !liveness.is_returning(&node));
    }

    #[test]
    fn one_that_died_while_it_was_asked_does_not_die_again_when_it_is_back() {
        let (mut liveness, t0, node) = start();
        // Its turn to be asked comes late.
        for other in ["b", "c", "d", "e"] {
            liveness.answered(&other.parse().unwrap(), t0 - MS);
        }
        liveness.answered(&node, t0);
        let others = |liveness: &mut Liveness, now, verdicts: &Verdicts| {
            for other in verdicts.ask.iter().filter(|n| n.as_str() != "a") {
                liveness.answered(other, now);
            }
        };
        assert_eq!(run_with(&mut liveness, t0, 3000, others).0, [3000]);
        liveness.heard(&node, t0 + 3100 * MS);
        let all = |liveness: &mut Liveness, now, verdicts: &Verdicts| {
            for asked in &verdicts.ask {
                liveness.answered(asked, now);
            }
        };
        assert!(run_with(&mut liveness, t0 + 3000 * MS, 10_000, all).0.is_empty());
        assert!(liveness.is_alive(&node));
    }

    #[test]
    fn what_others_say_does_not_keep_a_silent_node_alive() {
        let (mut liveness, t0, node) = start();
        liveness.heard(&node, t0);
        let gossip = |liveness: &mut Liveness, now, _: &Verdicts| {
            assert!(!liveness.told(&"a".parse().unwrap(), now));
        };
        assert_eq!(run_with(&mut liveness, t0, 20_000, gossip).0, [3000]);
        // It is asked again and again, and its own answer counts.
        let later = t0 + 20_000 * MS;
        let answer = |liveness: &mut Liveness, now, verdicts: &Verdicts| {
            if let [asked] = &verdicts.ask[..] {
                liveness.answered(asked, now);
            }
        };
        assert!(run_with(&mut liveness, later, 20_000, answer).0.is_empty());
        assert!(liveness.is_alive(&node));
    }

    #[test]
    fn of_many_some_are_asked_and_others_words_count_for_the_rest() {
        let (mut liveness, t0, _) = start();
        let nodes: Vec<NodeId> = (0..100).map(|n| format!("n{n}").parse().unwrap()).collect();
        for node in &nodes {
            liveness.told(node, t0);
        }
        let mut asked = BTreeMap::new();
        let each = |liveness: &mut Liveness, now, verdicts: &Verdicts| {
            assert!(verdicts.ask.len() <= 2);
            for node in &nodes {
                liveness.told(node, now);
            }
            for node in &verdicts.ask {
                *asked.entry(node.clone()).or_insert(0) += 1;
                liveness.answered(node, now);
            }
        };
        assert!(run_with(&mut liveness, t0, 26_000, each).0.is_empty());
        assert!(asked.len() == 100 && asked.values().all(|n| (1..=3).contains(n)), "in turn: {asked:?}");
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
        assert_eq!(liveness.tick(woke).died, []);
        // The rest of the limit still counts from there.
        let (died, _) = run(&mut liveness, woke, 5000);
        assert_eq!(died.len(), 1);
        assert!(died[0] <= 3000);
    }
}
