//! Services.

use std::collections::{BTreeMap, BTreeSet};

use docker_api::{
    container_spec::{ContainerSpec, DnsConfig, HealthConfig, Ulimit},
    endpoint::{EndpointSpec, PortConfig},
    file_reference::{ConfigReference, FileTarget, SecretReference},
    policy::{RestartPolicy, UpdateConfig},
    resources::{ResourceRequirements, Resources},
    service_spec::{
        Global, Mode, NetworkAttachment, Placement, PlacementPreference, Replicated, ServiceSpec, Spread,
        TaskSpec,
    },
    swarm::Driver,
};
use serde_json::{Value, json};

use super::{DEFAULT_NETWORK, IMAGE, Namespace, mount};
use crate::document::{
    self, Amounts, Compose, CredentialSpec, Deploy, FileObject, FileReference, Healthcheck, Service,
};

/// A service, whose secrets and configs have names and no ids yet.
///
/// # Errors
/// What is wrong with it.
pub(super) fn spec(
    namespace: &Namespace,
    name: &str,
    service: &Service,
    compose: &Compose,
) -> Result<ServiceSpec, String> {
    let deploy = &service.deploy;
    let mut labels = namespace.labels(&deploy.labels);
    labels.insert(IMAGE.into(), service.image.clone());
    let log_driver = service.logging.as_ref();
    let preference = |p: &document::Preference| PlacementPreference {
        spread: Spread { spread_descriptor: p.spread.clone() },
    };
    Ok(ServiceSpec {
        name: namespace.scope(name),
        labels,
        task_template: TaskSpec {
            container_spec: Some(container(namespace, service, compose)?),
            resources: Some(ResourceRequirements {
                limits: deploy.resources.limits.as_ref().map(amounts).transpose()?,
                reservations: deploy.resources.reservations.as_ref().map(amounts).transpose()?,
                ..ResourceRequirements::default()
            }),
            restart_policy: restart_policy(service)?,
            placement: Some(Placement {
                constraints: deploy.placement.constraints.clone(),
                preferences: deploy.placement.preferences.iter().map(preference).collect(),
                max_replicas: deploy.placement.max_replicas_per_node,
                platforms: Vec::new(),
            }),
            networks: networks(namespace, name, service, compose)?,
            log_driver: log_driver.map(|l| Driver { name: l.driver.clone(), options: l.options.clone() }),
            ..TaskSpec::default()
        },
        mode: mode(deploy)?,
        update_config: deploy.update_config.as_ref().map(update_config),
        rollback_config: deploy.rollback_config.as_ref().map(update_config),
        networks: Vec::new(),
        endpoint_spec: Some(endpoint(service)),
    })
}

fn container(namespace: &Namespace, service: &Service, compose: &Compose) -> Result<ContainerSpec, String> {
    let variable = |(name, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    };
    let host = |line: &String| line.split_once(':').map(|(name, addr)| format!("{addr} {name}"));
    let (capability_add, capability_drop) = capabilities(&service.cap_add, &service.cap_drop);
    let has_dns = !service.dns.is_empty() || !service.dns_search.is_empty();
    let (mut secrets, mut configs) = (Vec::new(), Vec::new());
    for reference in &service.secrets {
        let (name, file) = file("secret", namespace, reference, &compose.secrets)?;
        secrets.push(SecretReference { file: Some(file), id: String::new(), name });
    }
    for reference in &service.configs {
        let (name, file) = file("config", namespace, reference, &compose.configs)?;
        configs.push(ConfigReference { file: Some(file), name, ..ConfigReference::default() });
    }
    // The same order in every deploy: tasks are not replaced because of it.
    secrets.sort_by(|a, b| a.name.cmp(&b.name));
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    let ulimit = |(name, limit): (&String, &document::Ulimit)| {
        let (soft, hard) = match *limit {
            document::Ulimit::Single(n) => (n, n),
            document::Ulimit::Both { soft, hard } => (soft, hard),
        };
        Ulimit { name: name.clone(), hard, soft }
    };
    let mounts = service.volumes.iter().map(|volume| mount::mount(namespace, volume, compose));
    Ok(ContainerSpec {
        image: service.image.clone(),
        labels: namespace.labels(&service.labels),
        command: service.entrypoint.clone(),
        args: service.command.clone(),
        hostname: service.hostname.clone(),
        env: service.environment.iter().map(variable).collect(),
        dir: service.working_dir.clone(),
        user: service.user.clone(),
        privileges: privileges(&service.credential_spec)?,
        init: service.init,
        stop_signal: service.stop_signal.clone(),
        tty: service.tty,
        open_stdin: service.stdin_open,
        read_only: service.read_only,
        mounts: mounts.collect::<Result<_, _>>()?,
        stop_grace_period: service.stop_grace_period.map(|span| span.0),
        healthcheck: service.healthcheck.as_ref().map(healthcheck).transpose()?,
        hosts: service.extra_hosts.iter().filter_map(host).collect(),
        dns_config: has_dns.then(|| DnsConfig {
            nameservers: service.dns.clone(),
            search: service.dns_search.clone(),
            options: Vec::new(),
        }),
        secrets,
        configs,
        isolation: service.isolation.clone(),
        sysctls: service.sysctls.clone(),
        capability_add,
        capability_drop,
        ulimits: service.ulimits.iter().map(ulimit).collect(),
        oom_score_adj: service.oom_score_adj,
        ..ContainerSpec::default()
    })
}

