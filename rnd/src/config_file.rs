//! `daemon.json`: rn's own keys, and what dockerd's others mean here.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::LogFormat;

/// The file, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    pub hosts: Option<Vec<String>>,
    pub host: Option<String>,
    pub tls: Option<bool>,
    pub tlsverify: Option<bool>,
    pub tlscacert: Option<PathBuf>,
    pub tlscert: Option<PathBuf>,
    pub tlskey: Option<PathBuf>,
    pub pidfile: Option<PathBuf>,
    pub debug: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<LogFormat>,
    pub labels: Option<Vec<String>>,
    pub swarm_default_advertise_addr: Option<String>,
    pub network_key_rotation: Option<String>,
    pub insecure_registries: Option<Vec<String>>,
    pub unpack_limit: Option<String>,
    pub metrics_addr: Option<SocketAddr>,
    pub listen_timeout: Option<String>,
    pub max_concurrent_starts: Option<usize>,
    pub firewall_compat: Option<bool>,
    pub vxlan_members_only: Option<bool>,
}

/// The keys of [`File`].
const KEYS: [&str; 23] = [
    "data-root",
    "exec-root",
    "hosts",
    "host",
    "tls",
    "tlsverify",
    "tlscacert",
    "tlscert",
    "tlskey",
    "pidfile",
    "debug",
    "log-level",
    "log-format",
    "labels",
    "swarm-default-advertise-addr",
    "network-key-rotation",
    "insecure-registries",
    "unpack-limit",
    "metrics-addr",
    "listen-timeout",
    "max-concurrent-starts",
    "firewall-compat",
    "vxlan-members-only",
];

/// A key of dockerd's: its name, the values (as JSON) that say what is so here in any case, and why others cannot be.
type Foreign = (&'static str, &'static [&'static str], &'static str);

const BRIDGE: &str = "this version of rn has no bridge network for containers";
const PER_REGISTRY: &str = "registries are asked by the names that images have";
const SHIM: &str = "containers are run by rn's own runtime";
const PER_CONTAINER: &str = "say it for each container or service";
const OWN_NAMESPACE: &str = "rn does not map users: say who runs a program with --user";

/// dockerd's other keys (`docs.docker.com`, "dockerd", "Daemon configuration file").
const FOREIGN: &[Foreign] = &[
    ("allow-nondistributable-artifacts", &[], "rn pushes no images' foreign layers"),
    ("authorization-plugins", &[], "plugins cannot be installed in rn"),
    ("bip", &[], BRIDGE),
    ("bip6", &[], BRIDGE),
    ("bridge", &["\"none\""], BRIDGE),
    ("builder", &[], "rn does not build images"),
    ("cdi-spec-dirs", &[], "devices are given to containers by --device"),
    ("cgroup-parent", &[], "containers have their cgroups below rn's own"),
    ("containerd", &[], SHIM),
    ("containerd-namespace", &[], SHIM),
    ("containerd-plugins-namespace", &[], SHIM),
    ("default-address-pools", &[], "pools are the swarm's: rnctl swarm init --default-addr-pool"),
    ("default-cgroupns-mode", &["\"private\""], PER_CONTAINER),
    ("default-gateway", &[], BRIDGE),
    ("default-gateway-v6", &[], BRIDGE),
    ("default-ipc-mode", &["\"private\""], PER_CONTAINER),
    ("default-network-opts", &[], "say options for each network: network create --opt"),
    ("default-runtime", &["\"runc\""], SHIM),
    ("default-shm-size", &["\"64M\"", "\"64m\"", "67108864"], PER_CONTAINER),
    ("default-ulimits", &[], "say them for each container or service: --ulimit"),
    ("dns", &[], "say it for each container or service: --dns"),
    ("dns-opts", &[], "say it for each container or service: --dns-option"),
    ("dns-search", &[], "say it for each container or service: --dns-search"),
    ("exec-opts", &[], "containers' cgroups are rn's own, not systemd's"),
    ("experimental", &["false"], "nothing in rn is switched on by it"),
    ("features", &[], "nothing in rn is switched on by it"),
    ("fixed-cidr", &[], BRIDGE),
    ("fixed-cidr-v6", &[], BRIDGE),
    ("group", &[], "the socket belongs to root: let others in with chgrp, or with tcp:// and certificates"),
    ("host-gateway-ip", &[], BRIDGE),
    ("host-gateway-ips", &[], BRIDGE),
    ("http-proxy", &[], "proxies are set in the daemon's environment: HTTP_PROXY"),
    ("https-proxy", &[], "proxies are set in the daemon's environment: HTTPS_PROXY"),
    ("proxies", &[], "proxies are set in the daemon's environment: HTTPS_PROXY"),
    ("icc", &["true"], "containers on one network reach each other; give them networks of their own"),
    ("init", &["false"], "say it for each container or service: --init"),
    ("init-path", &[], "the init process is rn's own"),
    ("ip", &[], "ports are published on all addresses of the machine"),
    ("ip-forward", &["true"], "published ports need it, and the mesh too"),
    ("ip-forward-no-drop", &["true"], "rn leaves the forward chains' policies alone"),
    ("ip-masq", &["true"], "containers reach other machines by the address of theirs"),
    ("ip6tables", &["true"], "published ports are rules of nftables"),
    ("iptables", &["true"], "published ports are rules of nftables"),
    ("ipv6", &["true"], "each network has both families, unless it says otherwise"),
    ("live-restore", &["true"], "containers always outlive the daemon"),
    ("log-driver", &["\"json-file\""], "rn writes logs to files of the node: json-file"),
    ("log-opts", &[], "say it for each container or service: --log-opt"),
    ("max-concurrent-downloads", &[], "the runtime bounds what it fetches at once by itself"),
    ("max-concurrent-uploads", &[], "the runtime bounds what it sends at once by itself"),
    ("max-download-attempts", &[], "the runtime tries again by itself"),
    ("metrics-address", &[], "the key is metrics-addr"),
    ("min-api-version", &["\"1.24\""], "the oldest version of the API is 1.24"),
    ("mtu", &[], "networks have the MTU that the machine's own line leaves them"),
    ("network-control-plane-mtu", &[], "the gossip keeps below every usual MTU"),
    ("no-new-privileges", &["false"], PER_CONTAINER),
    ("node-generic-resources", &[], "generic resources are not available in this version of rn"),
    ("oom-score-adjust", &["0", "-500"], "it is set where the daemon is started: systemd's OOMScoreAdjust"),
    ("raw-logs", &["true"], "the log has no colours"),
    ("registry-mirrors", &[], PER_REGISTRY),
    ("rootless", &["false"], "rnd runs as root"),
    ("runtimes", &[], SHIM),
    ("seccomp-profile", &[], "the profile is rn's own"),
    ("selinux-enabled", &["false"], "rn sets no labels of SELinux"),
    ("shutdown-timeout", &[], "containers go on when the daemon stops"),
    (
        "storage-driver",
        &["\"overlay2\"", "\"overlayfs\""],
        "layers are joined by the kernel's overlay file system",
    ),
    ("storage-opts", &[], "layers are joined by the kernel's overlay file system"),
    ("userland-proxy", &["false"], "published ports are rules of nftables, without a proxy"),
    ("userland-proxy-path", &[], "published ports are rules of nftables, without a proxy"),
    ("userns-remap", &[], OWN_NAMESPACE),
    ("api-cors-header", &[], "browsers have no business at the API"),
    ("cluster-advertise", &[], "rn's own swarm takes its place: rnctl swarm init"),
    ("cluster-store", &[], "rn's own swarm takes its place: rnctl swarm init"),
    ("cluster-store-opts", &[], "rn's own swarm takes its place: rnctl swarm init"),
    ("cpu-rt-period", &["0"], PER_CONTAINER),
    ("cpu-rt-runtime", &["0"], PER_CONTAINER),
    ("allow-direct-routing", &["false"], "published ports alone are reached from outside"),
    ("bridge-accept-fwmark", &[], BRIDGE),
    ("firewall-backend", &["\"nftables\""], "published ports are rules of nftables"),
];

/// Reads the file.
///
/// # Errors
/// It is no JSON, has a value of a wrong type, or a key that means nothing here: with its line.
pub fn read(text: &str) -> Result<File> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    let keys: Map<String, Value> = serde_json::from_str(text)?;
    for (key, value) in &keys {
        let line = line(text, key);
        if KEYS.contains(&key.as_str()) {
            continue;
        }
        let Some((_, as_it_is, why)) = FOREIGN.iter().find(|(name, ..)| name == key) else {
            bail!("line {line}: unknown key {key:?}");
        };
        let says_nothing = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(values) => values.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if !says_nothing && !as_it_is.contains(&value.to_string().as_str()) {
            bail!("line {line}: {key}: {value} is not possible in rn: {why}");
        }
    }
    // From the text, not from what was read above: errors say their line.
    serde_json::from_str(text).context("a value that cannot be")
}

