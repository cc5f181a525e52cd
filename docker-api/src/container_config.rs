//! What a client says of a container: the body of `POST /containers/create`. Both ends use it: clients write it, and
//! [`crate::container_create`] reads it.
//!
//! Fields that only clients of other daemons can set (`Privileged` and the like) are here for those who write. Whoever reads refuses them by
//! name before it reads the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    container_spec::{HealthConfig, Ulimit},
    json::empty,
    mount::Mount,
};

/// The body of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// Host name; empty = the begin of the id.
    #[serde(skip_serializing_if = "empty")]
    pub hostname: String,
    /// Domain name.
    #[serde(skip_serializing_if = "empty")]
    pub domainname: String,
    /// User, or user and group; empty = the image's.
    #[serde(skip_serializing_if = "empty")]
    pub user: String,
    /// Whether the client is going to attach; of no meaning to the daemon.
    #[serde(skip_serializing_if = "empty")]
    pub attach_stdin: bool,
    /// The same of standard output.
    #[serde(skip_serializing_if = "empty")]
    pub attach_stdout: bool,
    /// The same of standard error.
    #[serde(skip_serializing_if = "empty")]
    pub attach_stderr: bool,
    /// With a terminal.
    #[serde(skip_serializing_if = "empty")]
    pub tty: bool,
    /// Standard input stays open.
    #[serde(skip_serializing_if = "empty")]
    pub open_stdin: bool,
    /// Until the first one who is attached to it goes.
    #[serde(skip_serializing_if = "empty")]
    pub stdin_once: bool,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "empty")]
    pub env: Vec<String>,
    /// The command.
    #[serde(skip_serializing_if = "empty")]
    pub cmd: Words,
    /// In place of the image's entry point; one empty word leaves it out.
    #[serde(skip_serializing_if = "empty")]
    pub entrypoint: Words,
    /// The image.
    pub image: String,
    /// Labels.
    #[serde(skip_serializing_if = "empty")]
    pub labels: BTreeMap<String, String>,
    /// Targets of volumes without a name.
    #[serde(skip_serializing_if = "empty")]
    pub volumes: BTreeMap<String, Value>,
    /// `80/tcp`.
    #[serde(skip_serializing_if = "empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// Working directory; empty = the image's.
    #[serde(skip_serializing_if = "empty")]
    pub working_dir: String,
    /// The signal to stop it by; empty = the image's.
    #[serde(skip_serializing_if = "empty")]
    pub stop_signal: String,
    /// Seconds that it may take to stop; -1 = without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How its health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// What it may do with its machine.
    pub host_config: HostConfig,
    /// Its places on networks.
    #[serde(skip_serializing_if = "empty")]
    pub networking_config: NetworkingConfig,
}

