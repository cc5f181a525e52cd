//! Supervisors against a runtime and a network that exist in memory only, and a gossip that is real.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use gossip::{EndpointState, Gossip, GossipConfig, KeyRing, Timing};
use network::{
    assigned::Assigned,
    fixture::{World, id},
};
use proto::model::{
    Attachment, NetworkId, Port, Protocol, Task, TaskAllocation, TaskId, TaskSpec, TaskState,
};
use runtime::{
    Container, ContainerConfig, ContainerDetail, ContainerRecord, ContainerState, ExecConfig, ExecIo,
    ExecSession, ExitStatus, HealthCheck, Image, LogLine, LogOptions, Result as RuntimeResult, Runtime,
    RuntimeError, TaskRef,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

mod fake;

use fake::{FakeNetwork, FakeRuntime};

use super::*;
use crate::{managers::AgentStatus, managers::Reports};

/// Longer than any test.
const LISTEN: Duration = Duration::from_secs(60);

struct Host {
    runtime: Arc<FakeRuntime>,
    network: Arc<FakeNetwork>,
    gossip: Gossip,
    reports: Reports,
    assigned: watch::Sender<Arc<Assigned>>,
    status: watch::Sender<AgentStatus>,
    supervisor: JoinHandle<()>,
}

async fn gossip() -> Gossip {
    let addr = "127.0.0.1:0".parse().unwrap();
    let config = GossipConfig {
        cluster: id("c1"),
        node: id("a"),
        hostname: "alpha".into(),
        ingress_addrs: Vec::new(),
        bind: addr,
        advertise: addr,
        vtep: addr.ip(),
        host_addrs: Vec::new(),
        seeds: Vec::new(),
        generation: 1,
        timing: Timing::default(),
    };
    let gossip = Gossip::start(config, watch::channel(KeyRing::default()).1).await.unwrap();
    // The reconciler: all is in the kernel at once.
    let (g, mut view) = (gossip.clone(), gossip.view());
    tokio::spawn(async move {
        loop {
            let revision = view.borrow_and_update().revision;
            g.applied(revision, BTreeSet::new());
            if view.changed().await.is_err() {
                return;
            }
        }
    });
    gossip
}

impl Host {
    async fn start(assigned: Assigned, synced: bool, runtime: FakeRuntime) -> Self {
        Self::start_on(assigned, synced, runtime, FakeNetwork::default()).await
    }

    async fn start_on(assigned: Assigned, synced: bool, runtime: FakeRuntime, network: FakeNetwork) -> Self {
        let (runtime, network) = (Arc::new(runtime), Arc::new(network));
        let gossip = gossip().await;
        let reports = Reports::default();
        let (assigned, assigned_rx) = watch::channel(Arc::new(assigned));
        let (status, status_rx) = watch::channel(AgentStatus { synced, ..AgentStatus::default() });
        let supervisor = Supervisor::new(SupervisorConfig {
            node: NodeName { id: id("a"), hostname: "alpha".into() },
            search: Vec::new(),
            listen_timeout: LISTEN,
            starts: StartLimiter::new(2),
            runtime: runtime.clone(),
            network: network.clone(),
            gossip: gossip.clone(),
            reports: reports.clone(),
            assigned: assigned_rx,
            status: status_rx,
            settling: mpsc::channel(1),
        });
        let supervisor = tokio::spawn(supervisor.run());
        Self { runtime, network, gossip, reports, assigned, status, supervisor }
    }

    fn change(&self, edit: impl FnOnce(&mut Assigned)) {
        self.assigned.send_modify(|a| edit(Arc::make_mut(a)));
    }

    fn wish(&self, desired: TaskState) {
        self.change(|a| a.tasks.values_mut().for_each(|t| Arc::make_mut(t).desired = desired));
    }

    fn wish_of(&self, task: &str, desired: TaskState) {
        self.change(|a| Arc::make_mut(a.tasks.get_mut(task).unwrap()).desired = desired);
    }

    fn reported(&self, task: &str) -> proto::model::TaskStatus {
        let all = self.reports.pending();
        all.into_iter().find(|(t, _)| t.as_str() == task).map(|(_, s)| s).unwrap_or_default()
    }

    async fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if timeout(Duration::from_secs(8), wait).await.is_err() {
            panic!("{what}: reports {:?}, done {:?}", self.reports.pending(), self.runtime.log());
        }
    }

    async fn state(&self, task: &str, state: TaskState) {
        self.until(&format!("{task} {state}"), |h| h.reported(task).state == state).await;
    }

    fn endpoint(&self, task: &str) -> Option<EndpointState> {
        let key = (id::<NetworkId>("app"), id::<TaskId>(task));
        self.gossip.view().borrow().endpoints.get(&key).map(|r| r.state)
    }
}