/// The line that a key of the outermost object is on; 1 where it is written with escapes.
fn line(text: &str, key: &str) -> usize {
    let quoted = format!("\"{key}\"");
    let starts = text.match_indices(&quoted).map(|(at, _)| at);
    let mut keys = starts.filter(|at| text[at + quoted.len()..].trim_start().starts_with(':'));
    1 + keys.next().map_or(0, |at| text[..at].matches('\n').count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_key_is_read_once() {
        for key in KEYS {
            // A value that fits no field: it is refused for its type, so the field is there.
            let error = read(&format!("{{\"{key}\": {{}}}}")).unwrap_err();
            let text = format!("{error:#}");
            assert!(["invalid type", "expected value"].iter().any(|w| text.contains(w)), "{key}: {text}");
        }
        for (key, ..) in FOREIGN {
            assert!(!KEYS.contains(key) && FOREIGN.iter().filter(|(k, ..)| k == key).count() == 1, "{key}");
        }
    }

    #[test]
    fn what_dockerd_knows_is_taken_where_it_is_so_and_refused_by_name_elsewhere() {
        read(r#"{"live-restore": true, "storage-driver": "overlay2", "bip": "", "log-opts": {}, "userland-proxy": false}"#)
            .unwrap();
        for (text, words) in [
            (
                "{\n  \"labels\": [],\n  \"bip\": \"10.0.0.1/24\"\n}",
                "line 3: bip: \"10.0.0.1/24\" is not possible in rn",
            ),
            ("{\"live-restore\": false}", "containers always outlive"),
            ("{\n\"data-rot\" : 1}", "line 2: unknown key \"data-rot\""),
            ("{\"debug\": \"yes\"}", "line 1"),
            ("{\n\n\"labels\": 7}", "line 3"),
            ("{", "EOF"),
            ("[]", "invalid type"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(read(" \n").is_ok());
    }
}
