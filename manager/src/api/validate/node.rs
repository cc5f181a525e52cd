//! Node specs.

use proto::{
    error::ApiError,
    model::{Node, NodeSpec, NodeState, Role},
};

use crate::store::state::State;

/// Checks a new spec for `node`. `State` decides whether the cluster keeps a manager.
pub fn update(state: &State, node: &Node, spec: &NodeSpec) -> Result<(), ApiError> {
    super::labels(&format!("node {}", label(node)), &spec.labels)?;
    let demoted = node.spec.role == Role::Manager && spec.role == Role::Worker;
    if demoted && node.raft_id != 0 && managers(state) <= 1 {
        return Err(ApiError::precondition(format!(
            "attempting to demote the last manager of the swarm, node {}",
            label(node)
        ))
        .help(format!(
            "promote another node first: rnctl node promote NODE, then rnctl node demote {}",
            label(node)
        )));
    }
    Ok(())
}

/// Whether `node` may be forgotten: it must be down, unless `force`, and no manager.
pub fn remove(node: &Node, force: bool) -> Result<(), ApiError> {
    let label = label(node);
    if node.raft_id != 0 {
        return Err(ApiError::precondition(format!(
            "node {label} is a cluster manager and is a member of the raft cluster; it must be demoted to worker before removal"
        ))
        .help(format!("rnctl node demote {label}; force does not change this, for the quorum depends on it")));
    }
    if node.status.state == NodeState::Ready && !force {
        return Err(ApiError::precondition(format!("node {label} is not down and can't be removed")).help(format!(
            "stop it first (rnctl swarm leave, on that node) and wait until it is down, or: rnctl node rm --force {label}"
        )));
    }
    Ok(())
}

/// How messages name a node: by host name where it is known.
pub fn label(node: &Node) -> &str {
    if node.hostname().is_empty() { node.id.as_str() } else { node.hostname() }
}

/// Members of raft that are to stay: one that left by force keeps its role until it is removed, and decides nothing.
fn managers(state: &State) -> usize {
    state.nodes.values().filter(|n| n.spec.role == Role::Manager && n.raft_id != 0).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proto::model::{Meta, NodeId, NodeStatus};

    use super::*;

    fn node(role: Role, state: NodeState) -> Node {
        Node {
            id: NodeId::random(),
            meta: Meta::default(),
            spec: NodeSpec { role, ..NodeSpec::default() },
            description: None,
            status: NodeStatus { state, ..NodeStatus::default() },
            manager_status: None,
            role,
            ingress_addrs: Vec::new(),
            raft_id: u64::from(role == Role::Manager),
            raft_addr: None,
            spec_version: Default::default(),
            conditions: Vec::new(),
        }
    }

    #[test]
    fn the_last_manager_stays() {
        let mut state = State::default();
        let first = node(Role::Manager, NodeState::Ready);
        state.put(first.clone());
        let worker = NodeSpec::default();
        assert!(update(&state, &first, &worker).unwrap_err().message.contains("last manager"));
        let second = node(Role::Manager, NodeState::Ready);
        state.put(second);
        assert!(update(&state, &first, &worker).is_ok());
    }

    #[test]
    fn only_a_worker_that_is_down_is_removed_without_force() {
        assert!(remove(&node(Role::Worker, NodeState::Down), false).is_ok());
        assert!(remove(&node(Role::Worker, NodeState::Unknown), false).is_ok());
        assert!(remove(&node(Role::Worker, NodeState::Ready), false).is_err());
        assert!(remove(&node(Role::Worker, NodeState::Ready), true).is_ok());
        assert!(remove(&node(Role::Manager, NodeState::Down), true).is_err());
    }
}
