//! A task's addresses.

use std::{net::IpAddr, sync::Arc};

use proto::model::{
    Attachment, HOST_NETWORK, Network, NetworkId, PublishMode, ServiceAllocation, Task, TaskAllocation,
    TaskSpec, TaskState,
};

use super::{AllocateError, LastAllocated, WorkingSet};
use crate::store::state::State;

/// Whether a task waits for addresses.
pub(super) fn is_waiting(task: &Task) -> bool {
    task.status.state == TaskState::New && task.allocation.is_none() && task.desired <= TaskState::Running
}

/// The overlays of a task spec, in its order, each once.
pub(super) fn overlays<'a>(
    spec: &TaskSpec,
    state: &'a State,
) -> Result<Vec<&'a Arc<Network>>, AllocateError> {
    let mut networks: Vec<&Arc<Network>> = Vec::new();
    for target in spec.networks.iter().map(|n| n.target.as_str()) {
        match state.networks.get(target) {
            Some(network) if networks.iter().any(|n| n.id == network.id) => {}
            Some(network) => networks.push(network),
            // Every machine has it by itself: nothing is allocated.
            None if target == HOST_NETWORK => {}
            None => return Err(AllocateError::NoNetwork(target.to_owned())),
        }
    }
    Ok(networks)
}

/// Addresses for a task, and the ports of its service as they are.
pub(super) fn allocate(
    task: &Task,
    service: &ServiceAllocation,
    ingress: Option<&NetworkId>,
    state: &State,
    set: &mut WorkingSet,
    hints: &mut LastAllocated,
) -> Result<TaskAllocation, AllocateError> {
    let mut attachments = Vec::new();
    for network in overlays(&task.spec, state)? {
        let Some(space) = set.spaces.get_mut(&network.id) else {
            return Err(AllocateError::NoSubnet(network.spec.name.clone()));
        };
        let addrs = space.take()?;
        addrs.iter().for_each(|a| hints.note(&network.id, a.addr));
        let aliases = task.spec.networks.iter().find(|n| n.target == network.id.as_str());
        let aliases = aliases.map(|n| n.aliases.clone()).unwrap_or_default();
        attachments.push(Attachment { network: network.id.clone(), addrs, aliases });
    }
    let mut ingress_addrs = Vec::new();
    if service.ports.iter().any(|p| p.mode == PublishMode::Ingress) {
        let space = ingress.and_then(|id| Some((id, set.spaces.get_mut(id)?)));
        let (id, space) = space.ok_or(AllocateError::NoIngress)?;
        ingress_addrs = space.take()?.into_iter().map(IpAddr::from).collect();
        ingress_addrs.iter().for_each(|a| hints.note(id, *a));
    }
    Ok(TaskAllocation { attachments, ingress_addrs, ports: service.ports.clone() })
}
