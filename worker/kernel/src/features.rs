//! What the kernel must offer, tried out in a namespace of its own.

use std::path::Path;

use proto::model::Protocol;

use super::{
    Kernel, KernelError, LinuxKernel,
    listeners::Listeners,
    netns::Scratch,
    step::{ConntrackFilter, IpFamily, Ns, Step, VethEnd, Vxlan},
};

/// The oldest kernel that is good: the first with the netdev egress hook.
pub const OLDEST: (u32, u32) = (5, 16);

/// Something that the kernel, or the machine, lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{feature} is missing: {consequence} ({error})")]
pub struct Missing {
    /// What.
    pub feature: &'static str,
    /// What does not work without it.
    pub consequence: &'static str,
    /// How that shows.
    pub error: String,
}

/// What is tried, besides links: an nftables table, and what needs it.
const TABLES: &[(&str, &str, &str)] = &[
    (
        "nftables NAT",
        "neither published ports nor service addresses work",
        "table inet t { chain c { type nat hook output priority -100; dnat ip to 10.0.0.1; dnat ip6 to fd00::1; } }",
    ),
    (
        "nftables maps with concatenations",
        "neither published ports nor service addresses work",
        "table inet t { map m { typeof meta l4proto . th dport : ip daddr . th dport; } \
         chain c { type nat hook prerouting priority -100; dnat ip to meta l4proto . th dport map @m; } }",
    ),
    (
        "nftables fib expression",
        "published ports cannot tell this machine's addresses",
        "table inet t { chain c { type filter hook prerouting priority 0; fib daddr type local accept; } }",
    ),
    (
        "nftables numgen expression",
        "connections cannot be spread over a service's tasks",
        "table inet t { chain c { type filter hook output priority 0; numgen random mod 2 0 accept; } }",
    ),
    (
        "nftables jhash expression",
        "services cannot have session affinity",
        "table inet t { chain c { type filter hook output priority 0; jhash ip saddr mod 2 0 accept; } }",
    ),
    (
        "nftables connection marks",
        "replies of the routing mesh cannot find their way back",
        "table inet t { chain c { type filter hook prerouting priority -150; ct state new ct mark set @ll,64,32; } }",
    ),
    (
        "nftables segment size mangling",
        "large packets through the routing mesh may vanish",
        "table inet t { chain c { type filter hook forward priority -150; tcp flags syn tcp option maxseg size set rt mtu; } }",
    ),
    (
        "nftables reject",
        "services without tasks time out instead of refusing",
        "table inet t { chain c { type filter hook output priority 0; meta l4proto tcp reject with tcp reset; reject; } }",
    ),
    (
        "netdev egress hook",
        "the routing mesh cannot return replies (CONFIG_NETFILTER_EGRESS)",
        "table netdev t { chain c { type filter hook egress device lo priority 0; ether daddr set 02:42:00:00:00:01; } }",
    ),
];

/// Tries everything out. Empty = all is well. Takes some 50 ms.
pub fn probe() -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut check = |feature, consequence, result: Result<(), String>| {
        if let Err(error) = result {
            missing.push(Missing { feature, consequence, error });
        }
    };
    let release =
        nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let recent = version(&release).is_none_or(|v| v >= OLDEST);
    check(
        "a kernel of version 5.16 or later",
        "the routing mesh cannot return replies",
        if recent { Ok(()) } else { Err(format!("this is {release}")) },
    );
    let namespaces = ("network namespaces", "no container can have a network");
    let (host, inner) = match (Scratch::new(), Scratch::new()) {
        (Ok(host), Ok(inner)) => (host, inner),
        (Err(e), _) | (_, Err(e)) => {
            check(namespaces.0, namespaces.1, Err(e.to_string()));
            return missing;
        }
    };
    let found = host.run(|| in_scratch(&inner.ns()));
    match found {
        Err(e) => check(namespaces.0, namespaces.1, Err(e.to_string())),
        Ok(found) => found.into_iter().for_each(|(feature, consequence, result)| {
            check(feature, consequence, result.map_err(|e| e.cause.to_string()));
        }),
    }
    missing
}

type Tried = (&'static str, &'static str, Result<(), KernelError>);

/// Everything that happens in the scratch namespaces.
fn in_scratch(inner: &Ns) -> Vec<Tried> {
    let kernel = LinuxKernel::new();
    let mut tried: Vec<Tried> = Vec::new();
    let end = |ns: &Ns, name: &str| VethEnd { ns: ns.clone(), name: name.into(), mac: None, alias: None };
    let vxlan = Vxlan {
        vni: proto::model::Vni::FIRST,
        port: 4789,
        local: [127, 0, 0, 1].into(),
        dev: None,
        proxy: true,
    };
    let bridge = Step::CreateBridge { ns: Ns::Host, name: "br".into(), mac: None, mtu: 1500, alias: None };
    let vxlan =
        Step::CreateVxlan { ns: inner.clone(), name: "vx".into(), vxlan, mac: None, mtu: 1400, alias: None };
    let veth = Step::CreateVeth { a: end(&Ns::Host, "va"), b: end(inner, "vb"), mtu: 1500 };
    tried.push(("bridge devices", "no network works", kernel.execute(&bridge)));
    tried.push(("veth devices", "no container can have a network", kernel.execute(&veth)));
    tried.push((
        "VXLAN devices",
        "overlay networks and the routing mesh do not work",
        kernel.execute(&vxlan),
    ));
    for (feature, consequence, table) in TABLES {
        let script = format!("{}\n", table.replace("{ ", "{\n").replace("; ", ";\n").replace("} ", "}\n"));
        let step = Step::RunNft { ns: Ns::Host, script };
        tried.push((feature, consequence, kernel.execute(&step)));
        for family in [super::Family::Inet, super::Family::Netdev] {
            let _ = kernel.execute(&Step::DeleteTable { ns: Ns::Host, family, table: "t".into() });
        }
    }
    let flush = Step::FlushConntrack { ns: Ns::Host, filter: ConntrackFilter::family(IpFamily::V4) };
    tried.push((
        "connection tracking by netlink",
        "UDP clients stick to tasks that are gone",
        kernel.execute(&flush),
    ));
    let sockets = Listeners::open(&Ns::Host, None)
        .and_then(|mut sockets| sockets.ports(Protocol::Tcp).and_then(|_| sockets.ports(Protocol::Udp)));
    tried.push((
        "socket diagnostics by netlink",
        "tasks count as ready before their programs listen",
        sockets.map(drop),
    ));
    let ipv6 = Path::new("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let ipv6 = std::fs::metadata(ipv6).map(drop).map_err(|error| {
        super::Cause::System { what: "look for IPv6", error }.of("sysctl net/ipv6/conf/all/disable_ipv6")
    });
    tried.push(("IPv6", "networks must be created with IPv6 off", ipv6));
    tried
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_far_as_they_matter() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.16-rc1"), Some((5, 16)));
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn this_machine_lacks_nothing() {
        if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
            return;
        }
        assert_eq!(probe(), []);
    }
}
