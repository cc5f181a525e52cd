//! The member `Rn` of objects: what Docker's JSON has no word for.

use std::net::IpAddr;

use proto::model;
use serde::{Deserialize, Serialize};

use crate::{json::empty, time};

/// Why an object is not yet what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Condition {
    /// What is in the way: `allocation`, `placement`, `network`, `image`, …
    pub kind: String,
    /// The reason, for people.
    pub message: String,
    /// Since when.
    pub since: String,
}

impl From<&model::Condition> for Condition {
    fn from(condition: &model::Condition) -> Self {
        Self {
            kind: condition.kind.clone(),
            message: condition.message.clone(),
            since: time::rfc3339(condition.since),
        }
    }
}

/// Of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkExtra {
    /// Why it is not yet what was asked for.
    #[serde(skip_serializing_if = "empty")]
    pub conditions: Vec<Condition>,
}

impl NetworkExtra {
    /// Of a network of the swarm; none where there is nothing to say.
    pub fn of(network: &model::Network) -> Option<Self> {
        let extra = Self { conditions: network.conditions.iter().map(Condition::from).collect() };
        Some(extra).filter(|extra| !empty(extra))
    }
}

/// Of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeExtra {
    /// Where others send VXLAN to, if not to its address.
    #[serde(skip_serializing_if = "empty")]
    pub data_path_addr: Option<IpAddr>,
    /// MTU of the network between nodes, in bytes.
    #[serde(rename = "UnderlayMTU", skip_serializing_if = "empty")]
    pub underlay_mtu: u32,
    /// What its kernel lacks.
    #[serde(skip_serializing_if = "empty")]
    pub missing_features: Vec<String>,
    /// Its addresses on the network of the routing mesh.
    #[serde(skip_serializing_if = "empty")]
    pub ingress_addrs: Vec<IpAddr>,
    /// Why it is not as it should be.
    #[serde(skip_serializing_if = "empty")]
    pub conditions: Vec<Condition>,
}

impl NodeExtra {
    /// Of a node; none where there is nothing to say.
    pub fn of(node: &model::Node) -> Option<Self> {
        let description = node.description.as_ref();
        let extra = Self {
            data_path_addr: description.and_then(|d| d.data_path_addr),
            underlay_mtu: description.map_or(0, |d| d.underlay_mtu),
            missing_features: description.map(|d| d.missing_features.clone()).unwrap_or_default(),
            ingress_addrs: node.ingress_addrs.clone(),
            conditions: node.conditions.iter().map(Condition::from).collect(),
        };
        Some(extra).filter(|extra| !empty(extra))
    }
}
