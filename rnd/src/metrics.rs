//! What `--metrics-addr` serves at `/metrics`, in Prometheus' text form. The names are documented in `docs/metrics.md`.
//!
//! Nothing is counted here: each scrape reads what the parts of the daemon know of themselves.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result};
use http::{Method, Request, Response, StatusCode, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use manager::store::Store;
use node::engine::Engine;
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use proto::model::{NodeState, TaskState};
use runtime::{ContainerState, Runtime};
use tokio::net::TcpListener;
use worker::worker::Worker;

use crate::{daemon::Daemon, swarm_state::SwarmState};

/// The form that Prometheus asks for.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// States that a task can be seen in.
const SHOWN: [TaskState; 13] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Orphaned,
];

type Labels = Vec<(&'static str, String)>;

/// Listens; the future serves until it fails.
pub async fn serve(daemon: Arc<Daemon>, addr: SocketAddr) -> Result<impl Future<Output = ()>> {
    let listener =
        TcpListener::bind(addr).await.with_context(|| format!("metrics: cannot listen on {addr}"))?;
    Ok(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "metrics");
                    // Out of descriptors, say: breathe rather than spin.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let daemon = daemon.clone();
            let service = tower::service_fn(move |request| answer(daemon.clone(), request));
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                // A client that goes away is no news.
                let _ =
                    server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
            });
        }
    })
}

async fn answer<B>(daemon: Arc<Daemon>, request: Request<B>) -> Result<Response<String>, Infallible> {
    let respond = |status, kind: &'static str, body: String| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        Ok(response)
    };
    let plain = "text/plain; charset=utf-8";
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut text = String::new();
            match encode(&mut text, &collect(&daemon).await) {
                Ok(()) => respond(StatusCode::OK, CONTENT_TYPE, text),
                Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, plain, format!("{error}\n")),
            }
        }
        (_, "/metrics") => respond(StatusCode::METHOD_NOT_ALLOWED, plain, "only GET\n".into()),
        _ => respond(StatusCode::NOT_FOUND, plain, "the metrics are at /metrics\n".into()),
    }
}

/// A set of numbers under construction. Counters are shown as gauges that never fall within one life of the daemon: their
/// truth is elsewhere.
struct Numbers(Registry);

impl Numbers {
    fn one(&mut self, name: &str, help: &str, value: impl TryInto<i64>) {
        let gauge: Gauge = Gauge::default();
        gauge.set(value.try_into().unwrap_or(i64::MAX));
        self.0.register(name, help, gauge);
    }

    fn many<V: TryInto<i64>>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, V)>,
    ) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value.try_into().unwrap_or(i64::MAX));
        }
        self.0.register(name, help, family);
    }
}

fn by<K: ToString>(label: &'static str, counts: BTreeMap<K, usize>) -> Vec<(Labels, usize)> {
    counts.into_iter().map(|(key, count)| (vec![(label, key.to_string())], count)).collect()
}

fn count<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

async fn collect(daemon: &Daemon) -> Registry {
    let mut numbers = Numbers(Registry::with_prefix("rn"));
    let machine = &daemon.context.machine;
    numbers.0.register(
        "build",
        "The version that runs",
        Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", option_env!("RN_GIT_COMMIT").unwrap_or_default().to_owned()),
            ("arch", machine.arch.clone()),
            ("kernel", machine.kernel.clone()),
        ]),
    );
    numbers.one(
        "start_time_seconds",
        "When the daemon began, in seconds since the epoch",
        daemon.started_at / 1000,
    );
    let states = daemon.runtime.list().into_iter().map(|container| match container.state {
        ContainerState::Created { .. } => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited(_) => "exited",
    });
    numbers.many("containers", "Containers of this node", by("state", count(states)));
    let images = daemon.runtime.images().list();
    numbers.one("images", "Images of this node", images.len());
    match &*daemon.swarm_state.read().await {
        SwarmState::Active(member) => {
            worker_part(&mut numbers, &member.worker, &daemon.engine);
            if let Some(store) = member.local_manager.store() {
                manager_part(&mut numbers, &store);
            }
        }
        SwarmState::Inactive | SwarmState::Failed(_) | SwarmState::Changing(_) => {}
    }
    numbers.0
}

