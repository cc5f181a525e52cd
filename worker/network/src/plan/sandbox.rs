//! A task's sandbox: a leg per overlay, a leg on the gateway bridge, virtual addresses and the way to its resolver.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::{Family, Ns, Observed, PortFlags, Route, Ruleset, Step, VethEnd, alias};
use proto::model::{Mac, SubnetAddr};

use super::{
    Planner, TableKey, Unit, UnitKey,
    diff::Diff,
    elements::{self, Elements},
    overlay, rulesets,
};
use crate::desired::Sandbox;

/// What the alias of a gateway leg's end in the host's namespace starts with, before the task's id.
pub(super) const GATEWAY_ALIAS: &str = "gw/";

static RULESET: LazyLock<Ruleset> = LazyLock::new(rulesets::sandbox);

pub(super) fn table_key(sandbox: &Sandbox) -> TableKey {
    (Ns::Path(sandbox.netns.clone()), Family::Inet, rulesets::SANDBOX_TABLE.to_owned())
}

impl Sandbox {
    /// Whether only elements of the table may differ.
    pub(super) fn same_links(&self, other: &Self) -> bool {
        (&self.netns, &self.interfaces, &self.gateway) == (&other.netns, &other.interfaces, &other.gateway)
    }
}

fn layers(sandbox: &Sandbox, vips: Arc<Elements>) -> Vec<Arc<Elements>> {
    vec![vips, Arc::new(elements::resolver(sandbox.dns))]
}

/// One leg, whatever it leads to.
struct VethPlan<'a> {
    ifname: &'a str,
    mac: Mac,
    mtu: u32,
    addrs: &'a [SubnetAddr],
    far_ns: Ns,
    far_name: String,
    far_alias: String,
    bridge: &'a str,
    /// Whether the port is kept apart from others of its bridge; none = as the kernel made it.
    isolated: Option<bool>,
}

impl VethPlan<'_> {
    /// The whole leg; made anew when any of it cannot be repaired. Says whether it was made.
    fn plan(&self, ns: &Ns, observed: &Observed, owner: &str, steps: &mut Vec<Step>) -> bool {
        let (mut near, mut far) =
            (observed.link(ns, self.ifname), observed.link(&self.far_ns, &self.far_name));
        if near.is_none_or(|l| l.mac != Some(self.mac)) || far.is_none() {
            // Deleting one end takes the other along.
            if near.is_some() {
                steps.push(Step::DeleteLink { ns: ns.clone(), link: self.ifname.into() });
            }
            if far.is_some() {
                steps.push(Step::DeleteLink { ns: self.far_ns.clone(), link: self.far_name.clone() });
            }
            (near, far) = (None, None);
            steps.push(Step::CreateVeth {
                a: VethEnd {
                    ns: ns.clone(),
                    name: self.ifname.into(),
                    mac: Some(self.mac),
                    alias: Some(owner.to_owned()),
                },
                b: VethEnd {
                    ns: self.far_ns.clone(),
                    name: self.far_name.clone(),
                    mac: None,
                    alias: Some(self.far_alias.clone()),
                },
                mtu: self.mtu,
            });
        }
        let mut d = Diff { ns: &self.far_ns, seen: observed.ns(&self.far_ns), steps };
        d.mtu(&self.far_name, far, self.mtu);
        d.master(&self.far_name, far, self.bridge);
        if let Some(isolated) = self.isolated {
            // A flow from a task to itself then goes back through the port that it came from.
            let flags = PortFlags { isolated, hairpin: !isolated, ..PortFlags::default() };
            if far.and_then(|l| l.port) != Some(flags) {
                d.steps.push(Step::SetPort { ns: self.far_ns.clone(), link: self.far_name.clone(), flags });
            }
        }
        d.up(&self.far_name, far);

        let mut d = Diff { ns, seen: observed.ns(ns), steps };
        d.mtu(self.ifname, near, self.mtu);
        d.addrs(self.ifname, near, &self.addrs.iter().copied().collect());
        d.up(self.ifname, near);
        near.is_none()
    }
}

