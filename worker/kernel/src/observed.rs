//! What Linux holds, as plain data.
//!
//! Of routes and rules only those with our protocol number are reported; of tables and links all, since others' names must not
//! be taken: [`Link::owned_by`] and [`Table::digest`] tell ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use proto::model::{Mac, SubnetAddr};

use super::{
    ruleset::{Element, Family},
    step::{FdbEntry, Neigh, Ns, PortFlags, Route, Rule, Vxlan},
};

/// What to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The namespaces, and what is wanted of each beyond the usual.
    pub namespaces: BTreeMap<Ns, Wanted>,
    /// Namespace files in this directory are listed.
    pub netns_dir: Option<PathBuf>,
    /// Those that are listed are looked into as well.
    pub descend: bool,
}

impl Scope {
    /// The daemon's own namespace alone.
    pub fn host() -> Self {
        Self::of([Ns::Host])
    }

    /// These namespaces.
    pub fn of(namespaces: impl IntoIterator<Item = Ns>) -> Self {
        Self {
            namespaces: namespaces.into_iter().map(|ns| (ns, Wanted::default())).collect(),
            ..Self::default()
        }
    }
}

/// What is wanted of a namespace beyond links, addresses, routes, rules, neighbours and tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Values of these sysctls (keys as in [`Step::SetSysctl`](super::Step::SetSysctl)).
    pub sysctls: BTreeSet<String>,
    /// The elements of these tables: a dump of each set, so for repair and after a restart only.
    pub elements: BTreeSet<(Family, String)>,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// By namespace. One that was asked for and is not here does not exist.
    pub namespaces: BTreeMap<Ns, NsObserved>,
    /// Files in the scope's `netns_dir` that a namespace is bound to.
    pub netns: BTreeSet<PathBuf>,
    /// Other files there: left over from a creation that failed, or from before a reboot. `DeleteNetns` removes them.
    pub stale: BTreeSet<PathBuf>,
}

impl Observed {
    /// What was seen in a namespace.
    pub fn ns(&self, ns: &Ns) -> Option<&NsObserved> {
        self.namespaces.get(ns)
    }

    /// A link, by place and name.
    pub fn link(&self, ns: &Ns, name: &str) -> Option<&Link> {
        self.ns(ns)?.links.get(name)
    }
}

/// What was seen in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NsObserved {
    /// By name.
    pub links: BTreeMap<String, Link>,
    /// Ours.
    pub routes: BTreeSet<Route>,
    /// Ours.
    pub rules: BTreeSet<Rule>,
    /// All.
    pub tables: BTreeMap<(Family, String), Table>,
    /// Those asked for that exist.
    pub sysctls: BTreeMap<String, String>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number, unique in its namespace.
    pub index: u32,
    /// What kind of device it is.
    pub kind: LinkKind,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC; none on devices without, such as tunnels.
    pub mac: Option<Mac>,
    /// The bridge that it is a port of.
    pub master: Option<String>,
    /// Its settings as such a port.
    pub port: Option<PortFlags>,
    /// Administratively up.
    pub up: bool,
    /// See [`alias`](super::alias).
    pub alias: Option<String>,
    /// Addresses, link-local IPv6 ones excepted.
    pub addrs: BTreeSet<SubnetAddr>,
    /// Forwarding entries with a VTEP.
    pub fdb: BTreeSet<FdbEntry>,
    /// Permanent neighbours.
    pub neigh: BTreeMap<IpAddr, Mac>,
}

impl Link {
    /// The id of the object that the link serves, if this daemon made it.
    pub fn owned_by(&self, daemon: &str) -> Option<&str> {
        self.alias.as_deref()?.strip_prefix("rn:")?.strip_prefix(daemon)?.strip_prefix(':')
    }

    /// The permanent neighbours as entries.
    pub fn neighbours(&self) -> impl Iterator<Item = Neigh> {
        self.neigh.iter().map(|(addr, mac)| Neigh { addr: *addr, mac: *mac })
    }
}

/// A link's kind, with what was said when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// A VXLAN device. Its `dev` is not reported when it lives elsewhere than its socket.
    Vxlan(Vxlan),
    /// Another kind, by the kernel's name; empty for physical devices and `lo`.
    Other(String),
}

/// An nftables table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Of the [`Ruleset`](super::Ruleset) that it was laid down by; none on tables that are not ours.
    pub digest: Option<String>,
    /// Names of all chains but the marker.
    pub chains: BTreeSet<String>,
    /// Chains on a hook.
    pub base_chains: Vec<BaseChain>,
    /// By set, when asked for.
    pub elements: Option<BTreeMap<String, BTreeSet<Element>>>,
}

/// Number of the forward hook (`NF_INET_FORWARD`).
pub const FORWARD: u32 = 2;

/// A chain on a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// Its name.
    pub name: String,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Number of the hook (`NF_INET_*`), such as [`FORWARD`].
    pub hook: u32,
    /// Lower comes first.
    pub priority: i32,
    /// What falls through is dropped: by policy or, on the forward hook, by the last rule.
    pub drops: bool,
    /// On the forward hook: how many of its rules let something of ours through, by mark.
    pub marks: BTreeMap<String, usize>,
}
