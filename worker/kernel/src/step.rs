//! Everything that can be done to Linux, as values.
//!
//! A [`Step`] is fully resolved: executing one needs no look-up and no decision. It prints as the `ip`, `bridge`, `sysctl`,
//! `nft` or `conntrack` line that it stands for, which is what logs, errors and dry runs show.
//!
//! Every step states an outcome, so a second execution does nothing: creating what is there with the same parameters succeeds,
//! and so does deleting what is gone.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use proto::model::{Mac, SubnetAddr, Vni};

use super::ruleset::{ElementChange, Family, Ruleset};

/// `rtm_protocol` and `FRA_PROTOCOL` of the routes and rules that are ours; below 0x80 nobody has claimed this number
/// (`/etc/iproute2/rt_protos`).
pub const ROUTE_PROTOCOL: u8 = 0x72;

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// The daemon's own.
    Host,
    /// The one that is bind-mounted at this path.
    Path(PathBuf),
}

impl Ns {
    /// The namespace's file, for those that have one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Ns::Host => None,
            Ns::Path(path) => Some(path),
        }
    }
}

impl From<PathBuf> for Ns {
    fn from(path: PathBuf) -> Self {
        Ns::Path(path)
    }
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ns::Host => f.write_str("host"),
            Ns::Path(path) => path.display().fmt(f),
        }
    }
}

/// One end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethEnd {
    /// Where it lives.
    pub ns: Ns,
    /// Its name there, at most 15 characters.
    pub name: String,
    /// Its MAC; none = the kernel's choice.
    pub mac: Option<Mac>,
    /// Its mark of ownership, see [`alias`](super::alias).
    pub alias: Option<String>,
}

/// A VXLAN device: point to multipoint by its forwarding entries only (`nolearning`, no multicast group).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The segment.
    pub vni: Vni,
    /// UDP port, own and peers'.
    pub port: u16,
    /// Source address of the outer packets; its family is the underlay's.
    pub local: IpAddr,
    /// The underlay device, in the daemon's namespace; none = by route.
    pub dev: Option<String>,
    /// Neighbour requests for known peers are answered here and never flooded.
    pub proxy: bool,
}

/// Settings of a bridge's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortFlags {
    /// Isolated ports reach only ports that are not.
    pub isolated: bool,
    /// Frames may leave by the port they came in by.
    pub hairpin: bool,
    /// Source addresses are learned.
    pub learning: bool,
    /// Unknown unicast is sent here.
    pub flood: bool,
    /// The bridge answers ARP and ND for neighbours it knows.
    pub neigh_suppress: bool,
}

impl Default for PortFlags {
    /// What the kernel gives a new port.
    fn default() -> Self {
        Self { isolated: false, hairpin: false, learning: true, flood: true, neigh_suppress: false }
    }
}

/// The kernel's main routing table.
pub const MAIN_TABLE: u32 = 254;

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination; `/0` = default.
    pub dst: IpNet,
    /// Gateway; none = on the link.
    pub via: Option<IpAddr>,
    /// Outgoing link.
    pub dev: String,
    /// Preferred source address.
    pub src: Option<IpAddr>,
    /// Routing table; [`MAIN_TABLE`] is the ordinary one.
    pub table: u32,
    /// The gateway is taken to be on the link, whatever the addresses say.
    pub onlink: bool,
    /// 0 = the kernel's default.
    pub metric: u32,
}

impl Route {
    /// A route in the main table to a subnet on the link.
    pub fn on_link(dst: IpNet, dev: impl Into<String>) -> Self {
        Self { dst, via: None, dev: dev.into(), src: None, table: MAIN_TABLE, onlink: false, metric: 0 }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", self.dev)?;
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

/// An address family of the network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
    }
}

