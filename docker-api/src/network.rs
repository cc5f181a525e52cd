//! Networks.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use proto::{
    error::ApiError,
    model::{self, DriverError, IpamConfig, NetworkDriver, NetworkScope, NetworkSpec, OPTION_VNI},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{filters::Filters, json::empty, rn::NetworkExtra, time};

/// Filters that the list of networks has.
pub const FILTERS: [&str; 7] = ["id", "name", "label", "driver", "scope", "type", "dangling"];

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkInspect {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: String,
    /// `swarm` or `local`.
    pub scope: String,
    /// `overlay`, `bridge`, `host`, `null`.
    pub driver: String,
    /// Whether it has IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Without a way out.
    pub internal: bool,
    /// Containers that users run may be there.
    pub attachable: bool,
    /// The one of the routing mesh.
    pub ingress: bool,
    /// Of Docker's configurations of networks.
    pub config_from: ConfigReference,
    /// The same.
    pub config_only: bool,
    /// Containers of this node that are there.
    pub containers: BTreeMap<String, Value>,
    /// Of its driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Nodes that have containers there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<Value>>,
    /// Services that are there, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<BTreeMap<String, ServiceThere>>,
    /// What Docker has no word for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rn: Option<NetworkExtra>,
}

/// A service on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceThere {
    /// Its address there.
    #[serde(rename = "VIP")]
    pub vip: String,
    /// Its ports.
    #[serde(rename = "Ports")]
    pub ports: Vec<String>,
    /// Not used here.
    #[serde(rename = "LocalLBIndex")]
    pub local_lb_index: u32,
    /// Its tasks there.
    #[serde(rename = "Tasks")]
    pub tasks: Vec<TaskThere>,
}

/// A task on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskThere {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its place there; that is the task itself.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Its address there.
    #[serde(rename = "EndpointIP")]
    pub endpoint_ip: String,
    /// More; its node's address.
    #[serde(rename = "Info")]
    pub info: BTreeMap<String, String>,
}

/// Another network that one takes its settings from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// Addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets.
    pub config: Vec<IpamSubnet>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamSubnet {
    /// The subnet.
    #[serde(skip_serializing_if = "empty")]
    pub subnet: String,
    /// The part that containers get addresses of.
    #[serde(rename = "IPRange", skip_serializing_if = "empty")]
    pub ip_range: String,
    /// The gateway.
    #[serde(skip_serializing_if = "empty")]
    pub gateway: String,
    /// Addresses that nobody gets. Docker's clients write `AuxiliaryAddresses`, its older ones `AuxAddress`.
    #[serde(rename = "AuxiliaryAddresses", alias = "AuxAddress", skip_serializing_if = "empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// The body of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// Names are unique anyway.
    pub check_duplicate: bool,
    /// Its driver; empty = `bridge`.
    pub driver: String,
    /// `swarm`, `local`, or empty: as the driver is.
    pub scope: String,
    /// Without a way out.
    pub internal: bool,
    /// Containers that users run may be there.
    pub attachable: bool,
    /// The one of the routing mesh.
    pub ingress: bool,
    /// Refused.
    pub config_only: bool,
    /// Refused.
    pub config_from: ConfigReference,
    /// Its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// With IPv4; absent = yes.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// With IPv6; absent = yes. `false` is yes too: up to version 1.47 Docker's clients say it where their users say nothing. Who wants
    /// none says so by [`OPTION_IPV6`].
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// Of its driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The answer to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    /// Its id.
    pub id: String,
    /// What is odd.
    pub warning: String,
}

/// The answer to `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkPruneResponse {
    /// Names of those that are gone.
    pub networks_deleted: Option<Vec<String>>,
}

fn parse<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ApiError::invalid(format!("invalid {what} {text:?} in IPAM.Config")))
}

impl TryFrom<IpamSubnet> for IpamConfig {
    type Error = ApiError;

    fn try_from(config: IpamSubnet) -> Result<Self, ApiError> {
        let aux = config.auxiliary_addresses.into_iter().map(|(name, text)| {
            let addr = parse::<IpAddr>("auxiliary address", &text)?
                .ok_or_else(|| ApiError::invalid(format!("auxiliary address {name} is empty")))?;
            Ok((name, addr))
        });
        Ok(Self {
            subnet: parse::<IpNet>("subnet", &config.subnet)?,
            ip_range: parse::<IpNet>("ip-range", &config.ip_range)?,
            gateway: parse::<IpAddr>("gateway", &config.gateway)?,
            aux_addresses: aux.collect::<Result<_, ApiError>>()?,
        })
    }
}

impl From<&IpamConfig> for IpamSubnet {
    fn from(config: &IpamConfig) -> Self {
        let text = |value: Option<String>| value.unwrap_or_default();
        Self {
            subnet: text(config.subnet.map(|s| s.to_string())),
            ip_range: text(config.ip_range.map(|r| r.to_string())),
            gateway: text(config.gateway.map(|g| g.to_string())),
            auxiliary_addresses: config
                .aux_addresses
                .iter()
                .map(|(k, v)| (k.clone(), v.to_string()))
                .collect(),
        }
    }
}

