//! When to renew a certificate; arithmetic only.

use std::time::{Duration, SystemTime};

use crate::{Peer, root::BACKDATE};

/// First pause after a failed renewal (swarmkit `ca/renewer.go`).
pub const RETRY_MIN: Duration = Duration::from_secs(5);
/// Longest pause between attempts.
pub const RETRY_MAX: Duration = Duration::from_secs(3600);

/// How long to wait from `now` until renewing: to a point between 50 % and 80 % of the certificate's life, placed by `jitter` in
/// 0..=1, so that nodes that joined together do not renew together. Zero when that point has passed.
pub fn wait(certificate: &Peer, now: SystemTime, jitter: f64) -> Duration {
    // Life counts from the issue, not from the backdated start: a one-hour certificate would else be half through when new.
    let issued = certificate.not_before + BACKDATE;
    let life = certificate.not_after.duration_since(issued).unwrap_or_default();
    let due = issued + life.mul_f64(0.5 + 0.3 * jitter.clamp(0.0, 1.0));
    due.duration_since(now).unwrap_or_default()
}

/// The pause after the `failures`-th failure in a row (1 = the first): doubling from [`RETRY_MIN`] to [`RETRY_MAX`].
pub fn retry(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (RETRY_MIN * (1 << doublings)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::model::{ClusterId, NodeId, Role};

    use super::*;

    fn certificate(life: Duration) -> (Peer, SystemTime) {
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let peer = Peer {
            node_id: NodeId::random(),
            role: Role::Worker,
            cluster_id: ClusterId::random(),
            version: Default::default(),
            not_before: issued - BACKDATE,
            not_after: issued + life,
        };
        (peer, issued)
    }

    proptest! {
        #[test]
        fn renewal_falls_between_half_and_four_fifths(hours in 1u64..10_000, jitter in 0.0f64..=1.0, passed in 0.0f64..2.0) {
            let life = Duration::from_secs(hours * 3600);
            let (peer, issued) = certificate(life);
            let fresh = wait(&peer, issued, jitter);
            prop_assert!(fresh >= life.mul_f64(0.499) && fresh <= life.mul_f64(0.801));
            let later = wait(&peer, issued + life.mul_f64(passed), jitter);
            prop_assert!(later <= fresh);
            prop_assert!(passed < 0.81 || later.is_zero());
        }
    }

    #[test]
    fn retries_double_and_stop_at_an_hour() {
        let pauses: Vec<u64> = [1, 2, 3, 10, 11, 1_000].map(|n| retry(n).as_secs()).to_vec();
        assert_eq!(pauses, [5, 10, 20, 2560, 3600, 3600]);
    }
}
