//! A daemon that answers from memory, on a unix socket.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use proto::{
    error::ApiError,
    pb::{
        self,
        control_server::{Control, ControlServer},
        exec_request,
        local_server::{Local, LocalServer},
        logs_server::{Logs, LogsServer},
    },
};
use tokio::net::UnixListener;
use tonic::{Request, Response, Status, Streaming};

use crate::docker;

type Reply<T> = Result<Response<T>, Status>;
type Flow<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the daemon knows.
#[derive(Default)]
pub struct State {
    pub services: BTreeMap<String, pb::Service>,
    /// Calls of `ListTasks` so far: tasks get on with each.
    pub polls: u64,
    /// Polls until the tasks run.
    pub slow: u64,
    /// Updates that are refused because somebody was faster.
    pub races: u64,
    pub imported: Option<(String, Vec<String>, usize)>,
    pub exec: Option<exec_request::Start>,
    pub joined: Option<pb::SwarmJoinRequest>,
    /// Whether this node is a manager.
    pub worker: bool,
    /// Questions for convergence that are still answered with something missing.
    pub unsettled: u64,
}

/// The daemon.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

pub const SERVICE: &str = "svc0000000000000000000web";
pub const NODE: &str = "node000000000000000000001";

impl Fake {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn manager(&self) -> Result<(), Status> {
        if self.state().worker {
            return Err(ApiError::precondition("this node is not a manager")
                .help("run it on a manager")
                .into());
        }
        Ok(())
    }

    fn service(&self, key: &str) -> Result<pb::Service, Status> {
        let state = self.state();
        let found =
            state.services.values().find(|s| s.id == key || s.spec.as_ref().is_some_and(|s| s.name == key));
        found.cloned().ok_or_else(|| ApiError::not_found(format!("service {key} not found")).into())
    }
}

fn ok<T>(value: T) -> Reply<T> {
    Ok(Response::new(value))
}

/// Serves both protocols.
pub async fn serve(listener: UnixListener, fake: Fake) {
    let grpc = tonic::service::Routes::new(ControlServer::new(fake.clone()))
        .add_service(LocalServer::new(fake.clone()))
        .add_service(LogsServer::new(fake.clone()))
        .prepare()
        .into_axum_router();
    let router = docker::router(fake).fallback_service(grpc);
    while let Ok((stream, _)) = listener.accept().await {
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

/// Calls that no test makes.
macro_rules! unused {
    ($($name:ident($request:ty) -> $reply:ty;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Reply<$reply>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(ApiError::unsupported(stringify!($name)).into()) })
        }
    )*};
}

#[tonic::async_trait]
impl Control for Fake {
    async fn get_cluster(&self, _: Request<pb::GetClusterRequest>) -> Reply<pb::Cluster> {
        self.manager()?;
        let root_ca = pb::RootCa {
            worker_token: "SWMTKN-1-worker".into(),
            manager_token: "SWMTKN-1-manager".into(),
            ..pb::RootCa::default()
        };
        ok(pb::Cluster { root_ca: Some(root_ca), ..pb::Cluster::default() })
    }

    async fn list_nodes(&self, _: Request<pb::ListNodesRequest>) -> Reply<pb::ListNodesReply> {
        self.manager()?;
        let node = pb::Node {
            id: NODE.into(),
            spec: Some(pb::NodeSpec { role: 2, availability: 1, ..pb::NodeSpec::default() }),
            description: Some(pb::NodeDescription {
                hostname: "host1".into(),
                engine_version: "0.1.0".into(),
                ..pb::NodeDescription::default()
            }),
            status: Some(pb::NodeStatus { state: 2, ..pb::NodeStatus::default() }),
            manager_status: Some(pb::ManagerStatus {
                raft_id: 1,
                addr: "10.0.0.1:2377".into(),
                leader: true,
                reachability: 2,
            }),
            role: 2,
            ..pb::Node::default()
        };
        ok(pb::ListNodesReply { nodes: vec![node] })
    }

