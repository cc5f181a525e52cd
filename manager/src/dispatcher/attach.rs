//! A place on attachable networks for a container that a user runs on a node by hand.
//!
//! The place is a task that holds its addresses (swarmkit: attachment task, `manager/resourceapi`). Planned from a snapshot and
//! proposed whole: it is there with all that it needs, or nothing is. Its node ends it by reporting it as over.

use proto::{
    error::ApiError,
    model::{
        Attachment, Availability, ContainerId, EndpointSettings, Network, NetworkAttachmentConfig, NodeId,
        PortConfig, Task, TaskAllocation, TaskSpec,
    },
};

use crate::{
    allocator::{LastAllocated, WorkingSet},
    api::validate::node::label,
    store::{index::Owner, state::State},
};

/// What a node asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its networks, by name or id.
    pub networks: Vec<EndpointSettings>,
    /// Its ports on the node.
    pub ports: Vec<PortConfig>,
}

/// The task that the container's place is, with its addresses.
///
/// # Errors
/// A network that does not exist, is not attachable or has no address left; a wanted address that is not to be had; a node that
/// takes nothing new.
pub fn plan(state: &State, node: &NodeId, request: Request) -> Result<Task, ApiError> {
    takes_new_ones(state, node)?;
    let mut set = WorkingSet::of(state, &LastAllocated::default());
    let (mut attachments, mut networks) = (Vec::new(), Vec::new());
    for wanted in &request.networks {
        let network = attachable(state, &wanted.network)?;
        if attachments.iter().any(|a: &Attachment| a.network == network.id) {
            return Err(ApiError::invalid(format!("network {} is given twice", network.spec.name)));
        }
        let Some(space) = set.spaces.get_mut(&network.id) else {
            return Err(ApiError::unavailable(format!("network {} has no subnet yet", network.spec.name))
                .help("try again in a second; rnctl network inspect shows what it waits for"));
        };
        for addr in &wanted.addrs {
            if let Some(holder) = state.address_owner(&network.id, *addr) {
                return Err(ApiError::conflict(format!(
                    "address {addr} on network {} is already in use by {}",
                    network.spec.name,
                    named(state, holder)
                ))
                .help("leave out --ip, or choose another address"));
            }
        }
        let addrs = space.take_with(&wanted.addrs).map_err(|e| ApiError::precondition(e.to_string()))?;
        attachments.push(Attachment { network: network.id.clone(), addrs, aliases: wanted.aliases.clone() });
        networks.push(NetworkAttachmentConfig {
            target: network.id.to_string(),
            aliases: wanted.aliases.clone(),
            driver_opts: Default::default(),
        });
    }
    let spec = TaskSpec { networks, ..TaskSpec::default() };
    let allocation = TaskAllocation { attachments, ingress_addrs: Vec::new(), ports: request.ports };
    let mut task = Task::attached(request.container, request.name, spec, allocation);
    task.node_id = Some(node.clone());
    task.status.message = "attached by its node".into();
    Ok(task)
}

/// Swarm lets such a request wait for twenty seconds and fail without a reason.
fn takes_new_ones(state: &State, node: &NodeId) -> Result<(), ApiError> {
    let availability = state.nodes.get(node).map(|n| n.spec.availability);
    let word = match availability {
        None => return Err(super::service::gone(node)),
        Some(Availability::Active) => return Ok(()),
        Some(Availability::Pause) => "paused",
        Some(Availability::Drain) => "drained",
    };
    let name = state.nodes.get(node).map_or(node.as_str(), |n| label(n));
    Err(ApiError::precondition(format!("node {name} is {word}: nothing new is attached to networks there"))
        .help(format!("rnctl node update --availability active {name}")))
}

fn attachable(state: &State, key: &str) -> Result<std::sync::Arc<Network>, ApiError> {
    let network = state.find_network(key)?;
    let name = &network.spec.name;
    if network.spec.ingress {
        return Err(ApiError::denied(format!(
            "network {name} is the routing mesh's: no container can be attached to it"
        )));
    }
    if !network.spec.attachable {
        return Err(ApiError::denied(format!(
            "Could not attach to network {name}: network {name} not manually attachable"
        ))
        .help(format!(
            "for containers outside services: rnctl network create -d overlay --attachable {name}"
        )));
    }
    Ok(network)
}

/// Who has an address, as a user knows it.
fn named(state: &State, owner: &Owner) -> String {
    match owner {
        Owner::Task(id) => state.tasks.get(id).map_or_else(
            || owner.to_string(),
            |task| {
                let node = task.node_id.as_ref().and_then(|id| state.nodes.get(id));
                let node = node.map(|n| format!(" on node {}", label(n))).unwrap_or_default();
                format!("{}{node}", task.described())
            },
        ),
        Owner::Service(id) => {
            state.services.get(id).map_or_else(|| owner.to_string(), |s| format!("service {}", s.spec.name))
        }
        Owner::Gateway | Owner::Auxiliary(_) | Owner::Node(_) => owner.to_string(),
    }
}

#[cfg(test)]
mod tests;
