//! Flags of `service create`, by subject. Those whose flags are the same in `service update` change only what was given.

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use proto::model::{
    self, ConfigId, ContainerSpec, FileReference, Millis, Mount, NetworkAttachmentConfig, Placement,
    PortConfig, RestartPolicy, SecretId, TaskSpec, Ulimit, UpdateConfig,
};

use crate::{
    exit::Failure,
    parse::{file, keyval, mount::mount, network::attachment, port::publish, shell, units},
};

/// How a service's name resolves.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EndpointMode {
    /// To one virtual address
    Vip,
    /// To the addresses of its tasks
    Dnsrr,
}

impl From<EndpointMode> for model::EndpointMode {
    fn from(mode: EndpointMode) -> Self {
        match mode {
            EndpointMode::Vip => model::EndpointMode::Vip,
            EndpointMode::Dnsrr => model::EndpointMode::DnsRr,
        }
    }
}

/// Networks and ports.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// Network of the tasks: a name, or name=app,alias=web,driver-opt=k=v; may be repeated
    #[arg(long, value_name = "NETWORK", value_parser = attachment)]
    pub network: Vec<NetworkAttachmentConfig>,
    /// Publish a port: [published:]target[/protocol], ranges too, or target=80,published=8080,protocol=tcp,mode=ingress|host;
    /// may be repeated
    #[arg(short, long, value_name = "PORT", value_parser = publish)]
    pub publish: Vec<Vec<PortConfig>>,
    /// What the service's name resolves to [default: vip]
    #[arg(long, value_enum)]
    pub endpoint_mode: Option<EndpointMode>,
}

/// What runs, as far as single values go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container")]
pub struct ContainerFlags {
    /// Replaces the image's entrypoint, and leaves out its command; '' only leaves out both
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Host name of the containers [default: the container's id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Run as this user [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Give the containers a terminal
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    tty: Option<bool>,
    /// Run an init that reaps processes
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    init: Option<bool>,
    /// Root file system read-only
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    read_only: Option<bool>,
    /// Signal that stops a container [default: the image's, else SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = units::signal)]
    stop_signal: Option<String>,
    /// From the stop signal to SIGKILL [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    stop_grace_period: Option<Millis>,
}

impl ContainerFlags {
    /// Changes what was given.
    pub fn apply(&self, spec: &mut ContainerSpec) -> Result<(), String> {
        if let Some(entrypoint) = &self.entrypoint {
            spec.command = shell::entrypoint(entrypoint)?;
        }
        let text = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        text(&mut spec.hostname, &self.hostname);
        text(&mut spec.user, &self.user);
        text(&mut spec.dir, &self.workdir);
        text(&mut spec.stop_signal, &self.stop_signal);
        spec.tty = self.tty.unwrap_or(spec.tty);
        spec.read_only = self.read_only.unwrap_or(spec.read_only);
        spec.init = self.init.or(spec.init);
        spec.stop_grace_period = self.stop_grace_period.or(spec.stop_grace_period);
        Ok(())
    }
}

/// What runs, as far as lists go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container")]
pub struct ContainerLists {
    /// Set a variable; NAME alone takes the value from here; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// File of variables, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Label of the containers; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    container_label: Vec<(String, String)>,
    /// Further group of the user; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    group: Vec<String>,
    /// Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly]; may be repeated
    #[arg(long, value_name = "MOUNT", value_parser = mount)]
    mount: Vec<Mount>,
    /// Secret: a name, or source=NAME,target=PATH,uid=0,gid=0,mode=0444; may be repeated
    #[arg(long, value_name = "SECRET", value_parser = file::secret)]
    secret: Vec<FileReference<SecretId>>,
    /// Config: a name, or source=NAME,target=PATH,uid=0,gid=0,mode=0444; may be repeated
    #[arg(long, value_name = "CONFIG", value_parser = file::config)]
    config: Vec<FileReference<ConfigId>>,
    /// Line of /etc/hosts; may be repeated
    #[arg(long, value_name = "HOST:IP", value_parser = units::host)]
    host: Vec<String>,
    /// Name server instead of the node's; may be repeated
    #[arg(long, value_name = "IP")]
    dns: Vec<std::net::IpAddr>,
    /// Search domain; may be repeated
    #[arg(long, value_name = "DOMAIN", value_parser = units::search_domain)]
    dns_search: Vec<String>,
    /// Option of the resolver, for instance ndots:1; may be repeated
    #[arg(long, value_name = "OPTION", value_parser = units::resolver_option)]
    dns_option: Vec<String>,
    /// Add a capability; may be repeated
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    cap_add: Vec<String>,
    /// Drop a capability; may be repeated
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    cap_drop: Vec<String>,
    /// Kernel setting of the container's namespaces; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = units::sysctl)]
    sysctl: Vec<(String, String)>,
    /// Resource limit; may be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = units::ulimit)]
    ulimit: Vec<Ulimit>,
}

impl ContainerLists {
    /// Fills an empty spec.
    pub fn apply(
        self,
        spec: &mut ContainerSpec,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Failure> {
        spec.env = variables(&self.env_file, self.env, environment)?;
        spec.labels = keyval::map(&self.container_label);
        spec.groups = self.group;
        spec.mounts = self.mount;
        spec.secrets = self.secret;
        spec.configs = self.config;
        spec.hosts = self.host;
        spec.dns.nameservers = self.dns;
        spec.dns.search = self.dns_search;
        spec.dns.options = self.dns_option;
        spec.cap_add = self.cap_add;
        spec.cap_drop = self.cap_drop;
        spec.sysctls = keyval::map(&self.sysctl);
        spec.ulimits = self.ulimit;
        Ok(())
    }
}

/// The variables of `--env-file` and `--env`, the latter over the former.
pub fn variables(
    files: &[String],
    env: Vec<String>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Failure> {
    let mut given = Vec::new();
    for path in files {
        let bytes =
            std::fs::read(path).map_err(|e| Failure::local(format!("cannot read --env-file {path}: {e}")))?;
        let found = keyval::environment_file(&bytes, environment);
        given.extend(found.map_err(|e| Failure::local(format!("--env-file {path}: {e}")))?);
    }
    given.extend(keyval::environment(&env, environment).map_err(Failure::local)?);
    Ok(given)
}

/// Where tasks go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Placement")]
pub struct PlacementFlags {
    /// Nodes that may run it, for instance node.labels.zone==a or node.role!=manager; may be repeated, all must hold
    #[arg(long, value_name = "EXPRESSION")]
    constraint: Vec<String>,
    /// Spread over the values of a label: spread=node.labels.zone; may be repeated
    #[arg(long, value_name = "PREFERENCE", value_parser = preference)]
    placement_pref: Vec<String>,
    /// Tasks on one node at most; 0 is without limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    replicas_max_per_node: u64,
}

/// `spread=…`.
pub fn preference(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("spread", label)) if !label.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("invalid placement preference {text:?}: write spread=node.labels.NAME")),
    }
}

