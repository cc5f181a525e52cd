//! The loops as they run: over raft and a disk, with the real clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use proto::model::{Millis, RestartPolicy, ServiceId, Task, TaskState, TaskStatus, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fixture;
use crate::{
    control_loop::LoopError,
    loops::{self, LoopSettings},
    store::{Store, command::Command, state::State},
};

struct Leader {
    store: Store,
    loops: JoinSet<Result<(), LoopError>>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Leader {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::for_tests(dir.path()).await.unwrap();
        let mut objects = vec![Command::InitCluster(Box::new(fixture::cluster()))];
        objects.extend(["n1", "n2", "n3"].map(|n| Command::CreateNode(Box::new(fixture::node(n)))));
        objects.push(Command::CreateNetwork(Box::new(fixture::network("ingress", |s| s.ingress = true))));
        objects.push(Command::CreateNetwork(Box::new(fixture::network("app", |_| {}))));
        store.propose(objects).await.unwrap();
        let shutdown = CancellationToken::new();
        let loops = loops::spawn(&store, LoopSettings::default(), &shutdown);
        let leader = Self { store, loops, shutdown, _dir: dir };
        leader.until(|s| s.networks.values().all(|n| n.allocation.is_some())).await;
        leader
    }

    /// Waits until the state is as wanted; fails after five seconds.
    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut changed = self.store.watch();
        let arrived = async {
            while !wanted(&self.store.read()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(5), arrived).await.expect("the state does not come about");
    }

    async fn serve(&self, name: &str, replicas: u64, delay: Millis) -> ServiceId {
        let mut service =
            fixture::service(&self.store.read(), name, replicas, &["app"], &[fixture::port(0, 80)]);
        service.spec.task.restart = Some(RestartPolicy { delay, ..RestartPolicy::default() });
        let id = service.id.clone();
        self.store.propose_one(Command::CreateService(Box::new(service))).await.unwrap();
        id
    }

    async fn report(&self, task: &Task, state: TaskState) {
        let status = TaskStatus { state, at: Timestamp::now(), ..TaskStatus::default() };
        self.store.propose_one(Command::ReportTask { id: task.id.clone(), status }).await.unwrap();
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.loops.join_next().await {
            ended.unwrap().unwrap();
        }
        self.store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_placed_as_soon_as_it_is_made() {
    let leader = Leader::start().await;
    let mut took = Vec::new();
    for n in 0..20 {
        let started = Instant::now();
        let id = leader.serve(&format!("web{n}"), 3, Millis::secs(5)).await;
        let placed = |s: &State| {
            let assigned = |t: &&std::sync::Arc<Task>| t.status.state == TaskState::Assigned;
            s.tasks_by_service(&id).filter(assigned).count() == 3
        };
        leader.until(placed).await;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    println!(
        "create -> 3 tasks assigned: median {:?}, worst {:?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert_eq!(leader.store.read().cluster.as_ref().unwrap().network_keys.len(), 6);
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_comes_when_its_delay_is_over() {
    let leader = Leader::start().await;
    let delay = Millis(300);
    let id = leader.serve("web", 1, delay).await;
    let only = |s: &State| s.tasks_by_service(&id).find(|t| t.desired <= TaskState::Running).cloned();
    leader.until(|s| only(s).is_some_and(|t| t.status.state == TaskState::Assigned)).await;
    let first = only(&leader.store.read()).unwrap();
    leader.report(&first, TaskState::Running).await;
    let failed = Instant::now();
    leader.report(&first, TaskState::Failed).await;
    leader.until(|s| only(s).is_some_and(|t| t.id != first.id && t.desired == TaskState::Running)).await;
    let waited = failed.elapsed();
    assert!(waited >= Duration::from(delay), "{waited:?}");
    leader.stop().await;
}
