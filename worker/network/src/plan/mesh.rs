//! The routing mesh: every node answers on a published port, and the task sees the client's own address.
//!
//! The way of a packet, with node 1 the one that the client asked and node 2 the one with the task:
//!
//! 1. Node 1, `published_ports`: a new flow to a published port of a local address is marked as entered and DNATed, to the task's ingress
//!    address on another node, or to its gateway-bridge address here.
//! 2. The mark leads to our own routing table, where the ingress subnet lies on the mesh device, a VXLAN used at layer 3;
//!    a permanent neighbour entry gives each task the MAC of its node.
//! 3. Node 2, `prerouting_raw`: flows of different nodes are tracked apart. `prerouting_mangle`: the connection is marked with the
//!    number of the node that the frame's MAC names. Then it is DNATed to the task's gateway-bridge address; the source is still
//!    the client's.
//! 4. The reply comes from the gateway bridge, gets the connection's mark, takes our routing table's default route, and the
//!    egress hook of the mesh device writes the MAC of the node that the mark names.
//! 5. Node 1 undoes its DNAT; the client sees an answer from where it asked.
//!
//! Sources that mean nothing on another node (127.0.0.1, gateway-bridge addresses) become node 1's ingress address. `::1` is not
//! served: nothing can lead it off the loopback.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::{Family, IpFamily, Link, LinkKind, Ns, Route, Rule, Step, Vxlan, alias};
use proto::model::{Mac, SubnetAddr};

use super::{Obstacle, Planner, Unit, UnitKey, diff::Diff, elements, names::MESH_RULE_PREF, rulesets};
use crate::desired::{Mesh, NodeDesired, Underlay};

/// Next hops of the mesh's default routes. They exist only as neighbour entries; the egress hook replaces their MAC.
const NEXT_HOPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];
const NEXT_HOP_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 0]);

/// Loose reverse-path filtering everywhere is as strict as the mesh bears.
const RP_FILTER_ALL: &str = "net/ipv4/conf/all/rp_filter";

