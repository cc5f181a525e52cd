//! No address has two owners.

use std::net::IpAddr;

use ipnet::IpNet;
use proto::model::{Network, NetworkAllocation, SubnetAddr};

use super::{Applying, refuse};
use crate::store::{command::Rejected, index::Owner};

impl Applying<'_> {
    /// Refuses `addrs` unless each can be `owner`'s: in a subnet of the network, at most one of each family, nobody else's.
    pub(super) fn addresses_free(
        &self,
        network: &Network,
        addrs: &[IpAddr],
        owner: &Owner,
    ) -> Result<(), Rejected> {
        let name = &network.spec.name;
        let Some(allocation) = &network.allocation else {
            return refuse(format!("network {name} has no subnets yet"));
        };
        for (i, addr) in addrs.iter().enumerate() {
            if addrs[..i].iter().any(|other| other.is_ipv4() == addr.is_ipv4()) {
                return refuse(format!(
                    "two addresses of one family on network {name}: {addr} is one too many"
                ));
            }
            let Some(subnet) = subnet_of(allocation, *addr) else {
                return refuse(format!("{addr} is not in a subnet of network {name}"));
            };
            if !is_host(subnet, *addr) {
                return refuse(format!("{addr} is not a host's address in {subnet}"));
            }
            match self.state.address_owner(&network.id, *addr) {
                Some(holder) if holder != owner => {
                    let what = format!("address {addr} on network {name}");
                    return Err(Rejected::Taken { what, holder: holder.to_string() });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The same for addresses that carry the length of their subnet's prefix, which must be right too.
    pub(super) fn subnet_addresses_free(
        &self,
        network: &Network,
        addrs: &[SubnetAddr],
        owner: &Owner,
    ) -> Result<(), Rejected> {
        let plain: Vec<IpAddr> = addrs.iter().map(|a| a.addr).collect();
        self.addresses_free(network, &plain, owner)?;
        for a in addrs {
            let subnet = network.allocation.as_ref().and_then(|all| subnet_of(all, a.addr));
            if subnet.is_some_and(|s| s.prefix_len() != a.prefix) {
                return refuse(format!(
                    "{a} has not the prefix of its subnet on network {}",
                    network.spec.name
                ));
            }
        }
        Ok(())
    }
}

fn subnet_of(allocation: &NetworkAllocation, addr: IpAddr) -> Option<IpNet> {
    allocation.subnets.iter().map(|s| s.subnet).find(|s| s.contains(&addr))
}

/// Whether `addr` can be a host's: not the network's own, not IPv4's broadcast. Point-to-point subnets (/31, /127) and
/// single addresses have neither.
pub(super) fn is_host(subnet: IpNet, addr: IpAddr) -> bool {
    match subnet {
        IpNet::V4(net) if net.prefix_len() < 31 => addr != net.network() && addr != net.broadcast(),
        IpNet::V6(net) if net.prefix_len() < 127 => addr != net.network(),
        _ => true,
    }
}
