//! Keeps a member in order for as long as it lives: its certificate in force and of the role that the managers want, and its seat
//! among the managers as the certificate says. Level-triggered: each look compares what is with what should be.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use certs::{CertificateDir, Connector, Identity, SharedIdentity, Target, UnlockKey, join, renewal};
use manager::{ca, run::Start};
use node::managers::AgentStatus;
use proto::{
    error::ApiError,
    model::{Node, Role},
    pb::{self, control_client::ControlClient},
};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{ManagerAddresses, local_manager::LocalManager};

/// Between two looks, when nothing is heard.
const PERIOD: Duration = Duration::from_secs(1);
/// Between attempts to change the role or to take the seat (swarmkit's role manager: 5 s; CSR status: 2 s).
const RETRY: Duration = Duration::from_secs(2);
/// The managers may say for so long that this one is none of them before it joins them anew: what they say travels apart from raft.
const ASTRAY: Duration = Duration::from_secs(8);

/// Certificates of a new root are fetched within this time.
const ROTATION_SPREAD: Duration = Duration::from_secs(3);

/// Keeps certificate and local manager as the managers of the swarm want them.
pub struct RoleReconciler {
    /// The seat.
    pub local_manager: LocalManager,
    /// The identity in use.
    pub identity: SharedIdentity,
    /// Where it is kept.
    pub files: CertificateDir,
    /// Where managers may be.
    pub manager_addresses: ManagerAddresses,
    /// Where the agent stands.
    pub status: watch::Receiver<AgentStatus>,
    /// What the managers say.
    pub session: watch::Receiver<Option<Arc<pb::SessionMessage>>>,
}

/// What is remembered between looks.
#[derive(Default)]
struct ReconcileState {
    /// The identity that lies on the disk.
    kept: Option<Arc<Identity>>,
    /// When the certificate in use is to be renewed.
    due: Option<(Arc<Identity>, SystemTime)>,
    /// Renewals that failed in a row.
    failures: u32,
    /// No attempt to renew before.
    pause: Option<Instant>,
    /// No attempt to take the seat before.
    seat_pause: Option<Instant>,
    /// Since when the managers do not know this manager.
    astray: Option<Instant>,
}

