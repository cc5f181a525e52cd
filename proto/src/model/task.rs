//! Tasks.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use super::{
    Condition, ConfigId, ContainerId, FileReference, LogDriver, Meta, Millis, NetworkId, NodeId, PortConfig,
    Revision, SecretId, ServiceId, SubnetAddr, TaskId, Timestamp,
};

/// Where a task stands. The order is the life cycle; observed state only rises (swarmkit `design/task_model.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Created by the orchestrator.
    #[default]
    New,
    /// Allocated; waits for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// The node has seen it.
    Accepted,
    /// Image, mounts and network are being made ready.
    Preparing,
    /// Could start.
    Ready,
    /// Starting.
    Starting,
    /// Running, and healthy where that is checked.
    Running,
    /// Ended with exit code 0.
    Complete,
    /// Stopped on request.
    Shutdown,
    /// Ended by itself with an error.
    Failed,
    /// The node cannot run it.
    Rejected,
    /// Only as desired state: stop, then forget.
    Remove,
    /// Its node has been gone too long.
    Orphaned,
}

impl TaskState {
    /// Whether the task is over, for whatever reason.
    pub fn is_terminal(self) -> bool {
        self > TaskState::Running
    }

    /// The word that `service ps` prints.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskState::New => "New",
            TaskState::Pending => "Pending",
            TaskState::Assigned => "Assigned",
            TaskState::Accepted => "Accepted",
            TaskState::Preparing => "Preparing",
            TaskState::Ready => "Ready",
            TaskState::Starting => "Starting",
            TaskState::Running => "Running",
            TaskState::Complete => "Complete",
            TaskState::Shutdown => "Shutdown",
            TaskState::Failed => "Failed",
            TaskState::Rejected => "Rejected",
            TaskState::Remove => "Remove",
            TaskState::Orphaned => "Orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A file system seen inside the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// Host path or volume name.
    pub source: String,
    /// Path inside.
    pub target: String,
    /// No writing.
    pub read_only: bool,
    /// Further options, e.g. `bind-propagation`, `tmpfs-size`.
    pub options: BTreeMap<String, String>,
    /// Who keeps a volume; empty = `local`, each node by itself.
    pub driver: String,
    /// What the driver is told: `type`, `o` and `device` of a file system that is mounted as the volume.
    pub driver_options: BTreeMap<String, String>,
    /// A volume's labels.
    pub labels: BTreeMap<String, String>,
}

/// How to tell whether a container is healthy. `test` as Docker's: `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", "…"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// The command.
    pub test: Vec<String>,
    /// Between checks; 0 = 30 s.
    pub interval: Millis,
    /// For one check; 0 = 30 s.
    pub timeout: Millis,
    /// Failures in a row that make it unhealthy; 0 = 3.
    pub retries: u32,
    /// Failures at the start that do not count.
    pub start_period: Millis,
    /// Between checks during the start period; 0 = 5 s.
    pub start_interval: Millis,
}

/// A resource limit (setrlimit(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// The container's resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Upstreams instead of the host's.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// resolv.conf options.
    pub options: Vec<String>,
}

/// Who pulls an image.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// The registry, `host[:port]`; nobody else is shown the password.
    pub server: String,
    /// The user.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Image reference.
    pub image: String,
    /// Replaces the image's entrypoint, and with it the image's command; one empty word stands for none at all (as in Docker's API).
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub dir: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Host name; empty = the short container id.
    pub hostname: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Name or number; empty = the image's, else SIGTERM.
    pub stop_signal: String,
    /// From the stop signal to SIGKILL; none = 10 s.
    pub stop_grace_period: Option<Millis>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Root file system read-only.
    pub read_only: bool,
    /// Run an init that reaps.
    pub init: Option<bool>,
    /// Capabilities added to the default set.
    pub cap_add: Vec<String>,
    /// Capabilities taken from it.
    pub cap_drop: Vec<String>,
    /// `ip host…` lines for /etc/hosts.
    pub hosts: Vec<String>,
    /// The resolver.
    pub dns: DnsConfig,
    /// Health check; none = the image's.
    pub healthcheck: Option<Healthcheck>,
    /// Namespaced sysctls.
    pub sysctls: BTreeMap<String, String>,
    /// Limits.
    pub ulimits: Vec<Ulimit>,
    /// Who pulls the image; none = anybody may.
    pub pull_auth: Option<RegistryAuth>,
    /// Keep its standard input open.
    pub open_stdin: bool,
    /// Its standard input ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// Where its output is kept; none = as the node keeps all.
    pub log_driver: Option<LogDriver>,
    /// Secrets, each a file below `/run/secrets` or where it says.
    pub secrets: Vec<FileReference<SecretId>>,
    /// Configs, each a file.
    pub configs: Vec<FileReference<ConfigId>>,
}

