//! A network's VNI, MTU and subnets.

use std::net::IpAddr;

use ipam::{AllocatedSubnet, IpamError, addr, pool};
use ipnet::IpNet;
use proto::model::{Cluster, IpamConfig, Network, NetworkAllocation, NetworkDriver, Subnet};

use super::{AllocateError, WorkingSet, mtu, vni};
use crate::store::state::State;

/// Length of an IPv6 subnet (RFC 4291: interface identifiers are 64 bits).
const V6_PREFIX: u8 = 64;

/// The allocation for a network that has none; `set` has it too then.
pub(super) fn allocate(
    network: &Network,
    cluster: &Cluster,
    state: &State,
    set: &mut WorkingSet,
) -> Result<NetworkAllocation, AllocateError> {
    let spec = &network.spec;
    let subnets = subnets(network, cluster, &set.subnets)?;
    let NetworkDriver::Overlay(options) = &spec.driver;
    let vni = vni::choose(options, &set.vnis)?;
    let mtu = mtu::choose(options, state);
    set.add_network(network, vni, &subnets);
    Ok(NetworkAllocation { vni, mtu, subnets })
}

/// What the user asked for, and for a wanted family without a subnet one from the pools.
fn subnets(network: &Network, cluster: &Cluster, held: &[AllocatedSubnet]) -> Result<Vec<Subnet>, IpamError> {
    let spec = &network.spec;
    let wanted = |v6: bool| if v6 { spec.ipv6 } else { spec.ipv4 };
    let mut held = held.to_vec();
    let mut subnets = Vec::new();
    for config in &spec.ipam {
        let Some(subnet) = config.subnet.map(|s| s.trunc()) else { continue };
        if !wanted(subnet.addr().is_ipv6()) {
            continue;
        }
        if let Some(other) = pool::conflict(&subnet, &held) {
            return Err(IpamError::SubnetTaken { subnet, taken: other.subnet, holder: other.holder.clone() });
        }
        held.push(AllocatedSubnet { subnet, holder: spec.name.clone() });
        subnets.push(finish(network, subnet, Some(config)));
    }
    let pools = [
        (false, cluster.default_addr_pools.as_slice(), cluster.subnet_size),
        (true, &[IpNet::V6(cluster.ula_prefix)], V6_PREFIX),
    ];
    for (v6, pools, prefix) in pools {
        let given = subnets.iter().any(|s: &Subnet| s.subnet.addr().is_ipv6() == v6);
        if given || !wanted(v6) {
            continue;
        }
        let pools: Vec<IpNet> = pools.iter().filter(|p| p.addr().is_ipv6() == v6).copied().collect();
        let subnet = pool::carve(&pools, prefix, &held)?;
        held.push(AllocatedSubnet { subnet, holder: spec.name.clone() });
        subnets.push(finish(network, subnet, None));
    }
    // IPv4 first, whatever the order of the request.
    subnets.sort_by_key(|s| s.subnet.addr().is_ipv6());
    Ok(subnets)
}

fn finish(network: &Network, subnet: IpNet, config: Option<&IpamConfig>) -> Subnet {
    let kept: Vec<IpAddr> =
        network.spec.ipam.iter().flat_map(|c| c.aux_addresses.values().copied()).collect();
    let gateway = config
        .and_then(|c| c.gateway)
        .or_else(|| addr::gateway(&subnet, |a| kept.contains(&a)))
        .unwrap_or_else(|| subnet.network());
    Subnet { subnet, gateway, ip_range: config.and_then(|c| c.ip_range) }
}
