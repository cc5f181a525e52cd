//! An overlay's namespace: a bridge and one VXLAN device.
//!
//! The namespace is the network's own, so the host's firewall and bridge-netfilter never see its frames, and its subnets may be
//! anything. Where each address lives comes from the gossip view; the device learns nothing and asks nobody.

use std::collections::BTreeSet;

use kernel::{LinkKind, Ns, Step, Vxlan, alias};
use proto::model::Mac;

use super::{
    Planner, Unit, UnitKey,
    diff::Diff,
    mesh::{reachable, same_vxlan},
};
use crate::desired::Overlay;

/// The bridge, in the overlay's namespace.
pub(super) const BRIDGE: &str = "br0";
/// The VXLAN device, in the overlay's namespace.
pub(super) const DEVICE: &str = "vxlan0";

/// br_netfilter is switched off in an overlay's namespace: there is nothing to filter, and it costs 5 % of the throughput. New namespaces begin with 1.
const UNFILTERED: [&str; 3] = ["arptables", "ip6tables", "iptables"];

fn unfiltered() -> impl Iterator<Item = String> {
    UNFILTERED.into_iter().map(|name| format!("net/bridge/bridge-nf-call-{name}"))
}

pub(super) fn sysctls() -> Vec<String> {
    unfiltered().collect()
}

pub(super) fn plan(p: &mut Planner<'_>, overlay: &Overlay) -> Unit {
    let mut unit = Unit::new(UnitKey::Overlay(overlay.id.clone()));
    let desired = p.desired;
    let ns = Ns::Path(overlay.netns.clone());
    let object = Some(alias(&desired.names.daemon, overlay.id.as_str()));
    let seen = p.observed.ns(&ns);
    if seen.is_none() {
        if p.observed.stale.contains(&overlay.netns) {
            unit.steps.push(Step::DeleteNetns { path: overlay.netns.clone() });
        }
        unit.steps.push(Step::CreateNetns { path: overlay.netns.clone() });
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
            mac: Mac::of_any(overlay.gateways.iter().map(|g| g.addr)),
            mtu: overlay.mtu,
            alias: object.clone(),
        });
    }
    d.mtu(BRIDGE, bridge, overlay.mtu);
    d.addrs(BRIDGE, bridge, &overlay.gateways.iter().copied().collect());
    d.up(BRIDGE, bridge);

    let vxlan = Vxlan {
        vni: overlay.vni,
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
            mtu: overlay.mtu,
            alias: object,
        });
    }
    d.mtu(DEVICE, device, overlay.mtu);
    d.master(DEVICE, device, BRIDGE);
    d.up(DEVICE, device);

    let peers = || overlay.peers.iter().filter(|(_, peer)| reachable(&desired.underlay, peer.vtep));
    d.fdb(DEVICE, device, &peers().map(|(_, peer)| (peer.mac, peer.vtep)).collect());
    d.neighbours(DEVICE, device, &peers().map(|(addr, peer)| (*addr, peer.mac)).collect());

    // Ends of legs whose task has gone.
    if desired.settled {
        let on = |s: &&crate::desired::Sandbox| s.networks().any(|n| *n == overlay.id);
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
