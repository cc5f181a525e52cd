//! From what should be to what to do: pure planners.
//!
//! [`plan`] compares [`NodeDesired`] with what was observed and answers with the steps that make them equal, grouped in
//! [`Unit`]s that do not depend on each other's success. A plan carried out once makes the next one empty.
//!
//! * [`names`]: what our things are called, and the mesh's packet marks.
//! * [`rulesets`]: the nftables tables; [`elements`]: what changes in them.
//! * `gateway`, `mesh`, `underlay`, `sandbox`, `firewall`: one file per thing that is planned.
//! * `driver`: the drivers of networks, a row each; `overlay`: one of them.
//!
//! Elements are compared with what is *known* to have been put into a table ([`Known`]), and read back from the kernel only
//! when that is not known or when it is time to check, since a dump of all tables grows with services x sandboxes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
};

use kernel::{Family, Ns, Observed, Scope, Step};
use proto::model::NetworkId;

use crate::{
    desired::{InterfaceLink, NodeDesired},
    workload::WorkloadId,
};

mod diff;
pub(crate) mod driver;
pub mod elements;
pub mod firewall;
pub(crate) mod gateway;
mod mesh;
pub mod names;
mod overlay;
pub mod rulesets;
mod sandbox;
pub mod underlay;

use diff::ChangeCache;
use elements::Elements;

/// A table, by place, family and name.
pub type TableKey = (Ns, Family, String);

/// Elements that are known to be in a table: what was last put there with success. In layers of disjoint sets, each shared
/// with all tables that have the same.
pub type Known = BTreeMap<TableKey, Vec<Arc<Elements>>>;

/// Something that is planned, carried out and reported by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKey {
    /// Objects of this daemon that are no longer wanted.
    Leftovers,
    /// The gateway bridge, masquerading and host-mode ports.
    Gateway,
    /// The routing mesh.
    Mesh,
    /// Who may send VXLAN here.
    Underlay,
    /// A network's devices.
    Network(NetworkId),
    /// A workload's sandbox.
    Sandbox(WorkloadId),
    /// The administrator's table.
    User,
    /// Our rules in other people's forward chains.
    Firewall,
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnitKey::Leftovers => f.write_str("leftovers"),
            UnitKey::Gateway => f.write_str("gateway bridge"),
            UnitKey::Mesh => f.write_str("routing mesh"),
            UnitKey::Underlay => f.write_str("senders of VXLAN"),
            UnitKey::Network(id) => write!(f, "network {id}"),
            UnitKey::Sandbox(id) => write!(f, "sandbox of {} {id}", id.kind()),
            UnitKey::User => f.write_str("administrator's table"),
            UnitKey::Firewall => f.write_str("other firewalls"),
        }
    }
}

/// Something on this machine that is not ours, where ours is to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A link has the name.
    #[error("a link {name} that is not ours exists on this host ({}); rename or delete it", .alias.as_deref().unwrap_or("without an owner's mark"))]
    Link {
        /// The link.
        name: String,
        /// Its alias, by which daemons say whose a link is.
        alias: Option<String>,
    },
}

/// Steps to carry out in order, up to the first that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// What it is about.
    pub key: UnitKey,
    /// What to do; empty when all is well.
    pub steps: Vec<Step>,
    /// What the tables hold once that is done.
    pub known: Vec<(TableKey, Vec<Arc<Elements>>)>,
    /// What of others is in the way. There are no steps then.
    pub obstacle: Option<Obstacle>,
}

impl Unit {
    fn new(key: UnitKey) -> Self {
        Self { key, steps: Vec::new(), known: Vec::new(), obstacle: None }
    }
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In this order; those with nothing to do are among them.
    pub units: Vec<Unit>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.units.iter().all(|u| u.steps.is_empty())
    }

    /// The same without what takes forwarding entries, neighbours or elements away: for a node that has just started and does
    /// not know yet what others still have. What is replaced is still replaced.
    pub fn without_removals(mut self) -> Self {
        for unit in &mut self.units {
            unit.steps.retain(|step| !matches!(step, Step::DelFdb { .. } | Step::DelNeigh { .. }));
            for step in &mut unit.steps {
                if let Step::UpdateElements { changes, .. } = step {
                    for change in changes.iter_mut() {
                        let replaced: BTreeSet<_> = change.add.iter().map(|e| e.key.clone()).collect();
                        change.del.retain(|e| replaced.contains(&e.key));
                    }
                    changes.retain(|c| !c.add.is_empty() || !c.del.is_empty());
                }
            }
            unit.steps.retain(|s| !matches!(s, Step::UpdateElements { changes, .. } if changes.is_empty()));
        }
        self
    }

    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.units.iter().flat_map(|u| &u.steps)
    }
}

