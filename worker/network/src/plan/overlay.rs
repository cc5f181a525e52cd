//! An overlay's namespace: a bridge and one VXLAN device.
//!
//! The namespace is the network's own, so the host's firewall and bridge-netfilter never see its frames, and its subnets may be
//! anything. Where each address lives comes from the gossip view; the device learns nothing and asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{LinkKind, Ns, Step, Vxlan, alias};
use proto::model::{Mac, Network, NetworkId, Subnet, SubnetAddr};

use super::{
    Planner, Unit, UnitKey,
    diff::Diff,
    driver::Driver,
    mesh::{reachable, same_vxlan},
};
use crate::{
    desired::{BridgePort, DesiredNetwork, DriverState, InterfaceLink, LocalFacts, Peer, Sandbox, Swarm},
    workload::WorkloadId,
};

pub(super) const DRIVER: Driver = Driver { network, link, sysctls, plan };

/// The bridge, in the overlay's namespace.
const BRIDGE: &str = "br0";
/// The VXLAN device, in the overlay's namespace.
const DEVICE: &str = "vxlan0";

/// br_netfilter is switched off in an overlay's namespace: there is nothing to filter, and it costs 5 % of the throughput. New namespaces begin with 1.
const UNFILTERED: [&str; 3] = ["arptables", "ip6tables", "iptables"];

fn unfiltered() -> impl Iterator<Item = String> {
    UNFILTERED.into_iter().map(|name| format!("net/bridge/bridge-nf-call-{name}"))
}

fn sysctls() -> Vec<String> {
    unfiltered().collect()
}

/// Without a swarm nobody can be reached, and the network waits.
fn network(network: &Network, swarm: Option<Swarm<'_>>, local: &LocalFacts) -> Option<DesiredNetwork> {
    let (Swarm { member, view, .. }, allocation) = (swarm?, network.allocation.as_ref()?);
    let mut peers = BTreeMap::new();
    for record in view.endpoints_of(&network.id).filter(|r| r.node != member.me) {
        let (Some(node), Some(mac)) =
            (view.nodes.get(&record.node), Mac::of_any(record.addrs.iter().copied()))
        else {
            continue;
        };
        peers.extend(record.addrs.iter().map(|addr| (*addr, Peer { mac, vtep: node.vtep })));
    }
    // An address that just came here may still be in a record of the node it left.
    for s in local.sandboxes.values() {
        for addr in s.workload.attachments.iter().filter(|a| a.network == network.id).flat_map(|a| &a.addrs) {
            peers.remove(&addr.addr);
        }
    }
    let gateway = |s: &Subnet| SubnetAddr { addr: s.gateway, prefix: s.subnet.prefix_len() };
    Some(DesiredNetwork {
        id: network.id.clone(),
        mtu: allocation.mtu,
        ns: Ns::Path(local.network_netns(&network.id)),
        gateways: allocation.subnets.iter().map(gateway).collect(),
        state: DriverState::Overlay { vni: allocation.vni, peers },
    })
}

fn link(network: &NetworkId, workload: &WorkloadId, local: &LocalFacts) -> InterfaceLink {
    InterfaceLink::Veth(BridgePort {
        ns: Ns::Path(local.network_netns(network)),
        name: local.names.overlay_port(workload),
        object: workload.to_string(),
        bridge: BRIDGE.into(),
        isolated: None,
    })
}

fn plan<'a>(p: &mut Planner<'a>, network: &'a DesiredNetwork) -> Unit {
    let DriverState::Overlay { vni, peers } = &network.state;
    let mut unit = Unit::new(UnitKey::Network(network.id.clone()));
    let desired = p.desired;
    let ns = network.ns.clone();
    let object = Some(alias(&desired.names.daemon, network.id.as_str()));
    let seen = p.observed.ns(&ns);
    if let (None, Some(path)) = (seen, ns.path()) {
        if p.observed.stale.contains(path) {
            unit.steps.push(Step::DeleteNetns { path: path.to_owned() });
        }
        unit.steps.push(Step::CreateNetns { path: path.to_owned() });
    }
    let mut d = Diff { ns: &ns, seen, steps: &mut unit.steps };
    let begins_filtered = |key: &String| match seen {
        None => desired.bridge_netfilter,
        Some(seen) => seen.sysctls.contains_key(key),
    };
    unfiltered().filter(begins_filtered).for_each(|key| d.sysctl(key, "0"));

    let mut bridge = d.link(BRIDGE);
    if bridge.is_some_and(|l| l.kind != LinkKind::Bridge) {
        d.steps.push(Step::DeleteLink { ns: ns.clone(), link: BRIDGE.into() });
        bridge = None;
    }
    if bridge.is_none() {
        d.steps.push(Step::CreateBridge {
            ns: ns.clone(),
            name: BRIDGE.into(),
            mac: Mac::of_any(network.gateways.iter().map(|g| g.addr)),
            mtu: network.mtu,
            alias: object.clone(),
        });
    }
    d.mtu(BRIDGE, bridge, network.mtu);
    d.addrs(BRIDGE, bridge, &network.gateways.iter().copied().collect());
    d.up(BRIDGE, bridge);

    let vxlan = Vxlan {
        vni: *vni,
        port: desired.underlay.port,
        local: desired.underlay.addr,
        dev: desired.underlay.dev.clone(),
        proxy: true,
    };
    let mut device = d.link(DEVICE);
    if device.is_some_and(|l| !same_vxlan(l, &vxlan)) {
        d.steps.push(Step::DeleteLink { ns: ns.clone(), link: DEVICE.into() });
        device = None;
    }
    if device.is_none() {
        d.steps.push(Step::CreateVxlan {
            ns: ns.clone(),
            name: DEVICE.into(),
            vxlan,
            mac: None,
            mtu: network.mtu,
            alias: object,
        });
    }
    d.mtu(DEVICE, device, network.mtu);
    d.master(DEVICE, device, BRIDGE);
    d.up(DEVICE, device);

    let near = || peers.iter().filter(|(_, peer)| reachable(&desired.underlay, peer.vtep));
    d.fdb(DEVICE, device, &near().map(|(_, peer)| (peer.mac, peer.vtep)).collect());
    d.neighbours(DEVICE, device, &near().map(|(addr, peer)| (*addr, peer.mac)).collect());

    // Ports whose workload has gone.
    if desired.settled {
        let on = |s: &&Sandbox| s.networks().any(|n| *n == network.id);
        let ports: BTreeSet<String> =
            desired.sandboxes.values().filter(on).map(|s| desired.names.overlay_port(&s.workload)).collect();
        let links = d.seen.iter().flat_map(|s| &s.links);
        let gone = links.filter(|(name, l)| l.kind == LinkKind::Veth && !ports.contains(*name));
        let steps: Vec<Step> =
            gone.map(|(name, _)| Step::DeleteLink { ns: ns.clone(), link: name.clone() }).collect();
        d.steps.extend(steps);
    }
    unit
}