    async fn convergence(&self, request: Request<pb::ConvergenceRequest>) -> Reply<pb::ConvergenceReply> {
        self.manager()?;
        let mut state = self.state();
        let revision = request.get_ref().revision.max(41);
        let missing = state.unsettled > 0;
        state.unsettled = state.unsettled.saturating_sub(1);
        let late =
            pb::Unsettled { kind: "node".into(), name: "host2".into(), reason: "mesh: no VXLAN".into() };
        let unsettled = missing.then_some(late).into_iter().collect();
        ok(pb::ConvergenceReply { revision, unsettled, nodes: 3 })
    }

    async fn create_network(&self, request: Request<pb::CreateNetworkRequest>) -> Reply<pb::Network> {
        let spec = request.into_inner().spec;
        ok(pb::Network { id: "net0000000000000000000app".into(), spec, ..pb::Network::default() })
    }

    async fn list_networks(&self, _: Request<pb::ListNetworksRequest>) -> Reply<pb::ListNetworksReply> {
        self.manager()?;
        let spec =
            pb::NetworkSpec { name: "app".into(), driver: "overlay".into(), ..pb::NetworkSpec::default() };
        let network = pb::Network {
            id: "net0000000000000000000app".into(),
            spec: Some(spec),
            ..pb::Network::default()
        };
        ok(pb::ListNetworksReply { networks: vec![network] })
    }

    async fn remove_network(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        let key = request.into_inner().key;
        if key == "app" {
            return ok(pb::RemoveReply { id: "net0000000000000000000app".into(), name: key });
        }
        Err(ApiError::not_found(format!("network {key} not found")).into())
    }

    async fn create_service(&self, request: Request<pb::CreateServiceRequest>) -> Reply<pb::Service> {
        let spec = request.into_inner().spec;
        if let Some(name) = spec.as_ref().map(|s| &s.name).filter(|name| name.starts_with("taken")) {
            return Err(ApiError::conflict(format!(
                "name conflicts with an existing object: service {name} already exists"
            ))
            .help("choose another name")
            .into());
        }
        let service = pb::Service {
            id: SERVICE.into(),
            meta: Some(pb::Meta { version: 7, ..pb::Meta::default() }),
            spec,
            spec_version: 7,
            ..pb::Service::default()
        };
        self.state().services.insert(SERVICE.into(), service.clone());
        ok(service)
    }

    async fn list_services(&self, _: Request<pb::ListServicesRequest>) -> Reply<pb::ListServicesReply> {
        self.manager()?;
        let services: Vec<_> = self.state().services.values().cloned().collect();
        let entry = |s| pb::ServiceEntry { service: Some(s), running: 3, desired: 3 };
        ok(pb::ListServicesReply { services: services.into_iter().map(entry).collect() })
    }

    async fn get_service(&self, request: Request<pb::GetRequest>) -> Reply<pb::Service> {
        ok(self.service(&request.into_inner().key)?)
    }

    async fn update_service(&self, request: Request<pb::UpdateServiceRequest>) -> Reply<pb::Service> {
        let request = request.into_inner();
        let mut service = self.service(&request.key)?;
        let mut state = self.state();
        let meta = service.meta.get_or_insert_default();
        if state.races > 0 {
            state.races -= 1;
            return Err(ApiError::out_of_sequence("update out of sequence").into());
        }
        assert_eq!(request.version, meta.version);
        meta.version += 1;
        service.spec_version = meta.version;
        if request.rollback {
            std::mem::swap(&mut service.spec, &mut service.previous_spec);
        } else {
            service.previous_spec = service.spec.take();
            service.spec = request.spec;
        }
        state.services.insert(service.id.clone(), service.clone());
        ok(service)
    }

    async fn remove_service(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        let service = self.service(&request.into_inner().key)?;
        self.state().services.remove(&service.id);
        ok(pb::RemoveReply { id: service.id, name: String::new() })
    }

