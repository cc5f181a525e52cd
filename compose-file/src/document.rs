//! The sections of compose files, typed, all in their long form; read from either form, written as `docker stack config` does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::shorthand::{self, Span};

mod deploy;
mod objects;

pub use deploy::{
    Amounts, Deploy, DiscreteResource, GenericResource, Placement, Preference, Resources, RestartPolicy,
    UpdateConfig,
};
pub use objects::{External, FileObject, Ipam, IpamSubnet, Network, Volume};

/// Labels, options, variables: text by name.
pub type Texts = BTreeMap<String, String>;
/// What begins with `x-`.
pub type Extensions = BTreeMap<String, Value>;

fn empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A file, or several that were merged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compose {
    /// `3.8`.
    pub version: String,
    /// Services by their names in the file.
    pub services: BTreeMap<String, Service>,
    /// Networks by their names in the file, those with an empty section too.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::sections")]
    pub networks: BTreeMap<String, Network>,
    /// Volumes likewise.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::sections")]
    pub volumes: BTreeMap<String, Volume>,
    /// Secrets.
    #[serde(skip_serializing_if = "empty")]
    pub secrets: BTreeMap<String, FileObject>,
    /// Configs.
    #[serde(skip_serializing_if = "empty")]
    pub configs: BTreeMap<String, FileObject>,
    /// What begins with `x-`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Left out by stacks.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "shorthand::build")]
    pub build: Option<Value>,
    /// Capabilities beyond the usual.
    #[serde(skip_serializing_if = "empty")]
    pub cap_add: Vec<String>,
    /// Usual capabilities that it does not get.
    #[serde(skip_serializing_if = "empty")]
    pub cap_drop: Vec<String>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub cgroupns_mode: String,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub cgroup_parent: String,
    /// In place of the image's command.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::command")]
    pub command: Vec<String>,
    /// Configs.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::file_references")]
    pub configs: Vec<FileReference>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub container_name: String,
    /// Of Windows.
    #[serde(skip_serializing_if = "empty")]
    pub credential_spec: CredentialSpec,
    /// Does nothing in stacks.
    #[serde(skip_serializing_if = "empty")]
    pub depends_on: Vec<String>,
    /// How it is deployed.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::or_default")]
    pub deploy: Deploy,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub devices: Vec<String>,
    /// Servers for names.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::list")]
    pub dns: Vec<String>,
    /// Domains that short names are looked up in.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::list")]
    pub dns_search: Vec<String>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub domainname: String,
    /// In place of the image's entry point.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::command")]
    pub entrypoint: Vec<String>,
    /// Variables; without a value: as the image says.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::variables")]
    pub environment: BTreeMap<String, Option<String>>,
    /// Files of variables.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::list")]
    pub env_file: Vec<String>,
    /// Does nothing in stacks.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::list")]
    pub expose: Vec<String>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub external_links: Vec<String>,
    /// `name:address`.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::hosts")]
    pub extra_hosts: Vec<String>,
    /// Its host name.
    #[serde(skip_serializing_if = "empty")]
    pub hostname: String,
    /// How its health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Its image.
    #[serde(skip_serializing_if = "empty")]
    pub image: String,
    /// With an init process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub ipc: String,
    /// Of Windows.
    #[serde(skip_serializing_if = "empty")]
    pub isolation: String,
    /// Labels of its containers.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub labels: Texts,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub links: Vec<String>,
    /// Where its output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub mac_address: String,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub network_mode: String,
    /// Its networks by their names in the file; none = `default`.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::service_networks")]
    pub networks: BTreeMap<String, Option<ServiceNetwork>>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::or_default")]
    pub pid: String,
    /// Published ports.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::ports")]
    pub ports: Vec<Port>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub privileged: bool,
    /// Its root file system is not to be written.
    #[serde(skip_serializing_if = "empty")]
    pub read_only: bool,
    /// As for containers; `deploy.restart_policy` goes before.
    #[serde(skip_serializing_if = "empty")]
    pub restart: String,
    /// Secrets.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::file_references")]
    pub secrets: Vec<FileReference>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub security_opt: Vec<String>,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::scalar")]
    pub shm_size: String,
    /// Standard input stays open.
    #[serde(skip_serializing_if = "empty")]
    pub stdin_open: bool,
    /// How long it may take to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<Span>,
    /// The signal to stop it by.
    #[serde(skip_serializing_if = "empty")]
    pub stop_signal: String,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub sysctls: Texts,
    /// Does nothing in stacks.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::list")]
    pub tmpfs: Vec<String>,
    /// With a terminal.
    #[serde(skip_serializing_if = "empty")]
    pub tty: bool,
    /// Limits of its processes.
    #[serde(skip_serializing_if = "empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Its user.
    #[serde(skip_serializing_if = "empty")]
    pub user: String,
    /// Who is killed first without memory.
    #[serde(skip_serializing_if = "empty")]
    pub oom_score_adj: i64,
    /// Left out by stacks.
    #[serde(skip_serializing_if = "empty")]
    pub userns_mode: String,
    /// Its mounts.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::volumes")]
    pub volumes: Vec<ServiceVolume>,
    /// Its working directory.
    #[serde(skip_serializing_if = "empty")]
    pub working_dir: String,
    /// What begins with `x-`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A config or secret of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileReference {
    /// Its name in the file.
    #[serde(skip_serializing_if = "empty")]
    pub source: String,
    /// Where in the container; empty = as the source.
    #[serde(skip_serializing_if = "empty")]
    pub target: String,
    /// Its owner; empty = 0.
    #[serde(skip_serializing_if = "empty")]
    pub uid: String,
    /// Its group; empty = 0.
    #[serde(skip_serializing_if = "empty")]
    pub gid: String,
    /// Its permissions; none = 0444.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// Credentials of Windows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialSpec {
    /// A config.
    #[serde(skip_serializing_if = "empty")]
    pub config: String,
    /// A file.
    #[serde(skip_serializing_if = "empty")]
    pub file: String,
    /// A value of the registry.
    #[serde(skip_serializing_if = "empty")]
    pub registry: String,
}

