//! A model of Linux, small enough to be read: what steps do to what is observed.
//!
//! It refuses what the kernel refuses where a planner's order of steps could be wrong (a route over a link that is down, a port of
//! a bridge that is not there, an element of no map), and takes along what the kernel takes along (a veth's peer, a link's
//! routes). The suite in `conformance` runs the same steps against both and compares.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use proto::model::{Mac, SubnetAddr};

use super::{
    Kernel, KernelError, Observed, Scope, Step,
    error::Cause,
    observed::{BaseChain, Link, LinkKind, NsObserved, Table, Wanted},
    ruleset::{Element, ElementChange, Family, Ruleset},
    step::{Ns, PortFlags, Route, VethEnd, Vxlan},
};

/// The model. All namespaces but the host's start absent.
#[derive(Debug)]
pub struct FakeKernel {
    model: Mutex<Model>,
}

#[derive(Debug)]
struct Model {
    namespaces: BTreeMap<Ns, NsObserved>,
    /// Both directions.
    peers: BTreeMap<(Ns, String), (Ns, String)>,
    next: u32,
    executed: Vec<Step>,
}

impl Default for FakeKernel {
    fn default() -> Self {
        let mut model =
            Model { namespaces: BTreeMap::new(), peers: BTreeMap::new(), next: 1, executed: Vec::new() };
        model.add_namespace(Ns::Host);
        Self { model: Mutex::new(model) }
    }
}

impl FakeKernel {
    /// A host with nothing but `lo`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the model behind the planners' backs: foreign objects, losses.
    pub fn tamper<T>(&self, with: impl FnOnce(&mut BTreeMap<Ns, NsObserved>) -> T) -> T {
        with(&mut self.lock().namespaces)
    }

