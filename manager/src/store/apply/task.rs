//! Tasks. Each part has one writer, and observed state only rises.

use proto::model::{
    Network, Node, NodeId, NodeState, PortConfig, PublishMode, Service, Task, TaskAllocation, TaskId,
    TaskState, TaskStatus, Timestamp,
};

use super::{Applying, refuse};
use crate::store::{
    command::{Outcome, Rejected},
    index::{Owner, holds_resources},
};

impl Applying<'_> {
    pub(super) fn create_task(&mut self, task: &Task) -> Outcome {
        if self.state.tasks.get(&task.id).is_some() {
            return refuse(format!("task {} exists already", task.id));
        }
        self.found::<Service>(&task.service_id)?;
        if let Some(node) = &task.node_id {
            self.found::<Node>(node)?;
        }
        if task.status.state != TaskState::New || task.allocation.is_some() {
            return refuse("a new task has neither state nor addresses: those are for others to write");
        }
        if !is_wish(task.desired) || task.desired > TaskState::Running {
            return refuse(format!("a new task cannot be wanted {}", task.desired));
        }
        let mut task = task.clone();
        task.status.at = self.at;
        self.create(task);
        Ok(())
    }

    pub(super) fn attach(&mut self, task: &Task) -> Outcome {
        if self.state.tasks.get(&task.id).is_some() {
            return refuse(format!("task {} exists already", task.id));
        }
        let (Some(_), Some(node), Some(allocation)) =
            (&task.attached_container, &task.node_id, &task.allocation)
        else {
            return refuse(
                "a container's place on its networks needs the container, its node and its addresses",
            );
        };
        if (task.status.state, task.desired) != (TaskState::Assigned, TaskState::Running) {
            return refuse("a container's place on its networks begins assigned, and wanted running");
        }
        self.found::<Node>(node)?;
        for attachment in &allocation.attachments {
            let network = self.found::<Network>(&attachment.network)?;
            if !network.spec.attachable {
                return refuse(format!("network {} is not attachable", network.spec.name));
            }
        }
        self.attachments_free(task, allocation)?;
        self.host_ports_free(task, node)?;
        let mut task = task.clone();
        task.status.at = self.at;
        self.create(task);
        Ok(())
    }

    pub(super) fn set_task_desired(
        &mut self,
        id: &TaskId,
        desired: TaskState,
        start_after: Timestamp,
    ) -> Outcome {
        let task = self.found::<Task>(id)?;
        if !is_wish(desired) {
            return refuse(format!("a task cannot be wanted {desired}"));
        }
        if desired < task.desired {
            return refuse(format!("task {id} is wanted {} and cannot go back to {desired}", task.desired));
        }
        self.update(task, |t| {
            t.desired = desired;
            t.start_after = start_after;
        });
        Ok(())
    }

    pub(super) fn remove_task(&mut self, id: &TaskId) -> Outcome {
        let task = self.found::<Task>(id)?;
        let over = task.status.state.is_terminal();
        let nowhere = task.node_id.is_none() || task.status.state < TaskState::Assigned;
        let node = task.node_id.as_ref().and_then(|id| self.state.nodes.get(id));
        let gone = node.is_none_or(|n| n.status.state == NodeState::Down);
        if !(over || nowhere || gone) {
            return refuse(format!("task {id} is {} on a node that is there", task.status.state));
        }
        self.forget(task);
        Ok(())
    }

    pub(super) fn allocate_task(&mut self, id: &TaskId, allocation: &TaskAllocation) -> Outcome {
        let task = self.found::<Task>(id)?;
        expect_state(&task, TaskState::New)?;
        let owner = Owner::Task(id.clone());
        self.attachments_free(&task, allocation)?;
        if !allocation.ingress_addrs.is_empty() {
            let Some(ingress) = self.state.ingress_network().cloned() else {
                return refuse("there is no ingress network");
            };
            self.addresses_free(&ingress, &allocation.ingress_addrs, &owner)?;
        }
        self.rise(task, TaskState::Pending, "pending task scheduling", |t| {
            t.allocation = Some(allocation.clone())
        });
        Ok(())
    }

    /// Whether a task can have its place on each of these networks.
    fn attachments_free(&self, task: &Task, allocation: &TaskAllocation) -> Outcome {
        let owner = Owner::Task(task.id.clone());
        for (i, attachment) in allocation.attachments.iter().enumerate() {
            let network = self.found::<Network>(&attachment.network)?;
            if allocation.attachments[..i].iter().any(|a| a.network == attachment.network) {
                return refuse(format!("task {} is on network {} twice", task.id, network.spec.name));
            }
            if network.spec.ingress {
                return refuse(format!("network {} is the routing mesh's", network.spec.name));
            }
            self.subnet_addresses_free(&network, &attachment.addrs, &owner)?;
        }
        Ok(())
    }

    pub(super) fn place_task(&mut self, id: &TaskId, node: &NodeId) -> Outcome {
        let task = self.found::<Task>(id)?;
        expect_state(&task, TaskState::Pending)?;
        self.found::<Node>(node)?;
        if task.node_id.as_ref().is_some_and(|bound| bound != node) {
            return refuse(format!("task {id} is bound to another node"));
        }
        self.host_ports_free(&task, node)?;
        self.rise(task, TaskState::Assigned, "scheduler assigned task to node", |t| {
            t.node_id = Some(node.clone())
        });
        Ok(())
    }

    /// Whether `node` has the host-mode ports that a task needs.
    fn host_ports_free(&self, task: &Task, node: &NodeId) -> Outcome {
        let Some((port, holder)) = self.host_port_holder(task, node) else { return Ok(()) };
        Err(Rejected::Taken {
            what: format!("host port {}/{} of node {node}", port.published, port.protocol),
            holder: holder.described(),
        })
    }

    /// A task that is not over on `node` and has a host-mode port that `task` needs.
    fn host_port_holder(&self, task: &Task, node: &NodeId) -> Option<(PortConfig, &Task)> {
        let wanted: Vec<_> = host_ports(task).collect();
        if wanted.is_empty() {
            return None;
        }
        // One that is only bound to the node (global service) holds nothing there until it is placed.
        let placed = |t: &Task| t.status.state >= TaskState::Assigned && holds_resources(t);
        let others = self.state.tasks_by_node(node).filter(|t| t.id != task.id && placed(t));
        others.flat_map(|t| host_ports(t).map(move |p| (p, &**t))).find_map(|(held, holder)| {
            let same = |p: &&&PortConfig| (p.protocol, p.published) == (held.protocol, held.published);
            wanted.iter().find(same).map(|p| ((*p).clone(), holder))
        })
    }

    pub(super) fn report_task(&mut self, id: &TaskId, status: &TaskStatus) -> Outcome {
        let task = self.found::<Task>(id)?;
        if status.state == TaskState::Remove {
            return refuse("a task can be wanted removed, not be seen so");
        }
        if task.node_id.is_none() {
            return refuse(format!("task {id} is on no node that could report it"));
        }
        // Reports may arrive late and out of order; what has been seen is not unseen.
        if status.state >= task.status.state {
            let at = self.at;
            self.update(task, |t| {
                // By this clock, as nodes' own may differ.
                if status.state == TaskState::Running && t.running_at == Timestamp::default() {
                    t.running_at = at;
                }
                if status.state.is_terminal() && t.ended_at == Timestamp::default() {
                    t.ended_at = at;
                }
                // The same said again, as after a restart of the daemon, is no news: it has been so since it was said first.
                if t.status != (TaskStatus { at: t.status.at, ..status.clone() }) {
                    t.status = status.clone();
                }
            });
        }
        Ok(())
    }

    /// A step of the manager's own.
    fn rise(
        &mut self,
        task: std::sync::Arc<Task>,
        state: TaskState,
        message: &str,
        edit: impl FnOnce(&mut Task),
    ) {
        let at = self.at;
        self.update(task, |t| {
            edit(t);
            t.status.state = state;
            t.status.at = at;
            t.status.message = message.into();
        });
    }
}

/// Whether a task can be wanted so.
fn is_wish(state: TaskState) -> bool {
    matches!(state, TaskState::Ready | TaskState::Running | TaskState::Shutdown | TaskState::Remove)
}

fn expect_state(task: &Task, state: TaskState) -> Outcome {
    if task.desired > TaskState::Running {
        return refuse(format!("task {} is wanted {}", task.id, task.desired));
    }
    if task.status.state != state {
        return refuse(format!("task {} is {}, not {state}", task.id, task.status.state));
    }
    Ok(())
}

fn host_ports(task: &Task) -> impl Iterator<Item = &PortConfig> {
    let ports = task.allocation.iter().flat_map(|a| &a.ports);
    ports.filter(|p| p.mode == PublishMode::Host && p.published != 0)
}
