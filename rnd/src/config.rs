//! Settings: flags as dockerd's, and `daemon.json` with the same names as keys.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use manager::{api::validate::cluster::Limits, keys::ROTATION};
use node::tasks::LISTEN_TIMEOUT;
use proto::model::Millis;
use runtime::UnpackLimit;
use serde::Deserialize;

use crate::{
    config_file::{self, File},
    host::{self, Host, Listen, TlsFiles},
};

/// Where settings are looked for without `--config-file`; may be missing.
const CONFIG_FILE: &str = "/etc/rn/daemon.json";

/// Where certificates of the API on TCP are looked for that no setting names.
const CERTIFICATES: &str = "/etc/rn";

/// The rn daemon.
///
/// Runs containers and their networks on this machine and, in a swarm, its share of the services. Talk to it with rnctl.
#[derive(Debug, Default, Parser)]
#[command(name = "rnd", version)]
pub struct Flags {
    /// Settings as JSON; keys are the names of the flags [default: /etc/rn/daemon.json]
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// What must survive a reboot: images, containers, swarm state [default: /var/lib/rn]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// What need not: sockets, network namespaces, container state [default: /run/rn]
    #[arg(long, value_name = "DIR")]
    pub exec_root: Option<PathBuf>,
    /// Where to listen; may be repeated [default: unix:///run/rn/rn.sock]
    #[arg(short = 'H', long = "host", value_name = "unix://PATH|tcp://ADDRESS[:PORT]")]
    pub hosts: Vec<String>,
    /// Use TLS on tcp:// hosts; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// Use TLS on tcp:// hosts, and let in only clients with a certificate of the authority
    #[arg(long)]
    pub tlsverify: bool,
    /// The authority of clients' certificates [default: /etc/rn/ca.pem]
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// The daemon's certificate on tcp:// hosts [default: /etc/rn/cert.pem]
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// Its key [default: /etc/rn/key.pem]
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// Write the process id here
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// As --log-level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// error, warn, info, debug or trace, or a tracing filter [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Engine labels, for constraints on engine.labels
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Advertise address of swarm init and swarm join when they name none
    #[arg(long, value_name = "IP|INTERFACE")]
    pub swarm_default_advertise_addr: Option<String>,
    /// How often a manager that leads makes new keys for gossip and encrypted networks [default: 12h]
    #[arg(long, value_name = "DURATION")]
    pub network_key_rotation: Option<String>,
    /// Shortest --cert-expiry; below an hour for tests only
    #[arg(long, value_name = "DURATION", hide = true, default_value = "1h")]
    pub min_cert_expiry: String,
    /// Registry that may be spoken to without TLS, besides those on loopback addresses; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]|SUBNET")]
    pub insecure_registries: Vec<String>,
    /// Most that one layer, image archive or import may unpack to: bytes (20g), or a share of the space that is free below the data
    /// root when it begins [default: 90%]
    #[arg(long, value_name = "SIZE|PERCENT")]
    pub unpack_limit: Option<String>,
    /// Serve metrics for Prometheus here, at /metrics
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_addr: Option<SocketAddr>,
    /// How long a task without a health check may take to listen on its published ports, or on one that its image exposes, before it
    /// counts as ready all the same; 0s = it is ready once started [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub listen_timeout: Option<String>,
    /// Tasks of the swarm whose containers this node makes and starts at once; the others wait their turn. Pulling images is not
    /// counted [default: two for each core]
    #[arg(long, value_name = "NUMBER")]
    pub max_concurrent_starts: Option<usize>,
    /// Let traffic of tasks through forward chains of other firewalls (ufw, firewalld, dockerd) that drop what they do not know
    /// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub firewall_compat: Option<bool>,
    /// Take VXLAN from the data-path addresses of the swarm's members only, not from whoever reaches its port [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub vxlan_members_only: Option<bool>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What must survive a reboot.
    pub data_root: PathBuf,
    /// What need not.
    pub exec_root: PathBuf,
    /// Where to listen: a socket of the file system at least, the first of which is what others are told of.
    pub hosts: Vec<Listen>,
    /// Where to write the process id.
    pub pidfile: Option<PathBuf>,
    /// A tracing filter.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Engine labels.
    pub labels: BTreeMap<String, String>,
    /// Advertise address when a command names none.
    pub default_advertise_addr: Option<String>,
    /// Time between rotations of the network keys.
    pub network_key_rotation: Millis,
    /// Shortest life of certificates that may be asked for.
    pub min_cert_expiry: Millis,
    /// Registries, `host[:port]`, and subnets that may be spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Most that one layer, image archive or import may unpack to.
    pub unpack_limit: UnpackLimit,
    /// Where metrics are served.
    pub metrics_addr: Option<SocketAddr>,
    /// How long a task without a health check may take to listen; zero = no time.
    pub listen_timeout: Millis,
    /// Tasks that are started at once; none: by the machine's cores.
    pub max_concurrent_starts: Option<usize>,
    /// Other firewalls' forward chains are opened for tasks.
    pub firewall_compat: bool,
    /// VXLAN is taken from members only.
    pub vxlan_members_only: bool,
}

