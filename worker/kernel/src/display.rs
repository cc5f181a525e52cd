//! A step as the command line that it stands for.

use std::fmt::{self, Display, Formatter};

use super::{
    ruleset::ElementChange,
    step::{ConntrackFilter, IpFamily, Ns, PortFlags, Step, VethEnd},
};

/// `ip`, in a namespace.
struct Ip<'a>(&'a Ns);

impl Display for Ip<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ns::Host => f.write_str("ip"),
            Ns::Path(path) => write!(f, "ip -n {}", path.display()),
        }
    }
}

/// Another command, in a namespace.
struct In<'a>(&'a Ns, &'static str);

impl Display for In<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ns::Host => f.write_str(self.1),
            Ns::Path(path) => write!(f, "nsenter --net={} {}", path.display(), self.1),
        }
    }
}

/// A word before a value that may be absent.
struct Opt<'a, T>(&'static str, &'a Option<T>);

impl<T: Display> Display for Opt<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(value) => write!(f, " {} {value}", self.0),
            None => Ok(()),
        }
    }
}

fn on(flag: bool) -> &'static str {
    if flag { "on" } else { "off" }
}

fn six(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "",
        IpFamily::V6 => " -6",
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateNetns { path } => write!(f, "ip netns add {}", path.display()),
            Step::DeleteNetns { path } => write!(f, "ip netns del {}", path.display()),
            Step::CreateVeth { a: VethEnd { ns, name, mac, .. }, b, mtu } => {
                write!(f, "{} link add {name}{} mtu {mtu} type veth", Ip(ns), Opt("address", mac))?;
                write!(f, " peer name {}{} mtu {mtu} netns {}", b.name, Opt("address", &b.mac), b.ns)
            }
            Step::CreateBridge { ns, name, mac, mtu, .. } => {
                write!(f, "{} link add {name}{} mtu {mtu} type bridge", Ip(ns), Opt("address", mac))?;
                f.write_str(" stp_state 0 mcast_snooping 0")
            }
            Step::CreateVxlan { ns, name, vxlan, mac, mtu, .. } => {
                write!(f, "ip link add {name}{} mtu {mtu} netns {ns} type vxlan", Opt("address", mac))?;
                write!(f, " id {} dstport {} local {}", vxlan.vni, vxlan.port, vxlan.local)?;
                write!(f, "{} nolearning{}", Opt("dev", &vxlan.dev), if vxlan.proxy { " proxy" } else { "" })
            }
            Step::DeleteLink { ns, link } => write!(f, "{} link del {link}", Ip(ns)),
            Step::SetMaster { ns, link, master: Some(master) } => {
                write!(f, "{} link set {link} master {master}", Ip(ns))
            }
            Step::SetMaster { ns, link, master: None } => write!(f, "{} link set {link} nomaster", Ip(ns)),
            Step::SetUp { ns, link, up } => {
                write!(f, "{} link set {link} {}", Ip(ns), if *up { "up" } else { "down" })
            }
            Step::SetMtu { ns, link, mtu } => write!(f, "{} link set {link} mtu {mtu}", Ip(ns)),
            Step::SetMac { ns, link, mac } => write!(f, "{} link set {link} address {mac}", Ip(ns)),
            Step::SetAlias { ns, link, alias } => write!(f, "{} link set {link} alias {alias}", Ip(ns)),
            Step::SetPort {
                ns,
                link,
                flags: PortFlags { isolated, hairpin, learning, flood, neigh_suppress },
            } => {
                write!(f, "{} link set dev {link} isolated {}", In(ns, "bridge"), on(*isolated))?;
                write!(f, " hairpin {} learning {}", on(*hairpin), on(*learning))?;
                write!(f, " flood {} neigh_suppress {}", on(*flood), on(*neigh_suppress))
            }
            Step::AddAddr { ns, link, addr } => write!(f, "{} addr add {addr} dev {link} nodad", Ip(ns)),
            Step::DelAddr { ns, link, addr } => write!(f, "{} addr del {addr} dev {link}", Ip(ns)),
            Step::AddRoute { ns, route } => write!(f, "{} route replace {route}", Ip(ns)),
            Step::DelRoute { ns, route } => write!(f, "{} route del {route}", Ip(ns)),
            Step::AddRule { ns, rule } => write!(f, "{}{} rule add {rule}", Ip(ns), six(rule.family)),
            Step::DelRule { ns, rule } => write!(f, "{}{} rule del {rule}", Ip(ns), six(rule.family)),
            Step::ReplaceFdb { ns, link, entry } => {
                let verb = if entry.mac.0 == [0; 6] { "append" } else { "replace" };
                write!(f, "{} fdb {verb} {} dev {link} dst {}", In(ns, "bridge"), entry.mac, entry.dst)
            }
            Step::DelFdb { ns, link, entry } => {
                write!(f, "{} fdb del {} dev {link} dst {}", In(ns, "bridge"), entry.mac, entry.dst)
            }
            Step::ReplaceNeigh { ns, link, neigh } => {
                write!(
                    f,
                    "{} neigh replace {} lladdr {} dev {link} nud permanent",
                    Ip(ns),
                    neigh.addr,
                    neigh.mac
                )
            }
            Step::DelNeigh { ns, link, addr } => write!(f, "{} neigh del {addr} dev {link}", Ip(ns)),
            Step::SetSysctl { ns, key, value } => write!(f, "{} -w {key}={value:?}", In(ns, "sysctl")),
            Step::ApplyRuleset { ns, ruleset } => {
                write!(f, "{} -f - # table {} {}", In(ns, "nft"), ruleset.family, ruleset.table)?;
                write!(f, ", digest {}", ruleset.digest())
            }
            Step::RunNft { ns, script } => {
                let head = script.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
                write!(f, "{} -f - # {head} ...", In(ns, "nft"))
            }
            Step::OpenChain { ns, family, table, chain, links, mark } => {
                write!(f, "{} insert rule {family} {table} {chain}", In(ns, "nft"))?;
                write!(f, " iifname and oifname {} counter accept comment {mark}", links.join(", "))
            }
            Step::CloseChain { ns, family, table, chain, mark } => {
                write!(
                    f,
                    "{} delete rule {family} {table} {chain} # those with comment {mark}",
                    In(ns, "nft")
                )
            }
            Step::DeleteTable { ns, family, table } => {
                write!(f, "{} delete table {family} {table}", In(ns, "nft"))
            }
            Step::UpdateElements { ns, family, table, changes } => {
                write!(f, "{} '", In(ns, "nft"))?;
                elements(f, family, table, changes)?;
                f.write_str("'")
            }
            Step::FlushConntrack { ns, filter } => write!(f, "{} {filter}", In(ns, "conntrack -D")),
        }
    }
}