pub(super) fn task(name: &str, image: &str) -> Task {
    let mut spec = TaskSpec::default();
    spec.container.image = image.into();
    Task {
        id: id(name),
        meta: Default::default(),
        service_id: id("s1"),
        service_name: "web".into(),
        slot: 1,
        spec,
        spec_version: Default::default(),
        allocation: Some(TaskAllocation {
            attachments: vec![Attachment {
                network: id("app"),
                addrs: vec!["10.0.1.5/24".parse().unwrap(), "fd00:2::5/64".parse().unwrap()],
                aliases: vec!["www".into()],
            }],
            ingress_addrs: vec!["10.0.0.9".parse().unwrap()],
            ports: Vec::new(),
        }),
        node_id: Some(id("a")),
        desired: TaskState::Running,
        status: proto::model::TaskStatus { state: TaskState::Assigned, ..Default::default() },
        conditions: Vec::new(),
        start_after: Default::default(),
        running_at: Default::default(),
        ended_at: Default::default(),
        attached_container: None,
    }
}

fn with(tasks: &[Task]) -> Assigned {
    let mut assigned = World::new().assigned;
    assigned.tasks = tasks.iter().map(|t| (t.id.clone(), Arc::new(t.clone()))).collect();
    assigned
}

#[tokio::test]
async fn a_task_lives_and_a_lone_node_stops_it() {
    let host = Host::start(with(&[task("t1", "web")]), true, FakeRuntime::default()).await;
    let t = Instant::now();
    host.state("t1", TaskState::Running).await;
    println!("assigned to running, with nothing real below: {:?}", t.elapsed());
    assert_eq!(host.endpoint("t1"), Some(EndpointState::Ready));
    let view = host.gossip.view().borrow().clone();
    let record = &view.endpoints[&(id("app"), id("t1"))];
    assert_eq!(record.task_name, "web.1.t1");
    assert_eq!(record.task_aliases.len(), 1, "the short container id is the host name here: {record:?}");
    let mesh = &view.endpoints[&(id("ingress"), id("t1"))];
    assert!(mesh.aliases.is_empty() && mesh.task_aliases.is_empty());
    assert_eq!(host.reported("t1").pid, 7);

    let t = Instant::now();
    host.wish(TaskState::Shutdown);
    host.state("t1", TaskState::Shutdown).await;
    println!("drained, stopped and cleaned up in {:?}", t.elapsed());
    assert_eq!(host.endpoint("t1"), None);
    assert!(host.network.up.lock().unwrap().is_empty());
    assert_eq!(host.runtime.list().len(), 1, "the output is kept");
    host.change(|a| a.tasks.clear());
    host.until("deleted", |h| h.runtime.list().is_empty()).await;
    assert_eq!(host.runtime.log(), ["create", "start", "signal 15", "delete"]);
}

#[tokio::test]
async fn a_task_that_is_only_to_be_ready_waits() {
    let mut prepared = task("t1", "web");
    prepared.desired = TaskState::Ready;
    let host = Host::start(with(&[prepared]), true, FakeRuntime::default()).await;
    host.state("t1", TaskState::Ready).await;
    assert_eq!(host.endpoint("t1"), Some(EndpointState::Starting));
    assert_eq!(host.runtime.log(), ["create"]);
    host.wish(TaskState::Running);
    host.state("t1", TaskState::Running).await;
}

