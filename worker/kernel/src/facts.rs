//! What the machine's own network looks like: which device carries an address, what it can carry, and which address others should
//! use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
};

use ipnet::IpNet;
use proto::model::{Port, Protocol, SubnetAddr};

use super::{
    Kernel, KernelError, LinkKind, LinuxKernel, Ns, Scope,
    error::Cause,
    netlink::{abi::*, socket::Socket, wire::Message},
    routing,
};

/// The largest IP packet (`IP_MAX_MTU`): bridges and VXLAN devices take no larger MTU, though the loopback device has one.
pub const MAX_MTU: u32 = 65_535;

/// A network device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// MTU in bytes, at most [`MAX_MTU`].
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Made by some rn daemon, or by another network manager (`docker0`, bridges, veths, tunnels): addresses on it are not the
    /// machine's own.
    pub managed: bool,
    /// Its addresses, link-local IPv6 ones excepted.
    pub addrs: Vec<SubnetAddr>,
}

/// The host's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// In order of their index.
    pub devices: Vec<Device>,
    /// Destinations of all unicast routes in all tables, default routes excepted: subnets that must not be taken.
    pub routes: Vec<IpNet>,
}

/// Why no address to advertise can be chosen (swarm-behaviour 3.10).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvertiseError {
    /// There are several.
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses ({}): specify one with --advertise-addr",
        list(.0)
    )]
    Several(Vec<(String, IpAddr)>),
    /// There is none.
    #[error("could not find the system's IP address: specify one with --advertise-addr")]
    None,
    /// Neither an address nor a device.
    #[error("{0} is neither an IP address nor a network interface of this machine")]
    Unknown(String),
    /// The device has no address.
    #[error("interface {0} has no usable IP address")]
    NoAddress(String),
    /// 0.0.0.0 or ::.
    #[error("{0} cannot be advertised: others could not reach it")]
    Unspecified(IpAddr),
}

fn list(found: &[(String, IpAddr)]) -> String {
    found.iter().map(|(dev, addr)| format!("{addr} on {dev}")).collect::<Vec<_>>().join(", ")
}

impl HostFacts {
    /// Looks at the calling thread's namespace.
    pub fn read() -> Result<Self, KernelError> {
        let seen = LinuxKernel::new().observe(&Scope::host())?;
        let links = seen.ns(&Ns::Host).map(|ns| ns.links.clone()).unwrap_or_default();
        let mut by_index: BTreeMap<u32, Device> = BTreeMap::new();
        for (name, link) in links {
            let managed = match &link.kind {
                LinkKind::Bridge => {
                    link.alias.as_deref().is_some_and(|a| a.starts_with("rn:")) || is_docker(&name)
                }
                LinkKind::Veth => link.master.is_some(),
                LinkKind::Vxlan(_) => true,
                LinkKind::Other(_) => false,
            };
            let ours = link.alias.as_deref().is_some_and(|a| a.starts_with("rn:"));
            let addrs = link.addrs.iter().copied().collect();
            let device =
                Device { name, mtu: link.mtu.min(MAX_MTU), up: link.up, managed: managed || ours, addrs };
            by_index.insert(link.index, device);
        }
        let routes = routes().map_err(|cause| cause.of("ip route show table all"))?;
        Ok(Self { devices: by_index.into_values().collect(), routes })
    }

    /// The device that holds an address.
    pub fn device_of(&self, addr: IpAddr) -> Option<&Device> {
        self.devices.iter().find(|d| d.addrs.iter().any(|a| a.addr == addr))
    }

    /// All addresses of the machine, loopback ones excepted.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.devices.iter().flat_map(|d| &d.addrs).map(|a| a.addr).filter(|a| !a.is_loopback())
    }

    /// Addresses that others can reach the machine by, with their devices: on devices that are up and that no network manager made.
    pub fn global(&self) -> impl Iterator<Item = (&Device, IpAddr)> + '_ {
        self.devices
            .iter()
            .filter(|d| d.up && !d.managed)
            .flat_map(|d| d.addrs.iter().map(move |a| (d, a.addr)))
            .filter(|(_, a)| is_global_unicast(*a))
    }

    /// The address to advertise: the one that is wanted, that of the device that is wanted, or the only one there is.
    pub fn advertise(&self, wanted: Option<&str>) -> Result<IpAddr, AdvertiseError> {
        let found: Vec<(String, IpAddr)> = match wanted {
            None => self.global().map(|(d, a)| (d.name.clone(), a)).collect(),
            Some(text) => {
                if let Ok(addr) = text.parse::<IpAddr>() {
                    return if addr.is_unspecified() {
                        Err(AdvertiseError::Unspecified(addr))
                    } else {
                        Ok(addr)
                    };
                }
                let device = self.devices.iter().find(|d| d.name == text);
                let device = device.ok_or_else(|| AdvertiseError::Unknown(text.to_owned()))?;
                let usable: Vec<_> = device.addrs.iter().map(|a| (text.to_owned(), a.addr)).collect();
                if usable.is_empty() {
                    return Err(AdvertiseError::NoAddress(text.to_owned()));
                }
                usable
            }
        };
        // A device with one address of each family uses the IPv4 one; several of a family, or several devices, are a question.
        let v4: Vec<_> = found.iter().filter(|(_, a)| a.is_ipv4()).collect();
        let v6: Vec<_> = found.iter().filter(|(_, a)| a.is_ipv6()).collect();
        match (v4.as_slice(), v6.as_slice()) {
            ([], []) => Err(AdvertiseError::None),
            ([(_, only)], []) | ([], [(_, only)]) => Ok(*only),
            ([(dev, addr)], [(other, _)]) if dev == other => Ok(*addr),
            ([(_, addr)], _) if wanted.is_some() => Ok(*addr),
            _ => Err(AdvertiseError::Several(found)),
        }
    }
}

