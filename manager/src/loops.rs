//! The leader's loops over the replicated state, all of one kind.

use std::time::Duration;

use proto::model::{Millis, TaskId, Timestamp};
use rand::Rng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    allocator::Allocator,
    ca,
    control_loop::{self, LoopError, Plan},
    keys::{KeyManager, ROTATION},
    orchestrator, scheduler,
    store::{Store, state::State},
};

/// A pass even when nothing moved: the safety net of a level-triggered loop.
const PERIOD: Duration = Duration::from_secs(10);

/// Settings of the loops.
#[derive(Debug, Clone, Copy)]
pub struct LoopSettings {
    /// Time between rotations of the network keys.
    pub key_rotation: Millis,
}

impl Default for LoopSettings {
    fn default() -> Self {
        Self { key_rotation: ROTATION }
    }
}

/// Starts orchestrator, allocator, scheduler, reaper and key manager. They run until `shutdown`; one that ends before has
/// met a fault of the store, and its error names it.
pub fn spawn(
    store: &Store,
    settings: LoopSettings,
    shutdown: &CancellationToken,
) -> JoinSet<Result<(), LoopError>> {
    let mut allocator = Allocator::default();
    let mut keys = KeyManager::new(settings.key_rotation);
    let mut loops = Loops { store, shutdown, running: JoinSet::new() };
    loops.start("orchestrator", |state, now| orchestrator::plan(state, now, &mut TaskId::random));
    loops.start("allocator", move |state, now| allocator.plan(state, now));
    loops.start("scheduler", scheduler::plan);
    loops.start("root CA", |state, _| ca::rotation::plan(state));
    loops.start("reaper", orchestrator::reap::plan);
    loops.start("keys", move |state, now| keys.plan(state, now, &mut |bytes| rand::rng().fill(bytes)));
    loops.running
}

struct Loops<'a> {
    store: &'a Store,
    shutdown: &'a CancellationToken,
    running: JoinSet<Result<(), LoopError>>,
}

impl Loops<'_> {
    fn start(&mut self, name: &'static str, plan: impl FnMut(&State, Timestamp) -> Plan + Send + 'static) {
        let (store, shutdown) = (self.store.clone(), self.shutdown.clone());
        self.running.spawn(control_loop::run(name, store, PERIOD, plan, shutdown));
    }
}
