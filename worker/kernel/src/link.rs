//! Links.

use std::{
    os::fd::AsRawFd,
    sync::atomic::{AtomicU32, Ordering},
};

use proto::model::Mac;

use super::{
    error::Cause,
    linux::Namespace,
    netlink::{
        abi::*,
        wire::{Message, Received, attrs, text, u32_at},
    },
    observed::LinkKind,
    step::{PortFlags, VethEnd, Vxlan},
};

/// Group of the links that we make, by which all of a namespace's are deleted at once.
const GROUP: u32 = super::step::ROUTE_PROTOCOL as u32;
/// `IFNAMSIZ` without its NUL.
const NAME_MAX: usize = 15;

/// `struct ifinfomsg`.
pub(super) fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// What is read of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: LinkKind,
    /// Index, in the namespace of its socket, of a VXLAN device's underlay device.
    pub(super) underlay: u32,
    /// Its socket, or its peer, lives in another namespace.
    pub(super) elsewhere: bool,
    pub(super) mtu: u32,
    pub(super) mac: Option<Mac>,
    pub(super) master: u32,
    pub(super) port: Option<PortFlags>,
    pub(super) up: bool,
    pub(super) alias: Option<String>,
}

/// Reads a link from a message.
pub(super) fn read(m: Received<'_>) -> Seen {
    let mut seen = Seen {
        index: u32_at(m.payload, 4),
        name: String::new(),
        kind: LinkKind::Other(String::new()),
        underlay: 0,
        elsewhere: false,
        mtu: 0,
        mac: None,
        master: 0,
        port: None,
        up: u32_at(m.payload, 8) & IFF_UP != 0,
        alias: None,
    };
    for (kind, value) in attrs(m.payload, 16) {
        match kind {
            IFLA_IFNAME => seen.name = text(value),
            IFLA_ADDRESS => seen.mac = value.try_into().ok().map(Mac),
            IFLA_MTU => seen.mtu = u32_at(value, 0),
            IFLA_MASTER => seen.master = u32_at(value, 0),
            IFLA_IFALIAS => seen.alias = Some(text(value)),
            IFLA_LINK_NETNSID => seen.elsewhere = true,
            IFLA_LINKINFO => read_info(value, &mut seen),
            _ => {}
        }
    }
    seen
}

