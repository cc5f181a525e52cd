//! What runs in the tasks of a service.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{error::ApiError, model};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    file_reference::{ConfigReference, SecretReference},
    json::{empty, means_something},
    mount::Mount,
    time,
};

/// What runs in a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerSpec {
    /// The image.
    #[serde(skip_serializing_if = "empty")]
    pub image: String,
    /// Labels of the container.
    #[serde(skip_serializing_if = "empty")]
    pub labels: BTreeMap<String, String>,
    /// In place of the image's entry point.
    #[serde(skip_serializing_if = "empty")]
    pub command: Vec<String>,
    /// In place of the image's command.
    #[serde(skip_serializing_if = "empty")]
    pub args: Vec<String>,
    /// Host name.
    #[serde(skip_serializing_if = "empty")]
    pub hostname: String,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "empty")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "empty")]
    pub dir: String,
    /// User.
    #[serde(skip_serializing_if = "empty")]
    pub user: String,
    /// Further groups.
    #[serde(skip_serializing_if = "empty")]
    pub groups: Vec<String>,
    /// SELinux, AppArmor, seccomp. Refused.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub privileges: Value,
    /// With an init process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// The signal to stop it by.
    #[serde(skip_serializing_if = "empty")]
    pub stop_signal: String,
    /// With a terminal.
    #[serde(rename = "TTY", skip_serializing_if = "empty")]
    pub tty: bool,
    /// Standard input stays open.
    #[serde(skip_serializing_if = "empty")]
    pub open_stdin: bool,
    /// The root file system is not to be written.
    #[serde(skip_serializing_if = "empty")]
    pub read_only: bool,
    /// Mounts.
    #[serde(skip_serializing_if = "empty")]
    pub mounts: Vec<Mount>,
    /// How long it may take to stop, nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<i64>,
    /// How its health is found out. The description of the API spells it otherwise than its clients.
    #[serde(alias = "HealthCheck", skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Lines of /etc/hosts.
    #[serde(skip_serializing_if = "empty")]
    pub hosts: Vec<String>,
    /// Its resolver.
    #[serde(rename = "DNSConfig", skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    /// Secrets.
    #[serde(skip_serializing_if = "empty")]
    pub secrets: Vec<SecretReference>,
    /// Configs.
    #[serde(skip_serializing_if = "empty")]
    pub configs: Vec<ConfigReference>,
    /// Of Windows.
    #[serde(skip_serializing_if = "empty")]
    pub isolation: String,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities beyond the usual.
    #[serde(skip_serializing_if = "empty")]
    pub capability_add: Vec<String>,
    /// Usual capabilities that it does not get.
    #[serde(skip_serializing_if = "empty")]
    pub capability_drop: Vec<String>,
    /// Limits of its processes.
    #[serde(skip_serializing_if = "empty")]
    pub ulimits: Vec<Ulimit>,
    /// Who is killed first without memory. Refused.
    #[serde(skip_serializing_if = "empty")]
    pub oom_score_adj: i64,
}

/// How health is found out. Times are nanoseconds; 0 = as the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["CMD", …]`, `["CMD-SHELL", "…"]`, `["NONE"]`; empty = as the image says.
    #[serde(skip_serializing_if = "empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "empty")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "empty")]
    pub timeout: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "empty")]
    pub retries: i64,
    /// At the begin, in which failures do not count.
    #[serde(skip_serializing_if = "empty")]
    pub start_period: i64,
    /// Between two checks in that time.
    #[serde(skip_serializing_if = "empty")]
    pub start_interval: i64,
}

/// A resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DnsConfig {
    /// Servers.
    #[serde(skip_serializing_if = "empty")]
    pub nameservers: Vec<String>,
    /// Domains that short names are looked up in.
    #[serde(skip_serializing_if = "empty")]
    pub search: Vec<String>,
    /// Options of resolv.conf.
    #[serde(skip_serializing_if = "empty")]
    pub options: Vec<String>,
}

/// A limit of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile`, …
    pub name: String,
    /// The highest that it can be raised to.
    pub hard: i64,
    /// Now.
    pub soft: i64,
}

impl TryFrom<HealthConfig> for model::Healthcheck {
    type Error = ApiError;

    fn try_from(h: HealthConfig) -> Result<Self, ApiError> {
        Ok(Self {
            test: h.test,
            interval: time::span("Healthcheck.Interval", h.interval)?,
            timeout: time::span("Healthcheck.Timeout", h.timeout)?,
            retries: u32::try_from(h.retries)
                .map_err(|_| ApiError::invalid(format!("Healthcheck.Retries cannot be {}", h.retries)))?,
            start_period: time::span("Healthcheck.StartPeriod", h.start_period)?,
            start_interval: time::span("Healthcheck.StartInterval", h.start_interval)?,
        })
    }
}