/// Where a secret or config goes, and its name in the swarm.
fn file(
    kind: &str,
    namespace: &Namespace,
    reference: &FileReference,
    objects: &BTreeMap<String, FileObject>,
) -> Result<(String, FileTarget), String> {
    let source = &reference.source;
    let object = objects.get(source).ok_or_else(|| format!("undefined {kind} {source:?}"))?;
    let or = |text: &String, default: &str| if text.is_empty() { default.to_owned() } else { text.clone() };
    let target = FileTarget {
        name: or(&reference.target, source),
        uid: or(&reference.uid, "0"),
        gid: or(&reference.gid, "0"),
        mode: reference.mode.unwrap_or(0o444),
    };
    Ok((or(&object.name, &namespace.scope(source)), target))
}

fn privileges(spec: &CredentialSpec) -> Result<Value, String> {
    let named = [("Config", &spec.config), ("File", &spec.file), ("Registry", &spec.registry)];
    let set: Vec<_> = named.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    match set.as_slice() {
        [] => Ok(Value::Null),
        [(name, value)] => Ok(json!({"CredentialSpec": {*name: value}})),
        _ => {
            let names: Vec<String> = set.iter().map(|(name, _)| format!("{name:?}")).collect();
            Err(format!("invalid credential spec: cannot specify both {}", names.join(" and ")))
        }
    }
}

/// Capabilities by their full names; what is given is not taken.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let full = |names: &[String]| -> BTreeSet<String> {
        let full = |name: &String| {
            let name = name.trim().to_uppercase();
            if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
        };
        let names: BTreeSet<String> = names.iter().map(full).collect();
        if names.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { names }
    };
    let (add, drop) = (full(add), full(drop));
    let drop = drop.difference(&add).cloned().collect();
    (add.into_iter().collect(), drop)
}

fn healthcheck(check: &Healthcheck) -> Result<HealthConfig, String> {
    if check.disable {
        if !check.test.is_empty() {
            return Err("test and disable can't be set at the same time".into());
        }
        return Ok(HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() });
    }
    let nanos = |span: Option<crate::shorthand::Span>| span.unwrap_or_default().0;
    Ok(HealthConfig {
        test: check.test.clone(),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries.unwrap_or_default().into(),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    })
}

fn amounts(amounts: &Amounts) -> Result<Resources, String> {
    let nano_cpus = if amounts.cpus.is_empty() {
        0
    } else {
        let cpus = proto::parse::billionths(&amounts.cpus).ok().and_then(|n| i64::try_from(n).ok());
        cpus.ok_or_else(|| format!("invalid number of CPUs: {:?}", amounts.cpus))?
    };
    let generic = |resource: &document::GenericResource| {
        let spec = resource.discrete_resource_spec.as_ref();
        spec.map(|r| json!({"DiscreteResourceSpec": {"Kind": r.kind, "Value": r.value}})).unwrap_or_default()
    };
    Ok(Resources {
        nano_cpus,
        memory_bytes: amounts.memory.0,
        pids: amounts.pids,
        generic_resources: amounts.generic_resources.iter().map(generic).collect(),
    })
}