fn read_info(info: &[u8], seen: &mut Seen) {
    let find = |wanted| attrs(info, 0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let data = find(IFLA_INFO_DATA).unwrap_or_default();
    seen.kind = match find(IFLA_INFO_KIND).map(text).unwrap_or_default().as_str() {
        "bridge" => LinkKind::Bridge,
        "veth" => LinkKind::Veth,
        "vxlan" => match read_vxlan(data, seen) {
            Some(vxlan) => LinkKind::Vxlan(vxlan),
            None => LinkKind::Other("vxlan".into()),
        },
        other => LinkKind::Other(other.into()),
    };
    if find(IFLA_INFO_SLAVE_KIND).is_some_and(|kind| text(kind) == "bridge") {
        let mut flags = PortFlags::default();
        for (kind, value) in attrs(find(IFLA_INFO_SLAVE_DATA).unwrap_or_default(), 0) {
            let on = value.first().is_some_and(|b| *b != 0);
            match kind {
                IFLA_BRPORT_MODE => flags.hairpin = on,
                IFLA_BRPORT_LEARNING => flags.learning = on,
                IFLA_BRPORT_UNICAST_FLOOD => flags.flood = on,
                IFLA_BRPORT_NEIGH_SUPPRESS => flags.neigh_suppress = on,
                IFLA_BRPORT_ISOLATED => flags.isolated = on,
                _ => {}
            }
        }
        seen.port = Some(flags);
    }
}

/// A VXLAN device without a source address, or with learning, is not one that we could have made.
fn read_vxlan(data: &[u8], seen: &mut Seen) -> Option<Vxlan> {
    let (mut vni, mut port, mut local, mut proxy) = (None, 0, None, false);
    for (kind, value) in attrs(data, 0) {
        match kind {
            IFLA_VXLAN_ID => vni = Some(proto::model::Vni(u32_at(value, 0))),
            IFLA_VXLAN_LINK => seen.underlay = u32_at(value, 0),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => local = super::netlink::wire::addr(value),
            IFLA_VXLAN_PORT => port = value.try_into().map_or(0, u16::from_be_bytes),
            IFLA_VXLAN_PROXY => proxy = value.first().is_some_and(|b| *b != 0),
            IFLA_VXLAN_LEARNING if value.first().is_some_and(|b| *b != 0) => return None,
            _ => {}
        }
    }
    Some(Vxlan { vni: vni?, port, local: local?, dev: None, proxy })
}

/// A link, by name.
pub(super) fn find(ns: &Namespace, name: &str) -> Result<Option<Seen>, Cause> {
    check_name(name)?;
    let mut ask = Message::new(RTM_GETLINK, 0, &ifinfo(0, 0, 0));
    ask.text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let mut seen = None;
    let asked = ns.route().get(ask, |m| {
        seen = Some(read(m));
        Ok(())
    });
    match asked {
        Err(cause) if cause.errno() == Some(libc::ENODEV) => Ok(None),
        Err(cause) => Err(cause),
        Ok(()) => Ok(seen),
    }
}

/// A link's number.
pub(super) fn index(ns: &Namespace, name: &str) -> Result<u32, Cause> {
    find(ns, name)?.map(|seen| seen.index).ok_or_else(|| Cause::NoLink(name.into()))
}

fn check_name(name: &str) -> Result<(), Cause> {
    let fits = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(['/', ' ', ':', '\0']);
    if fits { Ok(()) } else { Err(Cause::Invalid(format!("{name:?} cannot be a link's name"))) }
}

fn new_link(name: &str, mac: Option<Mac>, mtu: u32) -> Result<Message, Cause> {
    check_name(name)?;
    let mut m = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, 0, 0));
    describe(&mut m, name, mac, mtu);
    Ok(m)
}

fn describe(m: &mut Message, name: &str, mac: Option<Mac>, mtu: u32) {
    m.text(IFLA_IFNAME, name).u32(IFLA_MTU, mtu).u32(IFLA_GROUP, GROUP);
    if let Some(mac) = mac {
        m.bytes(IFLA_ADDRESS, &mac.0);
    }
}

fn info(m: &mut Message, kind: &str, data: impl FnOnce(&mut Message)) {
    m.nest(IFLA_LINKINFO | NLA_F_NESTED, |m| {
        m.text(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA | NLA_F_NESTED, data);
    });
}

/// Brings a link that was there before, or is just made, to what is asked. Its kind is checked by `same`.
fn settle(
    ns: &Namespace,
    name: &str,
    wanted: (Option<Mac>, u32, Option<&str>),
    same: impl FnOnce(&LinkKind) -> bool,
) -> Result<(), Cause> {
    let (mac, mtu, alias) = wanted;
    let seen = find(ns, name)?.ok_or_else(|| Cause::NoLink(name.into()))?;
    if !same(&seen.kind) {
        return Err(Cause::Differs { name: name.into(), found: format!("{:?}", seen.kind) });
    }
    let mut m = Message::new(RTM_NEWLINK, 0, &ifinfo(seen.index, 0, 0));
    let bare = m.len();
    if let Some(mac) = mac.filter(|mac| seen.mac != Some(*mac)) {
        m.bytes(IFLA_ADDRESS, &mac.0);
    }
    if seen.mtu != mtu {
        m.u32(IFLA_MTU, mtu);
    }
    if let Some(alias) = alias.filter(|alias| seen.alias.as_deref() != Some(alias)) {
        m.bytes(IFLA_IFALIAS, alias.as_bytes());
    }
    if m.len() == bare { Ok(()) } else { ns.request(m) }
}