    async fn list_tasks(&self, request: Request<pb::ListTasksRequest>) -> Reply<pb::ListTasksReply> {
        let mut state = self.state();
        state.polls += 1;
        let wanted = request.into_inner().services;
        let mut tasks = Vec::new();
        for service in state.services.values().filter(|s| wanted.is_empty() || wanted.contains(&s.id)) {
            let spec = service.spec.clone().unwrap_or_default();
            let Some(pb::service_mode::Mode::Replicated(n)) = spec.mode.and_then(|m| m.mode) else {
                continue;
            };
            for slot in 1..=n {
                // The last one waits for a while.
                let waits = slot == n && state.polls <= state.slow;
                let (node, status, conditions) = if waits {
                    let condition = pb::Condition {
                        kind: "placement".into(),
                        message: "no suitable node (1 node is drained)".into(),
                        since: 0,
                    };
                    (String::new(), pb::TaskState::Pending, vec![condition])
                } else {
                    (NODE.to_owned(), pb::TaskState::Running, vec![])
                };
                tasks.push(pb::Task {
                    id: format!("task{slot:0>21}"),
                    service_id: service.id.clone(),
                    service_name: spec.name.clone(),
                    slot,
                    spec: spec.task.clone(),
                    spec_version: service.spec_version,
                    node_id: node,
                    desired: pb::TaskState::Running.into(),
                    status: Some(pb::TaskStatus { state: status.into(), ..pb::TaskStatus::default() }),
                    conditions,
                    ..pb::Task::default()
                });
            }
        }
        ok(pb::ListTasksReply { tasks })
    }

    async fn get_network(&self, request: Request<pb::GetRequest>) -> Reply<pb::Network> {
        Err(ApiError::not_found(format!("network {} not found", request.into_inner().key)).into())
    }

    async fn get_node(&self, request: Request<pb::GetRequest>) -> Reply<pb::Node> {
        Err(ApiError::not_found(format!("node {} not found", request.into_inner().key)).into())
    }

    async fn get_task(&self, request: Request<pb::GetRequest>) -> Reply<pb::Task> {
        Err(ApiError::not_found(format!("task {} not found", request.into_inner().key)).into())
    }

    unused! {
        update_cluster(pb::UpdateClusterRequest) -> pb::Cluster;
        get_unlock_key(pb::GetUnlockKeyRequest) -> pb::GetUnlockKeyReply;
        update_node(pb::UpdateNodeRequest) -> pb::Node;
        remove_node(pb::RemoveRequest) -> pb::RemoveReply;
        create_secret(pb::CreateFileRequest) -> pb::Secret;
        list_secrets(pb::ListFilesRequest) -> pb::ListSecretsReply;
        get_secret(pb::GetRequest) -> pb::Secret;
        update_secret(pb::UpdateFileRequest) -> pb::Secret;
        remove_secret(pb::RemoveRequest) -> pb::RemoveReply;
        create_config(pb::CreateFileRequest) -> pb::Config;
        list_configs(pb::ListFilesRequest) -> pb::ListConfigsReply;
        get_config(pb::GetRequest) -> pb::Config;
        update_config(pb::UpdateFileRequest) -> pb::Config;
        remove_config(pb::RemoveRequest) -> pb::RemoveReply;
    }
}

#[tonic::async_trait]
impl Logs for Fake {
    type SubscribeStream = Flow<pb::LogChunk>;

    async fn subscribe(&self, request: Request<pb::LogsRequest>) -> Reply<Self::SubscribeStream> {
        let line =
            |text: &str, stderr| pb::LogLine { at_nanos: 1, stderr, data: text.into(), partial: false };
        let chunk = pb::LogChunk {
            service_id: request.into_inner().service,
            task_id: format!("task{:0>21}", 1),
            node_id: NODE.into(),
            lines: vec![line("hello", false), line("trouble", true)],
            error: String::new(),
        };
        ok(futures::stream::iter([Ok(chunk)]).boxed())
    }
}

#[tonic::async_trait]
impl Local for Fake {
    type ContainerLogsStream = Flow<pb::LogChunk>;
    type PullImageStream = Flow<pb::PullProgress>;
    type EventsStream = Flow<pb::Event>;
    type ExecStream = Flow<pb::ExecReply>;
    type AttachContainerStream = Flow<pb::AttachContainerReply>;

    async fn version(&self, _: Request<pb::VersionRequest>) -> Reply<pb::VersionReply> {
        ok(pb::VersionReply { version: "0.1.0".into(), os: "linux".into(), ..pb::VersionReply::default() })
    }