#[tokio::test]
async fn a_node_starts_some_tasks_at_a_time_and_the_others_say_that_they_wait() {
    let creating = Arc::new(Semaphore::new(0));
    let runtime = FakeRuntime { creating: Some(creating.clone()), ..FakeRuntime::default() };
    let names = ["t1", "t2", "t3", "t4", "t5"];
    let host = Host::start(with(&names.map(|n| task(n, "web"))), true, runtime).await;
    let waits =
        |h: &Host, n: &str| h.reported(n).message.starts_with("waiting for its turn: this node starts 2");
    host.until("three wait", |h| names.iter().filter(|n| waits(h, n)).count() == 3).await;
    host.until("two are made", |h| h.runtime.log() == ["create", "create"]).await;
    // One that is not wanted any more does not wait to be told so.
    let waiting = names.into_iter().find(|n| waits(&host, n)).unwrap();
    host.wish_of(waiting, TaskState::Shutdown);
    host.state(waiting, TaskState::Shutdown).await;
    // Nor does one that is made already, and only to be started.
    let made = task("made", "web");
    host.runtime.put(&made, ContainerState::Created { pid: 7 });
    host.change(|a| drop(a.tasks.insert(made.id.clone(), Arc::new(made))));
    host.until("it waits", |h| waits(h, "made")).await;
    host.wish_of("made", TaskState::Shutdown);
    host.state("made", TaskState::Shutdown).await;
    creating.add_permits(10);
    for name in names.iter().filter(|n| **n != waiting) {
        host.state(name, TaskState::Running).await;
    }
    // What runs holds no turn.
    host.change(|a| drop(a.tasks.insert(id("t6"), Arc::new(task("t6", "web")))));
    host.state("t6", TaskState::Running).await;
}

#[tokio::test]
async fn a_task_whose_image_is_on_its_way_holds_up_no_other() {
    let names = ["p1", "p2", "p3"];
    let host = Host::start(with(&names.map(|n| task(n, "stalled"))), true, FakeRuntime::default()).await;
    let pulled = |h: &Host, n: &str| h.reported(n).state == TaskState::Preparing;
    host.until("all are being pulled", |h| names.iter().all(|n| pulled(h, n))).await;
    host.change(|a| drop(a.tasks.insert(id("t1"), Arc::new(task("t1", "web")))));
    host.state("t1", TaskState::Running).await;
    assert!(names.iter().all(|n| pulled(&host, n)));
    host.wish_of("p1", TaskState::Shutdown);
    host.state("p1", TaskState::Shutdown).await;
}

#[tokio::test]
async fn ends_and_failures_are_told_with_their_reasons() {
    let host = Host::start(with(&[task("t1", "web")]), true, FakeRuntime::default()).await;
    host.state("t1", TaskState::Running).await;
    host.runtime.exit(3);
    host.state("t1", TaskState::Failed).await;
    let status = host.reported("t1");
    assert_eq!((status.err.as_str(), status.exit_code), ("task: non-zero exit (3)", Some(3)));
    assert_eq!(host.endpoint("t1"), None);

    let host = Host::start(with(&[task("t1", "missing")]), true, FakeRuntime::default()).await;
    host.state("t1", TaskState::Rejected).await;
    let err = host.reported("t1").err;
    assert!(err.starts_with("No such image: missing") && err.contains("rnctl import"), "{err}");
    assert!(host.network.log.lock().unwrap().is_empty(), "no sandbox for nothing");

    let host = Host::start(with(&[task("t1", "broken")]), true, FakeRuntime::default()).await;
    host.state("t1", TaskState::Failed).await;
    assert!(host.reported("t1").err.contains("exec: no such file"));
    host.until("cleaned up", |h| h.network.up.lock().unwrap().is_empty()).await;

    let mut conflict = task("t1", "web");
    conflict.service_name = "conflict".into();
    let host = Host::start(with(&[conflict]), true, FakeRuntime::default()).await;
    host.state("t1", TaskState::Rejected).await;
    assert!(host.reported("t1").err.contains("is in use on this node by nginx"));
}