/// A routing policy rule that looks a table up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The family.
    pub family: IpFamily,
    /// Preference; lower comes first.
    pub pref: u32,
    /// Packets with this mark under this mask; none = all.
    pub fwmark: Option<(u32, u32)>,
    /// Destinations; none = all.
    pub to: Option<IpNet>,
    /// The table.
    pub table: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pref {}", self.pref)?;
        if let Some((mark, mask)) = self.fwmark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}

/// A forwarding entry of a VXLAN device: frames for `mac` go to the VTEP `dst`. The all-zero MAC is where frames for unknown
/// destinations go; it alone may have several entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// Destination MAC.
    pub mac: Mac,
    /// The VTEP.
    pub dst: IpAddr,
}

/// A permanent neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neigh {
    /// The neighbour's address.
    pub addr: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

/// Which connections to forget. All given fields must match; `family` is needed for any address to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackFilter {
    /// The family.
    pub family: IpFamily,
    /// IP protocol number.
    pub proto: Option<u8>,
    /// Source that the opener had.
    pub orig_src: Option<IpAddr>,
    /// Destination that the opener asked for.
    pub orig_dst: Option<IpAddr>,
    /// Port that the opener asked for.
    pub orig_dport: Option<u16>,
    /// Who answers: the backend, after translation.
    pub reply_src: Option<IpAddr>,
    /// The port it answers from.
    pub reply_sport: Option<u16>,
    /// Only those that nobody has answered yet.
    pub unanswered: bool,
}

impl ConntrackFilter {
    /// Every connection of a family; narrow it by setting fields.
    pub fn family(family: IpFamily) -> Self {
        Self {
            family,
            proto: None,
            orig_src: None,
            orig_dst: None,
            orig_dport: None,
            reply_src: None,
            reply_sport: None,
            unanswered: false,
        }
    }
}

/// One change to Linux. Links are named within their namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are what the commands' own words say.
pub enum Step {
    /// Makes a namespace, with `lo` up, and binds it to a file.
    CreateNetns { path: PathBuf },
    /// Deletes the VXLAN and veth links of a namespace at once (rather than when the kernel gets to it, so that their names
    /// and VNIs are free again), unmounts its file and removes it.
    DeleteNetns { path: PathBuf },
    /// Makes a veth pair, each end in its place.
    CreateVeth { a: VethEnd, b: VethEnd, mtu: u32 },
    /// Makes a bridge: no STP, no VLANs, no multicast snooping.
    CreateBridge { ns: Ns, name: String, mac: Option<Mac>, mtu: u32, alias: Option<String> },
    /// Makes a VXLAN device in `ns` whose UDP socket is the host's.
    CreateVxlan { ns: Ns, name: String, vxlan: Vxlan, mac: Option<Mac>, mtu: u32, alias: Option<String> },
    /// Deletes a link; a veth takes its peer along.
    DeleteLink { ns: Ns, link: String },
    /// Enslaves a link to a bridge, or frees it.
    SetMaster { ns: Ns, link: String, master: Option<String> },
    /// Sets a link up or down.
    SetUp { ns: Ns, link: String, up: bool },
    /// Sets a link's MTU.
    SetMtu { ns: Ns, link: String, mtu: u32 },
    /// Sets a link's MAC.
    SetMac { ns: Ns, link: String, mac: Mac },
    /// Sets a link's alias.
    SetAlias { ns: Ns, link: String, alias: String },
    /// Sets what a bridge does with one of its ports.
    SetPort { ns: Ns, link: String, flags: PortFlags },
    /// Adds an address, without duplicate address detection.
    AddAddr { ns: Ns, link: String, addr: SubnetAddr },
    /// Removes an address.
    DelAddr { ns: Ns, link: String, addr: SubnetAddr },
    /// Adds a route, or replaces the one with its destination, table and metric.
    AddRoute { ns: Ns, route: Route },
    /// Removes a route.
    DelRoute { ns: Ns, route: Route },
    /// Adds a routing policy rule.
    AddRule { ns: Ns, rule: Rule },
    /// Removes a routing policy rule.
    DelRule { ns: Ns, rule: Rule },
    /// Says where a MAC is; for the all-zero MAC, adds a place.
    ReplaceFdb { ns: Ns, link: String, entry: FdbEntry },
    /// Forgets where a MAC is.
    DelFdb { ns: Ns, link: String, entry: FdbEntry },
    /// Says which MAC a neighbour has.
    ReplaceNeigh { ns: Ns, link: String, neigh: Neigh },
    /// Forgets a neighbour.
    DelNeigh { ns: Ns, link: String, addr: IpAddr },
    /// Sets a sysctl. The key's parts are divided by `/` (`net/ipv4/ip_forward`), as interface names may hold dots.
    SetSysctl { ns: Ns, key: String, value: String },
    /// Lays a whole table down, in one transaction, in place of what has its name.
    ApplyRuleset { ns: Ns, ruleset: Ruleset },
    /// Runs an `nft` script as it is: for tables that are laid down once and then left to the administrator.
    RunNft { ns: Ns, script: String },
    /// Lets through, in somebody else's chain, what comes from or goes to these links: two rules each, with a mark.
    OpenChain { ns: Ns, family: Family, table: String, chain: String, links: Vec<String>, mark: String },
    /// Takes the rules with the mark out of somebody else's chain.
    CloseChain { ns: Ns, family: Family, table: String, chain: String, mark: String },
    /// Deletes a table.
    DeleteTable { ns: Ns, family: Family, table: String },
    /// Changes elements of a table's sets and maps, all in one transaction: afterwards what `del` names is absent, and what
    /// `add` names is there with exactly that value.
    UpdateElements { ns: Ns, family: Family, table: String, changes: Vec<ElementChange> },
    /// Forgets connections.
    FlushConntrack { ns: Ns, filter: ConntrackFilter },
}