fn worker_part(numbers: &mut Numbers, worker: &Worker, engine: &Engine) {
    let assigned = engine.assigned();
    numbers.one("agent_tasks", "Tasks assigned to this node", assigned.tasks.len());
    numbers.one("agent_generation", "Raft index of the newest assignments", assigned.generation);
    numbers.one(
        "agent_synced",
        "Whether a manager has confirmed them since the node connected",
        i64::from(worker.status().synced),
    );
    let network = engine.network_status();
    numbers.one("reconciler_passes", "Passes since the daemon started", network.passes);
    numbers.one("reconciler_repairs", "Steps that put back what somebody else had changed", network.repairs);
    numbers.one(
        "reconciler_failed_units",
        "Parts of the network that are not as they should be",
        network.failed.len(),
    );
    numbers.one("reconciler_last_pass_microseconds", "Time of the last pass", network.last_pass.as_micros());
    numbers.one("port_conflicts", "Published ports that another program holds", network.port_conflicts.len());
    let view = worker.gossip().view().borrow().clone();
    let alive = view.nodes.values().map(|fact| if fact.alive { "alive" } else { "dead" });
    numbers.many("gossip_nodes", "Nodes that gossip knows, this one too", by("state", count(alive)));
    let states = view.endpoints.values().map(|record| match record.state {
        gossip::EndpointState::Starting => "starting",
        gossip::EndpointState::Ready => "ready",
        gossip::EndpointState::Draining => "draining",
    });
    numbers.many("gossip_endpoints", "Endpoints that gossip knows", by("state", count(states)));
    numbers.one("gossip_revision", "Changes of what gossip knows", view.revision);
    let dns = engine.dns_counts();
    numbers.many(
        "dns_queries",
        "Requests to the embedded resolver since the daemon started",
        [
            (vec![("result", "answered".to_owned())], dns.answered.load(Ordering::Relaxed)),
            (vec![("result", "forwarded".to_owned())], dns.forwarded.load(Ordering::Relaxed)),
        ],
    );
}

fn manager_part(numbers: &mut Numbers, store: &Store) {
    let raft = store.metrics();
    numbers.one("raft_term", "Raft's term", raft.term);
    numbers.one("raft_leader", "Whether this manager leads", i64::from(raft.leadership.is_leader()));
    numbers.one("raft_members", "Managers in raft's configuration", raft.members.len());
    numbers.one("raft_last_log_index", "The last entry in the log", raft.last_log);
    numbers.one("raft_applied_index", "The last entry applied", raft.applied);
    numbers.one("raft_snapshot_index", "The last entry in the newest snapshot", raft.snapshot);
    numbers.one(
        "raft_election_time_milliseconds",
        "For how long this manager bears its leader's silence just now",
        store.election_time().as_millis(),
    );
    let failures = store.message_failures().into_iter();
    let failures = failures
        .map(|(peer, kind, n)| (vec![("peer", peer.to_string()), ("kind", kind.as_str().to_owned())], n));
    numbers.many("raft_rpc_failures", "Messages to other managers that failed", failures);
    let state = store.read();
    numbers.one("swarm_services", "Services", state.services.len());
    numbers.one("swarm_networks", "Networks of the swarm", state.networks.len());
    let nodes = state.nodes.values().map(|node| match node.status.state {
        NodeState::Unknown => "unknown",
        NodeState::Down => "down",
        NodeState::Ready => "ready",
        NodeState::Disconnected => "disconnected",
    });
    numbers.many("swarm_nodes", "Nodes, as the dispatcher sees them", by("state", count(nodes)));
    // States without a task are shown too: a graph shall fall to zero, not end.
    let mut tasks: BTreeMap<&str, usize> = SHOWN.iter().map(|state| (state.as_str(), 0)).collect();
    for task in state.tasks.values() {
        *tasks.entry(task.status.state.as_str()).or_default() += 1;
    }
    let tasks = tasks.into_iter().map(|(state, n)| (vec![("state", state.to_lowercase())], n));
    numbers.many("swarm_tasks", "Tasks by observed state", tasks);
}
