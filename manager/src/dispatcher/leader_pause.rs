//! Whether a silence is the nodes' or the listener's own: pure.
//!
//! Nodes are given up one by one, when they have been silent for three heartbeats. Where the leader itself did not run, or did not
//! hear, that would be all of them, and every task of the swarm would be replaced for nothing.

use std::{collections::BTreeMap, time::Duration};

use proto::model::NodeId;
use tokio::time::Instant;

/// Longest time between two looks of the leader at its own clock.
const LOOK: Duration = Duration::from_secs(1);

/// The leader's own attention: it means to look at its clock at certain times, and sees by how much it comes too late.
#[derive(Debug, Default)]
pub struct PauseDetector {
    due: Option<Instant>,
}

/// Whether the leader was paused since it last looked at its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseCheck {
    /// The leader has listened but for this long, which nobody's silence counts in.
    Listened(Duration),
    /// It did not run for so long that nobody can be held to what came before.
    Away(Duration),
}

impl PauseDetector {
    /// Until the next look, with heartbeats every `beat`.
    pub fn pause(beat: Duration) -> Duration {
        LOOK.min(beat / 4).max(Duration::from_millis(1))
    }

    /// Looks at the clock.
    pub fn look(&mut self, now: Instant, beat: Duration) -> PauseCheck {
        let late = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        self.due = Some(now + Self::pause(beat));
        if late >= beat { PauseCheck::Away(late) } else { PauseCheck::Listened(late) }
    }
}

/// The nodes that have fallen silent together, where these are most of all: `deadlines` says until when each has time, and one of them
/// has none left. Nodes beat once in `beat`, so that of those that a deaf leader does not hear the last one's time passes that much
/// later than the first one's.
///
/// One node's silence is its own, and so is that of half of them or less.
pub fn together(deadlines: &BTreeMap<NodeId, Instant>, now: Instant, beat: Duration) -> Option<Vec<NodeId>> {
    // Beats come up to a tenth late by design, and some more by chance.
    let soon = now + beat.mul_f32(1.25);
    let silent: Vec<NodeId> =
        deadlines.iter().filter(|(_, deadline)| **deadline <= soon).map(|(node, _)| node.clone()).collect();
    (silent.len() > 1 && silent.len() * 2 > deadlines.len()).then_some(silent)
}

/// Status messages of nodes whose deadline was reset, kept for a while so that users see why.
#[derive(Debug, Default)]
pub struct ResetReasons(BTreeMap<NodeId, (String, Instant)>);

impl ResetReasons {
    /// Says `what` of `node` until `until`.
    pub fn make(&mut self, node: &NodeId, what: &str, until: Instant) {
        self.0.insert(node.clone(), (what.to_owned(), until));
    }

    /// What there is to say of `node`.
    pub fn of(&self, node: &NodeId) -> Option<&str> {
        self.0.get(node).map(|(what, _)| what.as_str())
    }

    /// Forgets what was to be said until `now`, and of nodes that are not `known`.
    pub fn retain(&mut self, now: Instant, known: impl Fn(&NodeId) -> bool) {
        self.0.retain(|node, (_, until)| *until > now && known(node));
    }

    /// When the next one is to be forgotten.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, until)| *until).min()
    }
}

/// What is said where the leader was away.
pub fn was_away(late: Duration) -> String {
    format!(
        "the leader did not run for {:.1} s: all nodes have their time to be heard of anew",
        late.as_secs_f32()
    )
}

/// What is said where `silent` of `all` nodes fell silent together.
pub fn was_deaf(silent: usize, all: usize) -> String {
    format!(
        "{silent} of {all} nodes fell silent within one heartbeat, which is taken for a fault of the leader or of its network: they \
         have their time to be heard of once more"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const BEAT: Duration = Duration::from_secs(5);

    #[test]
    fn a_leader_that_was_stopped_knows_it_by_its_own_clock() {
        let (mut attention, start) = (PauseDetector::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(
            attention.look(at(0), BEAT),
            PauseCheck::Listened(Duration::ZERO),
            "nothing to be late for"
        );
        assert_eq!(attention.look(at(400), BEAT), PauseCheck::Listened(Duration::ZERO), "before its time");
        assert_eq!(attention.look(at(1400), BEAT), PauseCheck::Listened(Duration::ZERO));
        assert_eq!(
            attention.look(at(2700), BEAT),
            PauseCheck::Listened(Duration::from_millis(300)),
            "starved a little"
        );
        assert_eq!(attention.look(at(24_700), BEAT), PauseCheck::Away(Duration::from_secs(21)));
        assert_eq!(attention.look(at(25_700), BEAT), PauseCheck::Listened(Duration::ZERO), "said once");
    }

    #[test]
    fn most_nodes_together_are_the_listeners_fault_and_single_ones_are_not() {
        let now = Instant::now();
        let nodes = |times: &[i64]| -> BTreeMap<NodeId, Instant> {
            let at = |ms: i64| {
                let by = Duration::from_millis(ms.unsigned_abs());
                if ms < 0 { now - by } else { now + by }
            };
            times.iter().map(|ms| (NodeId::random(), at(*ms))).collect()
        };
        let count = |times: &[i64]| together(&nodes(times), now, BEAT).map_or(0, |silent| silent.len());
        assert_eq!(count(&[0]), 0, "a node that is alone");
        assert_eq!(count(&[0, 14_000]), 0, "one of two");
        assert_eq!(count(&[0, 1000]), 2, "both of two");
        assert_eq!(count(&[0, 14_000, 12_000, 13_000]), 0, "one of four");
        assert_eq!(count(&[0, -10, 12_000, 13_000]), 0, "half of them");
        assert_eq!(count(&[0, 4800, 3000, 13_000]), 3, "all but the leader's own");
        assert_eq!(count(&[0, 0, 0, 0, 9000, 9000, 9000]), 4, "as a new leader finds them");
    }
}
