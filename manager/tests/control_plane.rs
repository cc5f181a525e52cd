//! From `service create` to a worker's reports and back, with a worker played by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use manager::bootstrap::InitOptions;
use proto::{
    error::Kind,
    model::{ClusterSpec, Millis},
    pb::{self, control_client::ControlClient, logs_client::LogsClient},
};
use support::{Host, Worker, eventually, service};

fn remove(key: &str) -> pb::RemoveRequest {
    pb::RemoveRequest { key: key.into(), force: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_comes_up_scales_and_goes() {
    let mut host = Host::init(InitOptions::default()).await;
    let mut worker = Worker::join(&mut host, "w1").await;
    assert_eq!(worker.first.managers.len(), 1);
    assert_eq!(worker.first.cluster_id, host.cluster().await.id);
    let mut assigned = worker.assignments().await;
    assigned.until("ingress", |a| a.all.networks.iter().any(|n| n.allocation.is_some())).await;

    let network = host.network("app").await.unwrap();
    let begun = Instant::now();
    let web = host.service(service("web", 2, &["app"], &[8080])).await.unwrap();
    assert_eq!(web.spec.unwrap().task.unwrap().networks[0].target, network.id, "the name became an id");
    assigned.until("two tasks", |a| a.tasks.len() == 2).await;
    println!("service create -> assigned: {:?}", begun.elapsed());
    for task in assigned.tasks.values() {
        let allocation = task.allocation.as_ref().unwrap();
        assert_eq!(allocation.attachments[0].addrs.len(), 2, "one address of each family");
        assert_eq!(allocation.ingress_addrs.len(), 2);
    }
    assert!(assigned.all.services.iter().any(|s| s.id == web.id && s.allocation.is_some()));

    let ids = assigned.ids();
    worker.report(&ids, pb::TaskState::Running).await;
    let entry = host.entry("web").await;
    assert_eq!((entry.running, entry.desired), (2, 2));
    assigned
        .until("a digest of two endpoints", |a| {
            a.all.digests.iter().rev().find(|d| d.network_id == network.id).is_some_and(|d| d.count == 2)
        })
        .await;
    let request =
        pb::ListEndpointsRequest { session_id: worker.session.clone(), network_id: network.id.clone() };
    let endpoints = worker.dispatcher.list_endpoints(request).await.unwrap().into_inner().endpoints;
    assert!(endpoints.len() == 2 && endpoints.iter().all(|e| e.running && e.addrs.len() == 2));

    let current = host.control.get_service(pb::GetRequest { key: "web".into() }).await.unwrap().into_inner();
    let update = pb::UpdateServiceRequest {
        key: "web".into(),
        version: current.meta.unwrap().version,
        spec: Some(service("web", 3, &["app"], &[8080])),
        rollback: false,
    };
    host.control.update_service(update.clone()).await.unwrap();
    let stale = host.control.update_service(update).await.unwrap_err();
    assert_eq!(proto::error::ApiError::from(stale).kind, Kind::OutOfSequence);
    assigned.until("a third task", |a| a.tasks.len() == 3).await;
    worker.report(&assigned.ids(), pb::TaskState::Running).await;

    let held = host.control.remove_network(remove("app")).await.unwrap_err();
    assert!(held.message().contains("network app is in use by service web"), "{held}");
    host.control.remove_service(remove("web")).await.unwrap();
    // Right after, as users do: it waits for the tasks to stop.
    let (mut control, begun) = (host.control.clone(), Instant::now());
    let removal = tokio::spawn(async move { control.remove_network(remove("app")).await });
    assigned.until("the end", |a| a.tasks.values().all(|t| t.desired() == pb::TaskState::Remove)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!removal.is_finished(), "the tasks have not stopped yet");
    worker.report(&assigned.ids(), pb::TaskState::Shutdown).await;
    removal.await.unwrap().unwrap();
    println!("network rm after {:?}", begun.elapsed());
    assigned.until("nothing", |a| a.tasks.is_empty()).await;
    let tasks = host.control.list_tasks(pb::ListTasksRequest::default()).await.unwrap().into_inner().tasks;
    assert!(tasks.is_empty());
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let mut host = Host::init(InitOptions::default()).await;
    let error = host.service(service("web", 1, &["app"], &[])).await.unwrap_err();
    assert_eq!(error.message, "service web: network app not found");
    assert!(error.help.unwrap().contains("rnctl network create -d overlay app"));

    host.network("app").await.unwrap();
    assert_eq!(host.network("app").await.unwrap_err().kind, Kind::Conflict);
    host.service(service("web", 1, &["app"], &[8080])).await.unwrap();
    let error = host.service(service("api", 1, &[], &[8080])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(
        error.message.contains("port 8080/tcp is already in use by service \"web\" as an ingress port"),
        "{error}"
    );
    let mut roundrobin = service("rr", 1, &["app"], &[9090]);
    roundrobin.endpoint.as_mut().unwrap().mode = pb::EndpointMode::Dnsrr.into();
    let error = host.service(roundrobin).await.unwrap_err();
    assert!(error.message.contains("host mode is allowed"), "{error}");
    let missing = host.control.get_service(pb::GetRequest { key: "nope".into() }).await.unwrap_err();
    assert_eq!(missing.message(), "service nope not found");
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_down_and_comes_back() {
    let spec = ClusterSpec { dispatcher_heartbeat: Millis(200), ..ClusterSpec::default() };
    let mut host = Host::init(InitOptions { spec, ..InitOptions::default() }).await;
    let token = host.tokens().await.0;
    let identity = support::join_as(host.addr(), &token).await.unwrap();
    let shared = certs::SharedIdentity::new(identity);
    let again = shared.current().with_roots(shared.current().root_pem()).unwrap();
    let mut worker = Worker::register(host.addr(), again, "w1").await;
    let id = worker.id.clone();
    assert_eq!(host.node_state(&id).await, pb::NodeState::Ready);
    let period = worker.beat().await.unwrap().period;
    assert!((180..=220).contains(&period), "a tenth of jitter: {period}");
    let begun = Instant::now();
    eventually("the node is down", || {
        let mut control = host.control.clone();
        let key = id.to_string();
        async move {
            let node = control.get_node(pb::GetRequest { key }).await.unwrap().into_inner();
            node.status.unwrap().state() == pb::NodeState::Down
        }
    })
    .await;
    println!("down after {:?} of silence at a period of 200 ms", begun.elapsed());
    assert!(worker.beat().await.is_err(), "the session is over");
    let again = shared.current().with_roots(shared.current().root_pem()).unwrap();
    let _worker = Worker::register(host.addr(), again, "w1").await;
    assert_eq!(host.node_state(&id).await, pb::NodeState::Ready);
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_restart() {
    let mut host = Host::init(InitOptions::default()).await;
    host.network("app").await.unwrap();
    host.service(service("web", 1, &["app"], &[8080])).await.unwrap();
    let before = host.cluster().await;
    let mut host = host.restart().await;
    eventually("the manager leads again", || {
        let mut control = host.control.clone();
        async move { control.get_cluster(pb::GetClusterRequest {}).await.is_ok() }
    })
    .await;
    assert_eq!(host.cluster().await.id, before.id);
    assert_eq!(host.entry("web").await.desired, 1);
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_nodes_that_have_them() {
    let mut host = Host::init(InitOptions::default()).await;
    let mut worker = Worker::join(&mut host, "w1").await;
    let mut assigned = worker.assignments().await;
    host.service(service("web", 1, &[], &[])).await.unwrap();
    assigned.until("a task", |a| a.tasks.len() == 1).await;
    let task = assigned.ids().remove(0);

    let mut logs = LogsClient::new(host.manager.local());
    let request = pb::LogsRequest {
        service: "web".into(),
        options: Some(pb::LogOptions { tail: -1, ..Default::default() }),
        ..Default::default()
    };
    let mut chunks = logs.subscribe(request.clone()).await.unwrap().into_inner();
    let chunk = chunks.message().await.unwrap().unwrap();
    assert!(chunk.error.contains("w1") && chunk.error.contains("not available"), "{}", chunk.error);
    assert!(chunks.message().await.unwrap().is_none(), "nobody else to ask");

    let mut broker = worker.logs();
    let mut questions = broker
        .listen(pb::ListenLogsRequest { session_id: worker.session.clone() })
        .await
        .unwrap()
        .into_inner();
    let mut chunks = logs.subscribe(request).await.unwrap().into_inner();
    let question = questions.message().await.unwrap().unwrap();
    assert_eq!(question.task_ids, [task.clone()]);
    let line = pb::LogLine { at_nanos: 1, stderr: false, data: b"hello".to_vec(), partial: false };
    let answer = pb::PublishLogsRequest {
        subscription_id: question.id.clone(),
        chunk: Some(pb::LogChunk { task_id: task.clone(), lines: vec![line.clone()], ..Default::default() }),
        done: true,
    };
    broker.publish(tokio_stream::iter([answer])).await.unwrap();
    let chunk = chunks.message().await.unwrap().unwrap();
    assert_eq!((chunk.task_id, chunk.node_id, chunk.lines), (task, worker.id.to_string(), vec![line]));
    assert!(chunks.message().await.unwrap().is_none(), "done means done");
    host.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_checked_before_anything_is_written() {
    let host = Host::init(InitOptions::default()).await;
    let bootstrap = manager::bootstrap::Bootstrap::new(InitOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = certs::CertificateDir::new(dir.path());
    files.save(&bootstrap.identity).unwrap();
    let config = manager::run::ManagerConfig {
        dir: dir.path().join("raft"),
        identity: certs::SharedIdentity::new(files.load().unwrap().unwrap()),
        listen_addr: host.addr(),
        advertise_addr: host.addr(),
        loops: Default::default(),
        unlock: None,
        limits: Default::default(),
        hints: manager::raft::no_hints(),
        environment: Default::default(),
    };
    let start = manager::run::Start::First(Box::new(bootstrap));
    let Err(error) = manager::run::Manager::start(config, start).await else { panic!("the port is taken") };
    assert!(error.to_string().contains("cannot listen on"), "{error}");
    assert!(!dir.path().join("raft").exists());
    drop(ControlClient::new(host.manager.local()));
    host.manager.shutdown().await;
}
