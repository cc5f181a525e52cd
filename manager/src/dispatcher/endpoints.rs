//! The manager's list of a network's endpoints, for a worker whose gossip view disagrees with the digest.

use std::{net::IpAddr, sync::Arc};

use proto::{
    model::{NetworkId, NodeId, Task, TaskState},
    pb,
};

use crate::store::state::State;

/// What `node` is told of `network`: nothing, unless a task of its own is there. All nodes are part of the mesh.
pub fn told(state: &State, node: &NodeId, network: &NetworkId) -> Vec<pb::Endpoint> {
    let on_it = |task: &Arc<Task>| {
        let attachments = task.allocation.iter().flat_map(|a| &a.attachments);
        !task.status.state.is_terminal() && attachments.map(|a| &a.network).any(|n| n == network)
    };
    let ingress = state.ingress_network().is_some_and(|n| n.id == *network);
    if ingress || state.tasks_by_node(node).any(on_it) { list(state, network) } else { Vec::new() }
}

/// The tasks that have an address on `network` and have not ended.
fn list(state: &State, network: &NetworkId) -> Vec<pb::Endpoint> {
    let ingress = state.ingress_network().is_some_and(|n| n.id == *network);
    let mut endpoints = Vec::new();
    for task in state.tasks.values() {
        let alive = (TaskState::Starting..=TaskState::Running).contains(&task.status.state);
        let (true, Some(allocation), Some(node)) = (alive, &task.allocation, &task.node_id) else { continue };
        let addrs: Vec<IpAddr> = if ingress {
            allocation.ingress_addrs.clone()
        } else {
            let attachment = allocation.attachments.iter().filter(|a| a.network == *network);
            attachment.flat_map(|a| a.addrs.iter().map(|addr| addr.addr)).collect()
        };
        if addrs.is_empty() {
            continue;
        }
        let vtep = state
            .nodes
            .get(node)
            .and_then(|n| n.description.as_ref())
            .and_then(|d| d.data_path_addr.or(d.advertise_addr));
        endpoints.push(pb::Endpoint {
            task_id: task.id.to_string(),
            service_id: task.service_id.to_string(),
            node_id: node.to_string(),
            addrs: addrs.iter().map(ToString::to_string).collect(),
            name: task.name(),
            running: task.status.state == TaskState::Running,
            node_addr: vtep.map(|a| a.to_string()).unwrap_or_default(),
        });
    }
    endpoints
}
