//! `version` and `info`.

use proto::{model::Role, pb};
use runtime::{ContainerState, Runtime};

use super::Local;
use crate::swarm_state::SwarmState;

impl Local {
    /// This build, and since when it runs.
    pub fn version_reply(&self) -> pb::VersionReply {
        let machine = &self.daemon.context.machine;
        pb::VersionReply {
            version: env!("CARGO_PKG_VERSION").into(),
            git_commit: option_env!("RN_GIT_COMMIT").unwrap_or_default().into(),
            os: "linux".into(),
            arch: machine.arch.clone(),
            kernel: machine.kernel.clone(),
            started_at: self.daemon.started_at,
            api_version: "1".into(),
        }
    }

    /// The machine, what runs on it, and its place in a swarm.
    pub async fn info_reply(&self) -> pb::InfoReply {
        let machine = &self.daemon.context.machine;
        let containers = self.daemon.runtime.list();
        let running = containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. })).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut warnings = machine.missing.clone();
        let open = self.daemon.context.config.hosts.iter().filter(|l| l.is_open());
        warnings.extend(open.map(|l| format!("WARNING: {}", crate::host::warning(l))));
        let swarm = self.swarm_info(&mut warnings).await;
        pb::InfoReply {
            name: machine.hostname.clone(),
            daemon_id: self.daemon.context.daemon_id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: machine.kernel.clone(),
            os: machine.os.clone(),
            arch: machine.arch.clone(),
            cpus: machine.cpus,
            memory_bytes: machine.memory_bytes,
            data_root: self.daemon.context.paths.data_root.display().to_string(),
            cgroup_version: machine.cgroup_version.into(),
            containers: count(containers.len()),
            containers_running: count(running),
            images: count(self.daemon.runtime.images().list().len()),
            warnings,
            swarm: Some(swarm),
        }
    }

    /// This node's place in a swarm; what is amiss there is added to `warnings`.
    pub async fn swarm_info(&self, warnings: &mut Vec<String>) -> pb::SwarmInfo {
        match &*self.daemon.swarm_state.read().await {
            SwarmState::Inactive => pb::SwarmInfo { state: "inactive".into(), ..Default::default() },
            SwarmState::Changing(change) => {
                pb::SwarmInfo { state: "pending".into(), error: change.to_string(), ..Default::default() }
            }
            SwarmState::Failed(_) if self.daemon.context.is_locked() => {
                pb::SwarmInfo { state: "locked".into(), ..Default::default() }
            }
            SwarmState::Failed(error) => {
                pb::SwarmInfo { state: "error".into(), error: error.to_string(), ..Default::default() }
            }
            SwarmState::Active(member) => {
                let network = self.daemon.engine.network_status();
                warnings.extend(network.port_conflicts.iter().map(ToString::to_string));
                warnings.extend(network.dropping.iter().map(ToString::to_string));
                warnings.extend(network.failed.iter().map(|u| format!("network: {}: {}", u.key, u.error)));
                let agent = member.worker.status();
                let session = member.worker.session();
                let mut info = pb::SwarmInfo {
                    state: "active".into(),
                    node_id: member.node_id().to_string(),
                    control_available: member.is_manager(),
                    node_addr: member.membership.advertise_addr.ip().to_string(),
                    data_path_addr: member.membership.data_path_addr.to_string(),
                    vxlan_from: match network.senders {
                        _ if !self.daemon.context.config.vxlan_members_only => "anywhere".into(),
                        None => "nowhere".into(),
                        Some(n) => format!("members ({n} other addresses)"),
                    },
                    cluster_id: member.identity.current().cluster_id().to_string(),
                    error: member.local_manager.error().map_or(agent.error, |e| e.to_string()),
                    remote_managers: session
                        .iter()
                        .flat_map(|s| &s.managers)
                        .map(|m| pb::ManagerAddr { node_id: m.node_id.clone(), addr: m.addr.clone() })
                        .collect(),
                    ..Default::default()
                };
                if let Some(store) = member.local_manager.store() {
                    let state = store.read();
                    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                    info.nodes = count(state.nodes.len());
                    info.managers = count(state.nodes.values().filter(|n| n.role == Role::Manager).count());
                    info.cluster = state.cluster.as_deref().map(|c| {
                        let mut cluster = pb::Cluster::from(c);
                        // The certificate, and only that a rotation is under way.
                        cluster.root_ca = cluster.root_ca.map(|root| pb::RootCa {
                            cert_pem: root.cert_pem,
                            rotation: root.rotation.map(|_| pb::RootRotation::default()),
                            ..Default::default()
                        });
                        cluster.unlock_key.clear();
                        cluster.network_keys.clear();
                        cluster
                    });
                }
                info
            }
        }
    }
}