impl PlacementFlags {
    /// Fills an empty spec.
    pub fn apply(self, spec: &mut Placement) {
        spec.constraints = self.constraint;
        spec.preferences = self.placement_pref;
        spec.max_replicas = self.replicas_max_per_node;
    }
}

/// Resources.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceFlags {
    /// CPUs that a task may use, for instance 0.5; 0 is without limit
    #[arg(long, value_name = "CPUS", value_parser = units::cpus)]
    limit_cpu: Option<u64>,
    /// Memory that a task may use, for instance 512m; 0 is without limit
    #[arg(long, value_name = "BYTES", value_parser = units::memory)]
    limit_memory: Option<u64>,
    /// Processes that a task may have; 0 is without limit
    #[arg(long, value_name = "N")]
    limit_pids: Option<u64>,
    /// CPUs that a node keeps for a task
    #[arg(long, value_name = "CPUS", value_parser = units::cpus)]
    reserve_cpu: Option<u64>,
    /// Memory that a node keeps for a task
    #[arg(long, value_name = "BYTES", value_parser = units::memory)]
    reserve_memory: Option<u64>,
}

impl ResourceFlags {
    /// Changes what was given.
    pub fn apply(&self, task: &mut TaskSpec) {
        let set = |field: &mut u64, value: Option<u64>| *field = value.unwrap_or(*field);
        set(&mut task.limits.nano_cpus, self.limit_cpu);
        set(&mut task.limits.memory_bytes, self.limit_memory);
        set(&mut task.limits.pids, self.limit_pids);
        set(&mut task.reservations.nano_cpus, self.reserve_cpu);
        set(&mut task.reservations.memory_bytes, self.reserve_memory);
    }
}

/// When a finished task is replaced.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RestartCondition {
    /// Never
    None,
    /// After a failure
    OnFailure,
    /// Always
    Any,
}

/// Restarts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Restarts")]
pub struct RestartFlags {
    /// When a task that has ended is replaced [default: any]
    #[arg(long, value_enum)]
    restart_condition: Option<RestartCondition>,
    /// Wait before the replacement starts [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    restart_delay: Option<Millis>,
    /// Replacements at most; 0 is without limit [default: 0]
    #[arg(long, value_name = "N")]
    restart_max_attempts: Option<u64>,
    /// Only replacements in this time count; 0 is all time [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    restart_window: Option<Millis>,
}

impl RestartFlags {
    /// The policy with what was given changed; none when nothing was given and there was none.
    pub fn policy(&self, base: Option<RestartPolicy>) -> Option<RestartPolicy> {
        let given = self.restart_condition.is_some()
            || self.restart_delay.is_some()
            || self.restart_max_attempts.is_some()
            || self.restart_window.is_some();
        if !given {
            return base;
        }
        let mut policy = base.unwrap_or_default();
        if let Some(condition) = self.restart_condition {
            policy.condition = match condition {
                RestartCondition::None => model::RestartCondition::None,
                RestartCondition::OnFailure => model::RestartCondition::OnFailure,
                RestartCondition::Any => model::RestartCondition::Any,
            };
        }
        policy.delay = self.restart_delay.unwrap_or(policy.delay);
        policy.max_attempts = self.restart_max_attempts.unwrap_or(policy.max_attempts);
        policy.window = self.restart_window.unwrap_or(policy.window);
        Some(policy)
    }
}

