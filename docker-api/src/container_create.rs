//! What a client wants of a new container.
//!
//! Clients send every field of their own types, most of them empty. A field that is not read here may be empty or have the value
//! that says what is so in any case; anything else is refused by name.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    error::ApiError,
    model::{self, Millis, PublishMode},
    pb,
};
use serde_json::Value;

use crate::{
    bind::{bind, tmpfs},
    container_config::{ContainerConfig, Endpoint, PortBinding, RestartPolicy},
    container_fields::{CONFIG, HOST_CONFIG, refuse_others},
    container_spec::HealthConfig,
};

/// A container that a client wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// What it is to be.
    pub definition: pb::ContainerDefinition,
    /// Rows and columns of the terminal that it begins with, where the client says.
    pub console: Option<(u16, u16)>,
}

/// Reads the body of `POST /containers/create`.
///
/// # Errors
/// Something in it is of a wrong type, out of range, or not supported; named.
pub fn read(body: Value, name: &str) -> Result<Wanted, ApiError> {
    refuse_others("", Some(&body), &CONFIG)?;
    refuse_others("HostConfig.", body.get("HostConfig"), &HOST_CONFIG)?;
    let endpoints = body.pointer("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object);
    for (network, endpoint) in endpoints.into_iter().flatten() {
        Endpoint::check(&format!("NetworkingConfig.EndpointsConfig.{network}."), endpoint)?;
    }
    let config: ContainerConfig = serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(format!("invalid JSON: {path}: {}", error.into_inner()))
    })?;
    config.wanted(name)
}

impl ContainerConfig {
    fn wanted(self, name: &str) -> Result<Wanted, ApiError> {
        let host = self.host_config;
        let ports = ports(&host.port_bindings)?;
        let exposed = exposed(&self.exposed_ports)?;
        let mut mounts: Vec<model::Mount> = host.binds.iter().map(|b| bind(b)).collect::<Result<_, _>>()?;
        for mount in host.mounts {
            mounts.push(mount.try_into()?);
        }
        for (target, options) in &host.tmpfs {
            mounts.push(tmpfs(target, options)?);
        }
        let anonymous: Vec<model::Mount> = self
            .volumes
            .into_keys()
            .filter(|target| !mounts.iter().any(|m| m.target == *target))
            .map(|target| model::Mount { kind: "volume".into(), target, ..model::Mount::default() })
            .collect();
        mounts.extend(anonymous);
        let server = |text: &String| {
            text.parse::<IpAddr>()
                .map_err(|_| ApiError::invalid(format!("HostConfig.Dns: {text:?} is not an IP address")))
        };
        let seconds = |s: i64| match u64::try_from(s) {
            Ok(seconds) => Millis(seconds.saturating_mul(1000)),
            Err(_) => Millis::UNLIMITED,
        };
        let log = &host.log_config;
        let log_driver = (!log.kind.is_empty() || !log.config.is_empty())
            .then(|| model::LogDriver { name: log.kind.clone(), options: log.config.clone() });
        let healthcheck = self.healthcheck.filter(|h| *h != HealthConfig::default());
        let networks = endpoints(&host.network_mode, self.networking_config.endpoints_config)?;
        let spec = model::ContainerSpec {
            image: self.image,
            command: self.entrypoint.0,
            args: self.cmd.0,
            env: self.env,
            dir: self.working_dir,
            user: self.user,
            groups: host.group_add,
            hostname: self.hostname,
            labels: self.labels,
            mounts,
            stop_signal: self.stop_signal,
            stop_grace_period: self.stop_timeout.map(seconds),
            tty: self.tty,
            read_only: host.readonly_rootfs,
            init: host.init.filter(|init| *init),
            cap_add: host.cap_add,
            cap_drop: host.cap_drop,
            hosts: host.extra_hosts.iter().map(|h| extra_host(h)).collect::<Result<_, _>>()?,
            dns: model::DnsConfig {
                nameservers: host.dns.iter().map(server).collect::<Result<_, _>>()?,
                search: host.dns_search,
                options: host.dns_options,
            },
            healthcheck: healthcheck.map(TryInto::try_into).transpose()?,
            sysctls: host.sysctls,
            ulimits: host
                .ulimits
                .into_iter()
                .map(|u| model::Ulimit { name: u.name, soft: u.soft, hard: u.hard })
                .collect(),
            pull_auth: None,
            open_stdin: self.open_stdin,
            stdin_once: self.stdin_once,
            log_driver,
            secrets: Vec::new(),
            configs: Vec::new(),
        };
        let limits = pb::Resources {
            nano_cpus: amount("HostConfig.NanoCpus", host.nano_cpus)?,
            memory_bytes: amount("HostConfig.Memory", host.memory)?,
            // -1 is Docker's word for no limit.
            pids: amount("HostConfig.PidsLimit", host.pids_limit.max(0))?,
        };
        let definition = pb::ContainerDefinition {
            name: name.strip_prefix('/').unwrap_or(name).to_owned(),
            spec: Some((&spec).into()),
            limits: Some(limits),
            networks,
            ports,
            exposed,
            restart: host.restart_policy.text()?,
            auto_remove: host.auto_remove,
            ..Default::default()
        };
        let console = match host.console_size.as_slice() {
            [rows, cols] if *rows > 0 && *cols > 0 => Some((*rows, *cols)),
            _ => None,
        };
        Ok(Wanted { definition, console })
    }
}

