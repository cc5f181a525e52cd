//! Addresses of one network.

use std::{collections::HashSet, net::IpAddr};

use ipnet::IpNet;
use proto::model::{Subnet, SubnetAddr};

use crate::{
    IpamError,
    range::{AddressRange, address, is_v6, number},
};

/// The addresses of one subnet: those in use, those just freed, and where to look next.
#[derive(Debug, Clone)]
pub struct SubnetSpace {
    subnet: IpNet,
    /// What may be handed out.
    span: AddressRange,
    used: HashSet<u128>,
    /// Freed so lately that a peer may still know the former owner: handed out last.
    resting: HashSet<u128>,
    next: u128,
}

impl SubnetSpace {
    /// A space with nothing in use but the gateway. IPv4 network and broadcast addresses and the IPv6 subnet-router
    /// anycast address (RFC 4291) are never handed out.
    pub fn new(subnet: &Subnet) -> Self {
        let mut span = hosts(&subnet.subnet);
        if let Some(range) = &subnet.ip_range {
            let range = AddressRange::of(range);
            span.first = span.first.max(range.first);
            span.last = span.last.min(range.last);
        }
        let mut space = Self {
            subnet: subnet.subnet,
            span,
            used: HashSet::new(),
            resting: HashSet::new(),
            next: span.first,
        };
        space.hold(subnet.gateway);
        space
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Whether this is an IPv6 subnet.
    pub fn is_v6(&self) -> bool {
        self.span.v6
    }

    /// Marks an address as in use; one that lies elsewhere is ignored.
    pub fn hold(&mut self, addr: IpAddr) {
        if self.span.contains(addr) {
            self.used.insert(number(addr));
        }
    }

    /// Gives an address back.
    pub fn release(&mut self, addr: IpAddr) {
        if self.span.contains(addr) {
            self.used.remove(&number(addr));
        }
    }

    /// Marks an address as just freed: it is handed out only when nothing else is left.
    pub fn rest(&mut self, addr: IpAddr) {
        if self.span.contains(addr) {
            self.resting.insert(number(addr));
        }
    }

    /// The search starts behind this address.
    pub fn start_after(&mut self, addr: IpAddr) {
        if self.span.contains(addr) {
            self.next = self.successor(number(addr));
        }
    }

    /// Whether this address could be handed out.
    pub fn is_free(&self, addr: IpAddr) -> bool {
        self.span.contains(addr) && !self.used.contains(&number(addr))
    }

    /// The next free address, now in use; none when the subnet is full.
    pub fn take(&mut self) -> Option<IpAddr> {
        if self.in_use() >= self.capacity() {
            return None;
        }
        let start = self.next;
        let mut rested = None;
        let mut candidate = start;
        let found = loop {
            if !self.used.contains(&candidate) {
                if !self.resting.contains(&candidate) {
                    break Some(candidate);
                }
                rested = rested.or(Some(candidate));
            }
            candidate = self.successor(candidate);
            if candidate == start {
                break rested;
            }
        }?;
        self.used.insert(found);
        self.next = self.successor(found);
        Some(address(self.span.v6, found))
    }

    /// Addresses in use, the gateway among them.
    pub fn in_use(&self) -> u128 {
        self.used.len() as u128
    }

    /// Addresses that can be handed out, the gateway among them.
    pub fn capacity(&self) -> u128 {
        if self.span.first > self.span.last { 0 } else { self.span.last - self.span.first + 1 }
    }

    fn successor(&self, n: u128) -> u128 {
        if n >= self.span.last { self.span.first } else { n + 1 }
    }
}

/// The first address of a subnet that can be its gateway, leaving out `kept` ones.
pub fn gateway(subnet: &IpNet, kept: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let span = hosts(subnet);
    (span.first..=span.last).map(|n| address(span.v6, n)).find(|addr| !kept(*addr))
}

/// What of a subnet a host can have.
fn hosts(subnet: &IpNet) -> AddressRange {
    let mut span = AddressRange::of(subnet);
    let spare = subnet.max_prefix_len() - subnet.prefix_len();
    if spare >= 2 {
        span.first += 1;
        if !is_v6(subnet) {
            span.last -= 1;
        }
    }
    span
}

/// The addresses of one network, all subnets of both families.
#[derive(Debug, Clone)]
pub struct NetworkSpace {
    name: String,
    subnets: Vec<SubnetSpace>,
}

impl NetworkSpace {
    /// The space of the network `name`, with nothing in use but its gateways.
    pub fn new(name: &str, subnets: &[Subnet]) -> Self {
        Self { name: name.to_owned(), subnets: subnets.iter().map(SubnetSpace::new).collect() }
    }

