//! A service's published ports and virtual addresses.

use std::net::IpAddr;

use proto::model::{EndpointMode, Service, ServiceAllocation, Vip};

use super::{AllocateError, LastAllocated, WorkingSet, task::overlays};
use crate::store::state::State;

/// Whether the allocation answers the present spec.
pub(super) fn is_settled(service: &Service) -> bool {
    service.allocation.as_ref().is_some_and(|a| a.of_version == service.spec_version)
}

/// The allocation for the present spec. What is still asked for keeps its number: dynamic ports and virtual addresses
/// survive updates.
pub(super) fn allocate(
    service: &Service,
    state: &State,
    set: &mut WorkingSet,
    hints: &mut LastAllocated,
) -> Result<ServiceAllocation, AllocateError> {
    let spec = &service.spec;
    let before = service.allocation.clone().unwrap_or_default();
    if spec.uses_ingress() && !state.networks.values().any(|n| n.spec.ingress) {
        return Err(AllocateError::NoIngress);
    }
    let networks = overlays(&spec.task, state)?;
    if let Some(waiting) = networks.iter().find(|n| !set.spaces.contains_key(&n.id)) {
        return Err(AllocateError::NoSubnet(waiting.spec.name.clone()));
    }
    let ports = set.ports.choose(&service.id, &spec.name, &spec.endpoint.ports, &before.ports)?;
    let mut vips = Vec::new();
    if spec.endpoint.mode == EndpointMode::Vip {
        for network in networks {
            let Some(space) = set.spaces.get_mut(&network.id) else { continue };
            let kept = before.vips.iter().find(|v| v.network == network.id && space.covers(&v.addrs));
            if let Some(vip) = kept {
                vips.push(vip.clone());
                continue;
            }
            let addrs: Vec<IpAddr> = space.take()?.into_iter().map(IpAddr::from).collect();
            addrs.iter().for_each(|a| hints.note(&network.id, *a));
            vips.push(Vip { network: network.id.clone(), addrs });
        }
    }
    let allocation = ServiceAllocation { ports, vips, of_version: service.spec_version };
    set.services.insert(service.id.clone(), allocation.clone());
    Ok(allocation)
}
