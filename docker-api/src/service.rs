//! Services.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    error::ApiError,
    model::{self, Network, NetworkId, ServiceMode, UpdateStatus},
};
use serde::{Deserialize, Serialize};

use crate::{
    endpoint::{EndpointSpec, PortConfig},
    filters::Filters,
    json::empty,
    service_spec::{ServiceSpec, with_defaults},
    swarm::ObjectMeta,
    time,
};

/// Filters that the list of services has.
pub const FILTERS: [&str; 5] = ["id", "name", "label", "mode", "runtime"];

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Service {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version and times.
    #[serde(flatten)]
    pub meta: ObjectMeta,
    /// As users want it.
    pub spec: ServiceSpec,
    /// As they wanted it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_spec: Option<ServiceSpec>,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// How its last update goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_status: Option<UpdateStatusJson>,
    /// How many tasks there are, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_status: Option<ServiceStatus>,
}

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Endpoint {
    /// As users want it.
    pub spec: EndpointSpec,
    /// Its ports, those that were chosen for it among them.
    #[serde(skip_serializing_if = "empty")]
    pub ports: Vec<PortConfig>,
    /// Its addresses.
    #[serde(rename = "VirtualIPs", skip_serializing_if = "empty")]
    pub virtual_ips: Vec<VirtualIp>,
}

/// A service's address on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VirtualIp {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The address, with the length of its subnet's prefix.
    #[serde(skip_serializing_if = "empty")]
    pub addr: String,
}

/// How an update goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateStatusJson {
    /// `updating`, `paused`, `completed`, `rollback_started`, `rollback_paused`, `rollback_completed`.
    pub state: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// In words.
    #[serde(skip_serializing_if = "empty")]
    pub message: String,
}

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceStatus {
    /// That run.
    pub running_tasks: u64,
    /// That are to run.
    pub desired_tasks: u64,
    /// That have ended well; of jobs.
    pub completed_tasks: u64,
}

impl From<&UpdateStatus> for UpdateStatusJson {
    fn from(status: &UpdateStatus) -> Self {
        let at = |t: model::Timestamp| (t.0 != 0).then(|| time::rfc3339(t));
        Self {
            state: status.state.as_str().into(),
            started_at: at(status.started_at),
            completed_at: at(status.completed_at),
            message: status.message.clone(),
        }
    }
}

/// An address with the length of its subnet's prefix, as far as that is known.
pub(crate) fn with_prefix(addr: IpAddr, network: Option<&Network>) -> String {
    network
        .and_then(|n| n.allocation.as_ref())
        .and_then(|a| a.subnets.iter().find(|s| s.subnet.contains(&addr)))
        .map_or_else(|| addr.to_string(), |s| format!("{addr}/{}", s.subnet.prefix_len()))
}

/// A service as Docker's clients read it. `networks` give the addresses their prefixes; `defaults`: what users left away is said.
///
/// Docker has one address for each network: where there is one of each family, it is that of IPv4.
pub fn service(service: &model::Service, networks: &BTreeMap<NetworkId, Network>, defaults: bool) -> Service {
    let spec = if defaults { with_defaults(service.spec.clone()) } else { service.spec.clone() };
    let allocation = service.allocation.as_ref();
    let vips = allocation.into_iter().flat_map(|a| &a.vips).filter_map(|vip| {
        let addr = vip.addrs.iter().find(|a| a.is_ipv4()).or(vip.addrs.first())?;
        Some(VirtualIp {
            network_id: vip.network.to_string(),
            addr: with_prefix(*addr, networks.get(&vip.network)),
        })
    });
    Service {
        id: service.id.to_string(),
        meta: ObjectMeta::from(&service.meta),
        previous_spec: service.previous_spec.as_ref().map(ServiceSpec::from),
        endpoint: Endpoint {
            spec: EndpointSpec::from(&spec.endpoint),
            ports: allocation.into_iter().flat_map(|a| &a.ports).map(PortConfig::from).collect(),
            virtual_ips: vips.collect(),
        },
        spec: ServiceSpec::from(&spec),
        update_status: service.update_status.as_ref().map(UpdateStatusJson::from),
        service_status: None,
    }
}

/// Refuses values that filters of services cannot have.
///
/// # Errors
/// There is such a value.
pub fn check_filters(filters: &Filters) -> Result<(), ApiError> {
    filters.check_values("mode", &["replicated", "global", "replicated-job", "global-job"])?;
    filters.check_values("runtime", &["container", "plugin"])
}

/// Whether a service is among what was asked for.
pub fn is_wanted(service: &model::Service, filters: &Filters) -> bool {
    let mode = match service.spec.mode {
        ServiceMode::Replicated(_) => "replicated",
        ServiceMode::Global => "global",
    };
    filters.begins("id", service.id.as_str())
        && filters.begins("name", &service.spec.name)
        && filters.labels("label", &service.spec.labels)
        && filters.exact("mode", mode)
        && filters.exact("runtime", "container")
}

/// The answer to `POST /services/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceCreateResponse {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What is odd.
    #[serde(skip_serializing_if = "empty")]
    pub warnings: Vec<String>,
}

/// The answer to `POST /services/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceUpdateResponse {
    /// What is odd.
    pub warnings: Option<Vec<String>>,
}
