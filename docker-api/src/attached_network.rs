//! Networks as they stand in tasks.

use std::collections::BTreeMap;

use proto::model;
use serde::{Deserialize, Serialize};

use crate::{
    json::empty,
    network::{IpamSubnet, network},
    swarm::{Driver, ObjectMeta},
};

/// A network as it stands in a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttachedNetwork {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version and times.
    #[serde(flatten)]
    pub meta: ObjectMeta,
    /// What users said of it.
    pub spec: AttachedNetworkSpec,
    /// Its driver.
    pub driver_state: Driver,
    /// Its addresses.
    #[serde(rename = "IPAMOptions")]
    pub ipam_options: AttachedIpam,
}

/// What users said of a network in a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttachedNetworkSpec {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its driver.
    pub driver_configuration: Driver,
    /// With IPv6.
    #[serde(rename = "IPv6Enabled", skip_serializing_if = "empty")]
    pub ipv6_enabled: bool,
    /// Without a way out.
    #[serde(skip_serializing_if = "empty")]
    pub internal: bool,
    /// Containers that users run may be there.
    #[serde(skip_serializing_if = "empty")]
    pub attachable: bool,
    /// The one of the routing mesh.
    #[serde(skip_serializing_if = "empty")]
    pub ingress: bool,
    /// `swarm`.
    pub scope: String,
}

/// Addresses of a network in a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttachedIpam {
    /// The driver.
    pub driver: Driver,
    /// Subnets.
    pub configs: Vec<IpamSubnet>,
}

impl From<&model::Network> for AttachedNetwork {
    fn from(n: &model::Network) -> Self {
        let shown = network(n, None);
        let driver = |name: &str, options| Driver { name: name.into(), options };
        Self {
            id: shown.id,
            meta: ObjectMeta::from(&n.meta),
            spec: AttachedNetworkSpec {
                name: shown.name,
                labels: shown.labels,
                driver_configuration: driver(n.spec.driver.name(), n.spec.driver.options()),
                ipv6_enabled: n.spec.ipv6,
                internal: n.spec.internal,
                attachable: n.spec.attachable,
                ingress: n.spec.ingress,
                scope: "swarm".into(),
            },
            driver_state: driver(n.spec.driver.name(), shown.options),
            ipam_options: AttachedIpam {
                driver: driver("default", BTreeMap::new()),
                configs: shown.ipam.config,
            },
        }
    }
}