/// Amounts; 0 = not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPUs in billionths.
    pub nano_cpus: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Processes (limits only).
    pub pids: u64,
}

/// When a finished task is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartCondition {
    /// Never.
    None,
    /// After a failure.
    OnFailure,
    /// Always.
    #[default]
    Any,
}

/// How a finished task is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// When.
    pub condition: RestartCondition,
    /// Wait before the replacement starts. Default 5 s.
    pub delay: Millis,
    /// 0 = without limit.
    pub max_attempts: u64,
    /// Only restarts inside this window count; 0 = all.
    pub window: Millis,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { condition: RestartCondition::Any, delay: Millis::secs(5), max_attempts: 0, window: Millis(0) }
    }
}

/// Where tasks may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// `key==value` or `key!=value`; all must hold.
    pub constraints: Vec<String>,
    /// `spread=node.labels.X`.
    pub preferences: Vec<String>,
    /// 0 = without limit.
    pub max_replicas: u64,
}

/// A network of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAttachmentConfig {
    /// The network. In a request it may be a name; the API resolves it before it is stored.
    pub target: String,
    /// Further names of the service on this network.
    pub aliases: Vec<String>,
    /// Options.
    pub driver_opts: BTreeMap<String, String>,
}

/// A network of a container that a user runs on one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSettings {
    /// The network, by name or id.
    pub network: String,
    /// Further names of the container on this network.
    pub aliases: Vec<String>,
    /// Addresses that it is to have, at most one per family; the managers choose the others.
    pub addrs: Vec<IpAddr>,
}

/// What each task of a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSpec {
    /// What runs.
    pub container: ContainerSpec,
    /// Upper limits.
    pub limits: Resources,
    /// Kept for it by the scheduler.
    pub reservations: Resources,
    /// Restarts; none = defaults.
    pub restart: Option<RestartPolicy>,
    /// Where.
    pub placement: Placement,
    /// Its networks.
    pub networks: Vec<NetworkAttachmentConfig>,
    /// Counts `--force` updates.
    pub force_update: u64,
}

/// The network that each machine has by itself: its own.
pub const HOST_NETWORK: &str = "host";

/// The name of having no network at all, but for the loopback interface.
pub const NO_NETWORK: &str = "none";

impl TaskSpec {
    /// Whether the task runs in its node's own network.
    pub fn is_on_host_network(&self) -> bool {
        self.networks.iter().any(|n| n.target == HOST_NETWORK)
    }
}

/// A task's place on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// One address per family.
    pub addrs: Vec<SubnetAddr>,
    /// Further names, as in the spec.
    pub aliases: Vec<String>,
}

/// Written by the allocator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskAllocation {
    /// Overlays, in the spec's order.
    pub attachments: Vec<Attachment>,
    /// Its addresses on `ingress`; empty unless its service publishes through the mesh.
    pub ingress_addrs: Vec<IpAddr>,
    /// The service's ports when this was written.
    pub ports: Vec<PortConfig>,
}