    /// The steps that succeeded since the last call.
    pub fn take_executed(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock().executed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel for FakeKernel {
    fn observe(&self, scope: &Scope) -> Result<Observed, KernelError> {
        let model = self.lock();
        let inside =
            |path: &&PathBuf| scope.netns_dir.as_deref().is_some_and(|dir| path.parent() == Some(dir));
        let netns: BTreeSet<PathBuf> = model
            .namespaces
            .keys()
            .filter_map(|ns| match ns {
                Ns::Path(path) => Some(path),
                Ns::Host => None,
            })
            .filter(inside)
            .cloned()
            .collect();
        let mut wanted: BTreeMap<Ns, Wanted> = netns
            .iter()
            .filter(|_| scope.descend)
            .map(|path| (Ns::Path(path.clone()), Wanted::default()))
            .collect();
        wanted.extend(scope.namespaces.clone());
        let namespaces = wanted
            .into_iter()
            .filter_map(|(ns, wanted)| {
                let seen = view(model.namespaces.get(&ns)?, &wanted);
                Some((ns, seen))
            })
            .collect();
        Ok(Observed { namespaces, netns, stale: BTreeSet::new() })
    }

    fn execute(&self, step: &Step) -> Result<(), KernelError> {
        let mut model = self.lock();
        match model.apply(step) {
            Err(Cause::NoNamespace(_)) if step.removes() => {}
            done => done.map_err(|cause| cause.of(step))?,
        }
        model.executed.push(step.clone());
        Ok(())
    }
}

fn view(ns: &NsObserved, wanted: &Wanted) -> NsObserved {
    let mut seen = ns.clone();
    for (key, table) in &mut seen.tables {
        if !wanted.elements.contains(key) {
            table.elements = None;
        }
    }
    seen.sysctls.retain(|key, _| wanted.sysctls.contains(key));
    seen
}

fn errno(code: i32) -> Cause {
    Cause::Refused { error: io::Error::from_raw_os_error(code), detail: None }
}

impl Model {
    fn index(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn add_namespace(&mut self, ns: Ns) {
        let lo = Link {
            index: 1,
            up: true,
            addrs: BTreeSet::from([
                SubnetAddr { addr: Ipv4Addr::LOCALHOST.into(), prefix: 8 },
                SubnetAddr { addr: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
            ]),
            ..bare(LinkKind::Other(String::new()), 65536, Mac([0; 6]))
        };
        let seen = NsObserved { links: BTreeMap::from([("lo".to_owned(), lo)]), ..NsObserved::default() };
        self.namespaces.entry(ns).or_insert(seen);
    }

    fn ns(&mut self, ns: &Ns) -> Result<&mut NsObserved, Cause> {
        self.namespaces
            .get_mut(ns)
            .ok_or_else(|| Cause::NoNamespace(ns.path().map(PathBuf::from).unwrap_or_default()))
    }

    fn link(&mut self, ns: &Ns, name: &str) -> Result<&mut Link, Cause> {
        self.ns(ns)?.links.get_mut(name).ok_or_else(|| Cause::NoLink(name.into()))
    }

    /// Makes a link, or brings the one that is there to what is asked.
    fn ensure(
        &mut self,
        ns: &Ns,
        name: &str,
        kind: LinkKind,
        mac: Option<Mac>,
        mtu: u32,
        alias: Option<&String>,
    ) -> Result<(), Cause> {
        let index = self.index();
        let [_, a, b, c] = index.to_be_bytes();
        let link = self
            .ns(ns)?
            .links
            .entry(name.into())
            .or_insert_with(|| Link { index, ..bare(kind.clone(), mtu, Mac([0x0a, 0, 0, a, b, c])) });
        if link.kind != kind {
            return Err(Cause::Differs { name: name.into(), found: format!("{:?}", link.kind) });
        }
        link.mtu = mtu;
        link.mac = mac.or(link.mac);
        link.alias = alias.cloned().or(link.alias.take());
        Ok(())
    }

    fn create_veth(&mut self, a: &VethEnd, b: &VethEnd, mtu: u32) -> Result<(), Cause> {
        let has = |model: &mut Self, end: &VethEnd| Ok(model.ns(&end.ns)?.links.contains_key(&end.name));
        if has(self, a)? != has(self, b)? {
            return Err(errno(libc::EEXIST));
        }
        for (end, peer) in [(a, b), (b, a)] {
            self.ensure(&end.ns, &end.name, LinkKind::Veth, end.mac, mtu, end.alias.as_ref())?;
            self.peers.insert((end.ns.clone(), end.name.clone()), (peer.ns.clone(), peer.name.clone()));
        }
        Ok(())
    }

    fn create_vxlan(
        &mut self,
        ns: &Ns,
        name: &str,
        vxlan: &Vxlan,
        mac: Option<Mac>,
        mtu: u32,
        alias: Option<&String>,
    ) -> Result<(), Cause> {
        if let Some(dev) = &vxlan.dev {
            self.link(&Ns::Host, dev)?;
        }
        let there = self.ns(ns)?.links.contains_key(name);
        let taken = self.namespaces.values().flat_map(|ns| ns.links.values()).any(
            |link| matches!(&link.kind, LinkKind::Vxlan(v) if (v.vni, v.port) == (vxlan.vni, vxlan.port)),
        );
        if taken && !there {
            return Err(errno(libc::EEXIST));
        }
        let dev = vxlan.dev.clone().filter(|_| *ns == Ns::Host);
        self.ensure(ns, name, LinkKind::Vxlan(Vxlan { dev, ..vxlan.clone() }), mac, mtu, alias)
    }

    fn delete_link(&mut self, ns: &Ns, name: &str) {
        let Some(place) = self.namespaces.get_mut(ns) else { return };
        if place.links.remove(name).is_none() {
            return;
        }
        place.routes.retain(|route| route.dev != name);
        for link in place.links.values_mut().filter(|link| link.master.as_deref() == Some(name)) {
            (link.master, link.port) = (None, None);
        }
        if let Some((ns, name)) = self.peers.remove(&(ns.clone(), name.to_owned())) {
            self.delete_link(&ns, &name);
        }
    }

    fn delete_netns(&mut self, path: &Path) {
        let ns = Ns::Path(path.to_path_buf());
        let names: Vec<String> =
            self.namespaces.get(&ns).map(|n| n.links.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            self.delete_link(&ns, &name);
        }
        self.namespaces.remove(&ns);
    }

    fn set_up(&mut self, ns: &Ns, name: &str, up: bool) -> Result<(), Cause> {
        let link = self.link(ns, name)?;
        link.up = up;
        if !up {
            link.addrs.retain(|a| a.addr.is_ipv4());
            link.neigh.clear();
            self.ns(ns)?.routes.retain(|route| route.dev != name);
        }
        Ok(())
    }

    fn set_master(&mut self, ns: &Ns, name: &str, master: Option<&String>) -> Result<(), Cause> {
        if let Some(master) = master
            && self.link(ns, master)?.kind != LinkKind::Bridge
        {
            return Err(errno(libc::EOPNOTSUPP));
        }
        let link = self.link(ns, name)?;
        if link.master.as_ref() != master {
            link.port = master.map(|_| PortFlags::default());
        }
        link.master = master.cloned();
        Ok(())
    }

    fn add_route(&mut self, ns: &Ns, route: &Route) -> Result<(), Cause> {
        if !self.link(ns, &route.dev)?.up {
            return Err(errno(libc::ENETDOWN));
        }
        let place = self.ns(ns)?;
        if let Some(via) = route.via.filter(|_| !route.onlink)
            && !reachable(place, &route.dev, via)
        {
            return Err(errno(libc::ENETUNREACH));
        }
        place.routes.retain(|r| (r.dst, r.table, r.metric) != (route.dst, route.table, route.metric));
        place.routes.insert(route.clone());
        Ok(())
    }

    fn apply_ruleset(&mut self, ns: &Ns, ruleset: &Ruleset) -> Result<(), Cause> {
        let names = |word| named(&ruleset.body, word);
        let mut sets: BTreeMap<String, BTreeSet<Element>> =
            names("map").into_iter().chain(names("set")).map(|name| (name, BTreeSet::new())).collect();
        for (set, elements) in &ruleset.elements {
            sets.get_mut(set)
                .ok_or_else(|| Cause::Nft(format!("no such set: {set}")))?
                .extend(elements.clone());
        }
        let table = Table {
            digest: Some(ruleset.digest()),
            chains: names("chain"),
            base_chains: Vec::new(),
            elements: Some(sets),
        };
        self.ns(ns)?.tables.insert((ruleset.family, ruleset.table.clone()), table);
        Ok(())
    }

    /// Tables that a script adds, with all its chains: such a script has one table.
    fn run_nft(&mut self, ns: &Ns, script: &str) -> Result<(), Cause> {
        let words: Vec<&str> = script.split_whitespace().collect();
        for w in words.windows(3).filter(|w| w[0] == "table") {
            let families = [Family::Inet, Family::Ip, Family::Ip6, Family::Netdev, Family::Bridge];
            if let Some(family) = families.into_iter().find(|f| f.to_string() == w[1]) {
                let table = self.ns(ns)?.tables.entry((family, w[2].to_owned())).or_default();
                table.chains.extend(named(script, "chain"));
            }
        }
        Ok(())
    }

    fn base_chain(
        &mut self,
        ns: &Ns,
        (family, table): (Family, &str),
        chain: &str,
    ) -> Result<&mut BaseChain, Cause> {
        let table = self.ns(ns)?.tables.get_mut(&(family, table.to_owned()));
        let chain = table.and_then(|t| t.base_chains.iter_mut().find(|c| c.name == chain));
        chain.ok_or_else(|| errno(libc::ENOENT))
    }

    fn update_elements(
        &mut self,
        ns: &Ns,
        family: Family,
        table: &str,
        changes: &[ElementChange],
    ) -> Result<(), Cause> {
        let key = (family, table.to_owned());
        let sets = self.ns(ns)?.tables.get_mut(&key).and_then(|t| t.elements.as_mut());
        let sets = sets.ok_or_else(|| errno(libc::ENOENT))?;
        if changes.iter().any(|change| !sets.contains_key(&change.set)) {
            return Err(errno(libc::ENOENT));
        }
        for change in changes {
            if let Some(set) = sets.get_mut(&change.set) {
                set.retain(|e| !change.del.iter().chain(&change.add).any(|c| c.key == e.key));
            }
        }
        for change in changes {
            if let Some(set) = sets.get_mut(&change.set) {
                set.extend(change.add.iter().cloned());
            }
        }
        Ok(())
    }

    fn apply(&mut self, step: &Step) -> Result<(), Cause> {
        match step {
            Step::CreateNetns { path } => self.add_namespace(Ns::Path(path.clone())),
            Step::DeleteNetns { path } => self.delete_netns(path),
            Step::CreateVeth { a, b, mtu } => self.create_veth(a, b, *mtu)?,
            Step::CreateBridge { ns, name, mac, mtu, alias } => {
                self.ensure(ns, name, LinkKind::Bridge, *mac, *mtu, alias.as_ref())?;
            }
            Step::CreateVxlan { ns, name, vxlan, mac, mtu, alias } => {
                self.create_vxlan(ns, name, vxlan, *mac, *mtu, alias.as_ref())?;
            }
            Step::DeleteLink { ns, link } => {
                self.ns(ns)?;
                self.delete_link(ns, link);
            }
            Step::SetMaster { ns, link, master } => self.set_master(ns, link, master.as_ref())?,
            Step::SetUp { ns, link, up } => self.set_up(ns, link, *up)?,
            Step::SetMtu { ns, link, mtu } => self.link(ns, link)?.mtu = *mtu,
            Step::SetMac { ns, link, mac } => self.link(ns, link)?.mac = Some(*mac),
            Step::SetAlias { ns, link, alias } => self.link(ns, link)?.alias = Some(alias.clone()),
            Step::SetPort { ns, link, flags } => {
                let port = self.link(ns, link)?.port.as_mut().ok_or_else(|| errno(libc::EOPNOTSUPP))?;
                *port = *flags;
            }
            Step::AddAddr { ns, link, addr } => {
                self.link(ns, link)?.addrs.insert(*addr);
            }
            Step::DelAddr { ns, link, addr } => {
                if let Ok(link) = self.link(ns, link) {
                    link.addrs.remove(addr);
                }
            }
            Step::AddRoute { ns, route } => self.add_route(ns, route)?,
            Step::DelRoute { ns, route } => {
                self.ns(ns)?.routes.remove(route);
            }
            Step::AddRule { ns, rule } => {
                self.ns(ns)?.rules.insert(*rule);
            }
            Step::DelRule { ns, rule } => {
                self.ns(ns)?.rules.remove(rule);
            }
            Step::ReplaceFdb { ns, link, entry } => {
                let fdb = &mut self.link(ns, link)?.fdb;
                fdb.retain(|e| e.mac != entry.mac || entry.mac.0 == [0; 6]);
                fdb.insert(*entry);
            }
            Step::DelFdb { ns, link, entry } => {
                if let Ok(link) = self.link(ns, link) {
                    link.fdb.remove(entry);
                }
            }
            Step::ReplaceNeigh { ns, link, neigh } => {
                self.link(ns, link)?.neigh.insert(neigh.addr, neigh.mac);
            }
            Step::DelNeigh { ns, link, addr } => {
                if let Ok(link) = self.link(ns, link) {
                    link.neigh.remove(addr);
                }
            }
            Step::SetSysctl { ns, key, value } => {
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                self.ns(ns)?.sysctls.insert(key.clone(), value);
            }
            Step::ApplyRuleset { ns, ruleset } => self.apply_ruleset(ns, ruleset)?,
            Step::RunNft { ns, script } => self.run_nft(ns, script)?,
            Step::OpenChain { ns, family, table, chain, links, mark } => {
                let chain = self.base_chain(ns, (*family, table), chain)?;
                *chain.marks.entry(mark.clone()).or_default() += 2 * links.len();
            }
            Step::CloseChain { ns, family, table, chain, mark } => {
                if let Ok(chain) = self.base_chain(ns, (*family, table), chain) {
                    chain.marks.remove(mark);
                }
            }
            Step::DeleteTable { ns, family, table } => {
                self.ns(ns)?.tables.remove(&(*family, table.clone()));
            }
            Step::UpdateElements { ns, family, table, changes } => {
                self.update_elements(ns, *family, table, changes)?;
            }
            Step::FlushConntrack { ns, .. } => {
                self.ns(ns)?;
            }
        }
        Ok(())
    }
}

/// What a script names after a word, and opens.
fn named(script: &str, word: &str) -> BTreeSet<String> {
    let words: Vec<&str> = script.split_whitespace().collect();
    let named = words.windows(3).filter(|w| w[0] == word && w[2].starts_with('{'));
    named.map(|w| w[1].to_owned()).collect()
}

fn bare(kind: LinkKind, mtu: u32, mac: Mac) -> Link {
    Link {
        index: 0,
        kind,
        mtu,
        mac: Some(mac),
        master: None,
        port: None,
        up: false,
        alias: None,
        addrs: BTreeSet::new(),
        fdb: BTreeSet::new(),
        neigh: BTreeMap::new(),
    }
}

/// Whether a gateway lies on a link, by its addresses or by a route without gateway.
fn reachable(ns: &NsObserved, dev: &str, via: IpAddr) -> bool {
    let by_addr = ns.links.get(dev).is_some_and(|link| link.addrs.iter().any(|a| a.subnet().contains(&via)));
    let by_route = ns.routes.iter().any(|r| r.dev == dev && r.via.is_none() && r.dst.contains(&via));
    let link_local = matches!(via, IpAddr::V6(a) if a.is_unicast_link_local());
    by_addr || by_route || link_local
}