impl TryFrom<NetworkCreateRequest> for NetworkSpec {
    type Error = ApiError;

    fn try_from(request: NetworkCreateRequest) -> Result<Self, ApiError> {
        if request.config_only || !request.config_from.network.is_empty() {
            return Err(ApiError::unsupported(
                "ConfigOnly and ConfigFrom: configurations of networks are not available in rn",
            )
            .help("say the options with the network itself"));
        }
        if !matches!(request.scope.as_str(), "" | "swarm" | "global") {
            return Err(ApiError::unsupported(format!(
                "scope {:?}: networks of rn span the swarm",
                request.scope
            )));
        }
        let mut options = request.options;
        let ipv6 = match options.remove(OPTION_IPV6) {
            Some(text) => proto::rules::mount::boolean(OPTION_IPV6, &text)?,
            None => true,
        };
        if !ipv6 && request.enable_ipv6 == Some(true) {
            return Err(ApiError::invalid(format!("EnableIPv6 and {OPTION_IPV6} contradict each other")));
        }
        let ipam_driver = request.ipam.driver;
        let ipam = request.ipam.config.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let name = if request.driver.is_empty() { "bridge" } else { request.driver.as_str() };
        let driver = NetworkDriver::parse(name, &options).map_err(|error| match error {
            DriverError::Driver(driver) => no_driver(&request.name, &driver),
            error => error.of(&request.name),
        })?;
        Ok(Self {
            name: request.name,
            labels: request.labels,
            driver,
            internal: request.internal,
            attachable: request.attachable,
            ingress: request.ingress,
            ipv4: request.enable_ipv4.unwrap_or(true),
            ipv6,
            ipam_driver: if ipam_driver.is_empty() { "default".into() } else { ipam_driver },
            ipam_options: request.ipam.options.unwrap_or_default(),
            ipam,
        })
    }
}

/// Option by which a network is made with IPv6 or without, whatever the client says otherwise. Docker's.
pub const OPTION_IPV6: &str = "com.docker.network.enable_ipv6";

fn subnets(network: &model::Network) -> Vec<IpamSubnet> {
    let text = |value: Option<String>| value.unwrap_or_default();
    match &network.allocation {
        Some(allocation) => allocation
            .subnets
            .iter()
            .map(|s| IpamSubnet {
                subnet: s.subnet.to_string(),
                ip_range: text(s.ip_range.map(|r| r.to_string())),
                gateway: s.gateway.to_string(),
                auxiliary_addresses: BTreeMap::new(),
            })
            .collect(),
        None => network.spec.ipam.iter().map(IpamSubnet::from).collect(),
    }
}

/// A network of the swarm as Docker's clients read it; `local` is what this node has of it.
pub fn network(network: &model::Network, local: Option<&Value>) -> NetworkInspect {
    let mut options = network.spec.driver.options();
    if let Some(allocation) = &network.allocation {
        // The MTU only where a user chose it: compose makes a network anew whose options differ from its file's, but for this one.
        options.entry(OPTION_VNI.into()).or_insert_with(|| allocation.vni.to_string());
    }
    let containers = local.and_then(|l| l["Containers"].as_object()).into_iter().flatten();
    NetworkInspect {
        name: network.spec.name.clone(),
        id: network.id.to_string(),
        created: time::rfc3339(network.meta.created_at),
        scope: NetworkScope::Swarm.as_str().into(),
        driver: network.spec.driver.name().into(),
        enable_ipv4: network.spec.ipv4,
        enable_ipv6: network.spec.ipv6,
        ipam: Ipam {
            driver: network.spec.ipam_driver.clone(),
            options: Some(network.spec.ipam_options.clone()).filter(|o| !o.is_empty()),
            config: subnets(network),
        },
        internal: network.spec.internal,
        attachable: network.spec.attachable,
        ingress: network.spec.ingress,
        containers: containers.map(|(id, c)| (id.clone(), c.clone())).collect(),
        options,
        labels: network.spec.labels.clone(),
        rn: NetworkExtra::of(network),
        peers: local.and_then(|l| l["Peers"].as_array().cloned()).filter(|p| !p.is_empty()),
        ..NetworkInspect::default()
    }
}

/// A network that a machine has by itself: `host` and `none`, of Docker's drivers `host` and `null`.
pub fn of_machine(
    name: &str,
    id: &str,
    driver: &str,
    scope: &str,
    created_at: model::Timestamp,
) -> NetworkInspect {
    NetworkInspect {
        name: name.into(),
        id: id.into(),
        created: time::rfc3339(created_at),
        scope: scope.into(),
        driver: driver.into(),
        ipam: Ipam { driver: "default".into(), ..Ipam::default() },
        ..NetworkInspect::default()
    }
}

