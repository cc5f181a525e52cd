//! Nodes.

use std::net::{IpAddr, SocketAddr};

use proto::model::{Node, NodeDescription, NodeId, NodeSpec, NodeStatus, Revision, Role, TaskState};

use super::{Applying, in_sequence, refuse};
use crate::store::{command::Outcome, index::Owner};

impl Applying<'_> {
    pub(super) fn create_node(&mut self, node: &Node) -> Outcome {
        if self.state.nodes.get(&node.id).is_some() {
            return refuse(format!("node {} exists already", node.id));
        }
        if self.state.cluster.as_ref().is_some_and(|c| c.removed_nodes.contains(&node.id)) {
            return refuse(format!(
                "node {} was removed from the swarm; it has to join under a new id",
                node.id
            ));
        }
        if !node.ingress_addrs.is_empty() {
            return refuse("a new node has no addresses: those are the allocator's to give");
        }
        self.raft_id_free(&node.id, node.raft_id)?;
        let mut node = node.clone();
        node.manager_status = None;
        self.create(node);
        Ok(())
    }

    pub(super) fn set_node_spec(&mut self, id: &NodeId, expect: Revision, spec: &NodeSpec) -> Outcome {
        let node = self.found::<Node>(id)?;
        // Who has seen the spec as it is may change it: that the node's status changed in between is no reason to send a user back.
        if expect < node.spec_version || expect > node.meta.version {
            in_sequence(|| format!("node {id}"), expect, node.meta.version)?;
        }
        let demoted = node.spec.role == Role::Manager && spec.role == Role::Worker;
        if demoted && !self.state.nodes.values().any(|n| n.id != *id && n.spec.role == Role::Manager) {
            return refuse(format!("node {id} is the last manager of the swarm and cannot be demoted"));
        }
        let version = self.revision;
        self.update(node, |n| {
            n.spec = spec.clone();
            n.spec_version = version;
        });
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: &NodeId) -> Outcome {
        let node = self.found::<Node>(id)?;
        if node.raft_id != 0 {
            return refuse(format!(
                "node {id} is a manager and a member of the raft cluster; demote it first"
            ));
        }
        let orphans: Vec<_> =
            self.state.tasks_by_node(id).filter(|t| !t.status.state.is_terminal()).cloned().collect();
        let at = self.at;
        for task in orphans {
            self.update(task, |t| {
                t.status.state = TaskState::Orphaned;
                t.status.at = at;
                t.status.message = "the task's node was removed from the swarm".into();
            });
        }
        self.forget(node);
        if let Ok(cluster) = self.cluster() {
            self.update(cluster, |c| c.removed_nodes.push(id.clone()));
        }
        Ok(())
    }

    pub(super) fn set_node_raft(
        &mut self,
        id: &NodeId,
        raft_id: u64,
        raft_addr: Option<SocketAddr>,
    ) -> Outcome {
        let node = self.found::<Node>(id)?;
        self.raft_id_free(id, raft_id)?;
        self.update(node, |n| {
            n.raft_id = raft_id;
            n.raft_addr = raft_addr.filter(|_| raft_id != 0);
        });
        Ok(())
    }

    pub(super) fn set_node_role(&mut self, id: &NodeId, role: Role) -> Outcome {
        let node = self.found::<Node>(id)?;
        self.update(node, |n| n.role = role);
        Ok(())
    }

    fn raft_id_free(&self, id: &NodeId, raft_id: u64) -> Outcome {
        let holder = self.state.nodes.values().find(|n| raft_id != 0 && n.raft_id == raft_id && n.id != *id);
        match holder {
            Some(holder) => refuse(format!("raft id {raft_id:x} is node {}'s", holder.id)),
            None => Ok(()),
        }
    }

    pub(super) fn report_node(
        &mut self,
        id: &NodeId,
        status: Option<&NodeStatus>,
        description: Option<&NodeDescription>,
    ) -> Outcome {
        let node = self.found::<Node>(id)?;
        self.update(node, |n| {
            if let Some(status) = status {
                // Who only knows whether the node lives says nothing of its address.
                n.status = NodeStatus { addr: status.addr.or(n.status.addr), ..status.clone() };
            }
            if let Some(description) = description {
                n.description = Some(description.clone());
            }
        });
        Ok(())
    }

    pub(super) fn allocate_node(&mut self, id: &NodeId, ingress_addrs: &[IpAddr]) -> Outcome {
        let node = self.found::<Node>(id)?;
        if !ingress_addrs.is_empty() {
            let Some(ingress) = self.state.ingress_network().cloned() else {
                return refuse("there is no ingress network");
            };
            self.addresses_free(&ingress, ingress_addrs, &Owner::Node(id.clone()))?;
        }
        self.update(node, |n| n.ingress_addrs = ingress_addrs.to_vec());
        Ok(())
    }
}
