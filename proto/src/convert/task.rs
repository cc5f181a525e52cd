//! Tasks and what they run.

use super::{
    Malformed, addrs, into_all, meta, need, parse, parse_all, parse_opt, text, texts, try_all, try_opt,
};
use crate::{
    model,
    model::{Millis, Timestamp},
    pb,
};

impl From<model::Mount> for pb::Mount {
    fn from(m: model::Mount) -> Self {
        Self {
            kind: m.kind,
            source: m.source,
            target: m.target,
            read_only: m.read_only,
            options: m.options,
            driver: m.driver,
            driver_options: m.driver_options,
            labels: m.labels,
        }
    }
}

impl From<pb::Mount> for model::Mount {
    fn from(p: pb::Mount) -> Self {
        Self {
            kind: p.kind,
            source: p.source,
            target: p.target,
            read_only: p.read_only,
            options: p.options,
            driver: p.driver,
            driver_options: p.driver_options,
            labels: p.labels,
        }
    }
}

impl From<model::Healthcheck> for pb::Healthcheck {
    fn from(m: model::Healthcheck) -> Self {
        Self {
            test: m.test,
            interval: m.interval.0,
            timeout: m.timeout.0,
            retries: m.retries,
            start_period: m.start_period.0,
            start_interval: m.start_interval.0,
        }
    }
}

impl From<pb::Healthcheck> for model::Healthcheck {
    fn from(p: pb::Healthcheck) -> Self {
        Self {
            test: p.test,
            interval: Millis(p.interval),
            timeout: Millis(p.timeout),
            retries: p.retries,
            start_period: Millis(p.start_period),
            start_interval: Millis(p.start_interval),
        }
    }
}

impl From<model::Ulimit> for pb::Ulimit {
    fn from(m: model::Ulimit) -> Self {
        Self { name: m.name, soft: m.soft, hard: m.hard }
    }
}

impl From<pb::Ulimit> for model::Ulimit {
    fn from(p: pb::Ulimit) -> Self {
        Self { name: p.name, soft: p.soft, hard: p.hard }
    }
}

impl From<model::DnsConfig> for pb::DnsConfig {
    fn from(m: model::DnsConfig) -> Self {
        Self { nameservers: addrs(&m.nameservers), search: m.search, options: m.options }
    }
}

impl TryFrom<pb::DnsConfig> for model::DnsConfig {
    type Error = Malformed;

    fn try_from(p: pb::DnsConfig) -> Result<Self, Malformed> {
        Ok(Self {
            nameservers: parse_all("dns nameservers", &p.nameservers)?,
            search: p.search,
            options: p.options,
        })
    }
}

impl From<model::RegistryAuth> for pb::RegistryAuth {
    fn from(m: model::RegistryAuth) -> Self {
        Self { server: m.server, username: m.username, password: m.password }
    }
}

impl From<pb::RegistryAuth> for model::RegistryAuth {
    fn from(p: pb::RegistryAuth) -> Self {
        Self { server: p.server, username: p.username, password: p.password }
    }
}

impl From<model::LogDriver> for pb::LogDriver {
    fn from(m: model::LogDriver) -> Self {
        Self { name: m.name, options: m.options }
    }
}

impl From<pb::LogDriver> for model::LogDriver {
    fn from(p: pb::LogDriver) -> Self {
        Self { name: p.name, options: p.options }
    }
}

impl From<model::ContainerSpec> for pb::ContainerSpec {
    fn from(m: model::ContainerSpec) -> Self {
        Self {
            image: m.image,
            command: m.command,
            args: m.args,
            env: m.env,
            dir: m.dir,
            user: m.user,
            groups: m.groups,
            hostname: m.hostname,
            labels: m.labels,
            mounts: into_all(m.mounts),
            stop_signal: m.stop_signal,
            stop_grace_period: m.stop_grace_period.map(|d| d.0),
            tty: m.tty,
            read_only: m.read_only,
            init: m.init,
            cap_add: m.cap_add,
            cap_drop: m.cap_drop,
            hosts: m.hosts,
            dns: Some(m.dns.into()),
            healthcheck: m.healthcheck.map(Into::into),
            sysctls: m.sysctls,
            ulimits: into_all(m.ulimits),
            pull_auth: m.pull_auth.map(Into::into),
            open_stdin: m.open_stdin,
            stdin_once: m.stdin_once,
            log_driver: m.log_driver.map(Into::into),
            secrets: into_all(m.secrets),
            configs: into_all(m.configs),
        }
    }
}

