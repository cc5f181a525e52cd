//! From the flags of `run` and `create` to what the daemon is asked for. Pure, but for files of variables.

use std::collections::BTreeMap;

use docker_api::{
    container_config::{
        ContainerConfig, Endpoint, HostConfig, Ipam, LogConfig, NetworkingConfig, PortBinding, Words,
    },
    mount::Mount,
};
use proto::model::{ContainerSpec, EndpointSettings, Millis};
use serde_json::{Value, json};

use super::flags::{CreateArgs, NetworkFlags, Stream};
use crate::{
    cmd::service::flags::variables,
    exit::Failure,
    parse::{keyval, shell},
};

/// Whether a container is going to be attached to, and to what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Attached {
    /// Nothing.
    pub const NONE: Self = Self { stdin: false, stdout: false, stderr: false };
}

impl CreateArgs {
    /// What is attached to in the foreground: what was named, or everything.
    pub fn attached(&self) -> Attached {
        match self.attach.as_slice() {
            [] => Attached { stdin: self.process.interactive, stdout: true, stderr: true },
            named => Attached {
                stdin: named.contains(&Stream::Stdin),
                stdout: named.contains(&Stream::Stdout),
                stderr: named.contains(&Stream::Stderr),
            },
        }
    }

    /// The body of the request.
    ///
    /// # Errors
    /// Flags that do not go together, or a file of variables that cannot be read.
    pub fn config(mut self, attached: Attached) -> Result<ContainerConfig, Failure> {
        let usage = |e: String| Failure::usage("run", e);
        let mut words = std::mem::take(&mut self.image_and_command).into_iter();
        let image = words.next().unwrap_or_default();
        if image.starts_with('-') {
            return Err(Failure::usage("run", format!("unknown flag: {image}")));
        }
        let process = self.process;
        let env = variables(&process.env_file, process.env, &|name| std::env::var(name).ok())?;
        // Health and log are said as those of services are.
        let mut spec = ContainerSpec::default();
        self.health.apply(&mut spec).map_err(usage)?;
        self.log.apply(&mut spec).map_err(usage)?;
        let log = spec.log_driver.unwrap_or_default();
        let (ports, exposed) = self.network.ports();
        let (network_mode, endpoints) = self.network.endpoints().map_err(usage)?;
        let mut host = HostConfig {
            binds: process.volume,
            mounts: process.mount.iter().map(Mount::from).collect(),
            tmpfs: process.tmpfs.into_iter().collect(),
            network_mode,
            port_bindings: ports,
            restart_policy: self.restart,
            auto_remove: self.rm,
            cap_add: process.cap_add,
            cap_drop: process.cap_drop,
            dns: self.network.dns.iter().map(ToString::to_string).collect(),
            dns_options: self.network.dns_option,
            dns_search: self.network.dns_search,
            extra_hosts: self.network.add_host.iter().map(|line| extra_host(line)).collect(),
            group_add: process.group_add,
            readonly_rootfs: process.read_only,
            sysctls: keyval::map(&process.sysctl),
            init: process.init.then_some(true),
            log_config: LogConfig { kind: log.name, config: log.options },
            ..HostConfig::default()
        };
        self.limits.apply(&mut host);
        self.privileges.apply(&mut host);
        let entrypoint = process.entrypoint.as_deref().map(shell::entrypoint);
        Ok(ContainerConfig {
            hostname: process.hostname,
            user: process.user,
            attach_stdin: attached.stdin,
            attach_stdout: attached.stdout,
            attach_stderr: attached.stderr,
            tty: process.tty,
            open_stdin: process.interactive,
            stdin_once: process.interactive && attached.stdin,
            env,
            cmd: Words(words.collect()),
            entrypoint: Words(entrypoint.transpose().map_err(usage)?.unwrap_or_default()),
            image,
            labels: keyval::map(&process.label),
            exposed_ports: exposed,
            working_dir: process.workdir,
            stop_signal: process.stop_signal,
            stop_timeout: process.stop_timeout.map(seconds),
            healthcheck: spec.healthcheck.as_ref().map(Into::into),
            host_config: host,
            networking_config: NetworkingConfig { endpoints_config: endpoints },
            ..ContainerConfig::default()
        })
    }
}

/// As the API has it: -1 without a limit.
pub fn seconds(span: Millis) -> i64 {
    if span == Millis::UNLIMITED { -1 } else { i64::try_from(span.0 / 1000).unwrap_or(i64::MAX) }
}

/// A line of /etc/hosts as `name:address`.
fn extra_host(line: &str) -> String {
    line.split_once(' ').map_or_else(|| line.to_owned(), |(addr, name)| format!("{name}:{addr}"))
}

type Bindings = BTreeMap<String, Option<Vec<PortBinding>>>;

impl NetworkFlags {
    /// The first network, and all of them. The flags about one network mean the first one, as Docker's do.
    fn endpoints(&mut self) -> Result<(String, BTreeMap<String, Option<Endpoint>>), String> {
        let mut networks = std::mem::take(&mut self.network);
        let aliases = std::mem::take(&mut self.network_alias);
        match networks.first_mut() {
            Some(first) => {
                first.aliases.extend(aliases);
                first.addrs.extend(self.ip.into_iter().chain(self.ip6));
            }
            None if self.ip.is_some() || self.ip6.is_some() || !aliases.is_empty() => {
                return Err("--ip, --ip6 and --network-alias need a --network".into());
            }
            None => {}
        }
        let first = networks.first().map(|n| n.network.clone()).unwrap_or_default();
        let mut endpoints = BTreeMap::new();
        for network in networks {
            let name = network.network.clone();
            if endpoints.insert(name.clone(), Some(endpoint(network))).is_some() {
                return Err(format!("network {name:?} is specified multiple times"));
            }
        }
        Ok((first, endpoints))
    }

    /// What is published, all of it on this machine: there is no mesh for a container outside services. And the same as Docker's
    /// clients say it a second time.
    fn ports(&self) -> (Bindings, BTreeMap<String, Value>) {
        let mut bindings = Bindings::new();
        for port in self.publish.iter().flatten() {
            let host_port = if port.published == 0 { String::new() } else { port.published.to_string() };
            let binding = PortBinding { host_ip: String::new(), host_port };
            let bound = bindings.entry(format!("{}/{}", port.target, port.protocol)).or_default();
            bound.get_or_insert_default().push(binding);
        }
        let exposed = bindings.keys().map(|port| (port.clone(), json!({}))).collect();
        (bindings, exposed)
    }
}

fn endpoint(settings: EndpointSettings) -> Endpoint {
    let address = |v6: bool| {
        let found = settings.addrs.iter().find(|addr| addr.is_ipv6() == v6);
        found.map(ToString::to_string).unwrap_or_default()
    };
    Endpoint { ipam: Ipam { v4: address(false), v6: address(true) }, aliases: settings.aliases }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