    async fn info(&self, _: Request<pb::InfoRequest>) -> Reply<pb::InfoReply> {
        let swarm = pb::SwarmInfo {
            state: "active".into(),
            node_id: NODE.into(),
            control_available: true,
            node_addr: "10.0.0.1".into(),
            remote_managers: vec![pb::ManagerAddr { node_id: NODE.into(), addr: "10.0.0.1:2377".into() }],
            ..pb::SwarmInfo::default()
        };
        ok(pb::InfoReply {
            name: "host1".into(),
            warnings: vec!["no IPv6 forwarding".into()],
            swarm: Some(swarm),
            ..pb::InfoReply::default()
        })
    }

    async fn swarm_init(&self, request: Request<pb::SwarmInitRequest>) -> Reply<pb::SwarmInitReply> {
        ok(pb::SwarmInitReply {
            node_id: NODE.into(),
            worker_token: "SWMTKN-1-worker".into(),
            manager_token: "SWMTKN-1-manager".into(),
            addr: request.into_inner().advertise_addr,
            unlock_key: String::new(),
        })
    }

    async fn swarm_join(&self, request: Request<pb::SwarmJoinRequest>) -> Reply<pb::SwarmJoinReply> {
        self.state().joined = Some(request.into_inner());
        ok(pb::SwarmJoinReply { node_id: NODE.into(), role: 1 })
    }

    async fn list_local_networks(
        &self,
        _: Request<pb::ListNetworksRequest>,
    ) -> Reply<pb::ListLocalNetworksReply> {
        let network = |name: &str, driver: &str| pb::LocalNetwork {
            id: format!("{name:0<64}"),
            name: name.into(),
            driver: driver.into(),
            scope: "local".into(),
            ..pb::LocalNetwork::default()
        };
        let networks = vec![network("rn_gwbridge", "bridge"), network("none", "none")];
        ok(pb::ListLocalNetworksReply { networks })
    }

    async fn resolve_image(&self, _: Request<pb::ResolveImageRequest>) -> Reply<pb::ResolveImageReply> {
        ok(pb::ResolveImageReply::default())
    }

    unused! {
        create_container(pb::ContainerDefinition) -> pb::CreateContainerReply;
        start_container(pb::GetRequest) -> pb::ContainerDone;
        stop_container(pb::StopContainerRequest) -> pb::ContainerDone;
        kill_container(pb::KillContainerRequest) -> pb::ContainerDone;
        remove_container(pb::RemoveContainerRequest) -> pb::ContainerDone;
        wait_container(pb::GetRequest) -> pb::WaitContainerReply;
        import(Streaming<pb::ImportRequest>) -> pb::ImportReply;
        list_containers(pb::ListContainersRequest) -> pb::ListContainersReply;
        exec(Streaming<pb::ExecRequest>) -> Flow<pb::ExecReply>;
        inspect_container(pb::GetRequest) -> pb::ContainerDetail;
        inspect_image(pb::GetRequest) -> pb::Image;
        load(Streaming<pb::LoadRequest>) -> pb::LoadReply;
        tag_image(pb::TagImageRequest) -> pb::TagImageReply;
        prune_images(pb::PruneImagesRequest) -> pb::PruneImagesReply;
        pull_image(pb::PullImageRequest) -> Flow<pb::PullProgress>;
        login(pb::RegistryAuth) -> pb::LoginReply;
        events(pb::EventsRequest) -> Flow<pb::Event>;
        swarm_leave(pb::SwarmLeaveRequest) -> pb::SwarmLeaveReply;
        swarm_unlock(pb::SwarmUnlockRequest) -> pb::SwarmUnlockReply;
        list_images(pb::ListImagesRequest) -> pb::ListImagesReply;
        remove_image(pb::RemoveImageRequest) -> pb::RemoveImageReply;
        container_logs(pb::ContainerLogsRequest) -> Flow<pb::LogChunk>;
        attach_container(Streaming<pb::AttachContainerRequest>) -> Flow<pb::AttachContainerReply>;
    }
}