/// Makes a link by `message` unless one of that name exists.
fn ensure(ns: &Namespace, name: &str, message: Message) -> Result<(), Cause> {
    match ns.request(message) {
        Err(cause) if cause.errno() == Some(libc::EEXIST) => {
            // Something else may exist already: of VXLAN devices, the VNI.
            if find(ns, name)?.is_some() { Ok(()) } else { Err(cause) }
        }
        other => other,
    }
}

pub(super) fn create_veth(
    a_ns: &Namespace,
    a: &VethEnd,
    b_ns: &Namespace,
    b: &VethEnd,
    mtu: u32,
) -> Result<(), Cause> {
    check_name(&b.name)?;
    let mut m = new_link(&a.name, a.mac, mtu)?;
    // Each end is made under its final name in its final place: the request is sent from within `a`'s namespace, since
    // kernels up to 6.1 refuse a name that exists in the sender's.
    let place =
        b_ns.file.as_ref().map_or_else(own_ns, |file| file.try_clone().map_err(Cause::system("dup")))?;
    info(&mut m, "veth", |m| {
        m.nest(VETH_INFO_PEER | NLA_F_NESTED, |m| {
            m.raw(&ifinfo(0, 0, 0));
            describe(m, &b.name, b.mac, mtu);
            m.u32(IFLA_NET_NS_FD, place.as_raw_fd() as u32);
        });
    });
    match a_ns.request(m) {
        Err(cause) if cause.errno() == Some(libc::EEXIST) => {
            // Both ends are there, or one belongs to something else.
            if find(a_ns, &a.name)?.is_none() || find(b_ns, &b.name)?.is_none() {
                return Err(cause);
            }
        }
        other => other?,
    }
    for (ns, end) in [(a_ns, a), (b_ns, b)] {
        settle(ns, &end.name, (end.mac, mtu, end.alias.as_deref()), |kind| *kind == LinkKind::Veth)?;
    }
    Ok(())
}

fn own_ns() -> Result<std::fs::File, Cause> {
    std::fs::File::open("/proc/thread-self/ns/net").map_err(Cause::system("open the own namespace"))
}

pub(super) fn create_bridge(
    ns: &Namespace,
    name: &str,
    mac: Option<Mac>,
    mtu: u32,
    alias: Option<&str>,
) -> Result<(), Cause> {
    // A bridge follows its ports' MTUs until its own is changed: so it is made with another.
    let mut m = new_link(name, mac, mtu.saturating_sub(1))?;
    info(&mut m, "bridge", |m| {
        m.u32(IFLA_BR_STP_STATE, 0).u8(IFLA_BR_MCAST_SNOOPING, 0);
    });
    ensure(ns, name, m)?;
    settle(ns, name, (mac, mtu, alias), |kind| *kind == LinkKind::Bridge)
}

/// A name that no other link has while one is on its way to its namespace.
fn passing_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("rnt{:x}x{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff)
}

pub(super) fn create_vxlan(
    host: &Namespace,
    ns: &Namespace,
    name: &str,
    vxlan: &Vxlan,
    mac: Option<Mac>,
    mtu: u32,
    alias: Option<&str>,
) -> Result<(), Cause> {
    let wanted = (mac, mtu, alias);
    let same = |kind: &LinkKind| matches!(kind, LinkKind::Vxlan(v) if Vxlan { dev: vxlan.dev.clone(), ..v.clone() } == *vxlan);
    if find(ns, name)?.is_some() {
        return settle(ns, name, wanted, same);
    }
    check_name(name)?;
    // Made in the host's namespace, where its socket stays, and moved in the same request. Kernels up to 6.1 refuse a name that
    // the host has a link of, so it gets its own only when it has arrived.
    let passing = passing_name();
    let mut m = new_link(&passing, mac, mtu)?;
    if let Some(file) = &ns.file {
        m.u32(IFLA_NET_NS_FD, file.as_raw_fd() as u32);
    }
    let underlay = vxlan.dev.as_ref().map(|dev| index(host, dev)).transpose()?;
    info(&mut m, "vxlan", |m| {
        m.u32(IFLA_VXLAN_ID, vxlan.vni.0).be16(IFLA_VXLAN_PORT, vxlan.port);
        let kind = if vxlan.local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
        m.addr(kind, vxlan.local).u8(IFLA_VXLAN_LEARNING, 0).u8(IFLA_VXLAN_PROXY, vxlan.proxy.into());
        if let Some(index) = underlay {
            m.u32(IFLA_VXLAN_LINK, index);
        }
    });
    host.request(m)?;
    let made = index(ns, &passing)?;
    let mut m = Message::new(RTM_NEWLINK, 0, &ifinfo(made, 0, 0));
    m.text(IFLA_IFNAME, name);
    if let Some(alias) = alias {
        m.bytes(IFLA_IFALIAS, alias.as_bytes());
    }
    ns.request(m)?;
    settle(ns, name, wanted, same)
}