fn amount(name: &str, value: i64) -> Result<u64, ApiError> {
    u64::try_from(value)
        .map_err(|_| ApiError::invalid(format!("invalid {name}: {value}: it cannot be negative")))
}

impl RestartPolicy {
    /// As `--restart` names it.
    pub(crate) fn text(&self) -> Result<String, ApiError> {
        let Self { name, maximum_retry_count: times } = self;
        if *times != 0 && name != "on-failure" {
            return Err(ApiError::invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure', not with '{name}'"
            )));
        }
        match times {
            ..0 => Err(ApiError::invalid("invalid restart policy: maximum retry count cannot be negative")),
            0 => Ok(name.clone()),
            times => Ok(format!("{name}:{times}")),
        }
    }
}

/// `name:address` as a line of /etc/hosts.
fn extra_host(text: &str) -> Result<String, ApiError> {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    let parsed = parts.and_then(|(name, addr)| {
        let addr = addr.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()?;
        (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| format!("{addr} {name}"))
    });
    parsed.ok_or_else(|| ApiError::invalid(format!("bad format for add-host: {text:?}: write host:ip")))
}

/// The network that the mode names, then the others.
fn endpoints(
    mode: &str,
    mut config: BTreeMap<String, Option<Endpoint>>,
) -> Result<Vec<pb::EndpointSettings>, ApiError> {
    let mode = if mode.is_empty() { "default" } else { mode };
    let way_out = "name one: the machine's own (--network host), none (--network none), or an overlay made with --attachable";
    let refused = |what: String| Err(ApiError::unsupported(format!("{what}; {way_out}")));
    match mode {
        "default" | "bridge" => {
            return refused(format!(
                "HostConfig.NetworkMode {mode:?}: this version of rn has no bridge network for containers"
            ));
        }
        _ if mode.starts_with("container:") => {
            return refused(format!("HostConfig.NetworkMode {mode:?}: rn shares no container's network"));
        }
        _ => {}
    }
    let first = config.remove(mode).flatten().unwrap_or_default();
    let all = std::iter::once((mode.to_owned(), first))
        .chain(config.into_iter().map(|(name, endpoint)| (name, endpoint.unwrap_or_default())));
    Ok(all.map(|(network, endpoint)| endpoint.on(network)).collect())
}

/// `80/tcp`; without a protocol it is TCP.
fn port(field: &str, text: &str) -> Result<(u16, model::Protocol), ApiError> {
    let bad = |why: &str| ApiError::invalid(format!("{field} {text:?}: {why}"));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = number.parse::<u16>().ok().filter(|n| *n != 0);
    let number = number.ok_or_else(|| bad("a port is a number from 1 to 65535"))?;
    Ok((number, protocol.parse().map_err(|_| bad("a protocol is tcp, udp or sctp"))?))
}

/// `"80/tcp": {}`.
fn exposed(ports: &BTreeMap<String, Value>) -> Result<Vec<pb::PortConfig>, ApiError> {
    let one = |text: &String| {
        let (target, protocol) = port("ExposedPorts", text)?;
        let config =
            model::PortConfig { protocol, target, mode: PublishMode::Host, ..model::PortConfig::default() };
        Ok(pb::PortConfig::from(&config))
    };
    ports.keys().map(one).collect()
}

/// `"80/tcp": [{"HostPort": "8080"}]`.
fn ports(bindings: &BTreeMap<String, Option<Vec<PortBinding>>>) -> Result<Vec<pb::PortConfig>, ApiError> {
    let mut ports = Vec::new();
    for (text, bindings) in bindings {
        let bad = |why: &str| ApiError::invalid(format!("HostConfig.PortBindings {text:?}: {why}"));
        let (target, protocol) = port("HostConfig.PortBindings", text)?;
        for PortBinding { host_ip, host_port } in bindings.iter().flatten() {
            if !matches!(host_ip.as_str(), "" | "0.0.0.0" | "::") {
                return Err(ApiError::unsupported(format!(
                    "HostConfig.PortBindings {text:?}: HostIp {host_ip} is not supported by rn; leave it out: a port is published \
                     on all of the machine's addresses"
                )));
            }
            let published = match host_port.as_str() {
                "" => 0,
                text => text.parse::<u16>().map_err(|_| bad("HostPort is a number, or empty"))?,
            };
            let config = model::PortConfig {
                protocol,
                target,
                published,
                mode: PublishMode::Host,
                ..model::PortConfig::default()
            };
            // For both families, which is one here.
            let config = pb::PortConfig::from(&config);
            if !ports.contains(&config) {
                ports.push(config);
            }
        }
    }
    Ok(ports)
}

#[cfg(test)]
#[path = "container_create_tests.rs"]
mod tests;