/// A command: words, or one text that is one word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrMore", into = "Vec<String>")]
pub struct Words(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Words {
    fn from(words: OneOrMore) -> Self {
        match words {
            OneOrMore::One(word) => Self(vec![word]),
            OneOrMore::More(words) => Self(words),
        }
    }
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Self {
        words.0
    }
}

/// What a container may do with its machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    /// `source:target[:options]`.
    #[serde(skip_serializing_if = "empty")]
    pub binds: Vec<String>,
    /// Mounts.
    #[serde(skip_serializing_if = "empty")]
    pub mounts: Vec<Mount>,
    /// File systems in memory: targets, and options of mount(8).
    #[serde(skip_serializing_if = "empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// Its first network; empty = the daemon's usual one.
    #[serde(skip_serializing_if = "empty")]
    pub network_mode: String,
    /// What is published: `80/tcp`, and where.
    #[serde(skip_serializing_if = "empty")]
    pub port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// When it starts again.
    #[serde(skip_serializing_if = "empty")]
    pub restart_policy: RestartPolicy,
    /// It is removed once it has ended.
    #[serde(skip_serializing_if = "empty")]
    pub auto_remove: bool,
    /// Capabilities beyond the usual.
    #[serde(skip_serializing_if = "empty")]
    pub cap_add: Vec<String>,
    /// Usual capabilities that it does not get.
    #[serde(skip_serializing_if = "empty")]
    pub cap_drop: Vec<String>,
    /// Name servers.
    #[serde(skip_serializing_if = "empty")]
    pub dns: Vec<String>,
    /// Options of resolv.conf.
    #[serde(skip_serializing_if = "empty")]
    pub dns_options: Vec<String>,
    /// Domains that short names are looked up in.
    #[serde(skip_serializing_if = "empty")]
    pub dns_search: Vec<String>,
    /// `name:address`, for /etc/hosts.
    #[serde(skip_serializing_if = "empty")]
    pub extra_hosts: Vec<String>,
    /// Further groups of its user.
    #[serde(skip_serializing_if = "empty")]
    pub group_add: Vec<String>,
    /// The root file system is not to be written.
    #[serde(skip_serializing_if = "empty")]
    pub readonly_rootfs: bool,
    /// Bytes of memory; 0 = no limit, as below.
    #[serde(skip_serializing_if = "empty")]
    pub memory: i64,
    /// Processors, in billionths.
    #[serde(skip_serializing_if = "empty")]
    pub nano_cpus: i64,
    /// Processes; -1 = no limit too.
    #[serde(skip_serializing_if = "empty")]
    pub pids_limit: i64,
    /// Limits of its processes.
    #[serde(skip_serializing_if = "empty")]
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "empty")]
    pub sysctls: BTreeMap<String, String>,
    /// With an init process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Where its output is kept.
    #[serde(skip_serializing_if = "empty")]
    pub log_config: LogConfig,
    /// Rows and columns of its terminal.
    #[serde(skip_serializing_if = "empty")]
    pub console_size: Vec<u16>,
    /// All capabilities and devices.
    #[serde(skip_serializing_if = "empty")]
    pub privileged: bool,
    /// Devices of the machine.
    #[serde(skip_serializing_if = "empty")]
    pub devices: Vec<Device>,
    /// Devices that a driver finds: GPUs.
    #[serde(skip_serializing_if = "empty")]
    pub device_requests: Vec<DeviceRequest>,
    /// Whose processes it sees: empty = its own, `host`, `container:NAME`.
    #[serde(skip_serializing_if = "empty")]
    pub pid_mode: String,
    /// Whose shared memory it has: `private`, `shareable`, `host`, `container:NAME`, `none`; empty = private.
    #[serde(skip_serializing_if = "empty")]
    pub ipc_mode: String,
    /// Whose host name it has: empty = its own, `host`.
    #[serde(rename = "UTSMode", skip_serializing_if = "empty")]
    pub uts_mode: String,
    /// Whose user ids it has: empty = the daemon's usual ones, `host`.
    #[serde(skip_serializing_if = "empty")]
    pub userns_mode: String,
    /// Whose control groups it sees: `private`, `host`; empty = private.
    #[serde(skip_serializing_if = "empty")]
    pub cgroupns_mode: String,
    /// Options of AppArmor, seccomp, SELinux.
    #[serde(skip_serializing_if = "empty")]
    pub security_opt: Vec<String>,
    /// Bytes of `/dev/shm`.
    #[serde(skip_serializing_if = "empty")]
    pub shm_size: i64,
    /// Every port that the image exposes is published.
    #[serde(skip_serializing_if = "empty")]
    pub publish_all_ports: bool,
    /// Its part of the processors' time, beside others'; 0 = 1024.
    #[serde(skip_serializing_if = "empty")]
    pub cpu_shares: i64,
    /// What `CpuQuota` counts in, microseconds.
    #[serde(skip_serializing_if = "empty")]
    pub cpu_period: i64,
    /// Microseconds in each period.
    #[serde(skip_serializing_if = "empty")]
    pub cpu_quota: i64,
    /// Processors that it may run on: `0-3,7`.
    #[serde(skip_serializing_if = "empty")]
    pub cpuset_cpus: String,
    /// The same of memory nodes.
    #[serde(skip_serializing_if = "empty")]
    pub cpuset_mems: String,
    /// Bytes that it keeps when memory is short.
    #[serde(skip_serializing_if = "empty")]
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1 = no limit.
    #[serde(skip_serializing_if = "empty")]
    pub memory_swap: i64,
    /// How readily it is swapped out, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<i64>,
    /// It is not killed when memory runs out.
    #[serde(skip_serializing_if = "empty")]
    pub oom_kill_disable: bool,
    /// Who is killed first, -1000 to 1000.
    #[serde(skip_serializing_if = "empty")]
    pub oom_score_adj: i64,
}

/// A device of the machine, in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Device {
    /// Its path here.
    pub path_on_host: String,
    /// Its path there.
    pub path_in_container: String,
    /// Of `r`, `w` and `m`.
    pub cgroup_permissions: String,
}

/// Devices that a driver finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// The driver; empty = whichever has the capabilities.
    pub driver: String,
    /// So many; -1 = all.
    pub count: i64,
    /// These, in place of a number.
    #[serde(rename = "DeviceIDs", skip_serializing_if = "empty")]
    pub device_ids: Vec<String>,
    /// What they have to be able to do: one of these lists.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Where a port is published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// An address of the machine; empty = all.
    pub host_ip: String,
    /// A port; empty = one is chosen.
    pub host_port: String,
}

/// When a container starts again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `on-failure`, `always`, `unless-stopped`; empty = no.
    pub name: String,
    /// So often; 0 = always.
    pub maximum_retry_count: i64,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    /// The driver; empty = the daemon's usual one.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its options.
    pub config: BTreeMap<String, String>,
}

/// A container's places on networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    /// By the networks' names or ids.
    pub endpoints_config: BTreeMap<String, Option<Endpoint>>,
}

/// A place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Its addresses.
    #[serde(rename = "IPAMConfig", skip_serializing_if = "empty")]
    pub ipam: Ipam,
    /// Further names there.
    #[serde(rename = "Aliases", skip_serializing_if = "empty")]
    pub aliases: Vec<String>,
}

/// Addresses; empty = chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// IPv4.
    #[serde(rename = "IPv4Address", skip_serializing_if = "empty")]
    pub v4: String,
    /// IPv6.
    #[serde(rename = "IPv6Address", skip_serializing_if = "empty")]
    pub v6: String,
}