impl Config {
    /// Flags and file together. A setting in both is refused, as dockerd does.
    pub fn load(flags: Flags) -> Result<Self> {
        let path = flags.config_file.clone().unwrap_or_else(|| CONFIG_FILE.into());
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => {
                config_file::read(&text).with_context(|| format!("configuration file {}", path.display()))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && flags.config_file.is_none() => File::default(),
            Err(e) => return Err(e).with_context(|| format!("configuration file {}", path.display())),
        };
        Self::merge(flags, file)
    }

    fn merge(flags: Flags, file: File) -> Result<Self> {
        let mut twice = Vec::new();
        let mut one = |name: &str, flag: bool, in_file: bool| {
            if flag && in_file {
                twice.push(name.to_owned());
            }
        };
        let hosts = match (file.host, file.hosts) {
            (Some(_), Some(_)) => bail!("configuration file: give `hosts` or `host`, not both"),
            (host, None) => host.into_iter().collect(),
            (None, Some(hosts)) => hosts,
        };
        one("data-root", flags.data_root.is_some(), file.data_root.is_some());
        one("exec-root", flags.exec_root.is_some(), file.exec_root.is_some());
        one("hosts", !flags.hosts.is_empty(), !hosts.is_empty());
        one("tls", flags.tls, file.tls.is_some());
        one("tlsverify", flags.tlsverify, file.tlsverify.is_some());
        one("tlscacert", flags.tlscacert.is_some(), file.tlscacert.is_some());
        one("tlscert", flags.tlscert.is_some(), file.tlscert.is_some());
        one("tlskey", flags.tlskey.is_some(), file.tlskey.is_some());
        one("debug", flags.debug, file.debug.is_some());
        one("labels", !flags.labels.is_empty(), file.labels.is_some());
        one("insecure-registries", !flags.insecure_registries.is_empty(), file.insecure_registries.is_some());
        one("pidfile", flags.pidfile.is_some(), file.pidfile.is_some());
        one("log-level", flags.log_level.is_some(), file.log_level.is_some());
        one("log-format", flags.log_format.is_some(), file.log_format.is_some());
        let advertise = file.swarm_default_advertise_addr.is_some();
        let rotation = file.network_key_rotation.is_some();
        one("network-key-rotation", flags.network_key_rotation.is_some(), rotation);
        one("swarm-default-advertise-addr", flags.swarm_default_advertise_addr.is_some(), advertise);
        one("unpack-limit", flags.unpack_limit.is_some(), file.unpack_limit.is_some());
        one("metrics-addr", flags.metrics_addr.is_some(), file.metrics_addr.is_some());
        one("listen-timeout", flags.listen_timeout.is_some(), file.listen_timeout.is_some());
        let starts = file.max_concurrent_starts.is_some();
        one("max-concurrent-starts", flags.max_concurrent_starts.is_some(), starts);
        one("firewall-compat", flags.firewall_compat.is_some(), file.firewall_compat.is_some());
        one("vxlan-members-only", flags.vxlan_members_only.is_some(), file.vxlan_members_only.is_some());
        if !twice.is_empty() {
            bail!(
                "set both as a flag and in the configuration file: {}; remove one of the two",
                twice.join(", ")
            );
        }
        let exec_root = flags.exec_root.or(file.exec_root).unwrap_or_else(|| "/run/rn".into());
        let verify = flags.tlsverify || file.tlsverify.unwrap_or(false);
        let ca = flags.tlscacert.or(file.tlscacert);
        let (cert, key) = (flags.tlscert.or(file.tlscert), flags.tlskey.or(file.tlskey));
        let tls = match verify || flags.tls || file.tls.unwrap_or(false) {
            true => Some(TlsFiles {
                ca: verify.then(|| ca.unwrap_or_else(|| Path::new(CERTIFICATES).join("ca.pem"))),
                cert: cert.unwrap_or_else(|| Path::new(CERTIFICATES).join("cert.pem")),
                key: key.unwrap_or_else(|| Path::new(CERTIFICATES).join("key.pem")),
            }),
            false if ca.or(cert).or(key).is_some() => {
                bail!(
                    "tlscacert, tlscert and tlskey are used with --tls or --tlsverify only: give one of these too"
                )
            }
            false => None,
        };
        let hosts = if flags.hosts.is_empty() { hosts } else { flags.hosts };
        let mut hosts: Vec<Host> = hosts.iter().map(|h| h.parse()).collect::<Result<_>>()?;
        // Whoever listens on TCP is to be reached on the machine itself all the same.
        if !hosts.iter().any(|h| matches!(h, Host::Unix(_))) {
            hosts.insert(0, Host::Unix(exec_root.join("rn.sock")));
        }
        let debug = flags.debug || file.debug.unwrap_or(false);
        let labels = flags.labels.into_iter().chain(file.labels.unwrap_or_default());
        let labels = labels
            .map(|l| match l.split_once('=') {
                Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
                _ => bail!("label {l:?} is not of the form key=value"),
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            data_root: absolute(flags.data_root.or(file.data_root).unwrap_or_else(|| "/var/lib/rn".into()))?,
            exec_root: absolute(exec_root)?,
            hosts: host::listen(&hosts, tls.as_ref())?,
            pidfile: flags.pidfile.or(file.pidfile),
            log_level: Some("debug".to_owned())
                .filter(|_| debug)
                .or(flags.log_level)
                .or(file.log_level)
                .unwrap_or_else(|| "info".into()),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            labels,
            default_advertise_addr: flags.swarm_default_advertise_addr.or(file.swarm_default_advertise_addr),
            network_key_rotation: match flags.network_key_rotation.or(file.network_key_rotation) {
                Some(text) => duration("network-key-rotation", &text)?,
                None => ROTATION,
            },
            min_cert_expiry: match flags.min_cert_expiry.as_str() {
                "" => Limits::default().min_cert_expiry,
                text => duration("min-cert-expiry", text)?,
            },
            insecure_registries: flags
                .insecure_registries
                .into_iter()
                .chain(file.insecure_registries.unwrap_or_default())
                .collect(),
            unpack_limit: match flags.unpack_limit.or(file.unpack_limit) {
                Some(text) => text.parse().map_err(|e: String| anyhow::anyhow!("unpack-limit {e}"))?,
                None => UnpackLimit::default(),
            },
            metrics_addr: flags.metrics_addr.or(file.metrics_addr),
            listen_timeout: match flags.listen_timeout.or(file.listen_timeout).as_deref() {
                Some(text) => proto::parse::duration::millis(text)
                    .map_err(|why| anyhow::anyhow!("listen-timeout: {why}"))?,
                None => Millis(LISTEN_TIMEOUT.as_millis().try_into()?),
            },
            max_concurrent_starts: match flags.max_concurrent_starts.or(file.max_concurrent_starts) {
                Some(0) => bail!(
                    "max-concurrent-starts 0: no task would ever start; give 1 or more, or leave it out"
                ),
                starts => starts,
            },
            firewall_compat: flags.firewall_compat.or(file.firewall_compat).unwrap_or(true),
            vxlan_members_only: flags.vxlan_members_only.or(file.vxlan_members_only).unwrap_or(true),
        })
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("path {}", path.display()))
}