impl Step {
    /// The namespaces that the step changes; for one that makes or unmakes a namespace, that one.
    pub fn namespaces(&self) -> Vec<Ns> {
        match self {
            Step::CreateNetns { path } | Step::DeleteNetns { path } => vec![Ns::Path(path.clone())],
            Step::CreateVeth { a, b, .. } => vec![a.ns.clone(), b.ns.clone()],
            Step::CreateBridge { ns, .. }
            | Step::CreateVxlan { ns, .. }
            | Step::DeleteLink { ns, .. }
            | Step::SetMaster { ns, .. }
            | Step::SetUp { ns, .. }
            | Step::SetMtu { ns, .. }
            | Step::SetMac { ns, .. }
            | Step::SetAlias { ns, .. }
            | Step::SetPort { ns, .. }
            | Step::AddAddr { ns, .. }
            | Step::DelAddr { ns, .. }
            | Step::AddRoute { ns, .. }
            | Step::DelRoute { ns, .. }
            | Step::AddRule { ns, .. }
            | Step::DelRule { ns, .. }
            | Step::ReplaceFdb { ns, .. }
            | Step::DelFdb { ns, .. }
            | Step::ReplaceNeigh { ns, .. }
            | Step::DelNeigh { ns, .. }
            | Step::SetSysctl { ns, .. }
            | Step::ApplyRuleset { ns, .. }
            | Step::RunNft { ns, .. }
            | Step::OpenChain { ns, .. }
            | Step::CloseChain { ns, .. }
            | Step::DeleteTable { ns, .. }
            | Step::UpdateElements { ns, .. }
            | Step::FlushConntrack { ns, .. } => vec![ns.clone()],
        }
    }

    /// Whether the step only takes away: what it is about is gone for sure with the namespace.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Step::DeleteNetns { .. }
                | Step::DeleteLink { .. }
                | Step::DelAddr { .. }
                | Step::DelRoute { .. }
                | Step::DelRule { .. }
                | Step::DelFdb { .. }
                | Step::DelNeigh { .. }
                | Step::CloseChain { .. }
                | Step::DeleteTable { .. }
                | Step::FlushConntrack { .. }
        )
    }
}
