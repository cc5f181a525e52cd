//! What users say of services.

use std::collections::BTreeMap;

use proto::{
    error::ApiError,
    model::{self, JSON_FILE, Millis, ServiceMode},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    container_spec::ContainerSpec,
    endpoint::EndpointSpec,
    json::{empty, means_something},
    node::Platform,
    policy::{RestartPolicy, UpdateConfig},
    resources::ResourceRequirements,
    swarm::Driver,
};

/// A service as users want it: the body of `POST /services/create` and `POST /services/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What each of its tasks is.
    pub task_template: TaskSpec,
    /// How many tasks.
    pub mode: Mode,
    /// How it is updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// How an update is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<UpdateConfig>,
    /// Where old clients say the networks.
    #[serde(skip_serializing_if = "empty")]
    pub networks: Vec<NetworkAttachment>,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_spec: Option<EndpointSpec>,
}

/// What a task is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskSpec {
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_spec: Option<ContainerSpec>,
    /// A plugin. Refused.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub plugin_spec: Value,
    /// A container's place on a network. Refused.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub network_attachment_spec: Value,
    /// What it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// When it is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// On which nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Its networks.
    #[serde(skip_serializing_if = "empty")]
    pub networks: Vec<NetworkAttachment>,
    /// Where its output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
    /// Counts updates that change nothing else.
    pub force_update: u64,
    /// `container`.
    #[serde(skip_serializing_if = "empty")]
    pub runtime: String,
}

/// How many tasks: one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mode {
    /// So many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated: Option<Replicated>,
    /// One on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<Global>,
    /// Tasks that end. Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated_job: Option<Value>,
    /// The same on each node. Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_job: Option<Value>,
}

/// So many tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Replicated {
    /// How many; absent = 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
}

/// One task on each node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {}

/// A network of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkAttachment {
    /// Its id or name.
    #[serde(skip_serializing_if = "empty")]
    pub target: String,
    /// Further names of the tasks there.
    #[serde(skip_serializing_if = "empty")]
    pub aliases: Vec<String>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "empty")]
    pub driver_opts: BTreeMap<String, String>,
}

/// On which nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Placement {
    /// What has to hold.
    #[serde(skip_serializing_if = "empty")]
    pub constraints: Vec<String>,
    /// What to spread over.
    #[serde(skip_serializing_if = "empty")]
    pub preferences: Vec<PlacementPreference>,
    /// So many on a node at most; 0 = any number.
    #[serde(skip_serializing_if = "empty")]
    pub max_replicas: u64,
    /// What the image is for, as far as the client asked a registry. Not kept: each node takes the image for its own platform, and a
    /// task without one says so.
    #[serde(skip_serializing_if = "empty")]
    pub platforms: Vec<Platform>,
}

/// What to spread over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PlacementPreference {
    /// The only kind there is.
    pub spread: Spread,
}

/// A label to spread over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Spread {
    /// `node.labels.zone`.
    pub spread_descriptor: String,
}

impl TryFrom<Mode> for ServiceMode {
    type Error = ApiError;

    fn try_from(mode: Mode) -> Result<Self, ApiError> {
        if mode.replicated_job.is_some() || mode.global_job.is_some() {
            return Err(ApiError::unsupported("Mode: jobs are not available in this version of rn")
                .help("a replicated service with --restart-condition none runs its tasks once"));
        }
        match (mode.replicated, mode.global) {
            (Some(_), Some(_)) => Err(ApiError::invalid("must specify only one service mode")),
            (None, Some(_)) => Ok(Self::Global),
            (replicated, None) => Ok(Self::Replicated(replicated.and_then(|r| r.replicas).unwrap_or(1))),
        }
    }
}

impl From<ServiceMode> for Mode {
    fn from(mode: ServiceMode) -> Self {
        match mode {
            ServiceMode::Replicated(n) => {
                Self { replicated: Some(Replicated { replicas: Some(n) }), ..Self::default() }
            }
            ServiceMode::Global => Self { global: Some(Global {}), ..Self::default() },
        }
    }
}

impl From<NetworkAttachment> for model::NetworkAttachmentConfig {
    fn from(n: NetworkAttachment) -> Self {
        Self { target: n.target, aliases: n.aliases, driver_opts: n.driver_opts }
    }
}

impl From<&model::NetworkAttachmentConfig> for NetworkAttachment {
    fn from(n: &model::NetworkAttachmentConfig) -> Self {
        Self { target: n.target.clone(), aliases: n.aliases.clone(), driver_opts: n.driver_opts.clone() }
    }
}

impl From<Placement> for model::Placement {
    fn from(p: Placement) -> Self {
        let spread = |p: PlacementPreference| format!("spread={}", p.spread.spread_descriptor);
        Self {
            constraints: p.constraints,
            preferences: p.preferences.into_iter().map(spread).collect(),
            max_replicas: p.max_replicas,
        }
    }
}

impl From<&model::Placement> for Placement {
    fn from(p: &model::Placement) -> Self {
        let spread = |text: &String| PlacementPreference {
            spread: Spread { spread_descriptor: text.strip_prefix("spread=").unwrap_or(text).to_owned() },
        };
        Self {
            constraints: p.constraints.clone(),
            preferences: p.preferences.iter().map(spread).collect(),
            max_replicas: p.max_replicas,
            platforms: Vec::new(),
        }
    }
}

impl TryFrom<TaskSpec> for model::TaskSpec {
    type Error = ApiError;