/// How health is found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["CMD", …]`.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::health_test")]
    pub test: Vec<String>,
    /// For one check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Between two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// At the begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Span>,
    /// Between two in that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Span>,
    /// None at all.
    #[serde(skip_serializing_if = "empty")]
    pub disable: bool,
}

/// Where output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The driver.
    #[serde(skip_serializing_if = "empty")]
    pub driver: String,
    /// Its options.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub options: Texts,
}

/// A network of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceNetwork {
    /// Further names there.
    #[serde(skip_serializing_if = "empty")]
    pub aliases: Vec<String>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub driver_opts: Texts,
    /// Does nothing in stacks.
    #[serde(skip_serializing_if = "empty")]
    pub ipv4_address: String,
    /// Does nothing in stacks.
    #[serde(skip_serializing_if = "empty")]
    pub ipv6_address: String,
}

/// A published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// `ingress`, `host`.
    #[serde(skip_serializing_if = "empty")]
    pub mode: String,
    /// Of the tasks.
    #[serde(skip_serializing_if = "empty")]
    pub target: u32,
    /// Of the nodes; 0 = any.
    #[serde(skip_serializing_if = "empty")]
    pub published: u32,
    /// `tcp`, `udp`, `sctp`.
    #[serde(skip_serializing_if = "empty")]
    pub protocol: String,
}

/// A limit of processes: one number, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ulimit {
    /// The same for both.
    Single(i64),
    /// Each its own.
    Both {
        /// Now.
        soft: i64,
        /// The highest that it can be raised to.
        hard: i64,
    },
}

/// A mount of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceVolume {
    /// `volume`, `bind`, `tmpfs`, …
    #[serde(rename = "type", skip_serializing_if = "empty")]
    pub kind: String,
    /// A path of the host, or the name of a volume in the file.
    #[serde(skip_serializing_if = "empty")]
    pub source: String,
    /// Where in the container.
    #[serde(skip_serializing_if = "empty")]
    pub target: String,
    /// Not to be written.
    #[serde(skip_serializing_if = "empty")]
    pub read_only: bool,
    /// For Docker Desktop.
    #[serde(skip_serializing_if = "empty")]
    pub consistency: String,
    /// Of `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<BindOptions>,
    /// Of `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeOptions>,
    /// Of `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<TmpfsOptions>,
}

/// Options of a directory of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// Whether later mounts are seen.
    #[serde(skip_serializing_if = "empty")]
    pub propagation: String,
}

/// Options of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// A new one stays empty.
    #[serde(skip_serializing_if = "empty")]
    pub nocopy: bool,
    /// A directory in it.
    #[serde(skip_serializing_if = "empty")]
    pub subpath: String,
}

/// Options of a file system in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Its size in bytes.
    #[serde(skip_serializing_if = "empty")]
    pub size: u64,
}
