//! Network specs.

use std::net::IpAddr;

use ipnet::IpNet;
use proto::{
    error::ApiError,
    model::{DriverError, IpamConfig, Network, NetworkDriver, NetworkSpec},
};

use crate::store::state::State;

/// Names that every machine has a network of already.
const RESERVED: [&str; 5] = ["bridge", "host", "none", "rn_gwbridge", "docker_gwbridge"];

/// The least MTU that IPv6 works with (RFC 8200, 5).
const V6_LEAST_MTU: u32 = 1280;

/// Checks a new network.
pub fn create(state: &State, spec: &NetworkSpec) -> Result<(), ApiError> {
    super::name("network", "rnctl network create [OPTIONS] NETWORK", &spec.name)?;
    let object = format!("network {}", spec.name);
    if RESERVED.contains(&spec.name.as_str()) {
        return Err(ApiError::invalid(format!(
            "operation is not permitted on predefined {} network",
            spec.name
        ))
        .help("choose another name"));
    }
    super::labels(&object, &spec.labels)?;
    families_and_ipam(&object, spec)?;
    if let Some(holder) = state.networks.values().find(|n| super::same_name(&n.spec.name, &spec.name)) {
        let name = &holder.spec.name;
        return Err(ApiError::conflict(format!("network with name {name} already exists")).help(format!(
            "it is {}; choose another name{}, or: rnctl network rm {name}",
            holder.id,
            super::beyond_case(name, &spec.name)
        )));
    }
    if spec.ingress {
        ingress(state, &object, spec)?;
    } else if spec.name == "ingress" {
        return Err(ApiError::invalid("the name \"ingress\" is kept for the network of the routing mesh")
            .help("choose another name, or add --ingress to create that network"));
    }
    options(state, &object, spec)?;
    for config in &spec.ipam {
        ipam_config(state, &object, spec, config)?;
    }
    pairs(&object, &spec.ipam)
}

fn families_and_ipam(object: &str, spec: &NetworkSpec) -> Result<(), ApiError> {
    if !spec.ipv4 {
        return Err(ApiError::invalid(format!(
            "{object}: IPv4 cannot be disabled for a network of the swarm"
        ))
        .help("leave out --ipv4=false"));
    }
    if !matches!(spec.ipam_driver.as_str(), "" | "default") {
        return Err(ApiError::unsupported(format!(
            "{object}: there is no IPAM driver {:?}",
            spec.ipam_driver
        ))
        .help("leave out --ipam-driver"));
    }
    if let Some(key) = spec.ipam_options.keys().next() {
        return Err(ApiError::unsupported(format!("{object}: IPAM option {key:?} is not known"))
            .help("leave out --ipam-opt: the IPAM driver has no options"));
    }
    Ok(())
}

fn ingress(state: &State, object: &str, spec: &NetworkSpec) -> Result<(), ApiError> {
    if let Some(holder) = state.networks.values().find(|n| n.spec.ingress) {
        return Err(ApiError::conflict(format!("ingress network ({}) is already present", holder.spec.name))
            .help(format!("remove it first: rnctl network rm {}", holder.spec.name)));
    }
    if spec.attachable || spec.internal {
        return Err(ApiError::invalid(format!(
            "{object}: an ingress network is neither attachable nor internal"
        ))
        .help("leave out --attachable and --internal"));
    }
    Ok(())
}

fn options(state: &State, object: &str, spec: &NetworkSpec) -> Result<(), ApiError> {
    let NetworkDriver::Overlay(options) = &spec.driver;
    if options.encrypted {
        // Accepting it without encrypting would put clear text on the wire of a network that promised otherwise.
        return Err(ApiError::unsupported(format!(
            "{object}: encrypted overlays are not available in this version of rn"
        ))
        .help(
            "leave out --opt encrypted, or carry the data path over an encrypted link (--data-path-addr)",
        ));
    }
    if let Some(mtu) = options.mtu.filter(|mtu| spec.ipv6 && *mtu < V6_LEAST_MTU) {
        return Err(DriverError::Mtu(mtu.to_string()).of(&spec.name));
    }
    for vni in &options.vnis {
        let holder = state.networks.values().find(|n| n.allocation.as_ref().is_some_and(|a| a.vni == *vni));
        if let Some(holder) = holder {
            return Err(ApiError::conflict(format!(
                "{object}: VXLAN id {vni} is already in use by network {}",
                holder.spec.name
            )));
        }
    }
    Ok(())
}

