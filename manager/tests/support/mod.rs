//! A manager over real TLS on loopback, and a worker that does by hand what an agent does.
#![allow(dead_code)] // each test file uses a part

use std::{net::SocketAddr, time::Duration};

use certs::{Connector, Identity, SharedIdentity, Target, join::join, transport::DialOptions};
use manager::{
    api::{forward::LeaderProxy, validate::cluster::Limits},
    bootstrap::{Bootstrap, InitOptions},
    loops::LoopSettings,
    run::{Manager, ManagerConfig, Start},
};
use proto::{
    error::ApiError,
    model::{NodeId, Role},
    pb::{
        self, control_client::ControlClient, dispatcher_client::DispatcherClient,
        log_broker_client::LogBrokerClient,
    },
};
use tonic::{Streaming, transport::Channel};

/// Bounds each wait: generous, for machines that are busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Host {
    pub manager: Manager,
    pub identity: SharedIdentity,
    pub control: ControlClient<LeaderProxy>,
    dir: tempfile::TempDir,
}

fn config(dir: &tempfile::TempDir, identity: &SharedIdentity) -> ManagerConfig {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    ManagerConfig {
        dir: dir.path().join("raft"),
        identity: identity.clone(),
        listen_addr: any,
        advertise_addr: any,
        loops: LoopSettings::default(),
        unlock: None,
        limits: Limits::default(),
        hints: manager::raft::no_hints(),
        environment: Default::default(),
    }
}

impl Host {
    /// A new swarm of one manager.
    pub async fn init(options: InitOptions) -> Self {
        let bootstrap = Bootstrap::new(options).unwrap();
        let identity = SharedIdentity::new(copy(&bootstrap.identity));
        let dir = tempfile::tempdir().unwrap();
        let manager =
            Manager::start(config(&dir, &identity), Start::First(Box::new(bootstrap))).await.unwrap();
        let control = ControlClient::new(manager.local());
        Self { manager, identity, control, dir }
    }

    /// A further manager.
    pub async fn join(first: &mut Host) -> Self {
        let token = first.tokens().await.1;
        let joined = join_as(first.addr(), &token).await.unwrap();
        let identity = SharedIdentity::new(joined);
        let dir = tempfile::tempdir().unwrap();
        let start = Start::Joining(vec![first.addr()]);
        let manager = Manager::start(config(&dir, &identity), start).await.unwrap();
        let control = ControlClient::new(manager.local());
        Self { manager, identity, control, dir }
    }

    /// Stops it and starts it from its disk.
    pub async fn restart(self) -> Self {
        let Self { manager, identity, dir, control } = self;
        drop(control);
        manager.shutdown().await;
        let manager = Manager::start(config(&dir, &identity), Start::Again).await.unwrap();
        let control = ControlClient::new(manager.local());
        Self { manager, identity, control, dir }
    }

    pub fn addr(&self) -> SocketAddr {
        self.manager.listening()
    }

    /// Worker's and manager's.
    pub async fn tokens(&mut self) -> (String, String) {
        let ca = self.cluster().await.root_ca.unwrap();
        (ca.worker_token, ca.manager_token)
    }

    pub async fn cluster(&mut self) -> pb::Cluster {
        self.control.get_cluster(pb::GetClusterRequest {}).await.unwrap().into_inner()
    }

    pub async fn network(&mut self, name: &str) -> Result<pb::Network, ApiError> {
        let spec = proto::model::NetworkSpec { name: name.into(), ..Default::default() };
        let request = pb::CreateNetworkRequest { spec: Some(spec.into()) };
        Ok(self.control.create_network(request).await?.into_inner())
    }

    pub async fn service(&mut self, spec: pb::ServiceSpec) -> Result<pb::Service, ApiError> {
        Ok(self.control.create_service(pb::CreateServiceRequest { spec: Some(spec) }).await?.into_inner())
    }

    pub async fn entry(&mut self, name: &str) -> pb::ServiceEntry {
        let reply = self.control.list_services(pb::ListServicesRequest {}).await.unwrap().into_inner();
        let named = |e: &pb::ServiceEntry| e.service.as_ref().unwrap().spec.as_ref().unwrap().name == name;
        reply.services.into_iter().find(named).unwrap()
    }

    pub async fn node_state(&mut self, id: &NodeId) -> pb::NodeState {
        let node = self.control.get_node(pb::GetRequest { key: id.to_string() }).await.unwrap().into_inner();
        node.status.unwrap().state()
    }
}

fn copy(identity: &Identity) -> Identity {
    // The key is only to be had through the files, as for the daemon.
    let dir = tempfile::tempdir().unwrap();
    let files = certs::CertificateDir::new(dir.path());
    files.save(identity).unwrap();
    files.load().unwrap().unwrap()
}

pub async fn join_as(manager: SocketAddr, token: &str) -> Result<Identity, ApiError> {
    let token = token.parse().map_err(|e: certs::TokenError| ApiError::from(e))?;
    let joined = join(manager, &token, pb::Availability::Active, "host", DialOptions::default()).await?;
    Ok(joined.identity)
}