impl TryFrom<pb::ContainerSpec> for model::ContainerSpec {
    type Error = Malformed;

    fn try_from(p: pb::ContainerSpec) -> Result<Self, Malformed> {
        Ok(Self {
            image: p.image,
            command: p.command,
            args: p.args,
            env: p.env,
            dir: p.dir,
            user: p.user,
            groups: p.groups,
            hostname: p.hostname,
            labels: p.labels,
            mounts: into_all(p.mounts),
            stop_signal: p.stop_signal,
            stop_grace_period: p.stop_grace_period.map(Millis),
            tty: p.tty,
            read_only: p.read_only,
            init: p.init,
            cap_add: p.cap_add,
            cap_drop: p.cap_drop,
            hosts: p.hosts,
            dns: try_opt(p.dns)?.unwrap_or_default(),
            healthcheck: p.healthcheck.map(Into::into),
            sysctls: p.sysctls,
            ulimits: into_all(p.ulimits),
            pull_auth: p.pull_auth.map(Into::into),
            open_stdin: p.open_stdin,
            stdin_once: p.stdin_once,
            log_driver: p.log_driver.map(Into::into),
            secrets: try_all(p.secrets)?,
            configs: try_all(p.configs)?,
        })
    }
}

impl From<model::Resources> for pb::Resources {
    fn from(m: model::Resources) -> Self {
        Self { nano_cpus: m.nano_cpus, memory_bytes: m.memory_bytes, pids: m.pids }
    }
}

impl From<pb::Resources> for model::Resources {
    fn from(p: pb::Resources) -> Self {
        Self { nano_cpus: p.nano_cpus, memory_bytes: p.memory_bytes, pids: p.pids }
    }
}

impl From<model::RestartPolicy> for pb::RestartPolicy {
    fn from(m: model::RestartPolicy) -> Self {
        Self {
            condition: m.condition.into(),
            delay: m.delay.0,
            max_attempts: m.max_attempts,
            window: m.window.0,
        }
    }
}

impl TryFrom<pb::RestartPolicy> for model::RestartPolicy {
    type Error = Malformed;

    fn try_from(p: pb::RestartPolicy) -> Result<Self, Malformed> {
        Ok(Self {
            condition: model::RestartCondition::from_wire(p.condition)?,
            delay: Millis(p.delay),
            max_attempts: p.max_attempts,
            window: Millis(p.window),
        })
    }
}

impl From<model::Placement> for pb::Placement {
    fn from(m: model::Placement) -> Self {
        Self { constraints: m.constraints, preferences: m.preferences, max_replicas: m.max_replicas }
    }
}

impl From<pb::Placement> for model::Placement {
    fn from(p: pb::Placement) -> Self {
        Self { constraints: p.constraints, preferences: p.preferences, max_replicas: p.max_replicas }
    }
}

impl From<model::NetworkAttachmentConfig> for pb::NetworkAttachmentConfig {
    fn from(m: model::NetworkAttachmentConfig) -> Self {
        Self { target: m.target, aliases: m.aliases, driver_opts: m.driver_opts }
    }
}

impl From<pb::NetworkAttachmentConfig> for model::NetworkAttachmentConfig {
    fn from(p: pb::NetworkAttachmentConfig) -> Self {
        Self { target: p.target, aliases: p.aliases, driver_opts: p.driver_opts }
    }
}

impl From<model::TaskSpec> for pb::TaskSpec {
    fn from(m: model::TaskSpec) -> Self {
        Self {
            container: Some(m.container.into()),
            limits: Some(m.limits.into()),
            reservations: Some(m.reservations.into()),
            restart: m.restart.map(Into::into),
            placement: Some(m.placement.into()),
            networks: into_all(m.networks),
            force_update: m.force_update,
        }
    }
}

impl TryFrom<pb::TaskSpec> for model::TaskSpec {
    type Error = Malformed;

    fn try_from(p: pb::TaskSpec) -> Result<Self, Malformed> {
        Ok(Self {
            container: need("container spec", p.container)?.try_into()?,
            limits: p.limits.map(Into::into).unwrap_or_default(),
            reservations: p.reservations.map(Into::into).unwrap_or_default(),
            restart: try_opt(p.restart)?,
            placement: p.placement.map(Into::into).unwrap_or_default(),
            networks: into_all(p.networks),
            force_update: p.force_update,
        })
    }
}

