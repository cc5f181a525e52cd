//! Containers.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use network::{assigned::Assigned, reconciler::Status, workload::WorkloadId};
use node::containers::{ContainerStatus, Definition};
use proto::{
    model::{ContainerId, EndpointSettings, HOST_NETWORK, Mac, NO_NETWORK, SubnetAddr},
    pb,
};
use runtime::{Check, Container, ContainerState, HealthReport, LogOptions, Runtime, Stream};
use tonic::Response;

use super::{Local, Reply, refused};

/// What this node itself knows of the networks of its containers.
struct Known {
    assigned: Arc<Assigned>,
    network: Arc<Status>,
}

/// Lines that go in one message at most. They have 16 KiB each at most, and a message 4 MiB.
const LINES_PER_CHUNK: usize = 128;

impl Local {
    fn known(&self) -> Known {
        let engine = &self.daemon.engine;
        Known { assigned: engine.assigned(), network: engine.network_status() }
    }

    pub(crate) async fn containers(&self, all: bool) -> Vec<pb::Container> {
        let known = self.known();
        let mut by_hand: BTreeMap<ContainerId, Arc<ContainerStatus>> =
            self.daemon.containers.list().into_iter().map(|s| (s.definition.id.clone(), s)).collect();
        let runtime = &self.daemon.runtime;
        let made = runtime.list().into_iter().map(|c| {
            let seen = by_hand.remove(&c.record.id);
            let health = runtime.health(&c.record.id);
            to_pb(c, &known, seen.as_deref(), health.as_ref())
        });
        let mut list: Vec<pb::Container> = made.collect();
        // Defined, and never started.
        list.extend(by_hand.values().map(|seen| defined(&seen.definition)));
        list.retain(|c| all || matches!(c.state.as_str(), "running" | "paused" | "restarting"));
        list.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        list
    }

    pub(crate) async fn container_detail(&self, key: &str) -> Reply<pb::ContainerDetail> {
        let runtime = &self.daemon.runtime;
        let seen = self.daemon.containers.find(key).and_then(|id| self.daemon.containers.watch(&id));
        let seen = seen.map(|s| s.borrow().clone());
        let id = match (&seen, runtime.find(seen.as_ref().map_or(key, |s| s.definition.id.as_str()))) {
            (Some(seen), Err(_)) => {
                let container = Some(defined(&seen.definition));
                let hostname = seen.definition.spec.hostname.clone();
                let detail = pb::ContainerDetail { container, hostname, ..Default::default() };
                return Ok(Response::new(of_definition(detail, &seen.definition)));
            }
            (_, found) => found.map_err(refused)?,
        };
        let detail = runtime.inspect(&id).await.map_err(refused)?;
        let record = detail.container.record.clone();
        let known = self.known();
        let health = runtime.health(&id);
        let end = match &detail.container.state {
            ContainerState::Exited(end) => end.clone(),
            ContainerState::Created { .. } | ContainerState::Running { .. } => Default::default(),
        };
        let reply = pb::ContainerDetail {
            container: Some(to_pb(detail.container, &known, seen.as_deref(), health.as_ref())),
            oci_config_json: detail.oci_config,
            log_path: detail.log_path.display().to_string(),
            hostname: record.hostname,
            netns_path: record.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            rootfs_path: detail.rootfs_path.display().to_string(),
            health: health.map(report),
            error: end.error,
            oom_killed: end.oom,
            tty: record.tty,
            ..Default::default()
        };
        Ok(Response::new(match &seen {
            Some(seen) => of_definition(reply, &seen.definition),
            None => reply,
        }))
    }

