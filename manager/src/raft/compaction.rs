//! Snapshots, and dropping the log that they cover: by the cluster's settings of the moment, which openraft's own policy,
//! fixed at start, cannot follow.

use std::sync::Arc;

use proto::model::ClusterSpec;
use tokio_util::sync::CancellationToken;

use super::Raft;
use crate::store::publisher::StatePublisher;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Snapshot,
    /// Up to and including this index.
    Purge(u64),
}

/// Indices, 0 = none.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    applied: u64,
    snapshot: u64,
    purged: u64,
}

fn plan(spec: &ClusterSpec, at: Progress) -> Option<Step> {
    if at.applied.saturating_sub(at.snapshot) >= spec.snapshot_interval.max(1) {
        return Some(Step::Snapshot);
    }
    let upto = at.snapshot.saturating_sub(spec.log_entries_for_slow_followers);
    // In strides: a deletion for each entry would cost more than the entries.
    let stride = (spec.snapshot_interval / 10).max(1);
    (upto >= at.purged + stride).then_some(Step::Purge(upto))
}

/// Compacts until `stop`.
pub(crate) async fn run(raft: Raft, published: Arc<StatePublisher>, stop: CancellationToken) {
    let mut metrics = raft.data_metrics();
    let mut last = None;
    loop {
        let at = {
            let m = metrics.borrow_and_update();
            let index = |id: Option<super::LogId>| id.map_or(0, |id| id.index);
            Progress { applied: index(m.last_applied), snapshot: index(m.snapshot), purged: index(m.purged) }
        };
        let state = published.read();
        let spec = state.cluster.as_ref().map(|c| c.spec.clone()).unwrap_or_default();
        let step = plan(&spec, at);
        // A snapshot takes a moment; once is enough for the same starting point.
        let asked = step.map(|s| (s, at.snapshot));
        if asked != last {
            last = asked;
            let done = match step {
                Some(Step::Snapshot) => raft.trigger().snapshot().await,
                Some(Step::Purge(upto)) => raft.trigger().purge_log(upto).await,
                None => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
        match stop.run_until_cancelled(metrics.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_first_and_leaves_what_slow_followers_need() {
        let spec = ClusterSpec {
            snapshot_interval: 100,
            log_entries_for_slow_followers: 20,
            ..ClusterSpec::default()
        };
        let at = |applied, snapshot, purged| plan(&spec, Progress { applied, snapshot, purged });
        assert_eq!(at(99, 0, 0), None);
        assert_eq!(at(100, 0, 0), Some(Step::Snapshot));
        assert_eq!(at(101, 100, 0), Some(Step::Purge(80)));
        assert_eq!(at(101, 100, 80), None);
        assert_eq!(at(10, 10, 0), None);
    }
}