impl From<model::EndpointSettings> for pb::EndpointSettings {
    fn from(m: model::EndpointSettings) -> Self {
        Self { network: m.network, aliases: m.aliases, addrs: addrs(&m.addrs) }
    }
}

impl TryFrom<pb::EndpointSettings> for model::EndpointSettings {
    type Error = Malformed;

    fn try_from(p: pb::EndpointSettings) -> Result<Self, Malformed> {
        Ok(Self { network: p.network, aliases: p.aliases, addrs: parse_all("endpoint addrs", &p.addrs)? })
    }
}

impl From<model::Attachment> for pb::Attachment {
    fn from(m: model::Attachment) -> Self {
        Self { network_id: m.network.to_string(), addrs: texts(&m.addrs), aliases: m.aliases }
    }
}

impl TryFrom<pb::Attachment> for model::Attachment {
    type Error = Malformed;

    fn try_from(p: pb::Attachment) -> Result<Self, Malformed> {
        Ok(Self {
            network: parse("attachment network", &p.network_id)?,
            addrs: parse_all("attachment addrs", &p.addrs)?,
            aliases: p.aliases,
        })
    }
}

impl From<model::TaskAllocation> for pb::TaskAllocation {
    fn from(m: model::TaskAllocation) -> Self {
        Self {
            attachments: into_all(m.attachments),
            ingress_addrs: addrs(&m.ingress_addrs),
            ports: into_all(m.ports),
        }
    }
}

impl TryFrom<pb::TaskAllocation> for model::TaskAllocation {
    type Error = Malformed;

    fn try_from(p: pb::TaskAllocation) -> Result<Self, Malformed> {
        Ok(Self {
            attachments: try_all(p.attachments)?,
            ingress_addrs: parse_all("ingress_addrs", &p.ingress_addrs)?,
            ports: try_all(p.ports)?,
        })
    }
}

impl From<model::TaskStatus> for pb::TaskStatus {
    fn from(m: model::TaskStatus) -> Self {
        Self {
            state: m.state.into(),
            at: m.at.0,
            message: m.message,
            err: m.err,
            container_id: m.container_id,
            pid: m.pid,
            exit_code: m.exit_code,
            ports: into_all(m.ports),
        }
    }
}

impl TryFrom<pb::TaskStatus> for model::TaskStatus {
    type Error = Malformed;

    fn try_from(p: pb::TaskStatus) -> Result<Self, Malformed> {
        Ok(Self {
            state: model::TaskState::from_wire(p.state)?,
            at: Timestamp(p.at),
            message: p.message,
            err: p.err,
            container_id: p.container_id,
            pid: p.pid,
            exit_code: p.exit_code,
            ports: try_all(p.ports)?,
        })
    }
}

impl From<model::Task> for pb::Task {
    fn from(m: model::Task) -> Self {
        Self {
            id: m.id.to_string(),
            meta: Some(m.meta.into()),
            service_id: m.service_id.to_string(),
            service_name: m.service_name,
            slot: m.slot,
            spec: Some(m.spec.into()),
            spec_version: m.spec_version.0,
            allocation: m.allocation.map(Into::into),
            node_id: text(&m.node_id),
            desired: m.desired.into(),
            status: Some(m.status.into()),
            conditions: into_all(m.conditions),
            start_after: m.start_after.0,
            running_at: m.running_at.0,
            ended_at: m.ended_at.0,
            attached_container: text(&m.attached_container),
        }
    }
}

impl TryFrom<pb::Task> for model::Task {
    type Error = Malformed;

    fn try_from(p: pb::Task) -> Result<Self, Malformed> {
        Ok(Self {
            id: parse("task id", &p.id)?,
            meta: meta(p.meta),
            service_id: parse("task's service id", &p.service_id)?,
            service_name: p.service_name,
            slot: p.slot,
            spec: need("task spec", p.spec)?.try_into()?,
            spec_version: model::Revision(p.spec_version),
            allocation: try_opt(p.allocation)?,
            node_id: parse_opt("task's node id", &p.node_id)?,
            desired: model::TaskState::from_wire(p.desired)?,
            status: try_opt(p.status)?.unwrap_or_default(),
            conditions: into_all(p.conditions),
            start_after: Timestamp(p.start_after),
            running_at: Timestamp(p.running_at),
            ended_at: Timestamp(p.ended_at),
            attached_container: parse_opt("attached_container", &p.attached_container)?,
        })
    }
}