    pub(super) async fn logs(
        &self,
        request: pb::ContainerLogsRequest,
    ) -> Reply<<Self as pb::local_server::Local>::ContainerLogsStream> {
        let runtime = self.daemon.runtime.clone();
        let options = request.options.unwrap_or(pb::LogOptions { tail: -1, ..Default::default() });
        let options = LogOptions {
            follow: options.follow,
            tail: usize::try_from(options.tail).ok(),
            since: match options.since_nanos {
                0 => options.since.saturating_mul(1_000_000),
                nanos => nanos,
            },
            until: options.until_nanos,
        };
        let by_hand = self.daemon.containers.find(&request.key);
        let seen = by_hand.as_ref().and_then(|id| self.daemon.containers.watch(id));
        let lines = match (by_hand, seen) {
            // Follows one from before its start; one that goes by itself stays until it has been read.
            (Some(id), Some(mut seen)) if options.follow => futures::stream::once(async move {
                let made = |_: &Arc<ContainerStatus>| runtime.watch(&id).is_ok();
                let _ = seen.wait_for(|s| made(s) || (s.resting && s.status.is_some())).await;
                match runtime.logs(&id, options).await {
                    Ok(lines) => lines.inspect(move |_| _ = &seen).boxed(),
                    // It did not start, which is for the start to say.
                    Err(_) => futures::stream::empty().boxed(),
                }
            })
            .flatten()
            .boxed(),
            (Some(id), _) if runtime.watch(&id).is_err() => futures::stream::empty().boxed(),
            (Some(id), _) => runtime.logs(&id, options).await.map_err(refused)?,
            (None, _) => {
                let id = runtime.find(&request.key).map_err(refused)?;
                runtime.logs(&id, options).await.map_err(refused)?
            }
        };
        let chunk = |lines: Vec<runtime::Result<runtime::LogLine>>| {
            let mut chunk = pb::LogChunk::default();
            for line in lines {
                let line = line.map_err(refused)?;
                let stderr = line.stream == Stream::Stderr;
                let partial = line.partial;
                chunk.lines.push(pb::LogLine { at_nanos: line.at, stderr, data: line.data, partial });
            }
            Ok(chunk)
        };
        Ok(Response::new(lines.ready_chunks(LINES_PER_CHUNK).map(chunk).boxed()))
    }
}

/// One that has never run.
fn defined(definition: &Definition) -> pb::Container {
    let spec = &definition.spec;
    let network =
        |n: &EndpointSettings| pb::ContainerNetwork { name: n.network.clone(), ..Default::default() };
    pb::Container {
        id: definition.id.to_string(),
        name: definition.name.clone(),
        image: spec.image.clone(),
        command: spec.command.iter().chain(&spec.args).cloned().collect::<Vec<_>>().join(" "),
        created_at: definition.created_at.0,
        state: "created".into(),
        exit_code: definition.not_started().unwrap_or_default(),
        labels: spec.labels.clone(),
        networks: definition.networks.iter().map(network).collect(),
        ..Default::default()
    }
}

/// What only a container's definition knows.
fn of_definition(detail: pb::ContainerDetail, definition: &Definition) -> pb::ContainerDetail {
    let error = if detail.error.is_empty() { definition.error.clone() } else { detail.error };
    pb::ContainerDetail {
        error,
        restart: definition.restart.to_string(),
        restarts: definition.restarts,
        log_driver: definition.spec.log_driver.clone().map(Into::into),
        tty: definition.spec.tty,
        open_stdin: definition.spec.open_stdin,
        ..detail
    }
}

fn report(report: HealthReport) -> pb::HealthReport {
    let check = |c: Check| pb::health_report::Check {
        start_nanos: c.start,
        end_nanos: c.end,
        exit_code: c.exit_code,
        output: c.output,
    };
    pb::HealthReport {
        status: report.health.as_str().into(),
        failing_streak: report.failing_streak,
        log: report.log.into_iter().map(check).collect(),
    }
}

