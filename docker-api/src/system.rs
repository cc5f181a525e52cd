//! What a daemon says of itself.

use std::collections::BTreeMap;

use proto::{
    model::{DRIVERS, Timestamp},
    pb,
};
use serde::{Deserialize, Serialize};

use crate::{json::empty, swarm::ClusterInfo, time, version::ApiVersion};

/// The answer to `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SystemVersion {
    /// Who made it.
    pub platform: PlatformName,
    /// Its parts.
    pub components: Vec<ComponentVersion>,
    /// Its version.
    pub version: String,
    /// The newest version of the API that it speaks.
    pub api_version: String,
    /// The oldest.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// What it was built from.
    pub git_commit: String,
    /// What it was built with; of Go in Docker, and empty here.
    pub go_version: String,
    /// `linux`.
    pub os: String,
    /// As Go calls it: `amd64`, `arm64`.
    pub arch: String,
    /// The kernel's version.
    pub kernel_version: String,
    /// When it was built; not known.
    pub build_time: String,
}

/// Who made a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PlatformName {
    /// The name.
    pub name: String,
}

/// A part of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ComponentVersion {
    /// Its name; clients look for `Engine`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What clients print of it.
    pub details: BTreeMap<String, String>,
}

/// The name that Go, and with it Docker's world, has for an architecture.
pub fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
}

/// `GET /version`.
pub fn version(reply: &pb::VersionReply) -> SystemVersion {
    let (newest, oldest) = (ApiVersion::NEWEST.to_string(), ApiVersion::OLDEST.to_string());
    let arch = go_arch(&reply.arch).to_owned();
    let details = [
        ("ApiVersion", newest.clone()),
        ("Arch", arch.clone()),
        ("BuildTime", String::new()),
        ("Experimental", "false".into()),
        ("GitCommit", reply.git_commit.clone()),
        ("GoVersion", String::new()),
        ("KernelVersion", reply.kernel.clone()),
        ("MinAPIVersion", oldest.clone()),
        ("Os", reply.os.clone()),
    ];
    SystemVersion {
        platform: PlatformName { name: "rn".into() },
        components: vec![ComponentVersion {
            name: "Engine".into(),
            version: reply.version.clone(),
            details: details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }],
        version: reply.version.clone(),
        api_version: newest,
        min_api_version: oldest,
        git_commit: reply.git_commit.clone(),
        go_version: String::new(),
        os: reply.os.clone(),
        arch,
        kernel_version: reply.kernel.clone(),
        build_time: String::new(),
    }
}

/// The answer to `GET /info`. Switches that say what containers may be limited by are true where rn limits it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "one word of Docker's each, printed by `docker info` as it is")]
pub struct SystemInfo {
    #[serde(rename = "ID")]
    pub id: String,
    pub containers: u32,
    pub containers_running: u32,
    pub containers_paused: u32,
    pub containers_stopped: u32,
    pub images: u32,
    pub driver: String,
    pub driver_status: Vec<(String, String)>,
    pub plugins: PluginsInfo,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    pub pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    pub bridge_nf_iptables: bool,
    pub bridge_nf_ip6tables: bool,
    pub debug: bool,
    pub oom_kill_disable: bool,
    #[serde(rename = "NFd")]
    pub n_fd: u32,
    #[serde(rename = "NGoroutines")]
    pub n_goroutines: u32,
    #[serde(rename = "NEventsListener")]
    pub n_events_listener: u32,
    pub system_time: String,
    pub logging_driver: String,
    pub cgroup_driver: String,
    pub cgroup_version: String,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    pub index_server_address: String,
    pub registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    pub n_cpu: u32,
    pub mem_total: u64,
    pub generic_resources: Vec<serde_json::Value>,
    pub docker_root_dir: String,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub name: String,
    pub labels: Vec<String>,
    pub experimental_build: bool,
    pub server_version: String,
    pub runtimes: BTreeMap<String, RuntimeInfo>,
    pub default_runtime: String,
    pub swarm: SwarmInfo,
    pub live_restore_enabled: bool,
    pub isolation: String,
    pub init_binary: String,
    pub containerd_commit: Commit,
    pub runc_commit: Commit,
    pub init_commit: Commit,
    pub security_options: Vec<String>,
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    pub warnings: Vec<String>,
}

/// Drivers by what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "what the type says")]
pub struct PluginsInfo {
    pub volume: Vec<String>,
    pub network: Vec<String>,
    pub authorization: Vec<String>,
    pub log: Vec<String>,
}

/// Registries that are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "what the type says")]
pub struct RegistryConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    pub index_configs: BTreeMap<String, serde_json::Value>,
    pub mirrors: Vec<String>,
}

/// What runs containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeInfo {
    /// The program.
    pub path: String,
}

/// A version of a part that Docker names by its commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The commit.
    #[serde(rename = "ID")]
    pub id: String,
}

/// This node's place in a swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Its id.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Where others reach it.
    pub node_addr: String,
    /// `inactive`, `pending`, `active`, `locked`, `error`.
    pub local_node_state: String,
    /// Whether it is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// Managers that it knows.
    pub remote_managers: Option<Vec<PeerNode>>,
    /// How many nodes there are; managers only.
    #[serde(skip_serializing_if = "empty")]
    pub nodes: u32,
    /// How many of them are managers.
    #[serde(skip_serializing_if = "empty")]
    pub managers: u32,
    /// The swarm; managers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
}

