//! The manager of this node: started while its certificate says manager.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certs::{SharedIdentity, UnlockKey};
use manager::{
    api::{forward::LeaderProxy, validate::cluster::Limits},
    loops::LoopSettings,
    raft::AddressLookup,
    run::{Environment, Manager, ManagerConfig, ManagerError, Start},
    store::{Store, rewrap},
};
use proto::{error::ApiError, model::Protocol};
use runtime::Events;

use super::Membership;
use crate::{local, port};

/// The manager of this node, running or not. Clones are handles of the same one.
#[derive(Clone)]
pub struct LocalManager(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    identity: SharedIdentity,
    membership: Membership,
    loops: LoopSettings,
    limits: Limits,
    hints: AddressLookup,
    /// What unwraps the state's key.
    unlock: Mutex<Option<UnlockKey>>,
    /// Where what changes in the manager's store is told.
    events: Arc<Events>,
    state: Mutex<ManagerState>,
    /// Held by who takes the seat or leaves it, so that only one does.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
enum ManagerState {
    #[default]
    Stopped,
    Running(Manager),
    Failed(ApiError),
}

impl LocalManager {
    /// An empty one; the manager's state lies, or will lie, in `dir`.
    pub fn new(
        dir: PathBuf,
        identity: SharedIdentity,
        membership: Membership,
        (loops, limits): (LoopSettings, Limits),
        hints: AddressLookup,
        unlock: Option<UnlockKey>,
        events: Arc<Events>,
    ) -> Self {
        let (state, changing, unlock) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::new(unlock));
        Self(Arc::new(Inner {
            dir,
            identity,
            membership,
            loops,
            limits,
            hints,
            unlock,
            events,
            state,
            changing,
        }))
    }

    fn state(&self) -> MutexGuard<'_, ManagerState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_manager<T>(&self, of: impl FnOnce(&Manager) -> T) -> Option<T> {
        match &*self.state() {
            ManagerState::Running(manager) => Some(of(manager)),
            ManagerState::Stopped | ManagerState::Failed(_) => None,
        }
    }

    /// The manager's API, while there is one.
    pub fn api(&self) -> Option<LeaderProxy> {
        self.with_manager(Manager::local)
    }

    /// The manager's store, while there is one.
    pub fn store(&self) -> Option<Store> {
        self.with_manager(|m| m.store().clone())
    }

    /// Why the seat could not be taken.
    pub fn error(&self) -> Option<ApiError> {
        match &*self.state() {
            ManagerState::Failed(error) => Some(error.clone()),
            ManagerState::Stopped | ManagerState::Running(_) => None,
        }
    }

    /// Whether a manager's state lies on the disk.
    pub fn has_state(&self) -> bool {
        self.0.dir.join("db/CURRENT").exists()
    }

    /// Takes the seat, unless it is taken.
    ///
    /// # Errors
    /// The manager does not start; [`Self::error`] says so too, until the next attempt.
    pub async fn start(&self, start: Start) -> Result<(), ApiError> {
        let _changing = self.0.changing.lock().await;
        if self.api().is_some() { Ok(()) } else { self.run(start).await }
    }

    /// Leaves the seat and takes it again in another way.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn restart(&self, start: Start) -> Result<(), ApiError> {
        let _changing = self.0.changing.lock().await;
        self.shut_down().await;
        self.run(start).await
    }

    /// Leaves the seat; the state stays on the disk.
    pub async fn stop(&self) {
        let _changing = self.0.changing.lock().await;
        self.shut_down().await;
    }

    /// Tells the other managers not to count on this one any more, and leaves the seat.
    ///
    /// # Errors
    /// They do not agree; the seat is left all the same.
    pub async fn leave_raft(&self) -> Result<(), ApiError> {
        let _changing = self.0.changing.lock().await;
        let manager = std::mem::take(&mut *self.state());
        let ManagerState::Running(manager) = manager else { return Ok(()) };
        let told = manager.leave(&self.0.identity).await;
        manager.shutdown().await;
        told
    }

    /// Leaves the seat for good: a worker has no manager's state on its disk.
    ///
    /// # Errors
    /// The state cannot be deleted.
    pub async fn remove_state(&self) -> Result<(), ApiError> {
        let _changing = self.0.changing.lock().await;
        self.shut_down().await;
        self.forget()
    }

    /// The key that the swarm locks its managers with; `None` in the outer place while this is no manager that knows.
    pub fn wanted_unlock_key(&self) -> Option<Option<UnlockKey>> {
        let state = self.store()?.read();
        let key = &state.cluster.as_ref()?.unlock_key.0;
        if key.is_empty() { Some(None) } else { key.parse().ok().map(Some) }
    }

    /// Whether the manager's state is locked with `key`, and with nothing else.
    pub fn is_wrapped_with(&self, key: Option<&UnlockKey>) -> bool {
        self.lock().as_ref() == key
    }

    /// The state that a seat yet to be taken makes is locked with `key` from its first byte.
    pub fn set_unlock_key(&self, key: Option<UnlockKey>) {
        *self.lock() = key;
    }

    /// Wraps the manager's state so that the key in use and `new` open it: before the certificate is locked with `new`.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn add_unlock_key(&self, new: Option<&UnlockKey>) -> Result<(), ApiError> {
        let lock = self.lock();
        rewrap(&self.0.dir, lock.as_ref(), &[lock.as_ref(), new])
    }

    /// Wraps the manager's state so that `new` alone opens it, after [`Self::add_unlock_key`].
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn set_only_unlock_key(&self, new: Option<UnlockKey>) -> Result<(), ApiError> {
        let mut lock = self.lock();
        rewrap(&self.0.dir, new.as_ref(), &[new.as_ref()])?;
        *lock = new;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnlockKey>> {
        self.0.unlock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, start: Start) -> Result<(), ApiError> {
        let inner = &self.0;
        let config = ManagerConfig {
            dir: inner.dir.clone(),
            identity: inner.identity.clone(),
            listen_addr: inner.membership.listen_addr,
            advertise_addr: inner.membership.advertise_addr,
            loops: inner.loops,
            unlock: self.lock().clone(),
            limits: inner.limits,
            hints: inner.hints.clone(),
            environment: Environment::default(),
        };
        match Manager::start(config, start).await {
            Ok(manager) => {
                // Ends with the manager, and holds nothing of its database.
                tokio::spawn(local::events::follow(manager.store().changes(), inner.events.clone()));
                *self.state() = ManagerState::Running(manager);
                Ok(())
            }
            Err(error) => {
                let error = match error {
                    ManagerError::Listen(error) => {
                        let why = port::reason(&error, Protocol::Tcp, inner.membership.listen_addr);
                        ManagerError::Listen(io::Error::new(error.kind(), why))
                    }
                    other => other,
                };
                let error = ApiError::from(error);
                *self.state() = ManagerState::Failed(error.clone());
                Err(error)
            }
        }
    }

    async fn shut_down(&self) {
        let state = std::mem::take(&mut *self.state());
        if let ManagerState::Running(manager) = state {
            manager.shutdown().await;
        }
    }

    fn forget(&self) -> Result<(), ApiError> {
        match std::fs::remove_dir_all(&self.0.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(ApiError::internal(format!("cannot remove {}: {e}", self.0.dir.display())))
            }
            _ => {
                *self.lock() = None;
                Ok(())
            }
        }
    }
}