fn to_pb(
    container: Container,
    known: &Known,
    by_hand: Option<&ContainerStatus>,
    health: Option<&HealthReport>,
) -> pb::Container {
    let Known { assigned, network } = known;
    let Container { record, state, paused } = container;
    let (pid, started_at, ended) = match &state {
        ContainerState::Created { pid } => (*pid, 0, None),
        ContainerState::Running { pid, started_at } => (*pid, *started_at, None),
        ContainerState::Exited(status) => (0, status.started_at, Some(status.clone())),
    };
    let shown = match (&state, by_hand) {
        (ContainerState::Exited(_), Some(seen)) if seen.restarting => "restarting",
        // Made, and stopped before its program was started. One that starts again by itself has run before.
        (ContainerState::Exited(status), seen)
            if status.started_at == 0
                && status.error.is_empty()
                && seen.is_none_or(|seen| seen.definition.restarts == 0) =>
        {
            "created"
        }
        (ContainerState::Running { .. }, _) if paused => "paused",
        (state, _) => state.as_str(),
    };
    let not_started = ended.as_ref().and(by_hand).and_then(|seen| seen.definition.not_started());
    let workload = by_hand.and_then(|s| s.workload.as_deref());
    let task = record.task.as_ref().and_then(|t| assigned.tasks.get(&t.task));
    let of_task = task.and_then(|t| t.allocation.as_ref()).into_iter().flat_map(|a| &a.attachments);
    let attachments = of_task.chain(workload.into_iter().flat_map(|w| &w.attachments));
    let networks = attachments.enumerate().map(|(n, attachment)| {
        let network = assigned.networks.get(&attachment.network);
        let subnets = network.and_then(|n| n.allocation.as_ref()).into_iter().flat_map(|a| &a.subnets);
        let gateway = subnets.map(|s| s.gateway).find(|g| g.is_ipv4());
        pb::ContainerNetwork {
            network_id: attachment.network.to_string(),
            name: network.map(|n| n.spec.name.clone()).unwrap_or_default(),
            addrs: attachment.addrs.iter().map(SubnetAddr::to_string).collect(),
            mac: Mac::of_any(attachment.addrs.iter().map(|a| a.addr))
                .map(|m| m.to_string())
                .unwrap_or_default(),
            interface: format!("eth{n}"),
            gateway: gateway.map(|g| g.to_string()).unwrap_or_default(),
        }
    });
    let mut networks: Vec<_> = networks.collect();
    if record.netns.is_none() && by_hand.is_none_or(|s| s.definition.is_on_host_network()) {
        networks.push(pb::ContainerNetwork { name: HOST_NETWORK.into(), ..Default::default() });
    }
    if by_hand.is_some_and(|s| s.definition.is_isolated()) {
        networks.push(pb::ContainerNetwork { name: NO_NETWORK.into(), ..Default::default() });
    }
    let id = record.task.as_ref().map_or(WorkloadId::from(&record.id), |t| WorkloadId::from(&t.task));
    let bound = network.host_ports.get(&id);
    let bound = bound.filter(|_| matches!(state, ContainerState::Running { .. }));
    let mut ports: Vec<pb::PortConfig> =
        bound.map(|ports| ports.iter().map(Into::into).collect()).unwrap_or_default();
    let exposed =
        by_hand.filter(|s| matches!(state, ContainerState::Running { .. }) && !s.definition.needs_no_swarm());
    for port in exposed.into_iter().flat_map(|s| &s.definition.exposed) {
        let port = pb::PortConfig::from(port);
        if !ports.iter().any(|p| (p.target_port, p.protocol) == (port.target_port, port.protocol)) {
            ports.push(port);
        }
    }
    pb::Container {
        id: record.id.to_string(),
        name: record.name,
        image: record.image,
        command: record.command.join(" "),
        created_at: record.created_at,
        state: shown.into(),
        started_at,
        finished_at: ended.as_ref().map(|e| e.finished_at).unwrap_or_default(),
        exit_code: not_started.or(ended.as_ref().map(|e| e.code)).unwrap_or_default(),
        pid: u32::try_from(pid).unwrap_or(0),
        ports,
        labels: record.labels,
        task_id: record.task.as_ref().map(|t| t.task.to_string()).unwrap_or_default(),
        service_id: record.task.as_ref().map(|t| t.service.to_string()).unwrap_or_default(),
        networks,
        health: health.map(|h| h.health.as_str().into()).unwrap_or_default(),
    }
}