/// `12h`, `90m`, `30s`, `500ms`; more than nothing.
fn duration(setting: &str, text: &str) -> Result<Millis> {
    match proto::parse::duration::millis(text) {
        Ok(span) if span > Millis(0) => Ok(span),
        Ok(_) => bail!("{setting} {text:?}: it must be more than nothing, for instance 12h"),
        Err(why) => bail!("{setting}: {why}"),
    }
}

/// What a fuzz target, and its small version here, gives to the file's reader.
#[cfg(any(test, fuzzing))]
pub fn fuzzed(bytes: &[u8]) {
    if let Ok(file) = config_file::read(&String::from_utf8_lossy(bytes)) {
        let _ = Config::merge(Flags::default(), file);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn merge(flags: Flags, file: &str) -> Result<Config> {
        Config::merge(flags, config_file::read(file)?)
    }

    #[test]
    fn whatever_the_file_says_is_taken_or_refused() {
        let seed = r#"{"data-root": "/x", "hosts": ["unix:///a"], "labels": ["a=b"], "network-key-rotation": "12h",
            "metrics-addr": "127.0.0.1:9", "insecure-registries": ["10.0.0.0/8"], "firewall-compat": true}"#;
        smoke::smoke([seed], 5000, fuzzed);
    }

    #[test]
    fn defaults_are_those_of_one_daemon_per_machine() {
        let config = merge(Flags::default(), "{}").unwrap();
        assert_eq!(config.data_root, PathBuf::from("/var/lib/rn"));
        assert_eq!(config.hosts, [Listen::Unix("/run/rn/rn.sock".into())]);
    }

    #[test]
    fn hosts_and_certificates_are_dockerds() {
        let file =
            r#"{"hosts": ["unix:///a", "unix:///b", "tcp://10.0.0.1"], "tlsverify": true, "debug": true}"#;
        let config = merge(Flags::default(), file).unwrap();
        let tls = TlsFiles {
            ca: Some("/etc/rn/ca.pem".into()),
            cert: "/etc/rn/cert.pem".into(),
            key: "/etc/rn/key.pem".into(),
        };
        let tcp = Listen::Tcp("10.0.0.1:2376".parse().unwrap(), Some(tls));
        assert_eq!(config.hosts, [Listen::Unix("/a".into()), Listen::Unix("/b".into()), tcp]);
        assert_eq!(config.log_level, "debug");
        let flags = Flags { hosts: vec!["tcp://127.0.0.1:7".into()], ..Flags::default() };
        let config = merge(flags, "{}").unwrap();
        assert_eq!(config.hosts[0], Listen::Unix("/run/rn/rn.sock".into()));
        assert!(config.hosts[1].is_open());
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = merge(Flags::default(), r#"{"data-rot": "/x"}"#).unwrap_err();
        assert!(unknown.to_string().contains("data-rot"), "{unknown}");
        let flags = Flags { data_root: Some("/a".into()), ..Flags::default() };
        let twice = merge(flags, r#"{"data-root": "/b"}"#).unwrap_err();
        assert!(twice.to_string().contains("data-root"), "{twice}");
        let flags = Flags { hosts: vec!["tcp://0.0.0.0:1".into()], ..Flags::default() };
        assert!(merge(flags, "{}").unwrap_err().to_string().contains("has no TLS"));
        let flags = Flags { hosts: vec!["unix:///a".into()], ..Flags::default() };
        assert!(merge(flags, r#"{"hosts": ["unix:///b"]}"#).unwrap_err().to_string().contains("hosts"));
        let labels = Flags { labels: vec!["a=b".into()], ..Flags::default() };
        assert!(merge(labels, r#"{"labels": ["c=d"]}"#).unwrap_err().to_string().contains("labels"));
        let alone = merge(Flags::default(), r#"{"tlscert": "/x"}"#).unwrap_err();
        assert!(alone.to_string().contains("--tlsverify"), "{alone}");
        let flags = Flags { labels: vec!["x".into()], ..Flags::default() };
        assert!(merge(flags, "{}").is_err());
        let rotation =
            |text: &str| merge(Flags::default(), &format!(r#"{{"network-key-rotation": "{text}"}}"#));
        assert_eq!(rotation("90s").unwrap().network_key_rotation, Millis::secs(90));
        let starts = merge(Flags::default(), r#"{"max-concurrent-starts": 0}"#).unwrap_err();
        assert!(starts.to_string().contains("1 or more"), "{starts}");
        assert!(rotation("0s").is_err() && rotation("soon").is_err());
        let listen = |text: &str| merge(Flags::default(), &format!(r#"{{"listen-timeout": "{text}"}}"#));
        assert_eq!(merge(Flags::default(), "{}").unwrap().listen_timeout, Millis::secs(10));
        for none in ["0", "0s", "0ms"] {
            assert_eq!(listen(none).unwrap().listen_timeout, Millis(0));
        }
        assert_eq!(listen("1m").unwrap().listen_timeout, Millis::secs(60));
        assert!(listen("soon").unwrap_err().to_string().contains("listen-timeout"));
    }
}
