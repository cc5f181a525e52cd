//! Connection tracking: forgetting flows, so that their next packet is translated anew.

use std::net::IpAddr;

use super::{
    error::Cause,
    linux::Namespace,
    netlink::{
        abi::*,
        wire::{Message, addr, attrs},
    },
    step::{ConntrackFilter, IpFamily},
};

/// One direction of a connection, as far as it is asked about.
#[derive(Default)]
struct Tuple {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    proto: Option<u8>,
    sport: Option<u16>,
    dport: Option<u16>,
}

impl Tuple {
    fn flags(&self) -> u32 {
        let bit = |given, bit| if given { bit } else { 0 };
        bit(self.src.is_some(), CTA_FILTER_F_CTA_IP_SRC)
            | bit(self.dst.is_some(), CTA_FILTER_F_CTA_IP_DST)
            | bit(self.proto.is_some(), CTA_FILTER_F_CTA_PROTO_NUM)
            | bit(self.sport.is_some(), CTA_FILTER_F_CTA_PROTO_SRC_PORT)
            | bit(self.dport.is_some(), CTA_FILTER_F_CTA_PROTO_DST_PORT)
    }

    fn read(tuple: &[u8]) -> Self {
        let mut read = Self::default();
        for (part, inner) in attrs(tuple, 0) {
            for (kind, value) in attrs(inner, 0) {
                let port = || value.try_into().ok().map(u16::from_be_bytes);
                match (part, kind) {
                    (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => read.src = addr(value),
                    (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => read.dst = addr(value),
                    (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => read.proto = value.first().copied(),
                    (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => read.sport = port(),
                    (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => read.dport = port(),
                    _ => {}
                }
            }
        }
        read
    }

    fn write(&self, m: &mut Message, kind: u16) {
        let ip = |addr: &IpAddr, v4, v6| if addr.is_ipv4() { v4 } else { v6 };
        m.nest(kind | NLA_F_NESTED, |m| {
            m.nest(CTA_TUPLE_IP | NLA_F_NESTED, |m| {
                if let Some(src) = self.src {
                    m.addr(ip(&src, CTA_IP_V4_SRC, CTA_IP_V6_SRC), src);
                }
                if let Some(dst) = self.dst {
                    m.addr(ip(&dst, CTA_IP_V4_DST, CTA_IP_V6_DST), dst);
                }
            });
            if let Some(proto) = self.proto {
                m.nest(CTA_TUPLE_PROTO | NLA_F_NESTED, |m| {
                    m.u8(CTA_PROTO_NUM, proto);
                    if let Some(port) = self.sport {
                        m.be16(CTA_PROTO_SRC_PORT, port);
                    }
                    if let Some(port) = self.dport {
                        m.be16(CTA_PROTO_DST_PORT, port);
                    }
                });
            }
        });
    }
}

/// Reads whatever may be a tuple.
#[cfg(any(test, fuzzing))]
pub(super) fn read_any(payload: &[u8]) {
    for (_, value) in attrs(payload, 4) {
        let _ = Tuple::read(value).flags();
    }
}

/// Forgets all connections that match. The kernel does the matching, in one request, except by IPv6 addresses: there it takes
/// exactly those that do not match (`ctnetlink_filter_match_tuple`; seen on 6.18), so they are looked through here, as are those
/// that nobody has answered.
pub(super) fn flush(ns: &Namespace, filter: &ConntrackFilter) -> Result<(), Cause> {
    let ConntrackFilter { family, proto, orig_src, orig_dst, orig_dport, reply_src, reply_sport, unanswered } =
        *filter;
    if proto.is_none() && (orig_dport.is_some() || reply_sport.is_some()) {
        return Err(Cause::Invalid("a port needs a protocol".into()));
    }
    if unanswered {
        return one_by_one(ns, filter);
    }
    if family == IpFamily::V6 && (orig_src.is_some() || orig_dst.is_some() || reply_src.is_some()) {
        return one_by_one(ns, filter);
    }
    // The kernel takes the family into account only from messages of a version above 0.
    let mut m = Message::new(IPCTNL_MSG_CT_DELETE, 0, &[family.number(), 1, 0, 0]);
    let orig = Tuple { src: orig_src, dst: orig_dst, proto, dport: orig_dport, ..Tuple::default() };
    let reply = Tuple {
        src: reply_src,
        sport: reply_sport,
        proto: proto.filter(|_| reply_sport.is_some()),
        ..Tuple::default()
    };
    if orig.flags() | reply.flags() != 0 {
        if orig.flags() != 0 {
            orig.write(&mut m, CTA_TUPLE_ORIG);
        }
        if reply.flags() != 0 {
            reply.write(&mut m, CTA_TUPLE_REPLY);
        }
        m.nest(CTA_FILTER | NLA_F_NESTED, |m| {
            m.u32(CTA_FILTER_ORIG_FLAGS, orig.flags()).u32(CTA_FILTER_REPLY_FLAGS, reply.flags());
        });
    }
    ns.netfilter().request(m)
}

fn one_by_one(ns: &Namespace, filter: &ConntrackFilter) -> Result<(), Cause> {
    let fixed = [filter.family.number(), 0, 0, 0];
    let mut socket = ns.netfilter();
    let found =
        socket.dump(Message::new(IPCTNL_MSG_CT_GET, 0, &fixed), |m| Ok(matching(m.payload, filter)))?;
    for tuple in found {
        let mut m = Message::new(IPCTNL_MSG_CT_DELETE, 0, &fixed);
        m.bytes(CTA_TUPLE_ORIG | NLA_F_NESTED, &tuple);
        match socket.request(m) {
            // It ended meanwhile.
            Err(cause) if cause.errno() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The opener's tuple of a connection that matches, as it stands in the message.
fn matching(payload: &[u8], filter: &ConntrackFilter) -> Option<Vec<u8>> {
    let find = |wanted| attrs(payload, 4).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let (raw, reply) = (find(CTA_TUPLE_ORIG)?, Tuple::read(find(CTA_TUPLE_REPLY)?));
    let orig = Tuple::read(raw);
    fn fits<T: PartialEq>(wanted: Option<T>, found: Option<T>) -> bool {
        wanted.is_none() || wanted == found
    }
    let status = find(CTA_STATUS).and_then(|v| v.try_into().ok()).map_or(0, u32::from_be_bytes);
    let all = (!filter.unanswered || status & IPS_SEEN_REPLY == 0)
        && fits(filter.proto, orig.proto)
        && fits(filter.orig_src, orig.src)
        && fits(filter.orig_dst, orig.dst)
        && fits(filter.orig_dport, orig.dport)
        && fits(filter.reply_src, reply.src)
        && fits(filter.reply_sport, reply.sport);
    all.then(|| raw.to_vec())
}
