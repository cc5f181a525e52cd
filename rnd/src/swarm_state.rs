//! This node's membership: in no swarm, a member, failed, or changing. Changes run one at a time, each in a task of its own that goes on to its end
//! whether or not the one who asked for it is still there. Meanwhile everybody else is answered.

use std::{fmt, sync::Arc, time::Duration};

use proto::error::ApiError;
use tokio::{
    sync::{RwLock, watch},
    time::timeout,
};

use crate::swarm::Member;

/// Where this node stands.
pub enum SwarmState {
    /// In no swarm.
    Inactive,
    /// A member.
    Active(Box<Member>),
    /// The disk remembers a swarm that could not be entered again.
    Failed(ApiError),
    /// On its way from one to another.
    Changing(Change),
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `swarm init`.
    Initialising,
    /// `swarm join`.
    Joining,
    /// `swarm leave`.
    Leaving,
    /// `swarm unlock`.
    Unlocking,
    /// `swarm init --force-new-cluster`.
    StartingOver,
    /// The machine has other addresses.
    Moving,
    /// The daemon ends.
    Stopping,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Initialising => "this node is just starting a swarm",
            Change::Joining => "this node is just joining a swarm",
            Change::Leaving => "this node is just leaving its swarm",
            Change::Unlocking => "this node is just being unlocked",
            Change::StartingOver => "this node is just starting a new swarm from its state",
            Change::Moving => "this node is just taking up its new addresses",
            Change::Stopping => "the daemon is just stopping",
        })
    }
}

impl Change {
    /// To who wants another one meanwhile.
    pub fn refusal(self) -> ApiError {
        ApiError::precondition(format!(
            "{self}: that goes on to its end, whether or not its command was interrupted"
        ))
        .help("rnctl info tells when it is done; then try again")
    }

    /// Whether the node is a member before it and after it.
    pub fn is_passing(self) -> bool {
        matches!(self, Change::StartingOver | Change::Moving)
    }
}

/// This node's membership and the change that it is in. The lock is held for moments only.
pub struct SwarmStateCell {
    now: RwLock<SwarmState>,
    /// Counts changes that have come to their end.
    ended: watch::Sender<u64>,
}

impl SwarmStateCell {
    /// Begins with `swarm_state`.
    pub fn new(swarm_state: SwarmState) -> Self {
        Self { now: RwLock::new(swarm_state), ended: watch::Sender::new(0) }
    }

    /// Looks at it. Not to be held while anything is waited for.
    pub async fn read(&self) -> tokio::sync::RwLockReadGuard<'_, SwarmState> {
        self.now.read().await
    }

    /// Makes a change, if `may` lets it: `work` is given what stands now, and gives back what stands then. Dropping the future does not
    /// stop it.
    ///
    /// # Errors
    /// Another one is under way; `may` or `work` refuses.
    pub async fn change<T, F>(
        self: &Arc<Self>,
        change: Change,
        may: impl FnOnce(&SwarmState) -> Result<(), ApiError>,
        work: impl FnOnce(SwarmState) -> F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = (SwarmState, Result<T, ApiError>)> + Send + 'static,
    {
        let before = {
            let mut now = self.now.write().await;
            if let SwarmState::Changing(other) = &*now {
                return Err(other.refusal());
            }
            may(&now)?;
            std::mem::replace(&mut *now, SwarmState::Changing(change))
        };
        // No pause between the note and the work that takes it away again.
        let (standings, work) = (self.clone(), tokio::spawn(work(before)));
        let whole = tokio::spawn(async move {
            let (after, result) = work.await.unwrap_or_else(|panic| {
                let error = ApiError::internal(format!("{change}, and that failed: {panic}"))
                    .help("restart the daemon: it goes by what is on its disk");
                (SwarmState::Failed(error.clone()), Err(error))
            });
            *standings.now.write().await = after;
            standings.ended.send_modify(|n| *n += 1);
            result
        });
        whole.await.map_err(|e| ApiError::internal(e.to_string()))?
    }

    /// Waits until no change that `of` means is under way, for `limit` at most; whether that is so.
    pub async fn settled(&self, of: impl Fn(Change) -> bool, limit: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        let settled = async {
            loop {
                ended.mark_unchanged();
                match &*self.now.read().await {
                    SwarmState::Changing(change) if of(*change) => {}
                    _ => return,
                }
                // The sender is this value's own.
                let _ = ended.changed().await;
            }
        };
        timeout(limit, settled).await.is_ok()
    }

    /// Takes what stands, for good: nothing changes any more. A change under way comes to its end first, if it does within `limit`.
    pub async fn close(&self, limit: Duration) -> SwarmState {
        if !self.settled(|_| true, limit).await {
            tracing::warn!("stopping in the middle of a change of this node's membership");
        }
        std::mem::replace(&mut *self.now.write().await, SwarmState::Changing(Change::Stopping))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use tokio::sync::oneshot;

    use super::*;

    fn free(_: &SwarmState) -> Result<(), ApiError> {
        Ok(())
    }

    #[tokio::test]
    async fn a_change_ends_though_nobody_waits_and_others_are_refused_meanwhile() {
        let standings = Arc::new(SwarmStateCell::new(SwarmState::Inactive));
        let (go, gone) = oneshot::channel::<()>();
        let asked = standings.change(Change::Joining, free, |_| async {
            let _ = gone.await;
            (SwarmState::Failed(ApiError::internal("done")), Ok(()))
        });
        // The client goes away at once.
        assert!(timeout(Duration::from_millis(1), asked).await.is_err());
        assert!(matches!(*standings.read().await, SwarmState::Changing(Change::Joining)));
        let second = standings.change(Change::Initialising, free, |s| async { (s, Ok(())) }).await;
        assert!(second.unwrap_err().message.contains("just joining"));
        assert!(!standings.settled(|_| true, Duration::ZERO).await);
        go.send(()).unwrap();
        assert!(standings.settled(|_| true, Duration::from_secs(10)).await);
        assert!(matches!(&*standings.read().await, SwarmState::Failed(e) if e.message == "done"));
    }

    #[tokio::test]
    async fn what_is_refused_changes_nothing_and_a_defect_blocks_nothing() {
        let standings = Arc::new(SwarmStateCell::new(SwarmState::Inactive));
        let refuse = |_: &SwarmState| Err(ApiError::precondition("no"));
        let refused = standings.change(Change::Leaving, refuse, |s| async { (s, Ok(())) }).await;
        assert!(refused.is_err() && matches!(*standings.read().await, SwarmState::Inactive));
        let broken: Result<(), _> =
            standings.change(Change::Leaving, free, |_| async { panic!("a defect") }).await;
        assert!(broken.is_err() && matches!(*standings.read().await, SwarmState::Failed(_)));
        assert!(matches!(standings.close(Duration::ZERO).await, SwarmState::Failed(_)));
        let late = standings.change(Change::Joining, free, |s| async { (s, Ok(())) }).await;
        assert!(late.unwrap_err().message.contains("stopping"));
    }
}
