//! Networks as this node has them.

use std::collections::BTreeMap;

use proto::{
    model::{Mac, Network, TaskId},
    pb,
};
use runtime::Runtime;
use serde_json::{Value, json};

use super::Local;
use crate::{swarm::Member, swarm_state::SwarmState};

impl Local {
    /// The gateway bridge, once there is one, and the overlays in use here; `ingress` is always in use.
    pub(super) async fn local_networks(&self) -> Vec<pb::LocalNetwork> {
        let swarm_state = self.daemon.swarm_state.read().await;
        let mut list = Vec::new();
        // In this daemon's namespace, which /sys may not show.
        if nix::net::if_::if_nametoindex(GATEWAY_BRIDGE).is_ok() {
            list.push(pb::LocalNetwork {
                id: bridge_id(&self.daemon.context.daemon_id),
                name: GATEWAY_BRIDGE.into(),
                driver: "bridge".into(),
                scope: "local".into(),
                created_at: self.daemon.started_at,
                inspect_json: String::new(),
            });
        }
        if let SwarmState::Active(member) = &*swarm_state {
            let assigned = self.daemon.engine.assigned();
            list.extend(assigned.networks.values().map(|network| pb::LocalNetwork {
                id: network.id.to_string(),
                name: network.spec.name.clone(),
                driver: network.spec.driver.name().into(),
                scope: "swarm".into(),
                created_at: network.meta.created_at.0,
                inspect_json: self.detail(member, network).to_string(),
            }));
        }
        list
    }

    /// This node's containers on an overlay, and the nodes that have some, as Docker's `network inspect` names them.
    fn detail(&self, member: &Member, network: &Network) -> Value {
        let mut ids: BTreeMap<TaskId, String> = self
            .daemon
            .runtime
            .list()
            .into_iter()
            .filter_map(|c| Some((c.record.task?.task, c.record.id.to_string())))
            .collect();
        let by_hand = self.daemon.containers.list();
        ids.extend(
            by_hand.iter().filter_map(|s| Some((s.definition.task.clone()?, s.definition.id.to_string()))),
        );
        let me = member.node_id();
        let view = member.worker.gossip().view().borrow().clone();
        let subnets = network.allocation.iter().flat_map(|a| &a.subnets);
        let prefixes: Vec<_> = subnets.map(|s| s.subnet).collect();
        let mut containers = serde_json::Map::new();
        let mut peers = BTreeMap::new();
        for endpoint in view.endpoints_of(&network.id) {
            if let Some(node) = view.nodes.get(&endpoint.node) {
                peers.insert(node.node.clone(), json!({"Name": node.hostname, "IP": node.vtep.to_string()}));
            }
            let Some(id) = ids.get(&endpoint.task).filter(|_| endpoint.node == me) else {
                continue;
            };
            let addr = |v4: bool| {
                let addr = endpoint.addrs.iter().find(|a| a.is_ipv4() == v4)?;
                let subnet = prefixes.iter().find(|s| s.contains(addr))?;
                Some(format!("{addr}/{}", subnet.prefix_len()))
            };
            containers.insert(
                id.clone(),
                json!({
                    "Name": endpoint.task_name,
                    "EndpointID": endpoint.task.as_str(),
                    "MacAddress": Mac::of_any(endpoint.addrs.iter().copied()).map_or_else(String::new, |m| m.to_string()),
                    "IPv4Address": addr(true).unwrap_or_default(),
                    "IPv6Address": addr(false).unwrap_or_default(),
                }),
            );
        }
        json!({"Containers": containers, "Peers": peers.into_values().collect::<Vec<_>>()})
    }
}

/// Where tasks meet the host.
const GATEWAY_BRIDGE: &str = "rn_gwbridge";

/// 64 hexadecimal characters that stay the same for a daemon.
fn bridge_id(daemon: &str) -> String {
    format!("{daemon:0<16.16}").repeat(4)
}
