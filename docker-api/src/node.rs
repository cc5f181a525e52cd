//! Nodes.

use std::collections::BTreeMap;

use proto::{
    error::ApiError,
    model::{Availability, Node, NodeSpec, NodeState, Reachability, Role},
};
use serde::{Deserialize, Serialize};

use crate::{
    filters::Filters,
    json::empty,
    rn::NodeExtra,
    swarm::{ObjectMeta, TlsInfo},
};

/// Filters that the list of nodes has.
pub const FILTERS: [&str; 6] = ["id", "name", "membership", "role", "label", "node.label"];

/// What users set of a node: the body of `POST /nodes/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DockerNodeSpec {
    /// A name beside the host's.
    #[serde(skip_serializing_if = "empty")]
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `worker` or `manager`.
    pub role: String,
    /// `active`, `pause` or `drain`.
    pub availability: String,
}

impl From<&NodeSpec> for DockerNodeSpec {
    fn from(spec: &NodeSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            role: spec.role.as_str().into(),
            availability: availability_text(spec.availability).into(),
        }
    }
}

impl TryFrom<DockerNodeSpec> for NodeSpec {
    type Error = ApiError;

    fn try_from(spec: DockerNodeSpec) -> Result<Self, ApiError> {
        let role = match spec.role.as_str() {
            "worker" => Role::Worker,
            "manager" => Role::Manager,
            other => {
                return Err(ApiError::invalid(format!("invalid Role: {other:?}")).help("worker or manager"));
            }
        };
        if spec.availability.is_empty() {
            return Err(ApiError::invalid("invalid Availability: \"\"").help("active, pause or drain"));
        }
        Ok(Self {
            name: spec.name,
            labels: spec.labels,
            role,
            availability: availability(&spec.availability)?,
        })
    }
}

/// `active`, `pause`, `drain`; empty = active.
///
/// # Errors
/// It is none of these (wording as Docker's).
pub fn availability(text: &str) -> Result<Availability, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        _ => Err(ApiError::invalid(format!("invalid Availability: {text:?}")).help("active, pause or drain")),
    }
}

fn availability_text(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DockerNode {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version and times.
    #[serde(flatten)]
    pub meta: ObjectMeta,
    /// What users set.
    pub spec: DockerNodeSpec,
    /// What it says of itself.
    pub description: NodeDescription,
    /// How it is.
    pub status: NodeStatus,
    /// Its place among the managers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager_status: Option<ManagerStatus>,
    /// What Docker has no word for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rn: Option<NodeExtra>,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// Architecture and system.
    pub platform: Platform,
    /// What it has.
    pub resources: NodeResources,
    /// The daemon.
    pub engine: EngineDescription,
    /// What its certificate is of.
    #[serde(rename = "TLSInfo", skip_serializing_if = "empty")]
    pub tls_info: TlsInfo,
}

/// Architecture and system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `x86_64`, `aarch64`, …
    #[serde(rename = "Architecture", skip_serializing_if = "empty")]
    pub architecture: String,
    /// `linux`.
    #[serde(rename = "OS", skip_serializing_if = "empty")]
    pub os: String,
}

/// What a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeResources {
    /// Processors, in billionths.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "empty")]
    pub nano_cpus: u64,
    /// Memory, bytes.
    #[serde(rename = "MemoryBytes", skip_serializing_if = "empty")]
    pub memory_bytes: u64,
}

/// The daemon of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EngineDescription {
    /// Its version.
    #[serde(skip_serializing_if = "empty")]
    pub engine_version: String,
    /// Its labels.
    #[serde(skip_serializing_if = "empty")]
    pub labels: BTreeMap<String, String>,
    /// Its drivers.
    #[serde(skip_serializing_if = "empty")]
    pub plugins: Vec<PluginDescription>,
}

/// A driver of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginDescription {
    /// `Network`, `Volume`, `Log`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeStatus {
    /// `unknown`, `down`, `ready`, `disconnected`.
    pub state: String,
    /// Why.
    #[serde(skip_serializing_if = "empty")]
    pub message: String,
    /// Its address.
    #[serde(skip_serializing_if = "empty")]
    pub addr: String,
}