pub(super) fn plan(p: &mut Planner<'_>, sandbox: &Sandbox, vips: Arc<Elements>) -> Unit {
    let mut unit = Unit::new(UnitKey::Sandbox(sandbox.workload.clone()));
    let (desired, observed) = (p.desired, p.observed);
    let names = &desired.names;
    let ns = Ns::Path(sandbox.netns.clone());
    let seen = observed.ns(&ns);
    if seen.is_none() {
        if observed.stale.contains(&sandbox.netns) {
            unit.steps.push(Step::DeleteNetns { path: sandbox.netns.clone() });
        }
        unit.steps.push(Step::CreateNetns { path: sandbox.netns.clone() });
        // Before there is a link: the world's router advertisements are not for tasks.
        let key = "net/ipv6/conf/default/accept_ra".to_owned();
        unit.steps.push(Step::SetSysctl { ns: ns.clone(), key, value: "0".into() });
    }

    let owner = alias(&names.daemon, sandbox.workload.as_str());
    let overlays = sandbox.interfaces.iter().map(|interface| VethPlan {
        ifname: &interface.ifname,
        mac: interface.mac,
        mtu: interface.mtu,
        addrs: &interface.addrs,
        far_ns: Ns::Path(interface.overlay_netns.clone()),
        far_name: names.overlay_port(&sandbox.workload),
        far_alias: owner.clone(),
        bridge: overlay::BRIDGE,
        isolated: None,
    });
    let gateway = sandbox.gateway.iter().map(|interface| VethPlan {
        ifname: &interface.ifname,
        mac: interface.mac,
        mtu: desired.underlay.mtu,
        addrs: &interface.addrs,
        far_ns: Ns::Host,
        far_name: names.gateway_port(&sandbox.workload),
        far_alias: alias(&names.daemon, &format!("{GATEWAY_ALIAS}{}", sandbox.workload)),
        bridge: &names.gateway_bridge,
        isolated: Some(interface.isolated),
    });
    let wires: Vec<VethPlan<'_>> = overlays.chain(gateway).collect();
    let mut made = BTreeSet::new();
    for wire in &wires {
        if wire.plan(&ns, observed, &owner, &mut unit.steps) {
            made.insert(wire.ifname);
        }
    }

    let mut d = Diff { ns: &ns, seen, steps: &mut unit.steps };
    let stray = seen.iter().flat_map(|s| &s.links).filter(|(name, link)| {
        link.owned_by(&names.daemon).is_some() && !wires.iter().any(|w| w.ifname == name.as_str())
    });
    let stray: Vec<Step> =
        stray.map(|(name, _)| Step::DeleteLink { ns: ns.clone(), link: name.clone() }).collect();
    d.steps.extend(stray);

    let subnets = sandbox
        .interfaces
        .iter()
        .flat_map(|interface| interface.routes.iter().map(|net| Route::on_link(*net, &interface.ifname)));
    let defaults = sandbox.gateway.iter().flat_map(|interface| {
        interface.default_via.iter().map(|via| {
            let all: IpNet =
                if via.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
            Route { via: Some(*via), ..Route::on_link(all, &interface.ifname) }
        })
    });
    let want: BTreeSet<Route> = subnets.chain(defaults).collect();
    // Routes of a link that is made anew have gone with the old one.
    let again =
        want.iter().filter(|r| made.contains(r.dev.as_str()) && seen.is_some_and(|s| s.routes.contains(r)));
    let again: Vec<Step> = again.map(|r| Step::AddRoute { ns: ns.clone(), route: r.clone() }).collect();
    d.routes(&want, |r| !made.contains(r.dev.as_str()) || want.contains(r));
    d.steps.extend(again);

    unit.known.push(d.table(&RULESET, layers(sandbox, vips), p.known, |_| true, &mut p.cache));
    unit
}

/// The table's elements alone.
pub(super) fn update(p: &mut Planner<'_>, sandbox: &Sandbox, vips: Arc<Elements>) -> Unit {
    let mut unit = Unit::new(UnitKey::Sandbox(sandbox.workload.clone()));
    p.known_update(&mut unit, table_key(sandbox), layers(sandbox, vips));
    unit
}