/// What is said of a driver that there is not.
pub fn no_driver(network: &str, driver: &str) -> ApiError {
    match driver {
        "bridge" | "macvlan" | "ipvlan" => ApiError::unsupported(format!(
            "network {network}: networks of driver {driver:?} are not available in this version of rn; -d overlay makes one that spans the swarm"
        )),
        "host" | "null" | "none" => ApiError::denied(format!(
            "only one instance of \"{}\" network is allowed",
            driver.replace("none", "null")
        )),
        _ => ApiError::not_found(format!(
            "could not find plugin {driver} in v1 plugin registry: plugin not found"
        )),
    }
}

/// The services on a network, with their tasks that run there (`verbose`).
pub fn services_there(
    network: &str,
    services: &[model::Service],
    tasks: &[model::Task],
    nodes: &[model::Node],
) -> BTreeMap<String, ServiceThere> {
    let on = |service: &&model::Service| service.spec.task.networks.iter().any(|n| n.target == network);
    let one = |service: &model::Service| {
        let allocation = service.allocation.as_ref();
        let vip = allocation.into_iter().flat_map(|a| &a.vips).find(|v| v.network.as_str() == network);
        let ports = allocation.into_iter().flat_map(|a| &a.ports);
        let here = tasks
            .iter()
            .filter(|t| t.service_id == service.id && t.status.state == model::TaskState::Running);
        let there = here.filter_map(|task| {
            let place = task
                .allocation
                .iter()
                .flat_map(|a| &a.attachments)
                .find(|a| a.network.as_str() == network)?;
            let node = nodes.iter().find(|n| Some(&n.id) == task.node_id.as_ref());
            let host = node.and_then(|n| n.status.addr).map(|a| ("Host IP".to_owned(), a.to_string()));
            Some(TaskThere {
                name: task.name(),
                endpoint_id: task.id.to_string(),
                endpoint_ip: place.addrs.first().map(|a| a.addr.to_string()).unwrap_or_default(),
                info: host.into_iter().collect(),
            })
        });
        ServiceThere {
            vip: vip.and_then(|v| v.addrs.first()).map(ToString::to_string).unwrap_or_default(),
            ports: ports.map(|p| format!("Target: {}, Publish: {}", p.target, p.published)).collect(),
            local_lb_index: 0,
            tasks: there.collect(),
        }
    };
    services.iter().filter(on).map(|s| (s.spec.name.clone(), one(s))).collect()
}

/// Up to when networks have to be made that are pruned, nanoseconds since the epoch: a time, or so long ago.
///
/// # Errors
/// It is neither, or there are two.
pub fn pruned_until(filters: &Filters, now: model::Timestamp) -> Result<Option<u64>, ApiError> {
    let mut values = filters.values("until");
    let (Some(text), more) = (values.next(), values.next()) else { return Ok(None) };
    if more.is_some() {
        return Err(ApiError::invalid("more than one until filter specified"));
    }
    match proto::parse::duration::millis(text) {
        Ok(ago) => Ok(Some(now.0.saturating_sub(ago.0).saturating_mul(1_000_000))),
        Err(_) => time::timestamp("until", text).map(Some),
    }
}

/// Names that machines have networks of by themselves.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "rn_gwbridge"];

/// Refuses networks that containers of users cannot be on (wording as Docker's).
///
/// # Errors
/// It is the one of the routing mesh, or not attachable.
pub fn attachable(network: &model::Network) -> Result<(), ApiError> {
    let name = &network.spec.name;
    if network.spec.ingress {
        return Err(ApiError::denied(format!(
            "network {name} is the routing mesh's: no container can be attached to it"
        )));
    }
    if !network.spec.attachable {
        return Err(ApiError::denied(format!(
            "Could not attach to network {name}: network {name} not manually attachable"
        ))
        .help("make one with --attachable"));
    }
    Ok(())
}

/// Refuses values that filters of networks cannot have.
///
/// # Errors
/// There is such a value.
pub fn check_filters(filters: &Filters) -> Result<(), ApiError> {
    filters.check_values("type", &["custom", "builtin"])?;
    filters.check_values("scope", &["swarm", "local", "global"])?;
    filters.switch("dangling").map(drop)
}

/// Whether a network is among what was asked for; `used`: something is there.
pub fn is_wanted(network: &NetworkInspect, filters: &Filters, used: bool) -> bool {
    let kind = if PREDEFINED.contains(&network.name.as_str()) { "builtin" } else { "custom" };
    filters.begins("id", &network.id)
        // Docker's: a part of the name.
        && filters.any("name", |part| network.name.contains(part))
        && filters.exact("driver", &network.driver)
        && filters.exact("scope", &network.scope)
        && filters.exact("type", kind)
        && filters.labels("label", &network.labels)
        && filters.switch("dangling").ok().flatten().is_none_or(|wanted| wanted != used)
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
