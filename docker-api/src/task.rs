//! Tasks.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    error::ApiError,
    model::{self, Network, NetworkId, ServiceId, TaskState},
};
use serde::{Deserialize, Serialize};

use crate::{
    attached_network::AttachedNetwork, endpoint::PortConfig, filters::Filters, json::empty,
    service::with_prefix, service_spec::TaskSpec, swarm::ObjectMeta, time,
};

/// Filters that the list of tasks has.
pub const FILTERS: [&str; 8] =
    ["id", "name", "label", "service", "node", "desired-state", "_up-to-date", "runtime"];

/// A task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Task {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version and times.
    #[serde(flatten)]
    pub meta: ObjectMeta,
    /// Empty: tasks have no labels of their own.
    pub labels: BTreeMap<String, String>,
    /// What it is.
    pub spec: TaskSpec,
    /// Its service.
    #[serde(rename = "ServiceID", skip_serializing_if = "empty")]
    pub service_id: String,
    /// Its place in the service; 0 in a global one.
    #[serde(skip_serializing_if = "empty")]
    pub slot: u64,
    /// Its node.
    #[serde(rename = "NodeID", skip_serializing_if = "empty")]
    pub node_id: String,
    /// How it is.
    pub status: TaskStatus,
    /// How it is to be.
    pub desired_state: String,
    /// Its places on networks.
    #[serde(skip_serializing_if = "empty")]
    pub networks_attachments: Vec<NetworkAttachment>,
}

/// How a task is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskStatus {
    /// Since when.
    pub timestamp: String,
    /// `running`, …
    pub state: String,
    /// What is going on.
    #[serde(skip_serializing_if = "empty")]
    pub message: String,
    /// What went wrong, or what it waits for.
    #[serde(skip_serializing_if = "empty")]
    pub err: String,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_status: Option<ContainerStatus>,
    /// Its ports on its node.
    pub port_status: PortStatus,
}

/// The container of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Its id.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Its first process.
    #[serde(rename = "PID")]
    pub pid: u32,
    /// How it ended.
    #[serde(rename = "ExitCode")]
    pub exit_code: i32,
}

/// Ports of a task on its node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortStatus {
    /// As bound.
    #[serde(skip_serializing_if = "empty")]
    pub ports: Vec<PortConfig>,
}

/// A task's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkAttachment {
    /// The network.
    pub network: AttachedNetwork,
    /// The task's addresses there, with their prefixes.
    #[serde(skip_serializing_if = "empty")]
    pub addresses: Vec<String>,
}

/// A task as Docker's clients read it.
pub fn task(task: &model::Task, networks: &BTreeMap<NetworkId, Network>) -> Task {
    let status = &task.status;
    let container = ContainerStatus {
        container_id: status.container_id.clone(),
        pid: status.pid,
        exit_code: status.exit_code.unwrap_or_default(),
    };
    let started = !status.container_id.is_empty() || status.exit_code.is_some();
    let allocation = task.allocation.as_ref();
    let ingress = allocation.filter(|a| !a.ingress_addrs.is_empty()).and_then(|a| {
        let network = networks.values().find(|n| n.spec.ingress)?;
        let addresses = a.ingress_addrs.iter().map(|addr| with_prefix(*addr, Some(network))).collect();
        Some(NetworkAttachment { network: AttachedNetwork::from(network), addresses })
    });
    let attached = allocation.into_iter().flat_map(|a| &a.attachments).map(|a| NetworkAttachment {
        network: networks.get(&a.network).map_or_else(
            || AttachedNetwork { id: a.network.to_string(), ..AttachedNetwork::default() },
            AttachedNetwork::from,
        ),
        addresses: a.addrs.iter().map(ToString::to_string).collect(),
    });
    Task {
        id: task.id.to_string(),
        meta: ObjectMeta::from(&task.meta),
        labels: BTreeMap::new(),
        spec: TaskSpec::from(&task.spec),
        service_id: task.service_id.to_string(),
        slot: task.slot,
        node_id: task.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        status: TaskStatus {
            timestamp: time::rfc3339(if status.at.0 == 0 { task.meta.updated_at } else { status.at }),
            state: status.state.as_str().to_lowercase(),
            message: status.message.clone(),
            err: reason(task),
            container_status: started.then_some(container),
            port_status: PortStatus { ports: status.ports.iter().map(PortConfig::from).collect() },
        },
        desired_state: task.desired.as_str().to_lowercase(),
        networks_attachments: ingress.into_iter().chain(attached).collect(),
    }
}

/// What clients print in the column of errors: what went wrong, or what it waits for.
fn reason(task: &model::Task) -> String {
    if !task.status.err.is_empty() {
        return task.status.err.clone();
    }
    let waits = task.status.state < TaskState::Running;
    task.conditions.first().filter(|_| waits).map(|c| c.message.clone()).unwrap_or_default()
}

/// Refuses values that filters of tasks cannot have.
///
/// # Errors
/// There is such a value.
pub fn check_filters(filters: &Filters) -> Result<(), ApiError> {
    let states = [
        "running", "shutdown", "accepted", "ready", "remove", "complete", "failed", "rejected", "new",
        "pending",
    ];
    filters.check_values("desired-state", &states)?;
    filters.check_values("runtime", &["container", "plugin"])?;
    filters.switch("_up-to-date").map(drop)
}

/// What filters of tasks mean in terms of other objects.
#[derive(Debug, Default)]
pub struct Meant<'a> {
    /// The services that are named, where there is a filter of them.
    pub services: Option<BTreeSet<ServiceId>>,
    /// The nodes that are named, where there is a filter of them.
    pub nodes: Option<BTreeSet<model::NodeId>>,
    /// All services, for their labels and versions.
    pub all: BTreeMap<&'a ServiceId, &'a model::Service>,
}

/// Whether a task is among what was asked for.
pub fn is_wanted(task: &model::Task, filters: &Filters, meant: &Meant<'_>) -> bool {
    let service = meant.all.get(&task.service_id);
    let labels = service.map(|s| s.spec.labels.clone()).unwrap_or_default();
    let up_to_date = |wanted: bool| {
        let is = service.is_some_and(|s| s.spec_version == task.spec_version || s.spec.task == task.spec);
        is == wanted
    };
    let desired = task.desired.as_str().to_lowercase();
    filters.begins("id", task.id.as_str())
        && (filters.begins("name", &task.name()) || filters.begins("name", &task.service_name))
        && filters.labels("label", &labels)
        && meant.services.as_ref().is_none_or(|wanted| wanted.contains(&task.service_id))
        && meant.nodes.as_ref().is_none_or(|wanted| task.node_id.as_ref().is_some_and(|n| wanted.contains(n)))
        && filters.exact("desired-state", &desired)
        && filters.exact("runtime", "container")
        && filters.switch("_up-to-date").ok().flatten().is_none_or(up_to_date)
}
