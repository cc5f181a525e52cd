//! The gateway bridge's subnets and who has which number in them, kept over restarts: running containers hold those addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use ipam::{AllocatedSubnet, pool::carve};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::{Kernel, Ns, Scope};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{desired::GatewaySubnets, error::NetworkError, plan::names::Names, workload::WorkloadId};

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    subnets: GatewaySubnets,
    /// Numbers start after the last one given out, so that an address rests a while before it is used again.
    last: u32,
    numbers: BTreeMap<WorkloadId, u32>,
}

pub(super) struct GatewayStore {
    path: PathBuf,
    stored: Stored,
}

impl GatewayStore {
    /// What was stored, or new subnets.
    pub fn open(
        dir: &Path,
        wanted: Option<Ipv4Net>,
        kernel: &dyn Kernel,
        names: &Names,
    ) -> Result<Self, NetworkError> {
        let path = dir.join("gateway.json");
        let failed =
            |e: &dyn std::fmt::Display| NetworkError::State { path: path.clone(), reason: e.to_string() };
        std::fs::create_dir_all(dir).map_err(|e| failed(&e))?;
        durable::sweep(dir).map_err(|e| failed(&e))?;
        let kept = durable::load_or_set_aside(&path, |text| serde_json::from_slice::<Stored>(text));
        let kept = kept.map_err(|e| failed(&e))?.or_tell(|aside| {
            tracing::warn!(
                "{aside}; the gateway bridge gets new subnets, and running tasks new addresses on it"
            );
        });
        if let Some(stored) = kept
            && wanted.is_none_or(|w| w == stored.subnets.v4)
        {
            return Ok(Self { path, stored });
        }
        let host = kernel.observe(&Scope::host()).map_err(|e| NetworkError::Host(e.into()))?;
        let links = host.ns(&Ns::Host).into_iter().flat_map(|h| &h.links);
        let others = links.filter(|(name, _)| **name != names.gateway_bridge).flat_map(|(_, l)| &l.addrs);
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
        let used: Vec<IpNet> =
            others.map(|a| a.subnet()).chain(routed(&routes).into_iter().map(IpNet::V4)).collect();
        let v4 = wanted.or_else(|| first_free(&used)).ok_or(NetworkError::NoGatewaySubnet)?;
        let stored = Stored { subnets: GatewaySubnets { v4, v6: ula() }, last: 1, numbers: BTreeMap::new() };
        let store = Self { path, stored };
        store.save()?;
        Ok(store)
    }

    pub fn subnets(&self) -> GatewaySubnets {
        self.stored.subnets
    }

    /// The workload's number, which is a new one at its first call.
    pub fn number(&mut self, workload: &WorkloadId) -> Result<u32, NetworkError> {
        if let Some(number) = self.stored.numbers.get(workload) {
            return Ok(*number);
        }
        // Not the network's address, the bridge's, or the broadcast address.
        let hosts = 1u32.checked_shl(u32::from(32 - self.stored.subnets.v4.prefix_len())).unwrap_or(u32::MAX);
        let (first, end) = (2, hosts.saturating_sub(1));
        let used: BTreeSet<u32> = self.stored.numbers.values().copied().collect();
        let mut candidates = (self.stored.last.saturating_add(1)..end).chain(first..end);
        let number = candidates
            .find(|n| *n >= first && !used.contains(n))
            .ok_or(NetworkError::GatewayFull(self.stored.subnets.v4))?;
        self.stored.last = number;
        self.stored.numbers.insert(workload.clone(), number);
        self.save()?;
        Ok(number)
    }

    /// The workload's number may be used again.
    pub fn forget(&mut self, workload: &WorkloadId) {
        if self.stored.numbers.remove(workload).is_some()
            && let Err(error) = self.save()
        {
            tracing::warn!(%error, "the gateway bridge's numbers could not be written");
        }
    }

    fn save(&self) -> Result<(), NetworkError> {
        let failed =
            |e: std::io::Error| NetworkError::State { path: self.path.clone(), reason: e.to_string() };
        let text = serde_json::to_vec(&self.stored).map_err(|e| failed(e.into()))?;
        durable::save(&self.path, &text, durable::PRIVATE).map_err(failed)
    }
}