    /// Marks an address as in use.
    pub fn hold(&mut self, addr: IpAddr) {
        self.subnets.iter_mut().for_each(|s| s.hold(addr));
    }

    /// Marks an address as just freed.
    pub fn rest(&mut self, addr: IpAddr) {
        self.subnets.iter_mut().for_each(|s| s.rest(addr));
    }

    /// The search starts behind this address, in its subnet.
    pub fn start_after(&mut self, addr: IpAddr) {
        self.subnets.iter_mut().for_each(|s| s.start_after(addr));
    }

    /// Whether `addrs` are one address of each family of this network, whoever holds them.
    pub fn covers(&self, addrs: &[IpAddr]) -> bool {
        let families = self.families();
        addrs.len() == families.len()
            && addrs.iter().all(|a| self.subnets.iter().any(|s| s.span.contains(*a)))
            && families.iter().all(|v6| addrs.iter().any(|a| a.is_ipv6() == *v6))
    }

    /// One free address of each family, IPv4 first, all of them now in use; or none of them.
    ///
    /// # Errors
    /// [`IpamError::SubnetExhausted`] for the family that is full.
    pub fn take(&mut self) -> Result<Vec<SubnetAddr>, IpamError> {
        let mut taken: Vec<SubnetAddr> = Vec::new();
        for v6 in self.families() {
            let free = self
                .subnets
                .iter_mut()
                .filter(|s| s.is_v6() == v6)
                .find_map(|s| s.take().map(|addr| SubnetAddr { addr, prefix: s.subnet.prefix_len() }));
            match free {
                Some(addr) => taken.push(addr),
                None => {
                    for addr in &taken {
                        self.subnets.iter_mut().for_each(|s| s.release(addr.addr));
                    }
                    return Err(self.exhausted(v6));
                }
            }
        }
        Ok(taken)
    }

    /// The same, with these addresses where they are of a family of the network.
    ///
    /// # Errors
    /// One of them is in no subnet of the network, or is in use; or a family has none left. Then nothing is taken.
    pub fn take_with(&mut self, wanted: &[IpAddr]) -> Result<Vec<SubnetAddr>, IpamError> {
        for (i, addr) in wanted.iter().enumerate() {
            if wanted[..i].iter().any(|other| other.is_ipv4() == addr.is_ipv4()) {
                return Err(IpamError::TwoOfAFamily { addr: *addr, network: self.name.clone() });
            }
            let Some(subnet) = self.subnets.iter().find(|s| s.subnet.contains(addr)) else {
                let subnets =
                    self.subnets.iter().map(|s| s.subnet.to_string()).collect::<Vec<_>>().join(", ");
                return Err(IpamError::Outside { addr: *addr, network: self.name.clone(), subnets });
            };
            // Any host's address will do, an --ip-range only bounds what is chosen for users.
            if !hosts(&subnet.subnet).contains(*addr) || subnet.used.contains(&number(*addr)) {
                return Err(IpamError::AddressTaken { addr: *addr, network: self.name.clone() });
            }
        }
        let mut taken = self.take()?;
        for addr in wanted {
            let Some(chosen) = taken.iter_mut().find(|t| t.addr.is_ipv4() == addr.is_ipv4()) else {
                continue;
            };
            let (old, prefix) = (chosen.addr, self.subnets.iter().find(|s| s.subnet.contains(addr)));
            let Some(prefix) = prefix.map(|s| s.subnet.prefix_len()) else { continue };
            *chosen = SubnetAddr { addr: *addr, prefix };
            self.subnets.iter_mut().for_each(|s| s.release(old));
            self.hold(*addr);
        }
        Ok(taken)
    }

    fn families(&self) -> Vec<bool> {
        [false, true].into_iter().filter(|v6| self.subnets.iter().any(|s| s.is_v6() == *v6)).collect()
    }

