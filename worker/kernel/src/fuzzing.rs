//! What a fuzz target, and its small version here, gives to the readers of netlink's answers.

use super::{
    conntrack, forwarding, link,
    netlink::wire::{attrs, messages},
    nft, routing,
};

/// What a socket delivers.
pub fn netlink(bytes: &[u8]) {
    for m in messages(bytes) {
        let _ = link::read(m);
        let _ = routing::read_addr(m);
        let _ = routing::read_any_route(m, |index| Some(index.to_string()));
        let _ = routing::read_rule(m);
        let _ = forwarding::read(m);
        conntrack::read_any(m.payload);
        nft::read_any(m.payload);
        for (_, value) in attrs(m.payload, 4) {
            attrs(value, 0).for_each(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        netlink::{abi::*, wire::Message},
        step::ROUTE_PROTOCOL,
    };

    #[test]
    fn whatever_the_kernel_says_is_read_or_left_out() {
        let mut link = Message::new(16, 0, &[0; 16]);
        link.text(IFLA_IFNAME, "eth0").u32(IFLA_MTU, 1500).nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |m| {
                m.u32(IFLA_VXLAN_ID, 4096).be16(IFLA_VXLAN_PORT, 4789);
                m.addr(IFLA_VXLAN_LOCAL, std::net::IpAddr::from([10, 0, 0, 1]));
            });
        });
        let mut route =
            Message::new(24, 0, &[AF_INET, 24, 0, 0, 254, ROUTE_PROTOCOL, 0, RTN_UNICAST, 0, 0, 0, 0]);
        route.addr(RTA_DST, std::net::IpAddr::from([10, 0, 0, 0])).u32(RTA_OIF, 2);
        smoke::smoke([link.finish(1).to_vec(), route.finish(2).to_vec()], 5000, netlink);
    }
}
