//! The cluster and the daemon.

use proto::{
    model::Cluster,
    pb::{InfoReply, SwarmInfo, VersionReply},
};
use serde_json::{Value, json};

use super::{Object, nanos, strings, with_meta};
use crate::output::{listing::Row, time, units};

/// `ClusterInfo`.
pub fn inspect(cluster: &Cluster) -> Value {
    let spec = &cluster.spec;
    let object = with_meta(Object::default().with("ID", cluster.id.as_str()), &cluster.meta).with(
        "Spec",
        Object::default()
            .with("Name", spec.name.as_str())
            .with("Labels", strings(&spec.labels))
            .with("Orchestration", json!({"TaskHistoryRetentionLimit": spec.task_history_limit}))
            .with(
                "Raft",
                json!({
                    "SnapshotInterval": spec.snapshot_interval,
                    "KeepOldSnapshots": spec.keep_old_snapshots,
                    "LogEntriesForSlowFollowers": spec.log_entries_for_slow_followers,
                    "HeartbeatTick": spec.heartbeat_tick,
                    "ElectionTick": spec.election_tick,
                }),
            )
            .with("Dispatcher", json!({"HeartbeatPeriod": nanos(spec.dispatcher_heartbeat)}))
            .with("CAConfig", json!({"NodeCertExpiry": nanos(spec.cert_expiry)}))
            .with("EncryptionConfig", json!({"AutoLockManagers": spec.autolock})),
    );
    object
        .with("TLSInfo", json!({"TrustRoot": cluster.root_ca.cert_pem}))
        .with("RootRotationInProgress", cluster.root_ca.rotation.is_some())
        .with(
            "DefaultAddrPool",
            cluster.default_addr_pools.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
        .with("SubnetSize", cluster.subnet_size)
        .with("ULAPrefix", cluster.ula_prefix.to_string())
        .with("DataPathPort", cluster.data_path_port)
        .into()
}

/// `info --format`.
pub fn info(info: &InfoReply, cluster: Option<&Cluster>) -> Row {
    Object::default()
        .with("ID", info.daemon_id.as_str())
        .with("Containers", info.containers)
        .with("ContainersRunning", info.containers_running)
        .with("ContainersStopped", info.containers.saturating_sub(info.containers_running))
        .with("Images", info.images)
        .with("Name", info.name.as_str())
        .with("ServerVersion", info.version.as_str())
        .with("KernelVersion", info.kernel.as_str())
        .with("OSType", "linux")
        .with("OperatingSystem", info.os.as_str())
        .with("Architecture", info.arch.as_str())
        .with("NCPU", info.cpus)
        .with("MemTotal", info.memory_bytes)
        .with("DockerRootDir", info.data_root.as_str())
        .with("CgroupVersion", info.cgroup_version.as_str())
        .with("Swarm", info.swarm.as_ref().map_or(Value::Null, |s| swarm(s, cluster)))
        .with("Warnings", info.warnings.clone())
        .build()
}

fn swarm(swarm: &SwarmInfo, cluster: Option<&Cluster>) -> Value {
    let managers: Vec<Value> =
        swarm.remote_managers.iter().map(|m| json!({"NodeID": m.node_id, "Addr": m.addr})).collect();
    Object::default()
        .with("NodeID", swarm.node_id.as_str())
        .with("NodeAddr", swarm.node_addr.as_str())
        .with("LocalNodeState", swarm.state.as_str())
        .with("ControlAvailable", swarm.control_available)
        .with("Error", swarm.error.as_str())
        .with("RemoteManagers", managers)
        .some("Nodes", swarm.nodes)
        .some("Managers", swarm.managers)
        .some("DataPathAddr", swarm.data_path_addr.as_str())
        .some("VXLANFrom", swarm.vxlan_from.as_str())
        .some("Cluster", cluster.map_or(Value::Null, inspect))
        .into()
}

/// `info`: the text. Warnings go to standard error, so they are not in it.
pub fn info_text(info: &InfoReply, cluster: Option<&Cluster>, client: &str) -> String {
    let mut text = String::new();
    let mut put = |indent: usize, name: &str, value: &str| {
        let end = if value.is_empty() { String::new() } else { format!(" {value}") };
        text.push_str(&format!("{}{name}:{end}\n", " ".repeat(indent)));
    };
    put(0, "Client", "");
    put(1, "Version", client);
    put(0, "\nServer", "");
    put(1, "Containers", &info.containers.to_string());
    put(2, "Running", &info.containers_running.to_string());
    put(2, "Stopped", &info.containers.saturating_sub(info.containers_running).to_string());
    put(1, "Images", &info.images.to_string());
    put(1, "Server Version", &info.version);
    put(1, "Cgroup Version", &info.cgroup_version);
    let swarm = info.swarm.clone().unwrap_or_default();
    put(1, "Swarm", if swarm.state.is_empty() { "inactive" } else { &swarm.state });
    if !matches!(swarm.state.as_str(), "" | "inactive") {
        put(2, "NodeID", &swarm.node_id);
        if !swarm.error.is_empty() {
            put(2, "Error", &swarm.error);
        }
        put(2, "Is Manager", &swarm.control_available.to_string());
        if swarm.control_available {
            put(2, "ClusterID", &swarm.cluster_id);
            put(2, "Managers", &swarm.managers.to_string());
            put(2, "Nodes", &swarm.nodes.to_string());
        }
        if let Some(cluster) = cluster {
            cluster_text(cluster, &mut put);
        }
        put(2, "Node Address", &swarm.node_addr);
        if !swarm.data_path_addr.is_empty() && swarm.data_path_addr != swarm.node_addr {
            put(2, "Data Path Address", &swarm.data_path_addr);
        }
        if !swarm.vxlan_from.is_empty() {
            put(2, "VXLAN From", &swarm.vxlan_from);
        }
        let mut managers: Vec<&str> = swarm.remote_managers.iter().map(|m| m.addr.as_str()).collect();
        managers.sort_unstable();
        if !managers.is_empty() {
            put(2, "Manager Addresses", "");
            for addr in managers {
                text.push_str(&format!("   {addr}\n"));
            }
        }
    }
    let mut put = |name: &str, value: &str| text.push_str(&format!(" {name}: {value}\n"));
    put("Kernel Version", &info.kernel);
    put("Operating System", &info.os);
    put("OSType", "linux");
    put("Architecture", &info.arch);
    put("CPUs", &info.cpus.to_string());
    put("Total Memory", &units::binary(info.memory_bytes));
    put("Name", &info.name);
    put("ID", &info.daemon_id);
    put("Data Root Dir", &info.data_root);
    text
}

fn cluster_text(cluster: &Cluster, put: &mut impl FnMut(usize, &str, &str)) {
    let spec = &cluster.spec;
    let pools: Vec<String> = cluster.default_addr_pools.iter().map(ToString::to_string).collect();
    put(2, "Default Address Pool", &pools.join("  "));
    put(2, "SubnetSize", &cluster.subnet_size.to_string());
    put(2, "IPv6 Prefix", &cluster.ula_prefix.to_string());
    put(2, "Data Path Port", &cluster.data_path_port.to_string());
    put(2, "Orchestration", "");
    put(3, "Task History Retention Limit", &spec.task_history_limit.to_string());
    put(2, "Raft", "");
    put(3, "Snapshot Interval", &spec.snapshot_interval.to_string());
    put(3, "Number of Old Snapshots to Retain", &spec.keep_old_snapshots.to_string());
    put(3, "Heartbeat Tick", &format!("{} ms", spec.heartbeat_tick));
    put(3, "Election Tick", &format!("{} ms", spec.election_tick));
    put(2, "Dispatcher", "");
    put(3, "Heartbeat Period", &time::span(spec.dispatcher_heartbeat.0).to_lowercase());
    put(2, "CA Configuration", "");
    put(3, "Expiry Duration", &time::span(spec.cert_expiry.0).to_lowercase());
    put(3, "Force Rotate", "0");
    put(2, "Autolock Managers", &spec.autolock.to_string());
    put(2, "Root Rotation In Progress", "false");
}

/// `version --format`.
pub fn version(client: &VersionReply, server: Option<&VersionReply>) -> Row {
    let side = |v: &VersionReply| {
        Value::from(
            Object::default()
                .with("Version", v.version.as_str())
                .some("ApiVersion", v.api_version.as_str())
                .with("GitCommit", v.git_commit.as_str())
                .with("Os", v.os.as_str())
                .with("Arch", v.arch.as_str())
                .some("KernelVersion", v.kernel.as_str())
                .some(
                    "StartedAt",
                    if v.started_at == 0 {
                        String::new()
                    } else {
                        time::rfc3339(proto::model::Timestamp(v.started_at))
                    },
                ),
        )
    };
    Object::default().with("Client", side(client)).with("Server", server.map_or(Value::Null, side)).build()
}