fn is_docker(name: &str) -> bool {
    name.starts_with("docker") || name.starts_with("br-")
}

fn is_global_unicast(addr: IpAddr) -> bool {
    let link_local = match addr {
        IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    !(addr.is_loopback() || addr.is_unspecified() || addr.is_multicast() || link_local)
}

fn routes() -> Result<Vec<IpNet>, Cause> {
    let mut socket = Socket::open(libc::NETLINK_ROUTE).map_err(Cause::system("open a netlink socket"))?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut fixed = [0; 12];
        fixed[0] = family;
        let name = |index: u32| Some(index.to_string());
        found.extend(socket.dump(Message::new(RTM_GETROUTE, 0, &fixed), |m| {
            Ok(routing::read_any_route(m, name).map(|r| r.dst))
        })?);
    }
    found.retain(|dst| dst.prefix_len() > 0 && !dst.addr().is_loopback());
    found.sort();
    found.dedup();
    Ok(found)
}

/// What `br_netfilter` does with the frames that cross a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeNetfilter {
    /// The machine does not have it.
    Absent,
    /// They go past the IP firewall, or those of one family do.
    Off,
    /// They pass the IP firewall, of both families.
    On,
}

/// `br_netfilter` in this namespace. New ones begin with it on, whatever holds here.
pub fn bridge_netfilter() -> BridgeNetfilter {
    let on = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{name}")).ok()?;
        Some(text.trim() == "1")
    };
    match (on("iptables"), on("ip6tables")) {
        (None, None) => BridgeNetfilter::Absent,
        (Some(true), Some(true)) => BridgeNetfilter::On,
        _ => BridgeNetfilter::Off,
    }
}

/// Who holds a port of this namespace, as far as `/proc` tells: `nginx (pid 812)`. For error messages.
pub fn holder_of_port(protocol: Protocol, port: Port) -> Option<String> {
    let sockets: BTreeSet<String> = ["", "6"]
        .into_iter()
        .filter_map(|six| fs::read_to_string(format!("/proc/thread-self/net/{protocol}{six}")).ok())
        .flat_map(|table| bound_sockets(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |fd: fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_str().is_some_and(|to| sockets.contains(to)))
        };
        if fds.flatten().any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// Inodes of the sockets bound to a local port, in the format of `/proc/net/tcp`; connections, which have a remote port, do not count.
fn bound_sockets(table: &str, port: Port) -> Vec<String> {
    let port_of = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bound = port_of(fields.get(1)?)? == port && port_of(fields.get(2)?)? == 0;
        bound.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn facts(devices: &[(&str, &[&str])]) -> HostFacts {
        let devices = devices.iter().map(|(name, addrs)| Device {
            name: (*name).into(),
            mtu: 1500,
            up: true,
            managed: name.starts_with("rn"),
            addrs: addrs.iter().map(|a| a.parse().unwrap()).collect(),
        });
        HostFacts { devices: devices.collect(), routes: vec![] }
    }

    #[test]
    fn the_only_address_is_advertised() {
        let f = facts(&[
            ("lo", &["127.0.0.1/8", "::1/128"]),
            ("eth0", &["10.0.0.5/24"]),
            ("rn0", &["172.17.0.1/16"]),
        ]);
        assert_eq!(f.advertise(None), Ok("10.0.0.5".parse().unwrap()));
        assert_eq!(f.device_of("10.0.0.5".parse().unwrap()).unwrap().name, "eth0");
    }

    #[test]
    fn of_one_device_with_both_families_the_ipv4_address_is() {
        let f = facts(&[("eth0", &["10.0.0.5/24", "fd00::5/64"])]);
        assert_eq!(f.advertise(None), Ok("10.0.0.5".parse().unwrap()));
        assert_eq!(f.advertise(Some("eth0")), Ok("10.0.0.5".parse().unwrap()));
    }

    #[test]
    fn several_are_a_question() {
        let f = facts(&[("eth0", &["10.0.0.5/24"]), ("eth1", &["10.1.0.5/24", "10.1.0.6/24"])]);
        assert!(matches!(f.advertise(None), Err(AdvertiseError::Several(list)) if list.len() == 3));
        assert_eq!(f.advertise(Some("eth0")), Ok("10.0.0.5".parse().unwrap()));
        assert!(matches!(f.advertise(Some("eth1")), Err(AdvertiseError::Several(_))));
        assert_eq!(f.advertise(Some("10.1.0.6")), Ok("10.1.0.6".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        let f = facts(&[("lo", &["127.0.0.1/8"]), ("eth0", &[])]);
        assert_eq!(f.advertise(None), Err(AdvertiseError::None));
        assert!(matches!(f.advertise(Some("0.0.0.0")), Err(AdvertiseError::Unspecified(_))));
        assert!(matches!(f.advertise(Some("eth7")), Err(AdvertiseError::Unknown(_))));
        assert!(matches!(f.advertise(Some("eth0")), Err(AdvertiseError::NoAddress(_))));
    }

    #[test]
    fn who_holds_a_port_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let holder = holder_of_port(Protocol::Tcp, port).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        let table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 42 1
   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 43 1";
        assert_eq!(bound_sockets(table, 8080), ["41"]);
    }
}
