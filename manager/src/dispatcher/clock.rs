//! Nodes' clocks beside the leader's. Nothing is decided by a node's clock: what it dates is translated, and a clock that is
//! far off is named where people look at nodes.

use proto::model::Timestamp;

/// A clock that is off by so many milliseconds is reported on the node. Certificates are valid from an hour before they are issued, so
/// this much does no harm.
const REPORTED_OFFSET: u64 = 30_000;
/// Less than this is chance (the time that a message took), in milliseconds.
const CHANCE: u64 = 10_000;

/// How far a node's clock is ahead of the leader's, in milliseconds; negative: behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockOffset(i64);

impl ClockOffset {
    /// What a message tells that was sent at `sent` by the node's clock and came at `came` by the leader's. The time that it took is
    /// taken for a clock that is behind; of a node that does not say when it sent it (0), nothing is known to be wrong.
    pub fn heard(sent: Timestamp, came: Timestamp) -> Self {
        if sent == Timestamp::default() {
            return Self::default();
        }
        let millis = i128::from(sent.0) - i128::from(came.0);
        Self(i64::try_from(millis).unwrap_or(if millis < 0 { i64::MIN } else { i64::MAX }))
    }

    /// A time of the node's, by the leader's clock. The epoch stands for "never" and stays.
    pub fn translate(self, at: Timestamp) -> Timestamp {
        match at.0 {
            0 => at,
            millis => Timestamp(millis.saturating_add_signed(self.0.saturating_neg()).max(1)),
        }
    }

    /// Whether this is another clock than that, beyond what chance explains.
    pub fn differs(self, other: Self) -> bool {
        self.0.abs_diff(other.0) > CHANCE
    }

    /// What to tell people; empty while the clock is near enough.
    pub fn remark(self) -> String {
        let off = self.0.unsigned_abs();
        if off < REPORTED_OFFSET {
            return String::new();
        }
        let seconds = (off + 500) / 1000;
        let (count, unit) =
            if seconds < 120 { (seconds, "seconds") } else { ((seconds + 30) / 60, "minutes") };
        let side = if self.0 < 0 { "behind" } else { "ahead of" };
        format!("its clock is {count} {unit} {side} the leader's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_dates_is_told_by_the_leaders_clock() {
        let leader = Timestamp(1_795_000_000_000);
        for off in [-600_000_i64, -5, 0, 5, 600_000] {
            let node = Timestamp(leader.0.saturating_add_signed(off));
            let ahead = ClockOffset::heard(node, leader);
            let a_second_ago = Timestamp(node.0 - 1000);
            assert_eq!(ahead.translate(a_second_ago), Timestamp(leader.0 - 1000));
            assert_eq!(ahead.translate(Timestamp(0)), Timestamp(0), "never is never");
        }
        assert_eq!(ClockOffset::heard(Timestamp(0), leader), ClockOffset::default());
        let absurd = ClockOffset::heard(Timestamp(u64::MAX), Timestamp(1));
        assert_eq!(absurd.translate(Timestamp(5)), Timestamp(1));
        assert_eq!(
            ClockOffset::heard(Timestamp(1), Timestamp(u64::MAX)).translate(Timestamp(5)).0,
            5 + i64::MAX as u64
        );
    }

    #[test]
    fn only_a_clock_that_is_far_off_is_worth_a_word() {
        let remark = |millis: i64| ClockOffset(millis).remark();
        assert_eq!(remark(0), "");
        assert_eq!(remark(-29_999), "");
        assert_eq!(remark(30_000), "its clock is 30 seconds ahead of the leader's");
        assert_eq!(remark(-600_000), "its clock is 10 minutes behind the leader's");
        assert!(!ClockOffset(600_000).differs(ClockOffset(595_000)));
        assert!(ClockOffset(600_000).differs(ClockOffset(-600_000)));
    }
}
