//! Addresses, routes and routing policy rules.

use std::net::IpAddr;

use ipnet::IpNet;
use proto::model::SubnetAddr;

use super::{
    error::Cause,
    link,
    linux::Namespace,
    netlink::{
        abi::*,
        wire::{Message, Received, addr, attrs, u32_at},
    },
    step::{IpFamily, ROUTE_PROTOCOL, Route, Rule},
};

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { AF_INET } else { AF_INET6 }
}

impl IpFamily {
    /// `AF_INET` or `AF_INET6`.
    pub(super) fn number(self) -> u8 {
        match self {
            IpFamily::V4 => AF_INET,
            IpFamily::V6 => AF_INET6,
        }
    }
}

/// Takes the answers that say that the work was done before for success.
fn unless(outcome: Result<(), Cause>, fine: &[i32]) -> Result<(), Cause> {
    match outcome {
        Err(cause) if cause.errno().is_some_and(|e| fine.contains(&e)) => Ok(()),
        other => other,
    }
}

fn ifaddr(ns: &Namespace, link: &str, addr: SubnetAddr) -> Result<[u8; 8], Cause> {
    let index = link::index(ns, link)?.to_ne_bytes();
    Ok([family(addr.addr), addr.prefix, 0, 0, index[0], index[1], index[2], index[3]])
}

pub(super) fn add_addr(ns: &Namespace, link: &str, addr: SubnetAddr) -> Result<(), Cause> {
    let mut m = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &ifaddr(ns, link, addr)?);
    m.addr(IFA_LOCAL, addr.addr).addr(IFA_ADDRESS, addr.addr).u32(IFA_FLAGS, IFA_F_NODAD);
    unless(ns.request(m), &[libc::EEXIST])
}

pub(super) fn del_addr(ns: &Namespace, link: &str, addr: SubnetAddr) -> Result<(), Cause> {
    let fixed = match ifaddr(ns, link, addr) {
        Err(Cause::NoLink(_)) => return Ok(()),
        fixed => fixed?,
    };
    let mut m = Message::new(RTM_DELADDR, 0, &fixed);
    m.addr(IFA_LOCAL, addr.addr).addr(IFA_ADDRESS, addr.addr);
    unless(ns.request(m), &[libc::EADDRNOTAVAIL])
}

/// Reads an address, with the index of its link; none for link-local IPv6 ones.
pub(super) fn read_addr(m: Received<'_>) -> Option<(u32, SubnetAddr)> {
    let prefix = *m.payload.get(1)?;
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attrs(m.payload, 8) {
        match kind {
            IFA_LOCAL => local = addr(value),
            IFA_ADDRESS => peer = addr(value),
            _ => {}
        }
    }
    let addr = local.or(peer)?;
    let link_local = matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local());
    (!link_local).then_some((u32_at(m.payload, 4), SubnetAddr { addr, prefix }))
}

fn rtmsg(dst: IpNet, scope: u8, flags: u32) -> [u8; 12] {
    let [a, b, c, d] = flags.to_ne_bytes();
    let kind = if scope == RT_SCOPE_NOWHERE { 0 } else { RTN_UNICAST };
    [family(dst.addr()), dst.prefix_len(), 0, 0, RT_TABLE_UNSPEC, ROUTE_PROTOCOL, scope, kind, a, b, c, d]
}

fn route_message(kind: u16, flags: u16, fixed: [u8; 12], route: &Route, oif: u32) -> Message {
    let mut m = Message::new(kind, flags, &fixed);
    m.u32(RTA_TABLE, route.table).u32(RTA_OIF, oif);
    if route.dst.prefix_len() > 0 {
        m.addr(RTA_DST, route.dst.network());
    }
    if let Some(via) = route.via {
        m.addr(RTA_GATEWAY, via);
    }
    if route.metric > 0 {
        m.u32(RTA_PRIORITY, route.metric);
    }
    if let Some(src) = route.src {
        m.addr(RTA_PREFSRC, src);
    }
    m
}

pub(super) fn add_route(ns: &Namespace, route: &Route) -> Result<(), Cause> {
    let oif = link::index(ns, &route.dev)?;
    let scope =
        if route.via.is_none() && route.dst.addr().is_ipv4() { RT_SCOPE_LINK } else { RT_SCOPE_UNIVERSE };
    let fixed = rtmsg(route.dst, scope, if route.onlink { RTNH_F_ONLINK } else { 0 });
    ns.request(route_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, fixed, route, oif))
}