/// A manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeerNode {
    /// Its id.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address and port.
    pub addr: String,
}

/// The cluster in a reply, where it is whole.
fn cluster(reply: &pb::SwarmInfo) -> Option<ClusterInfo> {
    let mut cluster = reply.cluster.clone()?;
    cluster.root_ca.get_or_insert_default();
    Some(ClusterInfo::from(&proto::model::Cluster::try_from(cluster).ok()?))
}

/// `GET /info`; `now` is the machine's clock.
pub fn info(reply: &pb::InfoReply, insecure_registries: &[String], now: Timestamp) -> SystemInfo {
    let swarm = reply.swarm.clone().unwrap_or_default();
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let index = |name: &str, secure: bool| {
        (
            name.to_owned(),
            serde_json::json!({"Name": name, "Mirrors": [], "Secure": secure, "Official": secure}),
        )
    };
    let insecure = insecure_registries.iter().map(|name| index(name, false));
    SystemInfo {
        id: reply.daemon_id.clone(),
        containers: reply.containers,
        containers_running: reply.containers_running,
        containers_stopped: reply.containers.saturating_sub(reply.containers_running),
        images: reply.images,
        driver: "overlayfs".into(),
        plugins: PluginsInfo {
            volume: words(&["local"]),
            network: DRIVERS.iter().map(|row| row.name.to_owned()).collect(),
            authorization: Vec::new(),
            log: words(&["json-file"]),
        },
        memory_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        pids_limit: true,
        ipv4_forwarding: true,
        system_time: time::rfc3339(now),
        logging_driver: "json-file".into(),
        cgroup_driver: "cgroupfs".into(),
        // Docker knows "1" and "2" only; a hybrid host limits by version 1.
        cgroup_version: if reply.cgroup_version == "2" { "2" } else { "1" }.into(),
        kernel_version: reply.kernel.clone(),
        operating_system: reply.os.clone(),
        os_type: "linux".into(),
        architecture: reply.arch.clone(),
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: RegistryConfig {
            insecure_registry_cidrs: words(&["::1/128", "127.0.0.0/8"]),
            index_configs: insecure.chain([index("docker.io", true)]).collect(),
            mirrors: Vec::new(),
        },
        n_cpu: reply.cpus,
        mem_total: reply.memory_bytes,
        docker_root_dir: reply.data_root.clone(),
        name: reply.name.clone(),
        server_version: reply.version.clone(),
        runtimes: BTreeMap::from([("rn-shim".to_owned(), RuntimeInfo { path: "rn-shim".into() })]),
        default_runtime: "rn-shim".into(),
        swarm: SwarmInfo {
            cluster: cluster(&swarm),
            node_id: swarm.node_id,
            node_addr: swarm.node_addr,
            local_node_state: swarm.state,
            control_available: swarm.control_available,
            error: swarm.error,
            remote_managers: (!swarm.remote_managers.is_empty()).then(|| {
                let peer = |m: pb::ManagerAddr| PeerNode { node_id: m.node_id, addr: m.addr };
                swarm.remote_managers.into_iter().map(peer).collect()
            }),
            nodes: swarm.nodes,
            managers: swarm.managers,
        },
        // Containers outlive their daemon.
        live_restore_enabled: true,
        init_binary: "tini".into(),
        security_options: words(&["name=seccomp,profile=builtin"]),
        warnings: reply.warnings.clone(),
        ..SystemInfo::default()
    }
}

/// What `Swarm` says in the head of an answer to a ping.
pub fn swarm_header(swarm: &pb::SwarmInfo) -> String {
    match (swarm.state.as_str(), swarm.control_available) {
        ("active", true) => "active/manager".into(),
        ("active", false) => "active/worker".into(),
        (state, _) => state.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn clients_find_what_they_print() {
        let reply = pb::VersionReply {
            version: "0.1.0".into(),
            arch: "x86_64".into(),
            os: "linux".into(),
            ..Default::default()
        };
        let json = serde_json::to_value(version(&reply)).unwrap();
        assert_eq!(json["Components"][0]["Name"], "Engine");
        assert_eq!(json["Components"][0]["Details"]["Arch"], "amd64");
        assert_eq!(json["MinAPIVersion"], "1.24");
    }

    #[test]
    fn a_node_outside_any_swarm_says_so() {
        let swarm = pb::SwarmInfo { state: "inactive".into(), ..Default::default() };
        assert_eq!(swarm_header(&swarm), "inactive");
        let reply =
            pb::InfoReply { containers: 3, containers_running: 1, swarm: Some(swarm), ..Default::default() };
        let json = serde_json::to_value(info(&reply, &[], Timestamp(0))).unwrap();
        assert_eq!(
            (json["ContainersStopped"].clone(), json["Swarm"]["LocalNodeState"].clone()),
            (2.into(), "inactive".into())
        );
        assert_eq!(json["Swarm"]["RemoteManagers"], serde_json::Value::Null);
        assert!(json["Swarm"].get("Cluster").is_none());
    }
}
