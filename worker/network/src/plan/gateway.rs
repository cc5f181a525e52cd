//! The gateway bridge: where tasks meet the host and the world.
//!
//! Its ports are isolated from each other, and a new flow leaves through it only when it was translated: so tasks cannot reach
//! each other by it, and nobody on the LAN can route straight to a task.

use std::sync::Arc;

use kernel::{Family, LinkKind, Ns, Step, alias, facts::BridgeNetfilter};
use proto::model::Mac;

use super::{Obstacle, Planner, Unit, UnitKey, diff::Diff, elements, rulesets};
use crate::{
    desired::{BridgePort, InterfaceLink, LocalFacts, NodeDesired},
    workload::WorkloadId,
};

/// What the alias of the host's end of an interface on the bridge starts with, before the workload's id.
pub(super) const ALIAS: &str = "gw/";

/// A workload's interface on the bridge.
pub(crate) fn link(workload: &WorkloadId, local: &LocalFacts) -> InterfaceLink {
    InterfaceLink::Veth(BridgePort {
        ns: Ns::Host,
        name: local.names.gateway_port(workload),
        object: format!("{ALIAS}{workload}"),
        bridge: local.names.gateway_bridge.clone(),
        isolated: Some(local.bridge_netfilter != BridgeNetfilter::On),
    })
}

const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

fn wanted_sysctls(desired: &NodeDesired) -> [(String, &'static str); 5] {
    let bridge = &desired.names.gateway_bridge;
    let [v4, v6] = FORWARDING;
    [
        (v4.into(), "1"),
        (v6.into(), "1"),
        // 127.0.0.1:PORT of the host leads to tasks.
        (format!("net/ipv4/conf/{bridge}/route_localnet"), "1"),
        (format!("net/ipv6/conf/{bridge}/accept_ra"), "0"),
        // Neighbours cannot be asked for by a router whose link-local address is still being checked.
        (format!("net/ipv6/conf/{bridge}/accept_dad"), "0"),
    ]
}

pub(super) fn sysctls(desired: &NodeDesired) -> Vec<String> {
    wanted_sysctls(desired).map(|(key, _)| key).to_vec()
}

pub(super) fn plan(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Gateway);
    let desired = p.desired;
    let (names, bridge) = (&desired.names, desired.names.gateway_bridge.as_str());
    let ns = Ns::Host;
    let mut d = Diff { ns: &ns, seen: p.observed.ns(&ns), steps: &mut unit.steps };

    let seen = d.link(bridge);
    if let Some(link) = seen.filter(|l| l.kind != LinkKind::Bridge || l.owned_by(&names.daemon).is_none()) {
        unit.obstacle = Some(Obstacle::Link { name: bridge.into(), alias: link.alias.clone() });
        return unit;
    }
    let own = desired.gateway.host(1);
    if seen.is_none_or(|l| l.mac != Mac::of_any(own.map(|a| a.addr))) {
        // A bridge without an address of its own takes its ports' lowest, which changes as they come and go.
        let mac = Mac::of_any(own.map(|a| a.addr));
        match (seen, mac) {
            (Some(_), Some(mac)) => d.steps.push(Step::SetMac { ns: ns.clone(), link: bridge.into(), mac }),
            _ => d.steps.push(Step::CreateBridge {
                ns: ns.clone(),
                name: bridge.into(),
                mac,
                mtu: desired.underlay.mtu,
                alias: Some(alias(&names.daemon, "gwbridge")),
            }),
        }
    }
    d.mtu(bridge, seen, desired.underlay.mtu);
    d.addrs(bridge, seen, &own.into_iter().collect());
    for (key, value) in wanted_sysctls(desired) {
        d.sysctl(key, value);
    }
    d.up(bridge, seen);
    let ruleset = rulesets::gateway(names, &desired.gateway);
    let layers = vec![Arc::new(elements::host_ports(desired))];
    let known = d.table(&ruleset, layers, p.known, |_| true, &mut p.cache);
    unit.known.push(known);
    unit
}

/// Host-mode ports alone.
pub(super) fn update(p: &mut Planner<'_>) -> Unit {
    let mut unit = Unit::new(UnitKey::Gateway);
    let key = (Ns::Host, Family::Inet, p.desired.names.gateway_table.clone());
    let layers = vec![Arc::new(elements::host_ports(p.desired))];
    p.known_update(&mut unit, key, layers);
    unit
}