pub(super) fn del_route(ns: &Namespace, route: &Route) -> Result<(), Cause> {
    let oif = match link::index(ns, &route.dev) {
        Err(Cause::NoLink(_)) => return Ok(()),
        index => index?,
    };
    let fixed = rtmsg(route.dst, RT_SCOPE_NOWHERE, 0);
    unless(ns.request(route_message(RTM_DELROUTE, 0, fixed, route, oif)), &[libc::ESRCH])
}

/// The request for all routes of ours.
pub(super) fn our_routes(family: IpFamily) -> Message {
    let mut fixed = [0; 12];
    fixed[0] = family.number();
    fixed[5] = ROUTE_PROTOCOL;
    Message::new(RTM_GETROUTE, 0, &fixed)
}

/// Reads a route of ours; the link's name is looked up by `name`.
pub(super) fn read_route(m: Received<'_>, name: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let route = read_any_route(m, name)?;
    (m.payload.get(5) == Some(&ROUTE_PROTOCOL)).then_some(route)
}

/// Reads a unicast route with one way out.
pub(super) fn read_any_route(m: Received<'_>, name: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let &[af, prefix, _, _, table, _, _, kind, ..] = m.payload else { return None };
    let flags = u32_at(m.payload, 8);
    if kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let any = if af == AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let mut route = Route {
        dst: IpNet::new(any, prefix).ok()?,
        via: None,
        dev: String::new(),
        src: None,
        table: table.into(),
        onlink: flags & RTNH_F_ONLINK != 0,
        metric: 0,
    };
    for (kind, value) in attrs(m.payload, 12) {
        match kind {
            RTA_DST => route.dst = IpNet::new(addr(value)?, prefix).ok()?,
            RTA_GATEWAY => route.via = addr(value),
            RTA_OIF => route.dev = name(u32_at(value, 0))?,
            RTA_PREFSRC => route.src = addr(value),
            RTA_TABLE => route.table = u32_at(value, 0),
            RTA_PRIORITY => route.metric = u32_at(value, 0),
            _ => {}
        }
    }
    if af == AF_INET6 && route.metric == IP6_RT_PRIO_USER {
        route.metric = 0;
    }
    (!route.dev.is_empty()).then_some(route)
}

fn rule_message(kind: u16, flags: u16, rule: &Rule) -> Message {
    let prefix = rule.to.map_or(0, |to| to.prefix_len());
    let fixed = [rule.family.number(), prefix, 0, 0, RT_TABLE_UNSPEC, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
    let mut m = Message::new(kind, flags, &fixed);
    m.u32(FRA_PRIORITY, rule.pref).u32(FRA_TABLE, rule.table).u8(FRA_PROTOCOL, ROUTE_PROTOCOL);
    if let Some((mark, mask)) = rule.fwmark {
        m.u32(FRA_FWMARK, mark).u32(FRA_FWMASK, mask);
    }
    if let Some(to) = rule.to.filter(|to| to.prefix_len() > 0) {
        m.addr(FRA_DST, to.network());
    }
    m
}

pub(super) fn add_rule(ns: &Namespace, rule: &Rule) -> Result<(), Cause> {
    let m = rule_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
    unless(ns.request(m), &[libc::EEXIST])
}

pub(super) fn del_rule(ns: &Namespace, rule: &Rule) -> Result<(), Cause> {
    unless(ns.request(rule_message(RTM_DELRULE, 0, rule)), &[libc::ENOENT])
}

/// The request for all rules of a family.
pub(super) fn all_rules(family: IpFamily) -> Message {
    let mut fixed = [0; 12];
    fixed[0] = family.number();
    Message::new(RTM_GETRULE, 0, &fixed)
}

/// Reads a rule of ours.
pub(super) fn read_rule(m: Received<'_>) -> Option<Rule> {
    let &[af, prefix, _, _, table, _, _, FR_ACT_TO_TBL, ..] = m.payload else { return None };
    let family = if af == AF_INET { IpFamily::V4 } else { IpFamily::V6 };
    let mut rule = Rule { family, pref: 0, fwmark: None, to: None, table: table.into() };
    let (mut ours, mut mark, mut mask) = (false, None, u32::MAX);
    for (kind, value) in attrs(m.payload, 12) {
        match kind {
            FRA_PRIORITY => rule.pref = u32_at(value, 0),
            FRA_FWMARK => mark = Some(u32_at(value, 0)),
            FRA_FWMASK => mask = u32_at(value, 0),
            FRA_TABLE => rule.table = u32_at(value, 0),
            FRA_DST => rule.to = IpNet::new(addr(value)?, prefix).ok(),
            FRA_PROTOCOL => ours = value.first() == Some(&ROUTE_PROTOCOL),
            _ => {}
        }
    }
    rule.fwmark = mark.map(|mark| (mark, mask));
    ours.then_some(rule)
}
