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
        root_ca_pem: cluster.root_ca.cert_pem.clone(),
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