/// `deploy.restart_policy`, else what `restart` of containers comes nearest to.
fn restart_policy(service: &Service) -> Result<Option<RestartPolicy>, String> {
    if let Some(policy) = &service.deploy.restart_policy {
        return Ok(Some(RestartPolicy {
            condition: policy.condition.clone(),
            delay: policy.delay.map(|span| span.0),
            max_attempts: policy.max_attempts,
            window: policy.window.map(|span| span.0),
        }));
    }
    let (word, count) =
        service.restart.split_once(':').map_or((service.restart.as_str(), None), |(w, n)| (w, Some(n)));
    let attempts = |text: &str| {
        text.parse::<u32>().map_err(|_| {
            format!("invalid restart policy format: maximum retry count must be an integer: {text:?}")
        })
    };
    let max_attempts = count.map(attempts).transpose()?.filter(|n| *n > 0).map(u64::from);
    let condition = match word {
        "" | "no" => return Ok(None),
        "always" | "unless-stopped" => "any",
        "on-failure" => "on-failure",
        other => {
            return Err(format!(
                "invalid restart policy: unknown policy '{other}' (must be one of 'no', 'always', 'on-failure', or 'unless-stopped')"
            ));
        }
    };
    Ok(Some(RestartPolicy { condition: condition.into(), max_attempts, ..RestartPolicy::default() }))
}

fn update_config(config: &document::UpdateConfig) -> UpdateConfig {
    UpdateConfig {
        parallelism: config.parallelism.unwrap_or(1),
        delay: config.delay.0,
        failure_action: config.failure_action.clone(),
        monitor: config.monitor.0,
        max_failure_ratio: config.max_failure_ratio,
        order: config.order.clone(),
    }
}

fn mode(deploy: &Deploy) -> Result<Mode, String> {
    let replicas = deploy.replicas;
    let none = || match replicas {
        None => Ok(()),
        Some(_) => Err("replicas can only be used with replicated or replicated-job mode".to_owned()),
    };
    match deploy.mode.as_str() {
        "" | "replicated" => Ok(Mode { replicated: Some(Replicated { replicas }), ..Mode::default() }),
        "global" => none().map(|()| Mode { global: Some(Global {}), ..Mode::default() }),
        "global-job" => none().map(|()| Mode { global_job: Some(json!({})), ..Mode::default() }),
        "replicated-job" => {
            let job = json!({"MaxConcurrent": replicas, "TotalCompletions": replicas});
            Ok(Mode { replicated_job: Some(job), ..Mode::default() })
        }
        other => Err(format!("unknown mode: {other}")),
    }
}

/// Whether a network is one that users make; others have no aliases.
fn is_of_users(target: &str) -> bool {
    !matches!(target, "default" | "bridge" | "host" | "none") && !target.starts_with("container:")
}

fn networks(
    namespace: &Namespace,
    name: &str,
    service: &Service,
    compose: &Compose,
) -> Result<Vec<NetworkAttachment>, String> {
    let usual = BTreeMap::from([(DEFAULT_NETWORK.to_owned(), None)]);
    let wanted = if service.networks.is_empty() { &usual } else { &service.networks };
    let mut made = Vec::new();
    for (key, options) in wanted {
        let section = compose.networks.get(key);
        if section.is_none() && key != DEFAULT_NETWORK {
            return Err(format!("undefined network {key:?}"));
        }
        let named = section.map(|s| s.name.clone()).filter(|n| !n.is_empty());
        let target = named.unwrap_or_else(|| namespace.scope(key));
        let options = options.clone().unwrap_or_default();
        let mut aliases = options.aliases;
        if is_of_users(&target) {
            aliases.push(name.to_owned());
        }
        made.push(NetworkAttachment { target, aliases, driver_opts: options.driver_opts });
    }
    made.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(made)
}

fn endpoint(service: &Service) -> EndpointSpec {
    let port = |port: &document::Port| PortConfig {
        name: String::new(),
        protocol: port.protocol.clone(),
        target_port: port.target,
        published_port: port.published,
        publish_mode: port.mode.clone(),
    };
    let mut ports: Vec<PortConfig> = service.ports.iter().map(port).collect();
    ports.sort_by(|a, b| {
        let key =
            |p: &PortConfig| (p.published_port, p.target_port, p.protocol.clone(), p.publish_mode.clone());
        key(a).cmp(&key(b))
    });
    EndpointSpec { mode: service.deploy.endpoint_mode.to_lowercase(), ports }
}