    fn try_from(spec: TaskSpec) -> Result<Self, ApiError> {
        if means_something(&spec.plugin_spec) || spec.runtime == "plugin" {
            return Err(ApiError::unsupported("TaskTemplate: plugins cannot be run as services"));
        }
        if means_something(&spec.network_attachment_spec) || spec.runtime == "attachment" {
            return Err(ApiError::unsupported("TaskTemplate: network attachments cannot be made by users")
                .help("docker run --network NETWORK"));
        }
        if !matches!(spec.runtime.as_str(), "" | "container") {
            return Err(ApiError::invalid(format!("unsupported task runtime {:?}", spec.runtime)));
        }
        let resources = spec.resources.unwrap_or_default();
        for (name, value) in
            [("SwapBytes", resources.swap_bytes), ("MemorySwappiness", resources.memory_swappiness)]
        {
            if value.is_some() {
                return Err(ApiError::unsupported(format!(
                    "Resources.{name} is not available in this version of rn"
                )));
            }
        }
        let Some(container) = spec.container_spec else {
            return Err(ApiError::invalid("ContainerSpec must be provided: it says what runs"));
        };
        let mut container = model::ContainerSpec::try_from(container)?;
        let driver = spec.log_driver.filter(|d| *d != Driver::default());
        container.log_driver = driver.map(|d| model::LogDriver { name: d.name, options: d.options });
        Ok(Self {
            container,
            limits: resources.limits.unwrap_or_default().try_into()?,
            reservations: resources.reservations.unwrap_or_default().try_into()?,
            restart: spec.restart_policy.map(TryInto::try_into).transpose()?,
            placement: spec.placement.unwrap_or_default().into(),
            networks: spec.networks.into_iter().map(Into::into).collect(),
            force_update: spec.force_update,
        })
    }
}

impl From<&model::TaskSpec> for TaskSpec {
    fn from(spec: &model::TaskSpec) -> Self {
        let log_driver = spec.container.log_driver.as_ref().map(|d| Driver {
            name: if d.name.is_empty() { JSON_FILE.into() } else { d.name.clone() },
            options: d.options.clone(),
        });
        Self {
            container_spec: Some(ContainerSpec::from(&spec.container)),
            resources: Some(ResourceRequirements {
                limits: Some((&spec.limits).into()),
                reservations: Some((&spec.reservations).into()),
                ..ResourceRequirements::default()
            }),
            restart_policy: spec.restart.as_ref().map(RestartPolicy::from),
            placement: Some(Placement::from(&spec.placement)),
            networks: spec.networks.iter().map(NetworkAttachment::from).collect(),
            log_driver,
            force_update: spec.force_update,
            runtime: "container".into(),
            ..Self::default()
        }
    }
}

impl TryFrom<ServiceSpec> for model::ServiceSpec {
    type Error = ApiError;

    fn try_from(mut spec: ServiceSpec) -> Result<Self, ApiError> {
        if spec.task_template.networks.is_empty() {
            spec.task_template.networks = std::mem::take(&mut spec.networks);
        }
        Ok(Self {
            name: spec.name,
            labels: spec.labels,
            task: spec.task_template.try_into()?,
            mode: spec.mode.try_into()?,
            update: spec.update_config.map(TryInto::try_into).transpose()?,
            rollback: spec.rollback_config.map(TryInto::try_into).transpose()?,
            endpoint: spec.endpoint_spec.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&model::ServiceSpec> for ServiceSpec {
    fn from(spec: &model::ServiceSpec) -> Self {
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            task_template: TaskSpec::from(&spec.task),
            mode: spec.mode.into(),
            update_config: spec.update.as_ref().map(UpdateConfig::from),
            rollback_config: spec.rollback.as_ref().map(UpdateConfig::from),
            networks: Vec::new(),
            endpoint_spec: Some(EndpointSpec::from(&spec.endpoint)),
        }
    }
}

/// The spec with what is meant where nothing is said (`insertDefaults`).
pub fn with_defaults(mut spec: model::ServiceSpec) -> model::ServiceSpec {
    spec.task.restart.get_or_insert_default();
    spec.update.get_or_insert_default();
    spec.rollback.get_or_insert_default();
    spec.task.container.stop_grace_period.get_or_insert(GRACE);
    spec
}

/// What of a spec has no effect though nothing is wrong with it.
pub fn warnings(spec: &model::ServiceSpec) -> Vec<String> {
    let idle = |text: &&String| {
        let name = text.strip_prefix("spread=").unwrap_or_default();
        let label = name.strip_prefix("node.labels.").or_else(|| name.strip_prefix("engine.labels."));
        label.is_none_or(str::is_empty)
    };
    let warning = |text: &String| {
        format!(
            "placement preference {text:?} has no effect: tasks are spread over node.labels.NAME or engine.labels.NAME"
        )
    };
    spec.task.placement.preferences.iter().filter(idle).map(warning).collect()
}

/// How long a task may take to stop that does not say.
const GRACE: Millis = Millis::secs(10);

/// A name for a service that was given none, as Docker makes them: `brave_turing42`. A clash is refused by the managers.
pub fn invented_name(random: u64) -> String {
    const MOODS: [&str; 16] = [
        "brave", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "kind", "lively", "merry",
        "noble", "quiet", "swift", "warm", "wise",
    ];
    const PEOPLE: [&str; 16] = [
        "babbage",
        "cerf",
        "dijkstra",
        "engelbart",
        "floyd",
        "hamming",
        "hopper",
        "jacobson",
        "kahn",
        "knuth",
        "lamport",
        "liskov",
        "lovelace",
        "perlman",
        "postel",
        "turing",
    ];
    let [mood, person, number, ..] = random.to_le_bytes();
    let pick = |list: &[&'static str; 16], byte: u8| list[usize::from(byte & 15)];
    format!("{}_{}{}", pick(&MOODS, mood), pick(&PEOPLE, person), number % 100)
}

#[cfg(test)]
#[path = "service_spec_tests.rs"]
mod tests;
