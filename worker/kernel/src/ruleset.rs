//! A small model of nftables: whole tables as text, and the elements of their sets and maps as typed values.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use proto::model::Mac;

/// A table's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// One device's ingress and egress.
    Netdev,
    /// Frames that a bridge forwards.
    Bridge,
}

impl Family {
    /// `nfgen_family` (`linux/netfilter.h`).
    pub const fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Netdev => 5,
            Family::Bridge => 7,
            Family::Ip6 => 10,
        }
    }

    /// The family of a number; none for those that we have no use for.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Family::Inet),
            2 => Some(Family::Ip),
            5 => Some(Family::Netdev),
            7 => Some(Family::Bridge),
            10 => Some(Family::Ip6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Netdev => "netdev",
            Family::Bridge => "bridge",
        })
    }
}

/// One field of a key or a value. A key of several parts is a concatenation (`ipv4_addr . inet_service`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `ipv4_addr`.
    Ipv4(Ipv4Addr),
    /// `ipv6_addr`.
    Ipv6(Ipv6Addr),
    /// `inet_proto`.
    Proto(u8),
    /// `inet_service`.
    Port(u16),
    /// A short number in the machine's own byte order: `ct zone`.
    U16(u16),
    /// A number in the machine's own byte order: `mark`, and what `numgen` and `jhash` give.
    U32(u32),
    /// `ether_addr`.
    Mac(Mac),
    /// `ifname`, at most 15 characters.
    IfName(String),
}

impl From<IpAddr> for Part {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Part::Ipv4(a),
            IpAddr::V6(a) => Part::Ipv6(a),
        }
    }
}

impl From<Mac> for Part {
    fn from(mac: Mac) -> Self {
        Part::Mac(mac)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Ipv4(a) => a.fmt(f),
            Part::Ipv6(a) => a.fmt(f),
            Part::Proto(6) => f.write_str("tcp"),
            Part::Proto(17) => f.write_str("udp"),
            Part::Proto(132) => f.write_str("sctp"),
            Part::Proto(n) => n.fmt(f),
            Part::Port(n) => n.fmt(f),
            Part::U16(n) => n.fmt(f),
            Part::U32(n) => n.fmt(f),
            Part::Mac(m) => m.fmt(f),
            Part::IfName(name) => write!(f, "{name:?}"),
        }
    }
}

/// Several parts, as nft writes a concatenation.
struct Concat<'a>(&'a [Part]);

impl fmt::Display for Concat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { "" } else { " . " })?;
        }
        Ok(())
    }
}

/// What a verdict map answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Go on in another chain, not to return here.
    Goto(String),
    /// Go on in another chain, and return.
    Jump(String),
    /// Let it pass.
    Accept,
    /// Discard it.
    Drop,
    /// Back to the calling chain.
    Return,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
        }
    }
}

/// What a map says of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Data of one part or a concatenation.
    Data(Vec<Part>),
    /// A verdict.
    Verdict(Verdict),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Data(parts) => Concat(parts).fmt(f),
            Value::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

/// One element of a set (no value) or a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The key.
    pub key: Vec<Part>,
    /// What a map says of it.
    pub value: Option<Value>,
}

impl Element {
    /// An element of a set.
    pub fn key(key: impl Into<Vec<Part>>) -> Self {
        Self { key: key.into(), value: None }
    }

    /// An element of a map to data.
    pub fn map(key: impl Into<Vec<Part>>, data: impl Into<Vec<Part>>) -> Self {
        Self { key: key.into(), value: Some(Value::Data(data.into())) }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl Into<Vec<Part>>, verdict: Verdict) -> Self {
        Self { key: key.into(), value: Some(Value::Verdict(verdict)) }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Concat(&self.key).fmt(f)?;
        match &self.value {
            Some(value) => write!(f, " : {value}"),
            None => Ok(()),
        }
    }
}

/// Changes to one set or map. Deletions come first, and go by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElementChange {
    /// The set's name.
    pub set: String,
    /// What goes; values do not matter.
    pub del: Vec<Element>,
    /// What comes.
    pub add: Vec<Element>,
}

/// A whole table: its fixed part as nft text, and the elements that its sets and maps start with.
///
/// The fixed part is known again by its digest, which stands in the kernel as the name of an empty chain; elements are not part
/// of it, since they change by [`Step::UpdateElements`](super::Step::UpdateElements).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// What stands between the table's braces.
    pub body: String,
    /// Elements at the start, by set.
    pub elements: Vec<(String, Vec<Element>)>,
}

/// What the marker chain's name starts with.
pub const DIGEST_PREFIX: &str = "rn-digest-";

impl Ruleset {
    /// Identifies the fixed part: 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        let sum = ring::digest::digest(&ring::digest::SHA256, self.body.as_bytes());
        sum.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    /// The script that puts this table in place of whatever has its name, as one transaction.
    pub fn script(&self) -> String {
        let Self { family, table, body, elements } = self;
        let mut out = format!("add table {family} {table}\ndelete table {family} {table}\n");
        out +=
            &format!("table {family} {table} {{\nchain {DIGEST_PREFIX}{} {{ }}\n{body}\n}}\n", self.digest());
        for (set, list) in elements.iter().filter(|(_, list)| !list.is_empty()) {
            let list: Vec<String> = list.iter().map(Element::to_string).collect();
            out += &format!("add element {family} {table} {set} {{ {} }}\n", list.join(", "));
        }
        out
    }
}