fn ipam_config(state: &State, object: &str, spec: &NetworkSpec, config: &IpamConfig) -> Result<(), ApiError> {
    let Some(subnet) = config.subnet else {
        if config.ip_range.is_some() || config.gateway.is_some() || !config.aux_addresses.is_empty() {
            return Err(ApiError::invalid(format!(
                "{object}: every ip-range, gateway or auxiliary address must have a corresponding subnet"
            ))
            .help("add --subnet"));
        }
        return Ok(());
    };
    usable_subnet(object, spec, subnet)?;
    if let Some(range) = config.ip_range {
        if range != range.trunc() {
            return Err(ApiError::invalid(format!(
                "{object}: invalid ip-range {range}: it should be {}",
                range.trunc()
            )));
        }
        if !subnet.contains(&range) {
            return Err(ApiError::invalid(format!(
                "{object}: ip-range {range} is not inside subnet {subnet}"
            )));
        }
    }
    if let Some(gateway) = config.gateway {
        host_address(object, "gateway", gateway, subnet)?;
    }
    for (i, (label, addr)) in config.aux_addresses.iter().enumerate() {
        host_address(object, &format!("auxiliary address {label}"), *addr, subnet)?;
        let twice = config.aux_addresses.values().take(i).any(|other| other == addr);
        if twice || config.gateway == Some(*addr) {
            return Err(ApiError::invalid(format!("{object}: address {addr} is given twice")));
        }
    }
    match state.networks.values().find_map(|n| subnet_of(n, subnet).map(|s| (n, s))) {
        Some((holder, taken)) => Err(ApiError::conflict(format!(
            "{object}: subnet {subnet} overlaps with {taken} of network {}",
            holder.spec.name
        ))
        .help("choose another subnet, or leave out --subnet to get a free one")),
        None => Ok(()),
    }
}

fn usable_subnet(object: &str, spec: &NetworkSpec, subnet: IpNet) -> Result<(), ApiError> {
    if subnet != subnet.trunc() {
        return Err(ApiError::invalid(format!(
            "{object}: invalid subnet {subnet}: it should be {}",
            subnet.trunc()
        ))
        .help("the part after the prefix has to be zero"));
    }
    let addr = subnet.addr();
    let family = if addr.is_ipv6() { "IPv6" } else { "IPv4" };
    if addr.is_ipv6() && !spec.ipv6 {
        return Err(ApiError::invalid(format!(
            "{object}: subnet {subnet} is IPv6, and the network has IPv6 switched off"
        ))
        .help("leave out --ipv6=false"));
    }
    if addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || is_link_local(addr) {
        return Err(ApiError::invalid(format!("{object}: subnet {subnet} cannot be used for a network"))
            .help("take one from 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fc00::/7"));
    }
    // A gateway, a service's virtual address and a task are three; IPv4 keeps two more for itself.
    let longest = if addr.is_ipv6() { 126 } else { super::cluster::MAX_SUBNET_SIZE };
    if subnet.prefix_len() > longest {
        return Err(ApiError::invalid(format!("{object}: {family} subnet {subnet} is too small"))
            .help(format!("the smallest is a /{longest}")));
    }
    Ok(())
}

fn host_address(object: &str, what: &str, addr: IpAddr, subnet: IpNet) -> Result<(), ApiError> {
    let reserved = addr == subnet.network() || (addr.is_ipv4() && addr == subnet.broadcast());
    if !subnet.contains(&addr) || reserved {
        return Err(ApiError::invalid(format!(
            "{object}: {what} {addr} is not a host address of subnet {subnet}"
        )));
    }
    Ok(())
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// The subnet of `network` that overlaps with `wanted`: as allocated, or as asked for while it is not.
fn subnet_of(network: &Network, wanted: IpNet) -> Option<IpNet> {
    let overlaps = |other: &IpNet| other.contains(&wanted) || wanted.contains(other);
    match &network.allocation {
        Some(a) => a.subnets.iter().map(|s| s.subnet).find(overlaps),
        None => network.spec.ipam.iter().filter_map(|c| c.subnet).find(overlaps),
    }
}

/// A task has one address per family, so a network has one subnet per family.
fn pairs(object: &str, ipam: &[IpamConfig]) -> Result<(), ApiError> {
    for v6 in [false, true] {
        let mut subnets = ipam.iter().filter_map(|c| c.subnet).filter(|s| s.addr().is_ipv6() == v6);
        if let (Some(first), Some(second)) = (subnets.next(), subnets.next()) {
            return Err(ApiError::unsupported(format!(
                "{object}: {first} and {second} are two {} subnets, and a network has one of each family",
                if v6 { "IPv6" } else { "IPv4" }
            ))
            .help("give one larger subnet instead"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
