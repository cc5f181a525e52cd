//! An agent against a manager that is only its dispatcher, over real TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use certs::{Identity, Listener, RootCa, Subject, issue::new_csr};
use futures::{StreamExt, stream::BoxStream};
use gossip::{EndpointState, GossipConfig, PeerView, Timing};
use network::fixture::World;
use node::managers::TaskLogOptions;
use proto::{
    model::{ClusterId, NetworkId, NodeId, Role, TaskId, TaskState, TaskStatus, endpoint_digest},
    pb::{
        assignments_message::Kind,
        dispatcher_server::{Dispatcher, DispatcherServer},
        log_broker_server::{LogBroker, LogBrokerServer},
    },
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::assignments::to_message;
use super::{progress::Progress, *};

type Out<T> = ReceiverStream<Result<T, Status>>;

#[derive(Default)]
struct Heard {
    sessions: Vec<pb::SessionRequest>,
    beats: usize,
    reports: Vec<(String, i32)>,
    chunks: Vec<pb::PublishLogsRequest>,
    fail_reports: usize,
    assignments: Option<mpsc::Sender<Result<pb::AssignmentsMessage, Status>>>,
    questions: Option<mpsc::Sender<Result<pb::LogSubscription, Status>>>,
    first: pb::AssignmentsMessage,
    keep: Vec<mpsc::Sender<Result<pb::SessionMessage, Status>>>,
}

#[derive(Clone, Default)]
struct FakeManager(Arc<Mutex<Heard>>);

#[tonic::async_trait]
impl Dispatcher for FakeManager {
    type SessionStream = Out<pb::SessionMessage>;
    type AssignmentsStream = Out<pb::AssignmentsMessage>;

    async fn session(
        &self,
        request: Request<pb::SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (tx, rx) = mpsc::channel(4);
        let mut heard = self.0.lock().unwrap();
        heard.sessions.push(request.into_inner());
        let message = pb::SessionMessage {
            session_id: format!("session{}", heard.sessions.len()),
            network_keys: vec![pb::NetworkKey { subsystem: "gossip".into(), lamport: 1, key: vec![1; 16] }],
            cluster_id: "c1".into(),
            data_path_port: 4790,
            ..Default::default()
        };
        tx.try_send(Ok(message)).unwrap();
        heard.keep.push(tx);
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn heartbeat(
        &self,
        _: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatReply>, Status> {
        self.0.lock().unwrap().beats += 1;
        Ok(Response::new(pb::HeartbeatReply { period: 20 }))
    }

    async fn assignments(
        &self,
        _: Request<pb::AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let (tx, rx) = mpsc::channel(4);
        let mut heard = self.0.lock().unwrap();
        tx.try_send(Ok(heard.first.clone())).unwrap();
        heard.assignments = Some(tx);
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn update_task_status(
        &self,
        request: Request<pb::UpdateTaskStatusRequest>,
    ) -> Result<Response<pb::UpdateTaskStatusReply>, Status> {
        let mut heard = self.0.lock().unwrap();
        if heard.fail_reports > 0 {
            heard.fail_reports -= 1;
            return Err(Status::unavailable("no leader"));
        }
        for update in request.into_inner().updates {
            heard.reports.push((update.task_id, update.status.unwrap().state));
        }
        Ok(Response::new(pb::UpdateTaskStatusReply {}))
    }

    async fn leave(&self, _: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveReply>, Status> {
        Err(Status::unimplemented("nobody asks this one"))
    }

    async fn attach(&self, _: Request<pb::AttachRequest>) -> Result<Response<pb::AttachReply>, Status> {
        Err(Status::unimplemented("nobody asks this one"))
    }

    async fn list_endpoints(
        &self,
        request: Request<pb::ListEndpointsRequest>,
    ) -> Result<Response<pb::ListEndpointsReply>, Status> {
        assert_eq!(request.into_inner().network_id, "app");
        let endpoint = pb::Endpoint {
            task_id: "far".into(),
            service_id: "s1".into(),
            node_id: "z".into(),
            addrs: vec!["10.0.1.77".into(), "fd00:2::77".into()],
            name: "web.1.far".into(),
            running: true,
            node_addr: "10.77.0.26".into(),
        };
        Ok(Response::new(pb::ListEndpointsReply { endpoints: vec![endpoint] }))
    }
}

#[tonic::async_trait]
impl LogBroker for FakeManager {
    type ListenStream = Out<pb::LogSubscription>;

    async fn listen(
        &self,
        _: Request<pb::ListenLogsRequest>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let (tx, rx) = mpsc::channel(4);
        self.0.lock().unwrap().questions = Some(tx);
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn publish(
        &self,
        request: Request<Streaming<pb::PublishLogsRequest>>,
    ) -> Result<Response<pb::PublishLogsReply>, Status> {
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            self.0.lock().unwrap().chunks.push(message);
        }
        Ok(Response::new(pb::PublishLogsReply {}))
    }
}

struct TestLogs;

#[async_trait]
impl TaskLogs for TestLogs {
    async fn logs(
        &self,
        task: &TaskId,
        options: TaskLogOptions,
    ) -> Result<BoxStream<'static, Result<pb::LogLine, String>>, String> {
        assert_eq!(options, TaskLogOptions { follow: false, tail: Some(2), since: 5_000_000, until: 9 });
        if task.as_str() != "t1" {
            return Err(format!("task {task} has no container on this node"));
        }
        let line =
            |n| Ok(pb::LogLine { at_nanos: n, stderr: false, data: b"hello".to_vec(), partial: false });
        Ok(futures::stream::iter([line(1), line(2)]).boxed())
    }
}

struct Bed {
    manager: FakeManager,
    addr: std::net::SocketAddr,
    server: JoinHandle<()>,
    root: RootCa,
    cluster: ClusterId,
    data: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let manager = FakeManager::default();
        manager.0.lock().unwrap().first = complete(5, "1");
        let cluster: ClusterId = "c1".parse().unwrap();
        let mut bed = Self {
            manager,
            addr: "127.0.0.1:0".parse().unwrap(),
            server: tokio::spawn(async {}),
            root,
            cluster,
            data: tempfile::tempdir().unwrap(),
        };
        bed.serve().await;
        bed
    }

    fn identity(&self, node: &str, role: Role) -> SharedIdentity {
        let (key, csr) = new_csr().unwrap();
        let subject = Subject { node_id: node.parse().unwrap(), role, cluster_id: self.cluster.clone() };
        let cert = self.root.issue(&csr, &subject, Duration::from_secs(3600), SystemTime::now()).unwrap();
        SharedIdentity::new(Identity::new(self.root.cert_pem(), &cert, &key).unwrap())
    }

    async fn serve(&mut self) {
        let listener = Listener::bind(self.addr, self.identity("m", Role::Manager)).await.unwrap();
        self.addr = listener.local_addr().unwrap();
        let server = certs::transport::server_builder()
            .add_service(DispatcherServer::new(self.manager.clone()))
            .add_service(LogBrokerServer::new(self.manager.clone()));
        self.server = tokio::spawn(async move {
            let _ = server.serve_with_incoming(listener.incoming()).await;
        });
    }

    async fn agent(&self) -> Running {
        let description = NodeDescription {
            hostname: "a".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 0,
            memory_bytes: 0,
            engine_version: String::new(),
            engine_labels: Default::default(),
            advertise_addr: None,
            data_path_addr: None,
            underlay_mtu: 1500,
            missing_features: Vec::new(),
        };
        let agent = Agent::open(AgentConfig {
            dir: WorkerDir::open(self.data.path()).unwrap(),
            identity: self.identity("a", Role::Worker),
            description,
            managers: vec![self.addr],
        })
        .unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let config = GossipConfig {
            cluster: self.cluster.clone(),
            node: "a".parse().unwrap(),
            hostname: "a".into(),
            ingress_addrs: Vec::new(),
            bind: addr,
            advertise: addr,
            vtep: addr.ip(),
            host_addrs: Vec::new(),
            seeds: Vec::new(),
            generation: 1,
            timing: Timing::default(),
        };
        let gossip = Gossip::start(config, agent.keys()).await.unwrap();
        let (assigned, status, reports, session) =
            (agent.assigned(), agent.status(), agent.reports(), agent.session());
        let tasks = agent.start(gossip.clone(), Arc::new(TestLogs), watch::channel(Progress::default()).1);
        Running { assigned, status, reports, session, gossip, _tasks: tasks }
    }

    async fn until(&self, what: &str, done: impl Fn(&Heard) -> bool) {
        let wait = async {
            while !done(&self.manager.0.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(10), wait).await.is_ok(), "{what}");
    }
}

struct Running {
    assigned: watch::Receiver<Arc<Assigned>>,
    status: watch::Receiver<AgentStatus>,
    reports: Reports,
    session: watch::Receiver<Option<Arc<pb::SessionMessage>>>,
    gossip: Gossip,
    _tasks: JoinSet<()>,
}

fn complete(generation: u64, results_in: &str) -> pb::AssignmentsMessage {
    let assigned = Assigned { generation, ..World::new().assigned };
    pb::AssignmentsMessage { results_in: results_in.into(), ..to_message(&assigned) }
}

async fn reaches<T>(rx: &mut watch::Receiver<T>, done: impl FnMut(&T) -> bool) {
    timeout(Duration::from_secs(10), rx.wait_for(done)).await.expect("in time").expect("alive");
}

#[tokio::test]
async fn a_session_brings_assignments_and_carries_statuses_and_logs() {
    let bed = Bed::new().await;
    let mut agent = bed.agent().await;
    reaches(&mut agent.assigned, |a| a.generation == 5).await;
    reaches(&mut agent.status, |s| s.synced && s.manager == Some(bed.addr)).await;
    assert_eq!(agent.session.borrow().as_ref().unwrap().data_path_port, 4790);

    // An increment, then one that does not follow: the agent asks for the whole again.
    let more = |applies_to: &str, generation| pb::AssignmentsMessage {
        kind: Kind::Incremental.into(),
        applies_to: applies_to.into(),
        results_in: "2".into(),
        generation,
        removed_services: vec!["s1".into()],
        ..Default::default()
    };
    let stream = bed.manager.0.lock().unwrap().assignments.clone().unwrap();
    stream.send(Ok(more("1", 6))).await.unwrap();
    reaches(&mut agent.assigned, |a| a.generation == 6).await;
    bed.manager.0.lock().unwrap().first = complete(9, "1");
    stream.send(Ok(more("7", 7))).await.unwrap();
    reaches(&mut agent.assigned, |a| a.generation == 9).await;

    // Statuses are repeated until a manager has taken them.
    bed.manager.0.lock().unwrap().fail_reports = 2;
    let task: TaskId = "t1".parse().unwrap();
    agent.reports.report(task.clone(), TaskStatus { state: TaskState::Running, ..TaskStatus::default() });
    bed.until("the report", |h| h.reports == [("t1".to_owned(), 512)]).await;

    // Logs.
    bed.until("the log stream", |h| h.questions.as_ref().is_some_and(|q| !q.is_closed())).await;
    let question = pb::LogSubscription {
        id: "q1".into(),
        task_ids: vec!["t1".into(), "t2".into()],
        options: Some(pb::LogOptions { tail: 2, since: 5, until_nanos: 9, ..Default::default() }),
        close: false,
    };
    let questions = bed.manager.0.lock().unwrap().questions.clone().unwrap();
    questions.send(Ok(question)).await.unwrap();
    bed.until("the answer", |h| h.chunks.iter().any(|c| c.done)).await;
    let heard = bed.manager.0.lock().unwrap();
    let chunks: Vec<_> = heard.chunks.iter().filter_map(|c| c.chunk.as_ref()).collect();
    assert_eq!(chunks.iter().map(|c| c.lines.len()).sum::<usize>(), 2);
    assert!(chunks.iter().any(|c| c.task_id == "t2" && c.error.contains("no container")));
    assert!(heard.chunks.last().unwrap().done);
    assert!(heard.beats > 2);
}

#[tokio::test]
async fn a_manager_that_returns_is_found_again_and_the_disk_serves_meanwhile() {
    let mut bed = Bed::new().await;
    let mut agent = bed.agent().await;
    reaches(&mut agent.status, |s| s.synced).await;
    let kept = bed.data.path().join("worker/assigned.pb");
    bed.until("kept", |_| kept.exists()).await;
    drop(agent);
    bed.server.abort();
    let _ = (&mut bed.server).await;

    // A reboot without a manager.
    let mut agent = bed.agent().await;
    assert_eq!(agent.assigned.borrow().generation, 5);
    assert!(!agent.assigned.borrow().networks.is_empty());
    reaches(&mut agent.status, |s| !s.error.is_empty() && !s.synced).await;
    bed.manager.0.lock().unwrap().first = complete(7, "1");
    bed.serve().await;
    reaches(&mut agent.assigned, |a| a.generation == 7).await;
    let sessions = bed.manager.0.lock().unwrap().sessions.clone();
    assert_eq!(sessions.last().unwrap().previous_session, "session1");
}

#[tokio::test]
async fn what_gossip_has_lost_comes_from_the_managers() {
    let bed = Bed::new().await;
    let far: TaskId = "far".parse().unwrap();
    let network: NetworkId = "app".parse().unwrap();
    {
        let mut first = Assigned { generation: 5, ..World::new().assigned };
        first.digests.insert(network.clone(), endpoint_digest([&far]));
        let mut heard = bed.manager.0.lock().unwrap();
        heard.first = pb::AssignmentsMessage { results_in: "1".into(), ..to_message(&first) };
    }
    let agent = bed.agent().await;
    agent.gossip.join(network.clone());
    let mut view = agent.gossip.view();
    let key = (network, far);
    reaches(&mut view, |v: &Arc<PeerView>| v.endpoints.contains_key(&key)).await;
    let view = view.borrow().clone();
    assert_eq!(view.endpoints[&key].state, EndpointState::Ready);
    let node: NodeId = "z".parse().unwrap();
    assert_eq!(view.nodes[&node].vtep.to_string(), "10.77.0.26");
    assert!(view.is_alive(&node));
    assert_eq!(view.nodes[&node].networks, BTreeSet::from([key.0]));
}