fn wanted_sysctls(desired: &NodeDesired) -> [(String, &'static str); 3] {
    let dev = &desired.names.mesh_device;
    [
        (format!("net/ipv4/conf/{dev}/rp_filter"), "0"),
        (format!("net/ipv4/conf/{dev}/route_localnet"), "1"),
        (format!("net/ipv6/conf/{dev}/accept_ra"), "0"),
    ]
}

pub(super) fn sysctls(desired: &NodeDesired) -> Vec<String> {
    wanted_sysctls(desired).map(|(key, _)| key).into_iter().chain([RP_FILTER_ALL.to_owned()]).collect()
}

/// All of the mesh but the elements.
pub(super) fn shape(desired: &NodeDesired) -> Option<Mesh> {
    let mesh = desired.mesh.as_ref()?;
    Some(Mesh { ports: BTreeMap::new(), local_tasks: BTreeMap::new(), ..mesh.clone() })
}

/// Whether a VXLAN device is the one that is wanted; what cannot be changed on a living device counts.
pub(super) fn same_vxlan(link: &Link, want: &Vxlan) -> bool {
    match &link.kind {
        LinkKind::Vxlan(is) => {
            (is.vni, is.port, is.local, is.proxy) == (want.vni, want.port, want.local, want.proxy)
        }
        _ => false,
    }
}

/// Whether VXLAN can send to a peer: outer addresses are of one family.
pub(super) fn reachable(underlay: &Underlay, vtep: IpAddr) -> bool {
    underlay.addr.is_ipv4() == vtep.is_ipv4() && underlay.addr != vtep
}

fn layers(mesh: &Mesh) -> [Vec<Arc<elements::Elements>>; 2] {
    [vec![Arc::new(elements::mesh(mesh))], vec![Arc::new(elements::mesh_egress(mesh))]]
}

fn rules(desired: &NodeDesired) -> BTreeSet<Rule> {
    let rule = |family| Rule {
        family,
        pref: MESH_RULE_PREF,
        fwmark: Some(desired.marks.rule()),
        to: None,
        table: desired.names.mesh_routes,
    };
    BTreeSet::from([rule(IpFamily::V4), rule(IpFamily::V6)])
}

fn routes(desired: &NodeDesired, mesh: &Mesh) -> BTreeSet<Route> {
    let names = &desired.names;
    let on = |dst: IpNet, dev: &str| Route { table: names.mesh_routes, ..Route::on_link(dst, dev) };
    let ingress = mesh.subnets.iter().map(|net| on(*net, &names.mesh_device));
    // A marked flow may also land on a task of this node.
    let here = desired.gateway.nets().map(|net| on(net.trunc(), &names.gateway_bridge));
    let default = NEXT_HOPS.map(|via| {
        let all = if via.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
        Route { via: Some(via), onlink: true, ..on(all, &names.mesh_device) }
    });
    ingress.chain(here).chain(default).collect()
}

pub(super) fn plan(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Mesh);
    let desired = p.desired;
    let names = &desired.names;
    let (ns, dev) = (Ns::Host, names.mesh_device.as_str());
    let mut d = Diff { ns: &ns, seen: p.observed.ns(&ns), steps: &mut unit.steps };
    let mut seen = d.link(dev);
    if let Some(link) = seen.filter(|l| l.owned_by(&names.daemon).is_none()) {
        unit.obstacle = Some(Obstacle::Link { name: dev.into(), alias: link.alias.clone() });
        return unit;
    }

    let Some(mesh) = &desired.mesh else {
        if desired.settled {
            remove(&mut d, desired);
        }
        return unit;
    };

    let vxlan = Vxlan {
        vni: mesh.vni,
        port: desired.underlay.port,
        local: desired.underlay.addr,
        dev: desired.underlay.dev.clone(),
        proxy: false,
    };
    if let Some(other) = seen.filter(|l| !same_vxlan(l, &vxlan) || l.mac != Some(mesh.mac)) {
        tracing::debug!(?other, "the mesh device is not what it should be");
        d.steps.push(Step::DeleteLink { ns: ns.clone(), link: dev.into() });
        seen = None;
    }
    let fresh = seen.is_none();
    if fresh {
        d.steps.push(Step::CreateVxlan {
            ns: ns.clone(),
            name: dev.into(),
            vxlan,
            mac: Some(mesh.mac),
            mtu: mesh.mtu,
            alias: Some(alias(&names.daemon, mesh.id.as_str())),
        });
    }
    d.mtu(dev, seen, mesh.mtu);
    let host = |addr: &IpAddr| SubnetAddr { addr: *addr, prefix: if addr.is_ipv4() { 32 } else { 128 } };
    d.addrs(dev, seen, &mesh.addrs.iter().map(host).collect());
    d.up(dev, seen);
    if fresh {
        // Its sysctls went with the device.
        for (key, value) in wanted_sysctls(desired) {
            d.steps.push(Step::SetSysctl { ns: ns.clone(), key, value: value.into() });
        }
    } else {
        for (key, value) in wanted_sysctls(desired) {
            d.sysctl(key, value);
        }
    }
    if d.seen.and_then(|s| s.sysctls.get(RP_FILTER_ALL)).is_some_and(|v| v.trim() == "1") {
        d.sysctl(RP_FILTER_ALL, "2");
    }

    let peers = || mesh.peers.values().filter(|peer| reachable(&desired.underlay, peer.vtep));
    d.fdb(dev, seen, &peers().map(|peer| (peer.mac, peer.vtep)).collect());
    let nodes = peers().flat_map(|peer| peer.addrs.iter().map(|addr| (*addr, peer.mac)));
    let tasks = mesh.remote_tasks.iter().map(|(addr, mac)| (*addr, *mac));
    let next_hops = NEXT_HOPS.map(|hop| (hop, NEXT_HOP_MAC));
    d.neighbours(dev, seen, &nodes.chain(tasks).chain(next_hops).collect());

    let want = routes(desired, mesh);
    if fresh {
        // Routes went with the device, whatever was seen.
        d.steps.extend(want.into_iter().map(|route| Step::AddRoute { ns: ns.clone(), route }));
    } else {
        d.routes(&want, |r| r.table == names.mesh_routes);
    }
    let have: BTreeSet<Rule> =
        d.seen.iter().flat_map(|s| &s.rules).copied().filter(|r| r.table == names.mesh_routes).collect();
    let want = rules(desired);
    d.steps.extend(have.difference(&want).map(|rule| Step::DelRule { ns: Ns::Host, rule: *rule }));
    d.steps.extend(want.difference(&have).map(|rule| Step::AddRule { ns: Ns::Host, rule: *rule }));

    let [inet, netdev] = layers(mesh);
    // The hook on the device goes with the device and leaves the rest of its table behind.
    let ruleset = rulesets::mesh_egress(names);
    unit.known.push(d.table(
        &ruleset,
        netdev,
        p.known,
        |t| !fresh && t.chains.contains("egress"),
        &mut p.cache,
    ));
    let ruleset = rulesets::mesh(names, &desired.gateway, mesh, desired.marks, desired.underlay.port);
    unit.known.push(d.table(&ruleset, inet, p.known, |_| true, &mut p.cache));
    unit
}

fn remove(d: &mut Diff<'_>, desired: &NodeDesired) {
    let names = &desired.names;
    let Some(seen) = d.seen else { return };
    for family in [Family::Inet, Family::Netdev] {
        let table = names.mesh_table.clone();
        if seen.tables.get(&(family, table.clone())).is_some_and(|t| t.digest.is_some()) {
            d.steps.push(Step::DeleteTable { ns: Ns::Host, family, table });
        }
    }
    let rules = seen.rules.iter().filter(|r| r.table == names.mesh_routes);
    d.steps.extend(rules.map(|rule| Step::DelRule { ns: Ns::Host, rule: *rule }));
    let routes = seen.routes.iter().filter(|r| r.table == names.mesh_routes);
    d.steps.extend(routes.map(|route| Step::DelRoute { ns: Ns::Host, route: route.clone() }));
    if seen.links.contains_key(&names.mesh_device) {
        d.steps.push(Step::DeleteLink { ns: Ns::Host, link: names.mesh_device.clone() });
    }
}

/// Published ports and tasks here alone.
pub(super) fn update(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Mesh);
    if let Some(mesh) = &p.desired.mesh {
        let [inet, netdev] = layers(mesh);
        let table = &p.desired.names.mesh_table;
        p.known_update(&mut unit, (Ns::Host, Family::Inet, table.clone()), inet);
        p.known_update(&mut unit, (Ns::Host, Family::Netdev, table.clone()), netdev);
    }
    unit
}