impl RoleReconciler {
    /// Goes on until `stop`, between two steps.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut memory = ReconcileState::default();
        let mut identity = self.identity.subscribe();
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.keep(&mut memory);
            self.settle_seat(&mut memory).await;
            // To ask for a certificate may be broken off; to sit down or rise may not.
            stop.run_until_cancelled(self.settle_certificate(&mut memory)).await;
            tokio::select! {
                // Whatever else there is to see to, no seat is taken any more.
                biased;
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                Ok(()) = identity.changed() => {}
                Ok(()) = self.session.changed() => {}
            }
        }
    }

    /// This node as the managers have it, if they have said so since this start.
    fn told(&self) -> Option<Node> {
        self.status.borrow().manager?;
        let session = self.session.borrow().clone()?;
        session.node.clone().and_then(|node| Node::try_from(node).ok())
    }

    /// Keeps on the disk what is in use: the certificate and what it trusts, locked as the swarm wants it.
    fn keep(&mut self, memory: &mut ReconcileState) {
        let me = self.identity.current();
        let manager = me.role() == Role::Manager;
        let lock = match manager.then(|| self.local_manager.wanted_unlock_key()).flatten() {
            Some(wanted) => wanted,
            None if manager => self.files.unlock().cloned(),
            None => None,
        };
        let files = self.files.clone().with_unlock(lock.clone());
        let relocked = files.unlock() != self.files.unlock();
        let kept = memory.kept.as_ref().is_none_or(|kept| Arc::ptr_eq(kept, &me));
        if relocked
            && manager
            && let Err(error) = self.local_manager.add_unlock_key(lock.as_ref())
        {
            tracing::error!(%error, "the manager's state could not be locked anew");
            return;
        }
        if (relocked || !kept)
            && let Err(error) = files.save(&me)
        {
            tracing::error!(%error, "the certificate could not be kept");
            return;
        }
        (self.files, memory.kept) = (files, Some(me));
        if manager && !self.local_manager.is_wrapped_with(lock.as_ref()) {
            match self.local_manager.set_only_unlock_key(lock) {
                Ok(()) => tracing::info!("the manager's state is locked as the swarm wants it"),
                Err(error) => tracing::error!(%error, "the manager's state could not be locked anew"),
            }
        }
    }

    /// Locks the disk as the swarm wants it before there is a manager's state on it.
    async fn lock_first(&mut self, me: &Identity) -> Result<(), ApiError> {
        let key = unlock_key(&self.manager_addresses.managers(), &self.identity).await?;
        let files = self.files.clone().with_unlock(key.clone());
        files.save(me).map_err(|e| ApiError::internal(format!("the certificate could not be kept: {e}")))?;
        self.files = files;
        self.local_manager.set_unlock_key(key);
        Ok(())
    }

    async fn settle_seat(&mut self, memory: &mut ReconcileState) {
        let me = self.identity.current();
        // Not the store itself: its database must not be held while the seat is left.
        let seated = self.local_manager.store().map(|store| (store.raft_id(), store.is_superseded()));
        let result = match (me.role(), seated) {
            (Role::Worker, None) if self.local_manager.has_state() => self.local_manager.remove_state().await,
            (Role::Worker, None) => return,
            (Role::Worker, Some(_)) => {
                tracing::info!("this node is a manager no longer");
                self.local_manager.remove_state().await
            }
            (Role::Manager, None) => {
                if memory.seat_pause.is_some_and(|until| Instant::now() < until) {
                    return;
                }
                let taken = if self.local_manager.has_state() {
                    self.local_manager.start(Start::Again).await
                } else {
                    match self.lock_first(&me).await {
                        Ok(()) => {
                            self.local_manager.start(Start::Joining(self.manager_addresses.managers())).await
                        }
                        Err(error) => Err(error),
                    }
                };
                if taken.is_ok() {
                    tracing::info!("this node is a manager");
                }
                taken
            }
            (Role::Manager, Some((raft_id, superseded))) => {
                let told = self.told();
                let astray = told.is_some_and(|n| n.spec.role == Role::Manager && n.raft_id != raft_id);
                if !astray && !superseded {
                    memory.astray = None;
                    return;
                }
                let since = *memory.astray.get_or_insert_with(Instant::now);
                if !superseded && since.elapsed() < ASTRAY {
                    return;
                }
                memory.astray = None;
                tracing::warn!("the managers do not count this one among them; joining them anew");
                // With a certificate of the state that wants it back: by an older one, managers that lag would take it for demoted.
                if let Ok(renewed) = self.renew(&me).await {
                    let stays = renewed.role() == Role::Manager;
                    self.identity.replace(renewed);
                    if !stays {
                        return;
                    }
                }
                self.local_manager.restart(Start::Joining(self.manager_addresses.managers())).await
            }
        };
        memory.seat_pause = None;
        if let Err(error) = result {
            tracing::warn!(%error, "this node's place among the managers is not what it should be; trying again");
            memory.seat_pause = Some(Instant::now() + RETRY);
        }
    }

    async fn settle_certificate(&self, memory: &mut ReconcileState) {
        let me = self.identity.current();
        let now = SystemTime::now();
        let due = match &memory.due {
            Some((of, due)) if Arc::ptr_eq(of, &me) => *due,
            _ => {
                let mut due = now + renewal::wait(me.peer(), now, rand::random());
                if moves_on(&me) {
                    // The nodes of a large cluster do not come all at once.
                    due = due.min(now + ROTATION_SPREAD.mul_f64(rand::random()));
                }
                (memory.due, memory.failures, memory.pause) = (Some((me.clone(), due)), 0, None);
                due
            }
        };
        let other_role = self.told().is_some_and(|node| match (me.role(), node.spec.role) {
            (Role::Worker, Role::Manager) => true,
            // Its peers would not talk to a worker: first it leaves raft.
            (Role::Manager, Role::Worker) => node.raft_id == 0,
            (Role::Worker, Role::Worker) | (Role::Manager, Role::Manager) => false,
        });
        // A manager that can issue its own has nobody to wait for.
        let helps_itself = self.helps_itself(&me);
        let paused = memory.pause.is_some_and(|until| Instant::now() < until) && !helps_itself;
        if paused || (now < due && !other_role) {
            return;
        }
        match self.renew(&me).await {
            Ok(renewed) if renewed.role() == me.role() && other_role && now < due => {
                // Raft still counts on it, for a moment.
                memory.pause = Some(Instant::now() + PERIOD / 2);
            }
            Ok(renewed) => {
                let role = renewed.role();
                self.identity.replace(renewed);
                tracing::info!(%role, "certificate renewed");
            }
            Err(error) => {
                memory.failures += 1;
                let pause = if other_role { RETRY } else { renewal::retry(memory.failures) };
                memory.pause = Some(Instant::now() + pause);
                tracing::warn!(%error, "the node's certificate could not be renewed; trying again");
            }
        }
    }

    fn helps_itself(&self, me: &Identity) -> bool {
        me.role() == Role::Manager
            && me.peer().is_expired(SystemTime::now())
            && self.local_manager.store().is_some()
    }

    async fn renew(&self, me: &Identity) -> Result<Identity, ApiError> {
        // With an expired certificate no peer takes a manager for one, and where all have expired there is nobody to ask. A manager
        // holds the cluster's key: it helps itself.
        if self.helps_itself(me)
            && let Some(store) = self.local_manager.store()
        {
            return ca::renew_own(&store.read(), me);
        }
        let mut last = ApiError::unavailable("no manager is known");
        let current = self.status.borrow().manager;
        for manager in current.into_iter().chain(self.manager_addresses.managers()) {
            match ask(manager, &self.identity).await {
                Ok(renewed) => return Ok(renewed),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Whether the root is being replaced, and the certificate is not of the next one yet.
fn moves_on(me: &Identity) -> bool {
    me.newest_root().is_ok_and(|newest| me.issuer() != Some(newest))
}

/// What the swarm's managers lock their disks with; none = they do not.
///
/// # Errors
/// None of these managers answers, or they do not take this node for a manager.
pub(super) async fn unlock_key(
    managers: &[SocketAddr],
    identity: &SharedIdentity,
) -> Result<Option<UnlockKey>, ApiError> {
    let mut last = ApiError::unavailable("no manager is known");
    for manager in managers {
        let asked = async {
            let channel = Connector::member(identity.clone()).connect(Target::manager(*manager)).await?;
            let request = pb::GetUnlockKeyRequest {};
            let reply = ControlClient::new(channel).get_unlock_key(request).await?.into_inner();
            let key = (!reply.key.is_empty()).then(|| reply.key.parse()).transpose();
            key.map_err(|e: certs::LockError| ApiError::internal(e.to_string()))
        };
        match asked.await {
            Ok(key) => return Ok(key),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask(manager: SocketAddr, identity: &SharedIdentity) -> Result<Identity, ApiError> {
    let channel = Connector::member(identity.clone()).connect(Target::manager(manager)).await?;
    join::renew(channel, &identity.current()).await
}
