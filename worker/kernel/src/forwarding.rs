//! Forwarding entries of VXLAN devices, and permanent neighbours.

use std::net::IpAddr;

use proto::model::Mac;

use super::{
    error::Cause,
    link,
    linux::Namespace,
    netlink::{
        abi::*,
        wire::{Message, Received, addr, attrs, u32_at},
    },
    step::{FdbEntry, Neigh},
};

/// `struct ndmsg`.
fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> [u8; 12] {
    let (i, s) = (index.to_ne_bytes(), state.to_ne_bytes());
    [family, 0, 0, 0, i[0], i[1], i[2], i[3], s[0], s[1], flags, 0]
}

fn fdb(kind: u16, how: u16, index: u32, entry: FdbEntry) -> Message {
    let mut m = Message::new(kind, how, &ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF));
    m.bytes(NDA_LLADDR, &entry.mac.0).addr(NDA_DST, entry.dst);
    m
}

pub(super) fn replace_fdb(ns: &Namespace, name: &str, entry: FdbEntry) -> Result<(), Cause> {
    let how = if entry.mac.0 == [0; 6] { NLM_F_APPEND } else { NLM_F_REPLACE };
    let index = link::index(ns, name)?;
    ns.request(fdb(RTM_NEWNEIGH, NLM_F_CREATE | how, index, entry))
}

pub(super) fn del_fdb(ns: &Namespace, name: &str, entry: FdbEntry) -> Result<(), Cause> {
    remove(ns, name, |index| fdb(RTM_DELNEIGH, 0, index, entry))
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { AF_INET } else { AF_INET6 }
}

pub(super) fn replace_neigh(ns: &Namespace, name: &str, neigh: Neigh) -> Result<(), Cause> {
    let fixed = ndmsg(family(neigh.addr), link::index(ns, name)?, NUD_PERMANENT, 0);
    let mut m = Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &fixed);
    m.addr(NDA_DST, neigh.addr).bytes(NDA_LLADDR, &neigh.mac.0);
    ns.request(m)
}

pub(super) fn del_neigh(ns: &Namespace, name: &str, addr: IpAddr) -> Result<(), Cause> {
    remove(ns, name, |index| {
        let mut m = Message::new(RTM_DELNEIGH, 0, &ndmsg(family(addr), index, 0, 0));
        m.addr(NDA_DST, addr);
        m
    })
}

fn remove(ns: &Namespace, name: &str, message: impl FnOnce(u32) -> Message) -> Result<(), Cause> {
    let index = match link::index(ns, name) {
        Err(Cause::NoLink(_)) => return Ok(()),
        index => index?,
    };
    match ns.request(message(index)) {
        Err(cause) if cause.errno() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// The request for all forwarding entries of a VXLAN device.
pub(super) fn fdb_of(index: u32) -> Message {
    Message::new(RTM_GETNEIGH, 0, &ndmsg(AF_BRIDGE, index, 0, 0))
}

/// The request for all neighbours.
pub(super) fn all_neighbours() -> Message {
    Message::new(RTM_GETNEIGH, 0, &ndmsg(AF_UNSPEC, 0, 0, 0))
}

/// Reads a forwarding entry with a VTEP, or a permanent neighbour, with the index of its link.
pub(super) fn read(m: Received<'_>) -> Option<(u32, IpAddr, Mac)> {
    let state = u32_at(m.payload, 8) as u16;
    let (mut dst, mut mac) = (None, None);
    for (kind, value) in attrs(m.payload, 12) {
        match kind {
            NDA_DST => dst = addr(value),
            NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    (state & NUD_PERMANENT != 0).then_some((u32_at(m.payload, 4), dst?, mac?))
}
