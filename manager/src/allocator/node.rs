//! A node's addresses on the routing mesh's network.

use std::net::IpAddr;

use proto::model::{NetworkId, Node};

use super::{AllocateError, LastAllocated, WorkingSet};

/// Whether a node has what the mesh needs, given the ingress network if there is an allocated one.
pub(super) fn is_settled(node: &Node, ingress: Option<&NetworkId>, set: &WorkingSet) -> bool {
    match ingress.and_then(|id| set.spaces.get(id)) {
        Some(space) => space.covers(&node.ingress_addrs),
        None => node.ingress_addrs.is_empty(),
    }
}

/// New addresses for a node; none when there is no ingress network.
pub(super) fn allocate(
    ingress: Option<&NetworkId>,
    set: &mut WorkingSet,
    hints: &mut LastAllocated,
) -> Result<Vec<IpAddr>, AllocateError> {
    let Some((id, space)) = ingress.and_then(|id| Some((id, set.spaces.get_mut(id)?))) else {
        return Ok(Vec::new());
    };
    let addrs: Vec<IpAddr> = space.take()?.into_iter().map(IpAddr::from).collect();
    addrs.iter().for_each(|a| hints.note(id, *a));
    Ok(addrs)
}
