//! Connection tracking: forgetting flows, so that their next packet is translated anew.

use std::net::IpAddr;

use super::{
    error::Cause,
    linux::Namespace,
    netlink::{abi::*, wire::Message},
    step::ConntrackFilter,
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

/// Forgets all connections that match. The kernel does the matching, in one request.
pub(super) fn flush(ns: &Namespace, filter: &ConntrackFilter) -> Result<(), Cause> {
    let ConntrackFilter { family, proto, orig_src, orig_dst, orig_dport, reply_src, reply_sport } = *filter;
    if proto.is_none() && (orig_dport.is_some() || reply_sport.is_some()) {
        return Err(Cause::Invalid("a port needs a protocol".into()));
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