/// How much to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Focus {
    /// Everything; with `true` the elements of all tables too.
    All(bool),
    /// These units. For the others only their tables' elements are brought up to date, from what is known.
    Units(BTreeSet<UnitKey>),
}

impl Focus {
    fn looks_at(&self, key: &UnitKey) -> bool {
        match self {
            Focus::All(_) => true,
            Focus::Units(keys) => keys.contains(key),
        }
    }

    /// The units whose shape differs between two answers; a difference in elements alone needs no look.
    pub fn between(old: &NodeDesired, new: &NodeDesired) -> Self {
        if old.underlay != new.underlay {
            return Focus::All(true);
        }
        let mut keys = BTreeSet::new();
        if old.gateway != new.gateway || old.names != new.names {
            keys.insert(UnitKey::Gateway);
        }
        if mesh::shape(old) != mesh::shape(new) {
            keys.insert(UnitKey::Mesh);
        }
        if old.senders.is_some() != new.senders.is_some() || old.names != new.names {
            keys.insert(UnitKey::Underlay);
        }
        for (id, network) in &new.networks {
            if old.networks.get(id) != Some(network) {
                keys.insert(UnitKey::Network(id.clone()));
            }
        }
        for (id, sandbox) in &new.sandboxes {
            if !old.sandboxes.get(id).is_some_and(|s| s.same_links(sandbox)) {
                keys.insert(UnitKey::Sandbox(id.clone()));
            }
        }
        let gone = old.sandboxes.keys().any(|id| !new.sandboxes.contains_key(id))
            || old.networks.keys().any(|id| !new.networks.contains_key(id));
        if old.mesh.is_some() != new.mesh.is_some() || old.sandboxes.is_empty() != new.sandboxes.is_empty() {
            keys.insert(UnitKey::Firewall);
        }
        if gone || old.settled != new.settled {
            keys.insert(UnitKey::Leftovers);
        }
        Focus::Units(keys)
    }
}

/// What must be observed for a plan.
pub fn scope(desired: &NodeDesired, known: &Known, focus: &Focus) -> Scope {
    let mut scope = Scope::default();
    let deep = *focus == Focus::All(true);
    let mut look = |ns: &Ns, sysctls: Vec<String>, tables: &[(Family, &str)]| {
        let wanted = scope.namespaces.entry(ns.clone()).or_default();
        wanted.sysctls.extend(sysctls);
        let unknown =
            |family: Family, table: &str| !known.contains_key(&(ns.clone(), family, table.to_owned()));
        let tables = tables.iter().filter(|(family, table)| deep || unknown(*family, table));
        wanted.elements.extend(tables.map(|(family, table)| (*family, (*table).to_owned())));
    };
    if focus.looks_at(&UnitKey::Gateway) {
        look(&Ns::Host, gateway::sysctls(desired), &[(Family::Inet, &desired.names.gateway_table)]);
    }
    if focus.looks_at(&UnitKey::Mesh) {
        let table = desired.names.mesh_table.as_str();
        look(&Ns::Host, mesh::sysctls(desired), &[(Family::Inet, table), (Family::Netdev, table)]);
    }
    if focus.looks_at(&UnitKey::Underlay) {
        look(&Ns::Host, vec![], &[(Family::Inet, &desired.names.vxlan_table)]);
    }
    if [UnitKey::User, UnitKey::Firewall, UnitKey::Leftovers].iter().any(|key| focus.looks_at(key)) {
        look(&Ns::Host, vec![], &[]);
    }
    for (id, network) in &desired.networks {
        if focus.looks_at(&UnitKey::Network(id.clone())) {
            look(&network.ns, (driver::of_state(&network.state).sysctls)(), &[]);
        }
    }
    for (id, sandbox) in &desired.sandboxes {
        if focus.looks_at(&UnitKey::Sandbox(id.clone())) {
            look(&sandbox.netns.clone().into(), vec![], &[(Family::Inet, rulesets::SANDBOX_TABLE)]);
            look(&Ns::Host, vec![], &[]);
            for interface in &sandbox.interfaces {
                let InterfaceLink::Veth(port) = &interface.link;
                look(&port.ns, vec![], &[]);
            }
        }
    }
    scope.netns_dir = Some(desired.netns_dir.clone());
    scope
}

