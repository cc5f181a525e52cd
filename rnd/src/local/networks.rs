//! Networks as this node has them.

use proto::{model::NetworkId, pb};

use super::Local;
use crate::daemon::Standing;

impl Local {
    /// The gateway bridge, once there is one, and the overlays in use here; `ingress` is always in use.
    pub(super) async fn local_networks(&self) -> Vec<pb::LocalNetwork> {
        let standing = self.daemon.standing.read().await;
        let mut list = Vec::new();
        if std::path::Path::new("/sys/class/net/rn_gwbridge").exists() {
            list.push(pb::LocalNetwork {
                id: bridge_id(&self.daemon.grounds.daemon_id),
                name: "rn_gwbridge".into(),
                driver: "bridge".into(),
                scope: "local".into(),
                created_at: self.daemon.started_at,
                inspect_json: String::new(),
            });
        }
        if let Standing::Active(member) = &*standing {
            let assigned = member.worker.assigned();
            list.extend(assigned.networks.iter().map(|(id, network): (&NetworkId, _)| pb::LocalNetwork {
                id: id.to_string(),
                name: network.spec.name.clone(),
                driver: network.spec.driver.clone(),
                scope: "swarm".into(),
                created_at: network.meta.created_at.0,
                inspect_json: String::new(),
            }));
        }
        list
    }
}

/// 64 hexadecimal characters that stay the same for a daemon.
fn bridge_id(daemon: &str) -> String {
    format!("{daemon:0<16.16}").repeat(4)
}