pub(super) fn delete(ns: &Namespace, name: &str) -> Result<(), Cause> {
    check_name(name)?;
    let mut m = Message::new(RTM_DELLINK, 0, &ifinfo(0, 0, 0));
    m.text(IFLA_IFNAME, name);
    match ns.request(m) {
        Err(cause) if cause.errno() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Deletes all links of the namespace that we made, in one go: each deletion on its own waits for the kernel's readers.
pub(super) fn delete_ours(ns: &Namespace) -> Result<(), Cause> {
    let mut m = Message::new(RTM_DELLINK, 0, &ifinfo(0, 0, 0));
    m.u32(IFLA_GROUP, GROUP);
    ns.request(m)
}

fn change(
    ns: &Namespace,
    name: &str,
    flags: (u32, u32),
    fill: impl FnOnce(&mut Message),
) -> Result<(), Cause> {
    let mut m = Message::new(RTM_NEWLINK, 0, &ifinfo(index(ns, name)?, flags.0, flags.1));
    fill(&mut m);
    ns.request(m)
}

pub(super) fn set_up(ns: &Namespace, name: &str, up: bool) -> Result<(), Cause> {
    change(ns, name, (if up { IFF_UP } else { 0 }, IFF_UP), |_| {})
}

pub(super) fn set_mtu(ns: &Namespace, name: &str, mtu: u32) -> Result<(), Cause> {
    change(ns, name, (0, 0), |m| {
        m.u32(IFLA_MTU, mtu);
    })
}

pub(super) fn set_mac(ns: &Namespace, name: &str, mac: Mac) -> Result<(), Cause> {
    change(ns, name, (0, 0), |m| {
        m.bytes(IFLA_ADDRESS, &mac.0);
    })
}

pub(super) fn set_alias(ns: &Namespace, name: &str, alias: &str) -> Result<(), Cause> {
    change(ns, name, (0, 0), |m| {
        m.bytes(IFLA_IFALIAS, alias.as_bytes());
    })
}

pub(super) fn set_master(ns: &Namespace, name: &str, master: Option<&str>) -> Result<(), Cause> {
    let master = master.map_or(Ok(0), |master| index(ns, master))?;
    change(ns, name, (0, 0), |m| {
        m.u32(IFLA_MASTER, master);
    })
}

pub(super) fn set_port(ns: &Namespace, name: &str, flags: PortFlags) -> Result<(), Cause> {
    change(ns, name, (0, 0), |m| {
        m.nest(IFLA_LINKINFO | NLA_F_NESTED, |m| {
            m.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA | NLA_F_NESTED, |m| {
                m.u8(IFLA_BRPORT_ISOLATED, flags.isolated.into())
                    .u8(IFLA_BRPORT_MODE, flags.hairpin.into())
                    .u8(IFLA_BRPORT_LEARNING, flags.learning.into())
                    .u8(IFLA_BRPORT_UNICAST_FLOOD, flags.flood.into())
                    .u8(IFLA_BRPORT_NEIGH_SUPPRESS, flags.neigh_suppress.into());
            });
        });
    })
}
