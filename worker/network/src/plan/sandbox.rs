//! A workload's sandbox: its interfaces, virtual addresses and the way to its resolver. Where an interface leads, its network's driver says.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::{Family, Ns, Observed, PortFlags, Route, Ruleset, Step, VethEnd, alias};

use super::{
    Planner, TableKey, Unit, UnitKey,
    diff::Diff,
    elements::{self, Elements},
    rulesets,
};
use crate::desired::{Interface, InterfaceLink, Sandbox};

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

/// The whole interface; made anew when any of it cannot be repaired. Says whether it was made.
fn interface(
    wanted: &Interface,
    ns: &Ns,
    observed: &Observed,
    daemon: &str,
    owner: &str,
    steps: &mut Vec<Step>,
) -> bool {
    let InterfaceLink::Veth(port) = &wanted.link;
    let (mut near, mut far) = (observed.link(ns, &wanted.ifname), observed.link(&port.ns, &port.name));
    if near.is_none_or(|l| l.mac != Some(wanted.mac)) || far.is_none() {
        // Deleting one end takes the other along.
        if near.is_some() {
            steps.push(Step::DeleteLink { ns: ns.clone(), link: wanted.ifname.clone() });
        }
        if far.is_some() {
            steps.push(Step::DeleteLink { ns: port.ns.clone(), link: port.name.clone() });
        }
        (near, far) = (None, None);
        steps.push(Step::CreateVeth {
            a: VethEnd {
                ns: ns.clone(),
                name: wanted.ifname.clone(),
                mac: Some(wanted.mac),
                alias: Some(owner.to_owned()),
            },
            b: VethEnd {
                ns: port.ns.clone(),
                name: port.name.clone(),
                mac: None,
                alias: Some(alias(daemon, &port.object)),
            },
            mtu: wanted.mtu,
        });
    }
    let mut d = Diff { ns: &port.ns, seen: observed.ns(&port.ns), steps };
    d.mtu(&port.name, far, wanted.mtu);
    d.master(&port.name, far, &port.bridge);
    if let Some(isolated) = port.isolated {
        // A flow from a task to itself then goes back through the port that it came from.
        let flags = PortFlags { isolated, hairpin: !isolated, ..PortFlags::default() };
        if far.and_then(|l| l.port) != Some(flags) {
            d.steps.push(Step::SetPort { ns: port.ns.clone(), link: port.name.clone(), flags });
        }
    }
    d.up(&port.name, far);

    let mut d = Diff { ns, seen: observed.ns(ns), steps };
    d.mtu(&wanted.ifname, near, wanted.mtu);
    d.addrs(&wanted.ifname, near, &wanted.addrs.iter().copied().collect());
    d.up(&wanted.ifname, near);
    near.is_none()
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
    let interfaces: Vec<&Interface> = sandbox.interfaces.iter().chain(&sandbox.gateway).collect();
    let mut made = BTreeSet::new();
    for wanted in &interfaces {
        if interface(wanted, &ns, observed, &names.daemon, &owner, &mut unit.steps) {
            made.insert(wanted.ifname.as_str());
        }
    }

    let mut d = Diff { ns: &ns, seen, steps: &mut unit.steps };
    let stray = seen.iter().flat_map(|s| &s.links).filter(|(name, link)| {
        link.owned_by(&names.daemon).is_some() && !interfaces.iter().any(|i| i.ifname == **name)
    });
    let stray: Vec<Step> =
        stray.map(|(name, _)| Step::DeleteLink { ns: ns.clone(), link: name.clone() }).collect();
    d.steps.extend(stray);

    let subnets = interfaces.iter().flat_map(|i| i.routes.iter().map(|net| Route::on_link(*net, &i.ifname)));
    let defaults = interfaces.iter().flat_map(|i| {
        i.default_via.iter().map(|via| {
            let all: IpNet =
                if via.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
            Route { via: Some(*via), ..Route::on_link(all, &i.ifname) }
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
