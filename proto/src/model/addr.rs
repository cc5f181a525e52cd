//! Network identifiers.

use std::{fmt, net::IpAddr, net::Ipv4Addr, str::FromStr};

use ipnet::IpNet;

/// A VXLAN network identifier (RFC 7348): 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Vni(pub u32);

impl Vni {
    /// The first one handed out automatically; `ingress` has it (swarmkit `cnmallocator`).
    pub const FIRST: Vni = Vni(4096);
    /// The largest: 24 bits.
    pub const LAST: Vni = Vni(0xff_ffff);
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl From<Mac> for String {
    fn from(m: Mac) -> String {
        m.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is not a MAC address");
        let mut bytes = [0u8; 6];
        let mut parts = s.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next().ok_or_else(bad)?, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Mac(bytes)) }
    }
}

impl Mac {
    /// `02:42` and the four bytes of the address, as libnetwork derives a MAC from an IPv4 address. For an IPv6 address:
    /// `02:43` and its low 32 bits, so that the two never meet.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => {
                let [a, b, c, d] = a.octets();
                Mac([0x02, 0x42, a, b, c, d])
            }
            IpAddr::V6(a) => {
                let o = a.octets();
                Mac([0x02, 0x43, o[12], o[13], o[14], o[15]])
            }
        }
    }

    /// The MAC of an endpoint that has `addrs`: that of its IPv4 address when it has one, so that both families share it.
    pub fn of_any(addrs: impl IntoIterator<Item = IpAddr>) -> Option<Self> {
        let mut first = None;
        for addr in addrs {
            if addr.is_ipv4() {
                return Some(Self::of(addr));
            }
            first = first.or(Some(Self::of(addr)));
        }
        first
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TCP, UDP or SCTP port, never 0.
pub type Port = u16;

/// A transport protocol that can be published.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// `tcp`, `udp` or `sctp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(format!("invalid protocol {s:?}: use tcp, udp or sctp")),
        }
    }
}

/// An address together with the prefix length of its subnet (`10.0.1.5/24`): unlike a network, host bits matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SubnetAddr {
    /// The address.
    pub addr: IpAddr,
    /// Length of the subnet's prefix.
    pub prefix: u8,
}

impl SubnetAddr {
    /// The subnet that the address lies in.
    pub fn subnet(self) -> IpNet {
        IpNet::new(self.addr, self.prefix).map_or_else(|_| IpNet::from(self.addr), |n| n.trunc())
    }

    /// The unspecified address, for tests and defaults.
    pub const UNSPECIFIED: SubnetAddr = SubnetAddr { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };
}

impl fmt::Display for SubnetAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl fmt::Debug for SubnetAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SubnetAddr> for String {
    fn from(a: SubnetAddr) -> String {
        a.to_string()
    }
}

impl TryFrom<String> for SubnetAddr {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl FromStr for SubnetAddr {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let net: IpNet = s.parse().map_err(|_| format!("{s:?} is not an address with a prefix length"))?;
        Ok(Self { addr: net.addr(), prefix: net.prefix_len() })
    }
}

impl From<SubnetAddr> for IpAddr {
    fn from(a: SubnetAddr) -> IpAddr {
        a.addr
    }
}