/// What a service of `replicas` tasks on `networks` is, publishing `published` -> 80.
pub fn service(name: &str, replicas: u64, networks: &[&str], published: &[u32]) -> pb::ServiceSpec {
    pb::ServiceSpec {
        name: name.into(),
        task: Some(pb::TaskSpec {
            container: Some(pb::ContainerSpec { image: "nginx".into(), ..Default::default() }),
            networks: networks
                .iter()
                .map(|n| pb::NetworkAttachmentConfig { target: (*n).to_owned(), ..Default::default() })
                .collect(),
            ..Default::default()
        }),
        mode: Some(pb::ServiceMode { mode: Some(pb::service_mode::Mode::Replicated(replicas)) }),
        endpoint: Some(pb::EndpointSpec {
            mode: pb::EndpointMode::Vip.into(),
            ports: published
                .iter()
                .map(|p| pb::PortConfig {
                    protocol: pb::Protocol::Tcp.into(),
                    target_port: 80,
                    published_port: *p,
                    mode: pb::PublishMode::Ingress.into(),
                    ..Default::default()
                })
                .collect(),
        }),
        ..Default::default()
    }
}

/// A node in session.
pub struct Worker {
    pub id: NodeId,
    pub channel: Channel,
    pub dispatcher: DispatcherClient<Channel>,
    pub session: String,
    pub messages: Streaming<pb::SessionMessage>,
    pub first: pb::SessionMessage,
}

pub fn channel(manager: SocketAddr, identity: Identity) -> Channel {
    Connector::member(SharedIdentity::new(identity)).channel(Target::manager(manager))
}

impl Worker {
    pub async fn join(host: &mut Host, name: &str) -> Self {
        let token = host.tokens().await.0;
        let identity = join_as(host.addr(), &token).await.unwrap();
        assert_eq!(identity.role(), Role::Worker);
        Self::register(host.addr(), identity, name).await
    }

    pub async fn register(manager: SocketAddr, identity: Identity, name: &str) -> Self {
        let id = identity.node_id().clone();
        let channel = channel(manager, identity);
        let mut dispatcher = DispatcherClient::new(channel.clone());
        let description = pb::NodeDescription {
            hostname: name.into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 4_000_000_000,
            memory_bytes: 8 << 30,
            underlay_mtu: 1500,
            ..Default::default()
        };
        let request = pb::SessionRequest { description: Some(description), previous_session: String::new() };
        let mut messages = dispatcher.session(request).await.unwrap().into_inner();
        let first = messages.message().await.unwrap().unwrap();
        Self { id, channel, dispatcher, session: first.session_id.clone(), messages, first }
    }

    pub async fn beat(&mut self) -> Result<pb::HeartbeatReply, tonic::Status> {
        let request =
            pb::HeartbeatRequest { session_id: self.session.clone(), ..pb::HeartbeatRequest::default() };
        Ok(self.dispatcher.heartbeat(request).await?.into_inner())
    }

    pub async fn assignments(&mut self) -> Assigned {
        let request = pb::AssignmentsRequest { session_id: self.session.clone() };
        let stream = self.dispatcher.assignments(request).await.unwrap().into_inner();
        let mut assigned = Assigned {
            stream,
            last: None,
            tasks: Default::default(),
            all: pb::AssignmentsMessage::default(),
        };
        assigned.next().await;
        assigned
    }

    pub async fn report(&mut self, tasks: &[String], state: pb::TaskState) {
        let updates = tasks.iter().map(|id| pb::update_task_status_request::Update {
            task_id: id.clone(),
            status: Some(pb::TaskStatus {
                state: state.into(),
                message: "by hand".into(),
                ..Default::default()
            }),
        });
        let request = pb::UpdateTaskStatusRequest {
            session_id: self.session.clone(),
            updates: updates.collect(),
            now: 0,
        };
        self.dispatcher.update_task_status(request).await.unwrap();
    }

    pub fn logs(&self) -> LogBrokerClient<Channel> {
        LogBrokerClient::new(self.channel.clone())
    }
}

/// What a worker has been told.
pub struct Assigned {
    stream: Streaming<pb::AssignmentsMessage>,
    last: Option<String>,
    pub tasks: std::collections::BTreeMap<String, pb::Task>,
    /// Networks, services and digests, newest last.
    pub all: pb::AssignmentsMessage,
}

impl Assigned {
    async fn next(&mut self) {
        let message =
            tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("no assignment came");
        let message = message.unwrap().expect("the stream ended");
        match &self.last {
            None => assert_eq!(message.kind(), pb::assignments_message::Kind::Complete),
            Some(last) => {
                assert_eq!(message.kind(), pb::assignments_message::Kind::Incremental);
                assert_eq!(&message.applies_to, last, "the chain is unbroken");
            }
        }
        assert!(message.generation >= self.all.generation, "generations only rise");
        self.all.generation = message.generation;
        self.last = Some(message.results_in.clone());
        for task in &message.tasks {
            self.tasks.insert(task.id.clone(), task.clone());
        }
        for gone in &message.removed_tasks {
            self.tasks.remove(gone);
        }
        self.all.networks.extend(message.networks);
        self.all.services.extend(message.services);
        self.all.digests.extend(message.digests);
        if message.node.is_some() {
            self.all.node = message.node;
        }
    }

    /// Reads what comes within this time.
    pub async fn soon(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, self.next()).await;
    }

    /// Reads on until `done`.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        tokio::time::timeout(PATIENCE, async {
            while !done(self) {
                self.next().await;
            }
        })
        .await
        .unwrap_or_else(|_| {
            panic!("{what} did not come: {:#?}", self.tasks.values().map(|t| t.desired).collect::<Vec<_>>())
        });
    }

    pub fn ids(&self) -> Vec<String> {
        self.tasks.keys().cloned().collect()
    }
}

/// Asks again until `check` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let waited = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}