/// The steps from `observed`, which is what [`scope`] asked for, to `desired`.
pub fn plan(desired: &NodeDesired, observed: &Observed, known: &Known, focus: &Focus) -> Plan {
    let mut planner = Planner { desired, observed, known, cache: ChangeCache::default() };
    let mut units = Vec::new();
    if focus.looks_at(&UnitKey::Leftovers) {
        units.push(planner.leftovers());
    }
    // Before the devices: from the first frame on, only members' are taken, and each member that they know is let in.
    units.push(if focus.looks_at(&UnitKey::Underlay) {
        underlay::plan(&mut planner)
    } else {
        underlay::update(&mut planner)
    });
    units.push(if focus.looks_at(&UnitKey::Gateway) {
        gateway::plan(&mut planner)
    } else {
        gateway::update(&mut planner)
    });
    units.push(if focus.looks_at(&UnitKey::Mesh) {
        mesh::plan(&mut planner)
    } else {
        mesh::update(&mut planner)
    });
    for (id, network) in &desired.networks {
        if focus.looks_at(&UnitKey::Network(id.clone())) {
            units.push((driver::of_state(&network.state).plan)(&mut planner, network));
        }
    }
    let mut shared = BTreeMap::new();
    for (id, sandbox) in &desired.sandboxes {
        // All sandboxes on the same networks have the same virtual addresses.
        let networks: Vec<&NetworkId> = sandbox.networks().collect();
        let vips = shared.entry(networks.clone()).or_insert_with(|| {
            let tables = networks.iter().filter_map(|id| desired.table.networks.get(*id));
            let elements = Arc::new(elements::virtual_addresses(tables.map(|t| &**t)));
            // The same as before is the very same, so that comparing it costs nothing.
            let before = known.get(&sandbox::table_key(sandbox)).and_then(|layers| layers.first());
            before.filter(|b| ***b == *elements).cloned().unwrap_or(elements)
        });
        let vips = Arc::clone(vips);
        units.push(if focus.looks_at(&UnitKey::Sandbox(id.clone())) {
            sandbox::plan(&mut planner, sandbox, vips)
        } else {
            sandbox::update(&mut planner, sandbox, vips)
        });
    }
    if focus.looks_at(&UnitKey::User) {
        units.push(planner.user_table());
    }
    if focus.looks_at(&UnitKey::Firewall) {
        units.push(firewall::plan(&mut planner));
    }
    Plan { units }
}

/// What all planners work from.
pub(crate) struct Planner<'a> {
    desired: &'a NodeDesired,
    observed: &'a Observed,
    known: &'a Known,
    cache: ChangeCache,
}

impl Planner<'_> {
    /// What carries this daemon's mark and is not wanted: namespaces, and links in the host's. The gateway bridge stays.
    fn leftovers(&self) -> Unit {
        let mut unit = Unit::new(UnitKey::Leftovers);
        let (desired, observed) = (self.desired, self.observed);
        if !desired.settled {
            return unit;
        }
        let wanted: BTreeSet<&Path> = desired
            .networks
            .values()
            .filter_map(|n| n.ns.path())
            .chain(desired.sandboxes.values().map(|s| s.netns.as_path()))
            .collect();
        let gone =
            observed.netns.iter().chain(&observed.stale).filter(|path| !wanted.contains(path.as_path()));
        unit.steps.extend(gone.map(|path| Step::DeleteNetns { path: path.clone() }));

        let names = &desired.names;
        let ports: BTreeSet<String> = desired
            .sandboxes
            .values()
            .filter(|s| s.gateway.is_some())
            .map(|s| names.gateway_port(&s.workload))
            .collect();
        let host = observed.ns(&Ns::Host);
        for (name, link) in host.iter().flat_map(|h| &h.links) {
            let kept = *name == names.gateway_bridge || *name == names.mesh_device || ports.contains(name);
            // Other parts of the daemon have links too; the alias says whose a link is.
            if !kept && link.owned_by(&names.daemon).is_some_and(|o| o.starts_with(gateway::ALIAS)) {
                unit.steps.push(Step::DeleteLink { ns: Ns::Host, link: name.clone() });
            }
        }
        unit
    }

    /// The administrator's table is made once and then theirs.
    fn user_table(&self) -> Unit {
        let mut unit = Unit::new(UnitKey::User);
        let key = (Family::Inet, rulesets::USER_TABLE.to_owned());
        if self.observed.ns(&Ns::Host).is_some_and(|h| !h.tables.contains_key(&key)) {
            unit.steps.push(Step::RunNft { ns: Ns::Host, script: rulesets::user() });
        }
        unit
    }

    /// The update of a table that is not looked at.
    fn known_update(&mut self, unit: &mut Unit, key: TableKey, layers: Vec<Arc<Elements>>) {
        if self.known.contains_key(&key) {
            unit.steps.extend(diff::update(&key, &layers, None, self.known, &mut self.cache));
            unit.known.push((key, layers));
        }
    }
}

#[cfg(test)]
mod tests;
