//! Nodes.

use proto::{
    error::ApiError,
    model::{ManagerStatus, Node, NodeSpec, Reachability, Revision, Role},
    pb,
};

use super::{Api, validate};
use crate::store::command::Command;

impl Api {
    /// All nodes.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, ApiError> {
        let state = self.fresh().await?;
        Ok(state.nodes.values().map(|n| self.shown(n)).collect())
    }

    /// The node that a user means by `key`.
    pub(super) async fn node(&self, key: &str) -> Result<Node, ApiError> {
        let node = self.fresh().await?.find_node(key)?;
        Ok(self.shown(&node))
    }

    /// A new spec, if the version is still `version`.
    pub(super) async fn set_node(
        &self,
        key: &str,
        version: Revision,
        spec: NodeSpec,
    ) -> Result<Node, ApiError> {
        let state = self.fresh().await?;
        let node = state.find_node(key)?;
        validate::node::update(&state, &node, &spec)?;
        if node.raft_id != 0 && spec.role == Role::Worker {
            self.quorum_without(&node)?;
        }
        let id = node.id.clone();
        self.propose(Command::SetNodeSpec { id: id.clone(), expect: version, spec }).await?;
        self.node(id.as_str()).await
    }

    /// Forgets a node.
    pub(super) async fn forget_node(&self, key: &str, force: bool) -> Result<pb::RemoveReply, ApiError> {
        let node = self.fresh().await?.find_node(key)?;
        validate::node::remove(&node, force)?;
        self.propose(Command::RemoveNode(node.id.clone())).await?;
        Ok(pb::RemoveReply { id: node.id.to_string(), name: validate::node::label(&node).to_owned() })
    }

    /// Refuses to let a manager go whom the others cannot decide without.
    fn quorum_without(&self, node: &Node) -> Result<(), ApiError> {
        let members = self.store.metrics().members;
        let stay: Vec<_> = members.iter().filter(|m| m.voter && m.raft_id != node.raft_id).collect();
        let reachable = stay.iter().filter(|m| m.reachability == Reachability::Reachable).count();
        if reachable * 2 > stay.len() {
            return Ok(());
        }
        let label = validate::node::label(node);
        Err(ApiError::precondition(format!(
            "can't remove member from the raft: this would result in a loss of quorum: \
             without node {label} {reachable} of {} managers answer, and more than half must",
            stay.len()
        ))
        .help("bring the missing managers back, or promote another node first"))
    }

    /// The node with what raft knows of it now.
    fn shown(&self, node: &Node) -> Node {
        let members = self.store.metrics().members;
        let member = members.iter().find(|m| node.raft_id != 0 && m.raft_id == node.raft_id);
        let manager_status = match member {
            Some(member) => Some(ManagerStatus::from(member)),
            // It left, or was left behind by a new cluster; raft does not count on it, and it may still come back.
            None if node.role == Role::Manager && node.spec.role == Role::Manager => Some(ManagerStatus {
                raft_id: 0,
                addr: None,
                leader: false,
                reachability: Reachability::Unreachable,
            }),
            None => None,
        };
        Node { manager_status, ..node.clone() }
    }
}