    fn exhausted(&self, v6: bool) -> IpamError {
        let of_family = || self.subnets.iter().filter(|s| s.is_v6() == v6);
        IpamError::SubnetExhausted {
            network: self.name.clone(),
            subnet: of_family().map(|s| s.subnet.to_string()).collect::<Vec<_>>().join(", "),
            used: of_family().map(SubnetSpace::in_use).sum(),
            capacity: of_family().map(SubnetSpace::capacity).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn space(subnet: &str, gateway: &str, range: Option<&str>) -> SubnetSpace {
        SubnetSpace::new(&Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            ip_range: range.map(|r| r.parse().unwrap()),
        })
    }

    fn take(space: &mut SubnetSpace) -> String {
        space.take().map_or("-".into(), |a| a.to_string())
    }

    #[test]
    fn serial_from_the_second_address_round_and_round() {
        let mut s = space("10.0.1.0/29", "10.0.1.1", None);
        let all: Vec<String> = (0..5).map(|_| take(&mut s)).collect();
        assert_eq!(all, ["10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6"]);
        assert_eq!(take(&mut s), "-");
        s.release("10.0.1.3".parse().unwrap());
        s.release("10.0.1.5".parse().unwrap());
        assert_eq!((s.in_use(), s.capacity()), (4, 6));
        assert_eq!(take(&mut s), "10.0.1.3");
        s.release("10.0.1.3".parse().unwrap());
        assert_eq!(take(&mut s), "10.0.1.5", "the freed address waits for its turn");
    }

    #[test]
    fn a_resting_address_is_the_last_choice() {
        let mut s = space("10.0.1.0/29", "10.0.1.1", None);
        s.rest("10.0.1.2".parse().unwrap());
        s.rest("10.0.1.3".parse().unwrap());
        let all: Vec<String> = (0..6).map(|_| take(&mut s)).collect();
        assert_eq!(all, ["10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.1.2", "10.0.1.3", "-"]);
    }

    #[test]
    fn a_range_bounds_the_choice_and_the_gateway_may_lie_outside() {
        let mut s = space("10.0.0.0/16", "10.0.0.1", Some("10.0.255.252/30"));
        let all: Vec<String> = (0..4).map(|_| take(&mut s)).collect();
        assert_eq!(all, ["10.0.255.252", "10.0.255.253", "10.0.255.254", "-"]);
    }

    #[test]
    fn ipv6_and_point_to_point_subnets() {
        let mut s = space("fd00:1::/64", "fd00:1::1", None);
        assert_eq!(take(&mut s), "fd00:1::2");
        s.start_after("fd00:1::ffff:ffff:ffff:ffff".parse().unwrap());
        assert_eq!(take(&mut s), "fd00:1::3", "the cursor wraps, past what is held");
        let mut s = space("10.1.1.0/31", "10.1.1.0", None);
        assert_eq!((take(&mut s), take(&mut s)), ("10.1.1.1".into(), "-".into()));
        let subnet = "10.1.1.0/24".parse().unwrap();
        assert_eq!(gateway(&subnet, |a| a.to_string() == "10.1.1.1").unwrap().to_string(), "10.1.1.2");
        assert_eq!(gateway(&"fd00::/64".parse().unwrap(), |_| false).unwrap().to_string(), "fd00::1");
    }

    #[test]
    fn one_of_each_family_or_nothing() {
        let subnet = |s: &str, g: &str| Subnet {
            subnet: s.parse().unwrap(),
            gateway: g.parse().unwrap(),
            ip_range: None,
        };
        let subnets = [subnet("fd00::/127", "fd00::"), subnet("10.0.1.0/29", "10.0.1.1")];
        let mut space = NetworkSpace::new("app", &subnets);
        let first: Vec<String> = space.take().unwrap().iter().map(SubnetAddr::to_string).collect();
        assert_eq!(first, ["10.0.1.2/29", "fd00::1/127"]);
        let error = space.take().unwrap_err().to_string();
        assert_eq!(error, "network app has no free address in fd00::/127: 2 of 2 are in use");
        // The IPv4 address was given back.
        assert!(space.subnets.iter().any(|s| s.is_free("10.0.1.3".parse().unwrap())));
        assert!(space.covers(&["10.0.1.2".parse().unwrap(), "fd00::1".parse().unwrap()]));
        assert!(!space.covers(&["10.0.1.2".parse().unwrap()]));
        assert!(!space.covers(&["10.0.1.2".parse().unwrap(), "fd99::1".parse().unwrap()]));
    }

    proptest! {
        #[test]
        fn never_twice_never_outside(
            prefix in 24u8..=31,
            held in prop::collection::vec(any::<u8>(), 0..40),
            resting in prop::collection::vec(any::<u8>(), 0..40),
            start in any::<u8>(),
        ) {
            let subnet: IpNet = format!("10.0.3.0/{prefix}").parse().unwrap();
            let at = |n: u8| IpAddr::from([10, 0, 3, n]);
            let mut s = space(&subnet.to_string(), "10.0.3.1", None);
            held.iter().for_each(|n| s.hold(at(*n)));
            resting.iter().for_each(|n| s.rest(at(*n)));
            s.start_after(at(start));
            let free = s.capacity() - s.in_use();
            let mut seen = HashSet::new();
            while let Some(addr) = s.take() {
                prop_assert!(subnet.contains(&addr));
                prop_assert!(seen.insert(addr));
                prop_assert!(!held.iter().any(|n| at(*n) == addr));
                prop_assert!(prefix == 31 || (addr != subnet.network() && addr != subnet.broadcast()));
            }
            prop_assert_eq!(seen.len() as u128, free);
        }
    }
}