#[tokio::test]
async fn a_container_that_ignores_the_stop_signal_is_killed() {
    let runtime = FakeRuntime { ignores_term: true, ..FakeRuntime::default() };
    let host = Host::start(with(&[task("t1", "web")]), true, runtime).await;
    host.state("t1", TaskState::Running).await;
    host.change(|a| a.tasks.clear());
    host.until("deleted", |h| h.runtime.list().is_empty()).await;
    assert_eq!(host.runtime.log(), ["create", "start", "signal 15", "signal 9", "delete"]);
    assert_eq!(host.reported("t1").state, TaskState::Shutdown);
}

#[tokio::test]
async fn containers_that_outlived_the_daemon_are_adopted_from_the_disk_alone() {
    let (ours, stray) = (task("t1", "web"), task("t9", "web"));
    let runtime = FakeRuntime::default();
    runtime.put(&ours, ContainerState::Running { pid: 7, started_at: 1 });
    runtime.put(&stray, ContainerState::Running { pid: 8, started_at: 1 });
    // No manager has spoken yet.
    let host = Host::start(with(&[ours]), false, runtime).await;
    host.state("t1", TaskState::Running).await;
    assert_eq!(host.endpoint("t1"), Some(EndpointState::Ready));
    assert_eq!(*host.network.log.lock().unwrap(), ["adopt"]);
    assert!(host.runtime.log().is_empty(), "nothing was created or stopped");
    host.until("settled", |h| h.gossip.view().borrow().nodes[&id::<NodeId>("a")].settled).await;
    // Now one says that the other is not assigned.
    assert_eq!(host.runtime.list().len(), 2);
    host.status.send_modify(|s| s.synced = true);
    host.until("stray removed", |h| h.runtime.list().len() == 1).await;
    assert_eq!(host.reported("t1").state, TaskState::Running);
}

#[tokio::test]
async fn after_a_reboot_without_a_manager_tasks_run_again() {
    let mut was_running = task("t1", "web");
    was_running.status.state = TaskState::Running;
    let runtime = FakeRuntime::default();
    let lost = ExitStatus { code: 255, error: "the machine restarted".into(), ..ExitStatus::default() };
    runtime.put(&was_running, ContainerState::Exited(lost));
    let host = Host::start(with(&[was_running]), false, runtime).await;
    host.until("running", |h| h.endpoint("t1") == Some(EndpointState::Ready)).await;
    assert_eq!(host.runtime.log(), ["delete", "create", "start"]);
    let status = host.reported("t1");
    assert_eq!(status.state, TaskState::Running);
    assert_eq!(
        status.container_id,
        host.runtime.list()[0].record.id.as_str(),
        "the new container is reported"
    );
    host.supervisor.abort();
}

#[tokio::test]
async fn a_task_runs_once_it_is_healthy_and_fails_when_it_no_longer_is() {
    let mut checked = task("t1", "web");
    let test = vec!["check".into()];
    checked.spec.container.healthcheck =
        Some(proto::model::Healthcheck { test, ..proto::model::Healthcheck::default() });
    let runtime = FakeRuntime::default();
    *runtime.check.lock().unwrap() = 1;
    let host = Host::start(with(&[checked.clone()]), true, runtime).await;
    host.state("t1", TaskState::Starting).await;
    assert_ne!(host.endpoint("t1"), Some(EndpointState::Ready));
    *host.runtime.check.lock().unwrap() = 0;
    host.state("t1", TaskState::Running).await;
    assert_eq!(host.endpoint("t1"), Some(EndpointState::Ready));
    *host.runtime.check.lock().unwrap() = 1;
    host.state("t1", TaskState::Failed).await;
    assert_eq!(host.reported("t1").err, "task: non-zero exit (143): unhealthy container: checked");
    assert_eq!(host.endpoint("t1"), None);
    assert_eq!(host.runtime.log(), ["create", "start", "signal 15"]);

    // One that outlived the daemon is checked at once, even if nobody remembers that it was healthy.
    let runtime = FakeRuntime::default();
    runtime.put(&checked, ContainerState::Running { pid: 7, started_at: 1 });
    let host = Host::start(with(&[checked]), false, runtime).await;
    host.state("t1", TaskState::Running).await;
    assert!(host.runtime.log().is_empty());
}