/// How many elements of a set are spelled out.
const SHOWN: usize = 4;

fn elements(
    f: &mut Formatter<'_>,
    family: &impl Display,
    table: &str,
    changes: &[ElementChange],
) -> fmt::Result {
    let mut first = true;
    for change in changes {
        for (verb, list) in [("delete", &change.del), ("add", &change.add)] {
            if list.is_empty() {
                continue;
            }
            write!(f, "{}{verb} element {family} {table} {} {{ ", if first { "" } else { "; " }, change.set)?;
            first = false;
            for (i, element) in list.iter().take(SHOWN).enumerate() {
                write!(f, "{}{element}", if i == 0 { "" } else { ", " })?;
            }
            match list.len().checked_sub(SHOWN) {
                None | Some(0) => f.write_str(" }")?,
                Some(more) => write!(f, ", ... {more} more }}")?,
            }
        }
    }
    Ok(())
}

impl Display for ConntrackFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.family {
            IpFamily::V4 => "-f ipv4",
            IpFamily::V6 => "-f ipv6",
        })?;
        write!(f, "{}{}", Opt("-p", &self.proto), Opt("--orig-src", &self.orig_src))?;
        write!(f, "{}{}", Opt("--orig-dst", &self.orig_dst), Opt("--orig-port-dst", &self.orig_dport))?;
        write!(f, "{}{}", Opt("--reply-src", &self.reply_src), Opt("--reply-port-src", &self.reply_sport))?;
        f.write_str(if self.unanswered { " -u UNSET" } else { "" })
    }
}