/// What a failing update does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FailureAction {
    /// Stops and waits
    Pause,
    /// Goes on
    Continue,
    /// Goes back to the previous spec
    Rollback,
}

/// Which task goes first.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Order {
    /// The old one stops, then the new one starts
    StopFirst,
    /// The new one runs before the old one stops
    StartFirst,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("invalid ratio {text:?}"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(format!("{text} is not between 0 and 1")) }
}

macro_rules! update_flags {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        #[command(next_help_heading = "Updates and rollbacks")]
        pub struct $name {
            #[arg(id = concat!($prefix, "parallelism"), long = concat!($prefix, "parallelism"), value_name = "N",
                  help = concat!("Tasks replaced at once in ", $noun, "; 0 is all [default: 1]"))]
            parallelism: Option<u64>,
            #[arg(id = concat!($prefix, "delay"), long = concat!($prefix, "delay"), value_name = "DURATION",
                  value_parser = units::duration, help = "Wait between them [default: 0s]")]
            delay: Option<Millis>,
            #[arg(id = concat!($prefix, "failure-action"), long = concat!($prefix, "failure-action"), value_enum,
                  hide_possible_values = true, value_name = "ACTION",
                  help = concat!("When ", $noun, " fails: pause, continue or rollback [default: pause]"))]
            failure_action: Option<FailureAction>,
            #[arg(id = concat!($prefix, "monitor"), long = concat!($prefix, "monitor"), value_name = "DURATION",
                  value_parser = units::duration, help = "How long a new task is watched for failure [default: 5s]")]
            monitor: Option<Millis>,
            #[arg(id = concat!($prefix, "max-failure-ratio"), long = concat!($prefix, "max-failure-ratio"),
                  value_name = "RATIO", value_parser = ratio, help = "Share of failed tasks that is borne [default: 0]")]
            max_failure_ratio: Option<f64>,
            #[arg(id = concat!($prefix, "order"), long = concat!($prefix, "order"), value_enum,
                  hide_possible_values = true, value_name = "ORDER", help = "stop-first or start-first [default: stop-first]")]
            order: Option<Order>,
        }

        impl $name {
            /// The settings with what was given changed; none when nothing was given and there were none.
            pub fn config(&self, base: Option<UpdateConfig>) -> Option<UpdateConfig> {
                let given = self.parallelism.is_some()
                    || self.delay.is_some()
                    || self.failure_action.is_some()
                    || self.monitor.is_some()
                    || self.max_failure_ratio.is_some()
                    || self.order.is_some();
                if !given {
                    return base;
                }
                let mut config = base.unwrap_or_default();
                config.parallelism = self.parallelism.unwrap_or(config.parallelism);
                config.delay = self.delay.unwrap_or(config.delay);
                config.monitor = self.monitor.unwrap_or(config.monitor);
                config.max_failure_ratio = self.max_failure_ratio.unwrap_or(config.max_failure_ratio);
                if let Some(action) = self.failure_action {
                    config.failure_action = match action {
                        FailureAction::Pause => model::FailureAction::Pause,
                        FailureAction::Continue => model::FailureAction::Continue,
                        FailureAction::Rollback => model::FailureAction::Rollback,
                    };
                }
                if let Some(order) = self.order {
                    config.order = match order {
                        Order::StopFirst => model::UpdateOrder::StopFirst,
                        Order::StartFirst => model::UpdateOrder::StartFirst,
                    };
                }
                Some(config)
            }
        }
    };
}

update_flags! {
    /// How an update goes.
    UpdateFlags, "update-", "an update"
}

update_flags! {
    /// How a rollback goes.
    RollbackFlags, "rollback-", "a rollback"
}

macro_rules! unsupported {
    ($($field:ident $flag:literal)*) => {
        /// Flags of Docker's that have no counterpart here: refused by name, so that nobody believes that they work.
        #[derive(Debug, Args)]
        pub struct Unsupported {
            $(#[arg(long = $flag, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
            $field: Vec<String>,)*
        }

        impl Unsupported {
            /// An error that names the first flag that was given.
            pub fn refuse(&self) -> Result<(), Failure> {
                $(if !self.$field.is_empty() {
                    return Err(Failure::local(concat!("--", $flag, " is not supported"))
                        .with_help("leave it out; what differs from Docker is listed in docs/differences.md"));
                })*
                Ok(())
            }
        }
    };
}

unsupported! {
    credential_spec "credential-spec"
    isolation "isolation"
    generic_resource "generic-resource"
    memory_swap "memory-swap"
    memory_swappiness "memory-swappiness"
    oom_score_adj "oom-score-adj"
    max_concurrent "max-concurrent"
}
