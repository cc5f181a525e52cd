//! Networks.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{Condition, Meta, NetworkDriver, NetworkId, Vni};

/// One subnet that a user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpamConfig {
    /// The subnet; none = one from the pools.
    pub subnet: Option<IpNet>,
    /// Addresses are handed out from this part of it only.
    pub ip_range: Option<IpNet>,
    /// Kept for a gateway; none = the first address.
    pub gateway: Option<IpAddr>,
    /// Addresses never handed out, by name.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// What a user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique in the cluster.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How it is made, with the options of that.
    pub driver: NetworkDriver,
    /// No way out.
    pub internal: bool,
    /// Standalone containers may join.
    pub attachable: bool,
    /// The routing mesh's network; at most one.
    pub ingress: bool,
    /// Has IPv4.
    pub ipv4: bool,
    /// Has IPv6. Unlike Swarm the default for overlays is true.
    pub ipv6: bool,
    /// `default`.
    pub ipam_driver: String,
    /// Options of the IPAM driver.
    pub ipam_options: BTreeMap<String, String>,
    /// Subnets asked for.
    pub ipam: Vec<IpamConfig>,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            labels: BTreeMap::new(),
            driver: NetworkDriver::default(),
            internal: false,
            attachable: false,
            ingress: false,
            ipv4: true,
            ipv6: true,
            ipam_driver: "default".into(),
            ipam_options: BTreeMap::new(),
            ipam: Vec::new(),
        }
    }
}

/// One subnet as allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet.
    pub subnet: IpNet,
    /// Its gateway address: held by the network's bridge on each node, so never handed out.
    pub gateway: IpAddr,
    /// Addresses are handed out from here only.
    pub ip_range: Option<IpNet>,
}

/// Written by the allocator. One VXLAN segment carries all subnets of a network, of both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAllocation {
    /// The segment.
    pub vni: Vni,
    /// MTU of every endpoint.
    pub mtu: u32,
    /// The subnets.
    pub subnets: Vec<Subnet>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Bookkeeping.
    pub meta: Meta,
    /// What the user asked for; immutable.
    pub spec: NetworkSpec,
    /// None while the allocator has not answered; `conditions` says why.
    pub allocation: Option<NetworkAllocation>,
    /// Why it is not usable yet.
    pub conditions: Vec<Condition>,
}
