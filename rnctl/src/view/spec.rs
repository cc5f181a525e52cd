//! Specs, in the shape of Docker's API.

use proto::{
    model::{
        ContainerSpec, EndpointMode, EndpointSpec, FailureAction, Healthcheck, JSON_FILE, LogDriver, Mount,
        Resources, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig,
        UpdateOrder,
    },
    rules::{self, mount::Recursion},
};
use serde_json::{Value, json};

use super::{Object, file, nanos, port, strings};

/// `ServiceSpec`.
pub fn service(spec: &ServiceSpec) -> Value {
    let mode = match spec.mode {
        ServiceMode::Replicated(n) => json!({"Replicated": {"Replicas": n}}),
        ServiceMode::Global => json!({"Global": {}}),
    };
    Object::default()
        .with("Name", spec.name.as_str())
        .with("Labels", strings(&spec.labels))
        .with("TaskTemplate", task(&spec.task))
        .with("Mode", mode)
        .some("UpdateConfig", spec.update.as_ref().map_or(Value::Null, update))
        .some("RollbackConfig", spec.rollback.as_ref().map_or(Value::Null, update))
        .with("EndpointSpec", endpoint(&spec.endpoint))
        .into()
}

/// `EndpointSpec`.
pub fn endpoint(spec: &EndpointSpec) -> Value {
    let mode = match spec.mode {
        EndpointMode::Vip => "vip",
        EndpointMode::DnsRr => "dnsrr",
    };
    Object::default().with("Mode", mode).some("Ports", port::json(&spec.ports)).into()
}

/// `TaskSpec`.
pub fn task(spec: &TaskSpec) -> Value {
    let networks: Vec<Value> = spec
        .networks
        .iter()
        .map(|n| {
            Object::default()
                .with("Target", n.target.as_str())
                .some("Aliases", n.aliases.clone())
                .some("DriverOpts", strings(&n.driver_opts))
                .into()
        })
        .collect();
    Object::default()
        .with("ContainerSpec", container(&spec.container))
        .with(
            "Resources",
            Object::default()
                .some("Limits", resources(&spec.limits))
                .some("Reservations", resources(&spec.reservations)),
        )
        .some("RestartPolicy", spec.restart.as_ref().map_or(Value::Null, restart))
        .with("Placement", placement(spec))
        .some("Networks", networks)
        .some("LogDriver", spec.container.log_driver.as_ref().map_or(Value::Null, log_driver))
        .with("ForceUpdate", spec.force_update)
        .with("Runtime", "container")
        .into()
}

fn log_driver(driver: &LogDriver) -> Value {
    let name = if driver.name.is_empty() { JSON_FILE } else { &driver.name };
    Object::default().with("Name", name).some("Options", strings(&driver.options)).into()
}

fn resources(r: &Resources) -> Value {
    Object::default()
        .some("NanoCPUs", r.nano_cpus)
        .some("MemoryBytes", r.memory_bytes)
        .some("Pids", r.pids)
        .into()
}

fn placement(spec: &TaskSpec) -> Value {
    let preferences: Vec<Value> = spec
        .placement
        .preferences
        .iter()
        .map(|p| json!({"Spread": {"SpreadDescriptor": p.strip_prefix("spread=").unwrap_or(p)}}))
        .collect();
    Object::default()
        .some("Constraints", spec.placement.constraints.clone())
        .some("Preferences", preferences)
        .some("MaxReplicas", spec.placement.max_replicas)
        .into()
}

/// `none`, `on-failure`, `any`.
pub fn restart_condition(condition: RestartCondition) -> &'static str {
    match condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    }
}

fn restart(policy: &RestartPolicy) -> Value {
    Object::default()
        .with("Condition", restart_condition(policy.condition))
        .with("Delay", nanos(policy.delay))
        .with("MaxAttempts", policy.max_attempts)
        .some("Window", nanos(policy.window))
        .into()
}

/// `pause`, `continue`, `rollback`.
pub fn failure_action(action: FailureAction) -> &'static str {
    match action {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "continue",
        FailureAction::Rollback => "rollback",
    }
}

/// `stop-first`, `start-first`.
pub fn order(order: UpdateOrder) -> &'static str {
    match order {
        UpdateOrder::StopFirst => "stop-first",
        UpdateOrder::StartFirst => "start-first",
    }
}