/// Written by the agent (and before that by allocator and scheduler, for the states that they cause).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// Where it stands.
    pub state: TaskState,
    /// Since when, by the leader's clock: it translates what a node says.
    pub at: Timestamp,
    /// What is going on.
    pub message: String,
    /// What went wrong.
    pub err: String,
    /// Its container; empty before there is one.
    pub container_id: String,
    /// Its first process, 0 = none.
    pub pid: u32,
    /// Exit code, once ended.
    pub exit_code: Option<i32>,
    /// Host-mode ports as bound.
    pub ports: Vec<PortConfig>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Bookkeeping.
    pub meta: Meta,
    /// Its service.
    pub service_id: ServiceId,
    /// Its service's name, which is unique and never changes.
    pub service_name: String,
    /// 1-based place in a replicated service; 0 in a global one.
    pub slot: u64,
    /// What it is: a copy of the service's, so that a worker needs no other.
    pub spec: TaskSpec,
    /// The spec version of the service that it was made from.
    pub spec_version: Revision,
    /// Its addresses; none until allocated.
    pub allocation: Option<TaskAllocation>,
    /// Its node; none until scheduled.
    pub node_id: Option<NodeId>,
    /// `Ready` (prepare, do not start yet), `Running`, `Shutdown` or `Remove`.
    pub desired: TaskState,
    /// Where it stands.
    pub status: TaskStatus,
    /// Why it is pending.
    pub conditions: Vec<Condition>,
    /// A restart's delay: desired becomes `Running` no sooner.
    pub start_after: Timestamp,
    /// When the managers heard that it runs, by the leader's clock; 0 = never.
    pub running_at: Timestamp,
    /// When the managers heard that it is over, by the leader's clock; 0 = not yet.
    pub ended_at: Timestamp,
    /// The container that this is the place of, where a user runs one on the node by hand: the node made it, the task holds its
    /// addresses. There is no service then: `service_id` is an id of its own, and `service_name` is the container's name.
    pub attached_container: Option<ContainerId>,
}

/// Messages that say no more than the state does.
const PLAIN: [&str; 5] = ["", "preparing", "prepared", "starting", "started"];

impl Task {
    /// The place of a container that a user runs by hand: assigned from the first, and wanted running.
    pub fn attached(
        container: ContainerId,
        name: String,
        spec: TaskSpec,
        allocation: TaskAllocation,
    ) -> Self {
        Self {
            id: TaskId::random(),
            meta: Meta::default(),
            service_id: ServiceId::random(),
            service_name: name,
            slot: 0,
            spec,
            spec_version: Revision::default(),
            allocation: Some(allocation),
            node_id: None,
            desired: TaskState::Running,
            status: TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() },
            conditions: Vec::new(),
            start_after: Timestamp::default(),
            running_at: Timestamp::default(),
            ended_at: Timestamp::default(),
            attached_container: Some(container),
        }
    }

    /// What it is to a user, with its name: `task web.1.x`, `container db`.
    pub fn described(&self) -> String {
        let kind = if self.attached_container.is_some() { "container" } else { "task" };
        format!("{kind} {}", self.name())
    }

    /// What went wrong, what it waits for while it does not run, or what is odd about it while it does; empty when there is nothing
    /// to say.
    pub fn reason(&self) -> &str {
        let TaskStatus { state, err, message, .. } = &self.status;
        match self.conditions.first() {
            _ if !err.is_empty() => err,
            Some(condition) if *state < TaskState::Running => &condition.message,
            _ if (*state, self.desired) == (TaskState::Ready, TaskState::Ready) => {
                if self.start_after > self.meta.created_at {
                    "waiting for the restart delay to pass"
                } else {
                    "waiting for the task before it to stop"
                }
            }
            // What its node says beyond the name of the state: `pulling …`, `waiting for port 80/tcp`.
            _ if (TaskState::Preparing..=TaskState::Running).contains(state)
                && !PLAIN.contains(&message.as_str()) =>
            {
                message
            }
            _ => "",
        }
    }

    /// `service.slot.id` for a replicated service, `service.node.id` for a global one: the container's name too. For a container
    /// that a user runs by hand, the name that the user gave it.
    pub fn name(&self) -> String {
        if self.attached_container.is_some() {
            return self.service_name.clone();
        }
        match (self.slot, &self.node_id) {
            (0, Some(node)) => format!("{}.{}.{}", self.service_name, node, self.id),
            (slot, _) => format!("{}.{}.{}", self.service_name, slot, self.id),
        }
    }
}