/// Docker's local pools, in their order, each with the length of the subnets cut from it; 172.17.0.0/16 is left to Docker itself.
const POOLS: [(&[Ipv4Net], u8); 2] = [
    (
        &[
            Ipv4Net::new_assert(Ipv4Addr::new(172, 18, 0, 0), 15),
            Ipv4Net::new_assert(Ipv4Addr::new(172, 20, 0, 0), 14),
            Ipv4Net::new_assert(Ipv4Addr::new(172, 24, 0, 0), 13),
        ],
        16,
    ),
    (&[Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)], 20),
];

/// The first subnet of [`POOLS`] that overlaps with nothing in use.
fn first_free(used: &[IpNet]) -> Option<Ipv4Net> {
    let taken = |subnet: &IpNet| AllocatedSubnet { subnet: *subnet, holder: "this host".into() };
    let taken: Vec<AllocatedSubnet> = used.iter().map(taken).collect();
    POOLS.iter().find_map(|(pools, prefix)| {
        let pools: Vec<IpNet> = pools.iter().copied().map(IpNet::V4).collect();
        match carve(&pools, *prefix, &taken) {
            Ok(IpNet::V4(subnet)) => Some(subnet),
            Ok(IpNet::V6(_)) | Err(_) => None,
        }
    })
}

/// A random unique local /64 (RFC 4193).
fn ula() -> Ipv6Net {
    let mut bytes = [0u8; 16];
    rand::rng().fill(&mut bytes[1..8]);
    bytes[0] = 0xfd;
    Ipv6Net::new(Ipv6Addr::from(bytes), 64).map_or_else(|_| Ipv6Net::default(), |n| n.trunc())
}

/// The destinations in `/proc/net/route`, default routes excepted.
fn routed(table: &str) -> Vec<Ipv4Net> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |n: usize| u32::from_str_radix(fields.get(n)?, 16).ok().map(u32::to_le_bytes);
        let (dst, mask) = (Ipv4Addr::from(hex(1)?), Ipv4Addr::from(hex(7)?));
        Ipv4Net::with_netmask(dst, mask).ok().filter(|n| n.prefix_len() > 0)
    };
    // The bridge's own route, from before its state was lost, would only make it move.
    table.lines().skip(1).filter(|l| !l.starts_with("rn")).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proto::model::TaskId;

    use super::*;

    #[test]
    fn the_subnet_is_the_first_that_the_host_does_not_use() {
        let net = |s: &str| s.parse::<IpNet>().unwrap();
        assert_eq!(first_free(&[]).unwrap().to_string(), "172.18.0.0/16");
        assert_eq!(
            first_free(&[net("172.18.4.0/24"), net("fd00::/8")]).unwrap().to_string(),
            "172.19.0.0/16"
        );
        assert_eq!(first_free(&[net("172.16.0.0/12")]).unwrap().to_string(), "192.168.0.0/20");
        assert_eq!(first_free(&[net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
    }

    #[test]
    fn the_route_table_is_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routed(text), ["172.18.0.0/16".parse().unwrap()]);
    }

    #[test]
    fn numbers_are_kept_and_rest_before_they_are_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let subnets = GatewaySubnets { v4: "192.168.0.0/29".parse().unwrap(), v6: ula() };
        let stored = Stored { subnets, last: 1, numbers: BTreeMap::new() };
        let mut store = GatewayStore { path: dir.path().join("gateway.json"), stored };
        let tasks: Vec<_> = (0..6).map(|_| WorkloadId::Task(TaskId::random())).collect();
        let given: Vec<u32> = tasks.iter().take(5).map(|t| store.number(t).unwrap()).collect();
        assert_eq!(given, [2, 3, 4, 5, 6]);
        assert_eq!(store.number(&tasks[0]), Ok(2));
        assert!(matches!(store.number(&tasks[5]), Err(NetworkError::GatewayFull(_))));
        store.forget(&tasks[1]);
        assert_eq!(store.number(&tasks[5]), Ok(3));
        let again: Stored = serde_json::from_slice(&durable::load(&store.path).unwrap().unwrap()).unwrap();
        assert_eq!(again.numbers.len(), 5);
        assert!(subnets.nets()[1].contains(&subnets.host(2)[1].addr));
    }
}
