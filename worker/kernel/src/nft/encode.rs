//! Keys and values as the kernel's registers hold them.
//!
//! A field alone has its own length; in a concatenation each is padded to 32 bits. All are in network byte order but the numbers
//! that the kernel itself makes (marks, `numgen`, `jhash`), which are in the machine's.

use std::net::{Ipv4Addr, Ipv6Addr};

use proto::model::Mac;

use super::super::{
    error::Cause,
    netlink::{
        abi::*,
        wire::{Message, attrs, be32, text, u32_at},
    },
    ruleset::{Part, Value, Verdict},
};

/// Length of an `ifname` (`IFNAMSIZ`).
const IFNAME: usize = 16;
/// Bits that each type takes in the type of a concatenation (nft's `TYPE_BITS`).
const TYPE_BITS: u32 = 6;

/// Writes a key, and a value where one is wanted.
pub(super) fn element(m: &mut Message, key: &[Part], value: Option<&Value>) -> Result<(), Cause> {
    let key = encode(key)?;
    m.nest(NFTA_SET_ELEM_KEY | NLA_F_NESTED, |m| {
        m.bytes(NFTA_DATA_VALUE, &key);
    });
    match value {
        None => {}
        Some(Value::Data(parts)) => {
            let data = encode(parts)?;
            m.nest(NFTA_SET_ELEM_DATA | NLA_F_NESTED, |m| {
                m.bytes(NFTA_DATA_VALUE, &data);
            });
        }
        Some(Value::Verdict(verdict)) => {
            let (code, chain) = match verdict {
                Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
                Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
                Verdict::Accept => (NFT_ACCEPT, None),
                Verdict::Drop => (NFT_DROP, None),
                Verdict::Return => (NFT_RETURN, None),
            };
            m.nest(NFTA_SET_ELEM_DATA | NLA_F_NESTED, |m| {
                m.nest(NFTA_DATA_VERDICT | NLA_F_NESTED, |m| {
                    m.be32(NFTA_VERDICT_CODE, code as u32);
                    if let Some(chain) = chain {
                        m.text(NFTA_VERDICT_CHAIN, chain);
                    }
                });
            });
        }
    }
    Ok(())
}

fn encode(parts: &[Part]) -> Result<Vec<u8>, Cause> {
    let mut out = Vec::with_capacity(32);
    for part in parts {
        match part {
            Part::Ipv4(a) => out.extend(a.octets()),
            Part::Ipv6(a) => out.extend(a.octets()),
            Part::Proto(n) => out.push(*n),
            Part::Port(n) => out.extend(n.to_be_bytes()),
            Part::U16(n) => out.extend(n.to_ne_bytes()),
            Part::U32(n) => out.extend(n.to_ne_bytes()),
            Part::Mac(m) => out.extend(m.0),
            Part::IfName(name) if name.len() < IFNAME => {
                out.extend(name.as_bytes());
                out.resize(out.len() + IFNAME - name.len(), 0);
            }
            Part::IfName(name) => return Err(Cause::Invalid(format!("{name:?} cannot be a link's name"))),
        }
        if parts.len() > 1 {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    Ok(out)
}

/// A field's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ipv4,
    Ipv6,
    Proto,
    Port,
    U16,
    U32,
    Mac,
    IfName,
}

impl Kind {
    /// By nft's number (`enum datatypes`), which the kernel only keeps for us.
    fn of(number: u32) -> Option<Self> {
        match number {
            7 => Some(Kind::Ipv4),
            8 => Some(Kind::Ipv6),
            9 => Some(Kind::Mac),
            12 => Some(Kind::Proto),
            13 => Some(Kind::Port),
            // integer, mark
            4 | 19 => Some(Kind::U32),
            41 => Some(Kind::IfName),
            _ => None,
        }
    }

    fn len(self) -> usize {
        match self {
            Kind::Proto => 1,
            Kind::Port | Kind::U16 => 2,
            Kind::Ipv4 | Kind::U32 => 4,
            Kind::Mac => 6,
            Kind::Ipv6 | Kind::IfName => 16,
        }
    }

    fn read(self, data: &[u8]) -> Option<Part> {
        let data = data.get(..self.len())?;
        Some(match self {
            Kind::Ipv4 => Part::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
            Kind::Ipv6 => Part::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
            Kind::Proto => Part::Proto(data[0]),
            Kind::Port => Part::Port(u16::from_be_bytes(data.try_into().ok()?)),
            Kind::U16 => Part::U16(u16::from_ne_bytes(data.try_into().ok()?)),
            Kind::U32 => Part::U32(u32_at(data, 0)),
            Kind::Mac => Part::Mac(Mac(data.try_into().ok()?)),
            Kind::IfName => Part::IfName(text(data)),
        })
    }
}

/// The fields of a set's key or data type, of `len` bytes; none if one of them is of a type that we never use.
pub(super) fn kinds(mut number: u32, len: u32) -> Option<Vec<Kind>> {
    let mut kinds = Vec::new();
    while number > 0 {
        kinds.push(Kind::of(number & ((1 << TYPE_BITS) - 1))?);
        number >>= TYPE_BITS;
    }
    // The first field has the highest bits.
    kinds.reverse();
    // An integer's type does not say how long it is.
    if kinds == [Kind::U32] && len == 2 {
        return Some(vec![Kind::U16]);
    }
    Some(kinds)
}

/// Reads the contents of a key or data attribute.
pub(super) fn data(kinds: &[Kind], attr: &[u8]) -> Option<Vec<Part>> {
    let mut data = attrs(attr, 0).find(|(kind, _)| *kind == NFTA_DATA_VALUE)?.1;
    kinds
        .iter()
        .map(|kind| {
            let part = kind.read(data)?;
            data = data.get(kind.len().next_multiple_of(4)..).unwrap_or_default();
            Some(part)
        })
        .collect()
}

/// Reads a verdict.
pub(super) fn verdict(attr: &[u8]) -> Option<Verdict> {
    let inner = attrs(attr, 0).find(|(kind, _)| *kind == NFTA_DATA_VERDICT)?.1;
    let (mut code, mut chain) = (None, String::new());
    for (kind, value) in attrs(inner, 0) {
        match kind {
            NFTA_VERDICT_CODE => code = Some(be32(value) as i32),
            NFTA_VERDICT_CHAIN => chain = text(value),
            _ => {}
        }
    }
    match code? {
        NFT_GOTO => Some(Verdict::Goto(chain)),
        NFT_JUMP => Some(Verdict::Jump(chain)),
        NFT_ACCEPT => Some(Verdict::Accept),
        NFT_DROP => Some(Verdict::Drop),
        NFT_RETURN => Some(Verdict::Return),
        _ => None,
    }
}
