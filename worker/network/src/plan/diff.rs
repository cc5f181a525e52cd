//! What to do about one link, routing table or nftables table, given what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kernel::{FdbEntry, Link, Neigh, Ns, NsObserved, Route, Ruleset, Step, observed::Table};
use proto::model::{Mac, SubnetAddr};

use super::{
    Known, TableKey,
    elements::{Elements, changes, split_off_late},
};

/// Steps for one unit, gathered against what one namespace holds.
pub(super) struct Diff<'a> {
    pub ns: &'a Ns,
    pub seen: Option<&'a NsObserved>,
    pub steps: &'a mut Vec<Step>,
}

impl<'a> Diff<'a> {
    pub fn link(&self, name: &str) -> Option<&'a Link> {
        self.seen?.links.get(name)
    }

    pub fn up(&mut self, name: &str, seen: Option<&Link>) {
        if !seen.is_some_and(|l| l.up) {
            self.steps.push(Step::SetUp { ns: self.ns.clone(), link: name.into(), up: true });
        }
    }

    pub fn master(&mut self, name: &str, seen: Option<&Link>, master: &str) {
        if seen.and_then(|l| l.master.as_deref()) != Some(master) {
            self.steps.push(Step::SetMaster {
                ns: self.ns.clone(),
                link: name.into(),
                master: Some(master.into()),
            });
        }
    }

    pub fn mtu(&mut self, name: &str, seen: Option<&Link>, mtu: u32) {
        if seen.is_some_and(|l| l.mtu != mtu) {
            self.steps.push(Step::SetMtu { ns: self.ns.clone(), link: name.into(), mtu });
        }
    }

    pub fn addrs(&mut self, name: &str, seen: Option<&Link>, want: &BTreeSet<SubnetAddr>) {
        let none = BTreeSet::new();
        let have = seen.map_or(&none, |l| &l.addrs);
        let (ns, link) = (self.ns, name);
        self.steps.extend(have.difference(want).map(|addr| Step::DelAddr {
            ns: ns.clone(),
            link: link.into(),
            addr: *addr,
        }));
        self.steps.extend(want.difference(have).map(|addr| Step::AddAddr {
            ns: ns.clone(),
            link: link.into(),
            addr: *addr,
        }));
    }

    pub fn fdb(&mut self, name: &str, seen: Option<&Link>, want: &BTreeMap<Mac, IpAddr>) {
        let have: BTreeMap<Mac, IpAddr> = seen.iter().flat_map(|l| &l.fdb).map(|e| (e.mac, e.dst)).collect();
        let step =
            |mac: &Mac, dst: &IpAddr| (FdbEntry { mac: *mac, dst: *dst }, self.ns.clone(), name.to_owned());
        let gone = have.iter().filter(|(mac, _)| !want.contains_key(mac)).map(|(mac, dst)| {
            let (entry, ns, link) = step(mac, dst);
            Step::DelFdb { ns, link, entry }
        });
        let new = want.iter().filter(|(mac, dst)| have.get(mac) != Some(dst)).map(|(mac, dst)| {
            let (entry, ns, link) = step(mac, dst);
            Step::ReplaceFdb { ns, link, entry }
        });
        let steps: Vec<Step> = gone.chain(new).collect();
        self.steps.extend(steps);
    }

    pub fn neighbours(&mut self, name: &str, seen: Option<&Link>, want: &BTreeMap<IpAddr, Mac>) {
        let none = BTreeMap::new();
        let have = seen.map_or(&none, |l| &l.neigh);
        let (ns, link) = (self.ns, name);
        self.steps.extend(have.keys().filter(|addr| !want.contains_key(addr)).map(|addr| Step::DelNeigh {
            ns: ns.clone(),
            link: link.into(),
            addr: *addr,
        }));
        self.steps.extend(want.iter().filter(|(addr, mac)| have.get(addr) != Some(mac)).map(
            |(addr, mac)| {
                let neigh = Neigh { addr: *addr, mac: *mac };
                Step::ReplaceNeigh { ns: ns.clone(), link: link.into(), neigh }
            },
        ));
    }

    /// Makes `want` the routes of ours for which `mine` holds.
    pub fn routes(&mut self, want: &BTreeSet<Route>, mine: impl Fn(&Route) -> bool) {
        let have: BTreeSet<&Route> = self.seen.iter().flat_map(|s| &s.routes).filter(|r| mine(r)).collect();
        let ns = self.ns;
        let gone = have.iter().filter(|r| !want.contains(**r));
        self.steps.extend(gone.map(|r| Step::DelRoute { ns: ns.clone(), route: (*r).clone() }));
        let new = want.iter().filter(|r| !have.contains(r));
        self.steps.extend(new.map(|r| Step::AddRoute { ns: ns.clone(), route: r.clone() }));
    }

    pub fn sysctl(&mut self, key: impl Into<String>, value: &str) {
        let key = key.into();
        if self.seen.and_then(|s| s.sysctls.get(&key)).map(|v| v.trim()) != Some(value) {
            self.steps.push(Step::SetSysctl { ns: self.ns.clone(), key, value: value.into() });
        }
    }

    /// A table of ours. `layers` are its elements, in disjoint sets; `sound` says whether the table in the kernel is whole.
    pub fn table(
        &mut self,
        ruleset: &Ruleset,
        layers: Vec<Arc<Elements>>,
        known: &Known,
        sound: impl Fn(&Table) -> bool,
        cache: &mut ChangeCache,
    ) -> (TableKey, Vec<Arc<Elements>>) {
        let key: TableKey = (self.ns.clone(), ruleset.family, ruleset.table.clone());
        let seen = self.seen.and_then(|s| s.tables.get(&(ruleset.family, ruleset.table.clone())));
        let in_place = seen.is_some_and(|t| t.digest.as_deref() == Some(&ruleset.digest()) && sound(t));
        let ns = self.ns.clone();
        if in_place {
            let observed = seen.and_then(|t| t.elements.as_ref()).map(|e| Arc::new(e.clone()));
            self.steps.extend(update(&key, &layers, observed, known, cache));
        } else if seen.is_some() {
            // In one transaction with its elements, so that no packet sees the table without them.
            let mut ruleset = ruleset.clone();
            for (set, elements) in layers.iter().flat_map(|l| l.iter()) {
                ruleset.elements.push((set.clone(), elements.iter().cloned().collect()));
            }
            self.steps.push(Step::ApplyRuleset { ns, ruleset });
        } else {
            // Nobody uses the table yet: elements by netlink are a good deal faster than as text.
            self.steps.push(Step::ApplyRuleset { ns, ruleset: ruleset.clone() });
            self.steps.extend(update(&key, &layers, Some(Arc::default()), known, cache));
        }
        (key, layers)
    }
}

