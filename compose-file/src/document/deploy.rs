//! How services are deployed.

use serde::{Deserialize, Serialize};

use super::{Texts, empty};
use crate::shorthand::{self, Bytes, Span};

/// How a service is deployed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// `replicated` (also where it is empty), `global`, `replicated-job`, `global-job`.
    #[serde(skip_serializing_if = "empty")]
    pub mode: String,
    /// How many tasks; none = 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Labels of the service.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub labels: Texts,
    /// How it is updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// How an update is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<UpdateConfig>,
    /// What its tasks may use.
    #[serde(skip_serializing_if = "empty")]
    pub resources: Resources,
    /// When tasks are started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// On which nodes.
    #[serde(skip_serializing_if = "empty")]
    pub placement: Placement,
    /// `vip`, `dnsrr`; empty = vip.
    #[serde(skip_serializing_if = "empty")]
    pub endpoint_mode: String,
}

/// How a service is updated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    /// So many at a time; none = 1, 0 = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u64>,
    /// Between two.
    #[serde(skip_serializing_if = "empty")]
    pub delay: Span,
    /// `pause`, `continue`, `rollback`.
    #[serde(skip_serializing_if = "empty")]
    pub failure_action: String,
    /// How long a new task is watched.
    #[serde(skip_serializing_if = "empty")]
    pub monitor: Span,
    /// The part that may fail.
    #[serde(skip_serializing_if = "empty")]
    pub max_failure_ratio: f64,
    /// `stop-first`, `start-first`.
    #[serde(skip_serializing_if = "empty")]
    pub order: String,
}

/// What tasks may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// At most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
    /// At least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Amounts>,
}

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amounts {
    /// `0.5`.
    #[serde(skip_serializing_if = "empty")]
    pub cpus: String,
    /// Memory.
    #[serde(skip_serializing_if = "empty")]
    pub memory: Bytes,
    /// Processes.
    #[serde(skip_serializing_if = "empty")]
    pub pids: i64,
    /// Whatever a cluster has.
    #[serde(skip_serializing_if = "empty")]
    pub generic_resources: Vec<GenericResource>,
}

/// Whatever a cluster has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenericResource {
    /// Which and how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discrete_resource_spec: Option<DiscreteResource>,
}

/// Which and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscreteResource {
    /// Which.
    pub kind: String,
    /// How many.
    pub value: i64,
}

/// When tasks are started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `none`, `on-failure`, `any`.
    #[serde(skip_serializing_if = "empty")]
    pub condition: String,
    /// After this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// So often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// Within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

/// On which nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// What has to hold.
    #[serde(skip_serializing_if = "empty")]
    pub constraints: Vec<String>,
    /// What to spread over.
    #[serde(skip_serializing_if = "empty")]
    pub preferences: Vec<Preference>,
    /// At most; 0 = any number.
    #[serde(skip_serializing_if = "empty")]
    pub max_replicas_per_node: u64,
}

/// What to spread over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preference {
    /// `node.labels.zone`.
    #[serde(skip_serializing_if = "empty")]
    pub spread: String,
}