fn update(config: &UpdateConfig) -> Value {
    Object::default()
        .with("Parallelism", config.parallelism)
        .some("Delay", nanos(config.delay))
        .with("FailureAction", failure_action(config.failure_action))
        .with("Monitor", nanos(config.monitor))
        .with("MaxFailureRatio", config.max_failure_ratio)
        .with("Order", order(config.order))
        .into()
}

fn container(c: &ContainerSpec) -> Value {
    let dns = Object::default()
        .some("Nameservers", c.dns.nameservers.iter().map(ToString::to_string).collect::<Vec<_>>())
        .some("Search", c.dns.search.clone())
        .some("Options", c.dns.options.clone());
    let ulimits: Vec<Value> =
        c.ulimits.iter().map(|u| json!({"Name": u.name, "Hard": u.hard, "Soft": u.soft})).collect();
    Object::default()
        .with("Image", c.image.as_str())
        .some("Labels", strings(&c.labels))
        .some("Command", c.command.clone())
        .some("Args", c.args.clone())
        .some("Hostname", c.hostname.as_str())
        .some("Env", c.env.clone())
        .some("Dir", c.dir.as_str())
        .some("User", c.user.as_str())
        .some("Groups", c.groups.clone())
        .some("TTY", c.tty)
        .some("OpenStdin", c.open_stdin)
        .some("ReadOnly", c.read_only)
        .some("Mounts", c.mounts.iter().map(mount).collect::<Vec<_>>())
        .some("StopSignal", c.stop_signal.as_str())
        .some("StopGracePeriod", c.stop_grace_period.map_or(Value::Null, nanos))
        .some("Healthcheck", c.healthcheck.as_ref().map_or(Value::Null, healthcheck))
        .some("Hosts", c.hosts.clone())
        .some("DNSConfig", dns)
        .some("Init", c.init.map_or(Value::Null, Value::Bool))
        .some("Sysctls", strings(&c.sysctls))
        .some("CapabilityAdd", c.cap_add.clone())
        .some("CapabilityDrop", c.cap_drop.clone())
        .some("Ulimits", ulimits)
        .some("Secrets", file::references("Secret", &c.secrets))
        .some("Configs", file::references("Config", &c.configs))
        .into()
}

fn mount(m: &Mount) -> Value {
    Object::default()
        .with("Type", m.kind.as_str())
        .some("Source", m.source.as_str())
        .with("Target", m.target.as_str())
        .some("ReadOnly", m.read_only)
        .some("Consistency", option(m, "consistency"))
        .some("BindOptions", bind_options(m))
        .some("VolumeOptions", volume_options(m))
        .some("TmpfsOptions", tmpfs_options(m))
        .into()
}

fn option<'a>(m: &'a Mount, key: &str) -> &'a str {
    m.options.get(key).map_or("", String::as_str)
}

fn bind_options(m: &Mount) -> Object {
    let recursion = rules::mount::recursion(m).unwrap_or_default();
    Object::default()
        .some("Propagation", option(m, "bind-propagation"))
        .some("NonRecursive", recursion == Recursion::Disabled)
        .some("ReadOnlyNonRecursive", recursion == Recursion::Writable)
        .some("ReadOnlyForceRecursive", recursion == Recursion::ReadOnly)
}

fn volume_options(m: &Mount) -> Object {
    let driver =
        Object::default().some("Name", m.driver.as_str()).some("Options", strings(&m.driver_options));
    Object::default()
        .some("NoCopy", rules::mount::is_nocopy(m))
        .some("Labels", strings(&m.labels))
        .some("DriverConfig", driver)
}

fn tmpfs_options(m: &Mount) -> Object {
    Object::default()
        .some("SizeBytes", rules::mount::tmpfs_size(m).ok().flatten().unwrap_or_default())
        .some("Mode", rules::mount::tmpfs_mode(m).ok().flatten().unwrap_or_default())
}

fn healthcheck(h: &Healthcheck) -> Value {
    Object::default()
        .some("Test", h.test.clone())
        .some("Interval", nanos(h.interval))
        .some("Timeout", nanos(h.timeout))
        .some("Retries", h.retries)
        .some("StartPeriod", nanos(h.start_period))
        .some("StartInterval", nanos(h.start_interval))
        .into()
}