/// Differences already computed in this pass, by the identity of what was compared: sandboxes on the same networks have the
/// same elements, which are then compared once.
#[derive(Default)]
pub(super) struct ChangeCache(Vec<(Arc<Elements>, Arc<Elements>, Vec<kernel::ElementChange>)>);

impl ChangeCache {
    fn changes(&mut self, old: &Arc<Elements>, new: &Arc<Elements>) -> Vec<kernel::ElementChange> {
        if Arc::ptr_eq(old, new) {
            return Vec::new();
        }
        if let Some((.., hit)) = self.0.iter().find(|(o, n, _)| Arc::ptr_eq(o, old) && Arc::ptr_eq(n, new)) {
            return hit.clone();
        }
        let found = changes(old, new);
        self.0.push((Arc::clone(old), Arc::clone(new), found.clone()));
        found
    }
}

/// The steps that bring a table's elements from what was seen, or else is known to have been put there, to `layers`.
pub(super) fn update(
    key: &TableKey,
    layers: &[Arc<Elements>],
    observed: Option<Arc<Elements>>,
    known: &Known,
    cache: &mut ChangeCache,
) -> impl Iterator<Item = Step> {
    let mut all = Vec::new();
    match (observed, known.get(key)) {
        (Some(observed), _) => {
            let whole: Elements =
                layers.iter().flat_map(|l| l.iter()).map(|(k, v)| (k.clone(), v.clone())).collect();
            // What a dump reports for an empty set does not matter.
            all = changes(&observed, &whole);
        }
        (None, Some(old)) if old.len() == layers.len() => {
            for (old, new) in old.iter().zip(layers) {
                all.extend(cache.changes(old, new));
            }
        }
        // Not seen and not known: everything is added, which is harmless to what is there.
        (None, _) => {
            for layer in layers {
                all.extend(changes(&Elements::new(), layer));
            }
        }
    }
    let late = split_off_late(&mut all);
    let (ns, family, table) = key.clone();
    [all, late].into_iter().filter(|changes| !changes.is_empty()).map(move |changes| Step::UpdateElements {
        ns: ns.clone(),
        family,
        table: table.clone(),
        changes,
    })
}