fn published(name: &str) -> Task {
    let mut task = task(name, "web");
    let port = PortConfig { target: 80, published: 8080, ..PortConfig::default() };
    task.allocation.as_mut().unwrap().ports = vec![port];
    task
}

#[tokio::test]
async fn a_task_runs_once_it_listens() {
    let host = Host::start(with(&[published("t1")]), true, FakeRuntime::default()).await;
    // The kernel lacks what it takes to look.
    host.state("t1", TaskState::Running).await;

    let network = FakeNetwork::default();
    let seen = network.listening.0.clone();
    seen.lock().unwrap().0 = Some(BTreeSet::new());
    let host = Host::start_on(with(&[published("t1")]), true, FakeRuntime::default(), network).await;
    host.until("what it waits for is said", |h| h.reported("t1").message == "waiting for port 80/tcp").await;
    assert_eq!(host.reported("t1").state, TaskState::Starting);
    assert_eq!(host.endpoint("t1"), Some(EndpointState::Starting));
    seen.lock().unwrap().0 = Some([80].into());
    host.state("t1", TaskState::Running).await;
    assert_eq!(host.reported("t1").message, "started");
    assert_eq!(host.endpoint("t1"), Some(EndpointState::Ready));
    let looks = seen.lock().unwrap().1;

    // What ends before it listens has failed, and never ran.
    seen.lock().unwrap().0 = Some(BTreeSet::new());
    host.change(|a| drop(a.tasks.insert(id("t2"), Arc::new(published("t2")))));
    host.until("the second waits", |h| h.reported("t2").message == "waiting for port 80/tcp").await;
    assert_eq!(host.reported("t1").state, TaskState::Running, "nobody looks any more");
    host.runtime.exit(3);
    host.state("t2", TaskState::Failed).await;
    assert!(seen.lock().unwrap().1 > looks);
}

#[tokio::test]
async fn what_was_ready_when_the_daemon_ended_is_ready_when_it_starts() {
    let found = |reported: TaskState, listening: Option<BTreeSet<Port>>| {
        let mut task = published("t1");
        task.status.state = reported;
        let (runtime, network) = (FakeRuntime::default(), FakeNetwork::default());
        network.listening.0.lock().unwrap().0 = listening;
        let started_at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let started_at = u64::try_from(started_at.as_millis()).unwrap();
        runtime.put(&task, ContainerState::Running { pid: 7, started_at });
        Host::start_on(with(&[task]), false, runtime, network)
    };
    // Though it does not listen: it has had its time.
    let host = found(TaskState::Running, Some(BTreeSet::new())).await;
    host.until("ready", |h| h.endpoint("t1") == Some(EndpointState::Ready)).await;
    assert_eq!(host.network.listening.0.lock().unwrap().1, 0, "nobody looked");
    // Nobody remembers that it was: it is looked at once.
    let host = found(TaskState::Starting, Some([80].into())).await;
    host.state("t1", TaskState::Running).await;
    // One that was not goes on being waited for.
    let host = found(TaskState::Starting, Some(BTreeSet::new())).await;
    host.until("it waits", |h| h.reported("t1").message == "waiting for port 80/tcp").await;
    assert_ne!(host.endpoint("t1"), Some(EndpointState::Ready));
}
