//! Addresses as numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An address as a number; the family is kept apart.
pub(crate) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The inverse of [`number`]. A number beyond the family's range yields its last address; no caller makes one.
pub(crate) fn address(v6: bool, number: u128) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from_bits(number))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)))
    }
}

/// A contiguous run of addresses of one family, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddressRange {
    pub v6: bool,
    pub first: u128,
    pub last: u128,
}

impl AddressRange {
    pub fn of(net: &IpNet) -> Self {
        Self { v6: is_v6(net), first: number(net.network()), last: number(net.broadcast()) }
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv6() == self.v6 && (self.first..=self.last).contains(&number(addr))
    }

    pub fn meets(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.last && other.first <= self.last
    }
}

pub(crate) fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}
