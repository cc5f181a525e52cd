//! What a session's stream carries: all that a node needs to know of the cluster besides its assignments.

use std::net::SocketAddr;

use proto::{
    model::{Meta, Node, NodeId, NodeState, NodeStatus, SessionId},
    pb,
};

use crate::store::state::State;

/// UDP port of gossip, unless a node says otherwise.
const GOSSIP_PORT: u16 = 7946;
/// Nodes named as ways into the gossip: enough to meet, few enough to send often.
const MAX_SEEDS: usize = 32;

/// The message for `node` at this state; none when it is no longer a node of the cluster.
pub fn message(state: &State, node: &NodeId, session: &SessionId) -> Option<pb::SessionMessage> {
    let (cluster, node) = (state.cluster.as_ref()?, state.nodes.get(node)?);
    Some(pb::SessionMessage {
        session_id: session.to_string(),
        node: Some(pb::Node::from(&settled(node))),
        managers: managers(state),
        network_keys: cluster.network_keys.iter().map(pb::NetworkKey::from).collect(),
        root_ca_pem: cluster.root_ca.trusted_pem(),
        cluster_id: cluster.id.to_string(),
        data_path_port: cluster.data_path_port.into(),
        gossip_seeds: seeds(state, &node.id),
    })
}

/// The node without what changes by itself (heartbeat state, versions), so that equal messages mean that nothing moved.
fn settled(node: &Node) -> Node {
    Node { meta: Meta::default(), status: NodeStatus::default(), conditions: Vec::new(), ..node.clone() }
}

fn managers(state: &State) -> Vec<pb::ManagerPeer> {
    let members = state.nodes.values().filter(|n| n.raft_id != 0);
    let peers = members.filter_map(|n| Some((n, n.raft_addr?)));
    peers
        .map(|(n, addr)| pb::ManagerPeer { node_id: n.id.to_string(), addr: addr.to_string(), weight: 1 })
        .collect()
}

/// Where to find the gossip: managers first, for they stay longest.
fn seeds(state: &State, own: &NodeId) -> Vec<String> {
    let there = |s: NodeState| matches!(s, NodeState::Ready | NodeState::Unknown);
    let mut nodes: Vec<&Node> =
        state.nodes.values().map(|n| &**n).filter(|n| n.id != *own && there(n.status.state)).collect();
    nodes.sort_by_key(|n| n.raft_id == 0);
    let addrs = nodes.into_iter().filter_map(|n| n.description.as_ref()?.advertise_addr);
    addrs.take(MAX_SEEDS).map(|a| SocketAddr::new(a, GOSSIP_PORT).to_string()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::{Availability, NodeDescription, Role};

    use super::*;
    use crate::{
        bootstrap::{Bootstrap, InitOptions},
        ca::joined,
    };

    fn node(state: NodeState, host: u8, raft_id: u64) -> Node {
        let mut node = joined(&NodeId::random(), Role::Worker, Availability::Active);
        node.status.state = state;
        node.raft_id = raft_id;
        node.raft_addr = (raft_id != 0).then(|| SocketAddr::from(([192, 0, 2, host], 2377)));
        node.description = Some(NodeDescription {
            hostname: format!("h{host}"),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 0,
            memory_bytes: 0,
            engine_version: String::new(),
            engine_labels: Default::default(),
            advertise_addr: Some([192, 0, 2, host].into()),
            data_path_addr: None,
            underlay_mtu: 1500,
            missing_features: Vec::new(),
        });
        node
    }

    #[test]
    fn a_session_tells_of_managers_keys_and_ways_into_the_gossip() {
        let mut state = State::default();
        state.put(Bootstrap::new(InitOptions::default()).unwrap().cluster);
        let own = node(NodeState::Ready, 1, 0);
        let (id, session) = (own.id.clone(), SessionId::random());
        for n in
            [own, node(NodeState::Ready, 2, 0), node(NodeState::Down, 3, 0), node(NodeState::Unknown, 4, 7)]
        {
            state.put(n);
        }
        let told = message(&state, &id, &session).unwrap();
        assert_eq!(
            told.gossip_seeds,
            ["192.0.2.4:7946", "192.0.2.2:7946"],
            "managers first, the dead not at all"
        );
        let managers: Vec<&str> = told.managers.iter().map(|m| m.addr.as_str()).collect();
        assert_eq!(managers, ["192.0.2.4:2377"]);
        assert!(told.network_keys.iter().all(|k| k.key.len() == 16) && told.network_keys.len() == 6);

        let mut beaten = (**state.nodes.get(&id).unwrap()).clone();
        beaten.status.message = "seen".into();
        beaten.meta.version.0 += 1;
        state.put(beaten);
        assert_eq!(message(&state, &id, &session).unwrap(), told, "what changes by itself is no news");
        assert!(message(&state, &NodeId::random(), &session).is_none());
    }
}
