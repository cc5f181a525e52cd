//! One pass of the allocator: networks, then nodes, services and tasks, so that what waits for one another is decided
//! together and reaches the log as one entry.

use std::collections::BTreeMap;

use proto::model::{Network, NetworkId, Node, Service, Task, TaskAllocation, Timestamp};

use super::{AllocateError, CONDITION, LastAllocated, WorkingSet, network, node, service, task};
use crate::{
    control_loop::Plan,
    store::{
        command::{Command, ObjectId},
        state::State,
    },
};

/// The allocator. Between passes it keeps nothing but next-fit hints.
#[derive(Debug, Default)]
pub struct Allocator {
    hints: LastAllocated,
}

impl Allocator {
    /// What to allocate now. What cannot be allocated gets a condition that says why; it is tried again at every change
    /// of the state.
    pub fn plan(&mut self, state: &State, now: Timestamp) -> Plan {
        let Some(cluster) = &state.cluster else { return Plan::default() };
        let waiting = Waiting::of(state);
        if waiting.is_empty() {
            return Plan::default();
        }
        self.hints.forget_all_but(state);
        let mut plan = Plan::default();
        let mut set = WorkingSet::of(state, &self.hints);
        for network in &waiting.networks {
            let result = network::allocate(network, cluster, state, &mut set);
            let object = ObjectId::Network(network.id.clone());
            if let Some(allocation) = plan.settle(object, &network.conditions, CONDITION, result, now) {
                plan.push(Command::AllocateNetwork { id: network.id.clone(), allocation });
            }
        }
        // The mesh's network exists for this plan once it has subnets.
        let ingress = waiting.ingress.filter(|id| set.spaces.contains_key(*id));
        for node in waiting.nodes {
            if node::is_settled(node, ingress, &set) {
                continue;
            }
            let result = node::allocate(ingress, &mut set, &mut self.hints);
            let object = ObjectId::Node(node.id.clone());
            if let Some(ingress_addrs) = plan.settle(object, &node.conditions, CONDITION, result, now) {
                plan.push(Command::AllocateNode { id: node.id.clone(), ingress_addrs });
            }
        }
        let mut refused = BTreeMap::new();
        for service in waiting.services {
            let result = service::allocate(service, state, &mut set, &mut self.hints);
            if let Err(reason) = &result {
                refused.insert(&service.id, reason.clone());
            }
            let object = ObjectId::Service(service.id.clone());
            if let Some(allocation) = plan.settle(object, &service.conditions, CONDITION, result, now) {
                plan.push(Command::AllocateService { id: service.id.clone(), allocation });
            }
        }
        for task in waiting.tasks {
            let result = match refused.get(&task.service_id) {
                Some(reason) => Err(reason.clone()),
                None => self.task(task, ingress, state, &mut set),
            };
            let object = ObjectId::Task(task.id.clone());
            if let Some(allocation) = plan.settle(object, &task.conditions, CONDITION, result, now) {
                plan.push(Command::AllocateTask { id: task.id.clone(), allocation });
            }
        }
        plan
    }

    fn task(
        &mut self,
        task: &Task,
        ingress: Option<&NetworkId>,
        state: &State,
        set: &mut WorkingSet,
    ) -> Result<TaskAllocation, AllocateError> {
        let planned = set.services.get(&task.service_id).cloned();
        let current = || state.services.get(&task.service_id)?.allocation.clone();
        let service =
            planned.or_else(current).ok_or_else(|| AllocateError::NoService(task.service_name.clone()))?;
        task::allocate(task, &service, ingress, state, set, &mut self.hints)
    }
}

/// What lacks an allocation. Found first, so that a pass over a settled state derives nothing else.
struct Waiting<'a> {
    networks: Vec<&'a Network>,
    nodes: Vec<&'a Node>,
    services: Vec<&'a Service>,
    tasks: Vec<&'a Task>,
    ingress: Option<&'a NetworkId>,
}

impl<'a> Waiting<'a> {
    fn of(state: &'a State) -> Self {
        let ingress = state.networks.values().find(|n| n.spec.ingress);
        let mut networks: Vec<&Network> =
            state.networks.values().map(|n| &**n).filter(|n| n.allocation.is_none()).collect();
        // The mesh's network takes the first block of the pools, whatever was created beside it.
        networks.sort_by_key(|n| (!n.spec.ingress, n.meta.created_in));
        let is_off = |node: &&Node| match ingress {
            Some(network) => {
                let subnets = network.allocation.iter().flat_map(|a| &a.subnets);
                let families = || subnets.clone().map(|s| s.subnet);
                network.allocation.is_none()
                    || !node.ingress_addrs.iter().all(|a| families().any(|s| s.contains(a)))
                    || [false, true].into_iter().any(|v6| {
                        families().any(|s| s.addr().is_ipv6() == v6)
                            != node.ingress_addrs.iter().any(|a| a.is_ipv6() == v6)
                    })
            }
            None => !node.ingress_addrs.is_empty(),
        };
        let mut tasks: Vec<&Task> =
            state.tasks.values().map(|t| &**t).filter(|t| task::is_waiting(t)).collect();
        // Oldest first; slots in their order, so that addresses follow them.
        tasks.sort_by(|a, b| (a.meta.created_in, a.slot, &a.id).cmp(&(b.meta.created_in, b.slot, &b.id)));
        Self {
            networks,
            nodes: state.nodes.values().map(|n| &**n).filter(is_off).collect(),
            services: state.services.values().map(|s| &**s).filter(|s| !service::is_settled(s)).collect(),
            tasks,
            ingress: ingress.map(|n| &n.id),
        }
    }

    fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.nodes.is_empty() && self.services.is_empty() && self.tasks.is_empty()
    }
}