impl From<&model::Healthcheck> for HealthConfig {
    fn from(h: &model::Healthcheck) -> Self {
        Self {
            test: h.test.clone(),
            interval: time::nanos(h.interval),
            timeout: time::nanos(h.timeout),
            retries: i64::from(h.retries),
            start_period: time::nanos(h.start_period),
            start_interval: time::nanos(h.start_interval),
        }
    }
}

impl TryFrom<DnsConfig> for model::DnsConfig {
    type Error = ApiError;

    fn try_from(dns: DnsConfig) -> Result<Self, ApiError> {
        let server = |text: &String| {
            text.parse::<IpAddr>()
                .map_err(|_| ApiError::invalid(format!("invalid IP address in DNSConfig: {text:?}")))
        };
        Ok(Self {
            nameservers: dns.nameservers.iter().map(server).collect::<Result<_, _>>()?,
            search: dns.search,
            options: dns.options,
        })
    }
}

impl TryFrom<ContainerSpec> for model::ContainerSpec {
    type Error = ApiError;

    fn try_from(spec: ContainerSpec) -> Result<Self, ApiError> {
        let not_here = [
            ("Privileges", means_something(&spec.privileges)),
            ("OomScoreAdj", spec.oom_score_adj != 0),
            ("Isolation", !matches!(spec.isolation.as_str(), "" | "default")),
        ];
        if let Some((name, _)) = not_here.iter().find(|(_, asked)| *asked) {
            return Err(ApiError::unsupported(format!(
                "ContainerSpec.{name} is not available in this version of rn"
            )));
        }
        let healthcheck = spec.healthcheck.filter(|h| *h != HealthConfig::default());
        let grace = |nanos| time::span("ContainerSpec.StopGracePeriod", nanos);
        Ok(Self {
            image: spec.image,
            command: spec.command,
            args: spec.args,
            env: spec.env,
            dir: spec.dir,
            user: spec.user,
            groups: spec.groups,
            hostname: spec.hostname,
            labels: spec.labels,
            mounts: spec.mounts.into_iter().map(model::Mount::try_from).collect::<Result<_, _>>()?,
            stop_signal: spec.stop_signal,
            stop_grace_period: spec.stop_grace_period.map(grace).transpose()?,
            tty: spec.tty,
            read_only: spec.read_only,
            init: spec.init,
            cap_add: spec.capability_add,
            cap_drop: spec.capability_drop,
            hosts: spec.hosts,
            dns: spec.dns_config.unwrap_or_default().try_into()?,
            healthcheck: healthcheck.map(model::Healthcheck::try_from).transpose()?,
            sysctls: spec.sysctls,
            ulimits: spec
                .ulimits
                .into_iter()
                .map(|u| model::Ulimit { name: u.name, soft: u.soft, hard: u.hard })
                .collect(),
            pull_auth: None,
            open_stdin: spec.open_stdin,
            stdin_once: false,
            log_driver: None,
            secrets: spec.secrets.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            configs: spec.configs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&model::ContainerSpec> for ContainerSpec {
    fn from(spec: &model::ContainerSpec) -> Self {
        let dns = DnsConfig {
            nameservers: spec.dns.nameservers.iter().map(ToString::to_string).collect(),
            search: spec.dns.search.clone(),
            options: spec.dns.options.clone(),
        };
        Self {
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            hostname: spec.hostname.clone(),
            env: spec.env.clone(),
            dir: spec.dir.clone(),
            user: spec.user.clone(),
            groups: spec.groups.clone(),
            privileges: Value::Null,
            init: spec.init,
            stop_signal: spec.stop_signal.clone(),
            tty: spec.tty,
            open_stdin: spec.open_stdin,
            read_only: spec.read_only,
            mounts: spec.mounts.iter().map(Mount::from).collect(),
            stop_grace_period: spec.stop_grace_period.map(time::nanos),
            healthcheck: spec.healthcheck.as_ref().map(HealthConfig::from),
            hosts: spec.hosts.clone(),
            dns_config: Some(dns),
            secrets: spec.secrets.iter().map(Into::into).collect(),
            configs: spec.configs.iter().map(Into::into).collect(),
            isolation: "default".into(),
            sysctls: spec.sysctls.clone(),
            capability_add: spec.cap_add.clone(),
            capability_drop: spec.cap_drop.clone(),
            ulimits: spec
                .ulimits
                .iter()
                .map(|u| Ulimit { name: u.name.clone(), hard: u.hard, soft: u.soft })
                .collect(),
            oom_score_adj: 0,
        }
    }
}