/// A node's place among the managers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManagerStatus {
    /// Whether it leads.
    #[serde(skip_serializing_if = "empty")]
    pub leader: bool,
    /// `unknown`, `unreachable`, `reachable`.
    pub reachability: String,
    /// Its address and port.
    pub addr: String,
}

/// A node as Docker's clients read it; `root_pem` is what its certificate is of, where that is known.
pub fn node(node: &Node, root_pem: &str) -> DockerNode {
    let tls_info = TlsInfo::of_pem(root_pem);
    let description = node.description.as_ref().map(|d| NodeDescription {
        hostname: d.hostname.clone(),
        platform: Platform { architecture: d.arch.clone(), os: d.os.clone() },
        resources: NodeResources { nano_cpus: d.nano_cpus, memory_bytes: d.memory_bytes },
        engine: EngineDescription {
            engine_version: d.engine_version.clone(),
            labels: d.engine_labels.clone(),
            plugins: [("Log", "json-file"), ("Network", "host"), ("Network", "overlay"), ("Volume", "local")]
                .map(|(kind, name)| PluginDescription { kind: kind.into(), name: name.into() })
                .to_vec(),
        },
        tls_info,
    });
    DockerNode {
        id: node.id.to_string(),
        meta: ObjectMeta::from(&node.meta),
        spec: DockerNodeSpec::from(&node.spec),
        description: description.unwrap_or_default(),
        status: NodeStatus {
            state: match node.status.state {
                NodeState::Unknown => "unknown",
                NodeState::Down => "down",
                NodeState::Ready => "ready",
                NodeState::Disconnected => "disconnected",
            }
            .into(),
            message: node.status.message.clone(),
            addr: node.status.addr.map(|a| a.to_string()).unwrap_or_default(),
        },
        manager_status: node.manager_status.as_ref().map(|m| ManagerStatus {
            leader: m.leader,
            reachability: match m.reachability {
                Reachability::Unknown => "unknown",
                Reachability::Unreachable => "unreachable",
                Reachability::Reachable => "reachable",
            }
            .into(),
            addr: m.addr.map(|a| a.to_string()).unwrap_or_default(),
        }),
        rn: NodeExtra::of(node),
    }
}

/// Refuses values that filters of nodes cannot have.
///
/// # Errors
/// There is such a value.
pub fn check_filters(filters: &Filters) -> Result<(), ApiError> {
    filters.check_values("role", &["worker", "manager"])?;
    filters.check_values("membership", &["accepted", "pending"])
}

/// Whether a node is among what was asked for.
pub fn is_wanted(node: &Node, filters: &Filters) -> bool {
    let engine = node.description.as_ref().map(|d| d.engine_labels.clone()).unwrap_or_default();
    let name = if node.spec.name.is_empty() { node.hostname() } else { &node.spec.name };
    filters.begins("id", node.id.as_str())
        && (filters.begins("name", name) || filters.begins("name", node.hostname()))
        && filters.exact("role", node.spec.role.as_str())
        // Who is here has been accepted.
        && filters.exact("membership", "accepted")
        && filters.labels("label", &engine)
        && filters.labels("node.label", &node.spec.labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::json::read;

    #[test]
    fn words_are_checked() {
        for (body, words) in [
            (r#"{"Role":"boss","Availability":"active"}"#, "invalid Role: \"boss\""),
            (r#"{"Role":"worker","Availability":"x"}"#, "invalid Availability: \"x\""),
            (r#"{"Role":"worker"}"#, "invalid Availability"),
            (r#"{"Availability":"active"}"#, "invalid Role"),
        ] {
            let error = NodeSpec::try_from(read::<DockerNodeSpec>(body.as_bytes()).unwrap()).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_spec_survives_a_client(name in "[a-z]{0,5}", manager: bool, pick in 0usize..3) {
            let spec = NodeSpec {
                name,
                labels: BTreeMap::from([("a".to_owned(), String::new())]),
                role: if manager { Role::Manager } else { Role::Worker },
                availability: [Availability::Active, Availability::Pause, Availability::Drain][pick],
            };
            let sent = serde_json::to_vec(&DockerNodeSpec::from(&spec)).unwrap();
            prop_assert_eq!(NodeSpec::try_from(read::<DockerNodeSpec>(&sent).unwrap()).unwrap(), spec);
        }
    }
}
