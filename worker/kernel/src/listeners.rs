//! On which ports the programs of a namespace can be reached: asked of the kernel (`sock_diag(7)`) by a socket that was born
//! there.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use proto::model::{Port, Protocol};

use super::{
    KernelError, Ns,
    error::Cause,
    netlink::{
        abi::*,
        socket::Socket,
        wire::{Message, u32_at},
    },
    netns,
};

/// Length of `struct inet_diag_sockid`, which is all zero in a request for every socket.
const SOCKID: usize = 48;
/// Offsets in `struct inet_diag_msg`.
const SOURCE_PORT: usize = 4;
const SOURCE: usize = 8;
const INODE: usize = 68;
/// Processes of one task that are looked through; one with more is taken at its port's word.
const PROCESSES: usize = 10_000;

/// A look at the sockets of a namespace, open as long as the value lives.
#[derive(Debug)]
pub struct Listeners {
    socket: Socket,
    ns: Ns,
    /// Only sockets of this process and its descendants count.
    of: Option<i32>,
}

impl Listeners {
    /// Opens a netlink socket in `ns`. Where programs of others are in that namespace too, `of` is the first process of those that
    /// count.
    ///
    /// # Errors
    /// The namespace is gone, or the kernel has no `sock_diag`.
    pub fn open(ns: &Ns, of: Option<i32>) -> Result<Self, KernelError> {
        let opened = netns::in_ns(ns, || Socket::open(libc::NETLINK_SOCK_DIAG)).and_then(|socket| socket);
        let socket = opened.map_err(|e| Cause::system("open a netlink socket")(e).of(command(ns)))?;
        Ok(Self { socket, ns: ns.clone(), of })
    }

    /// The ports at which a program takes what others send: TCP sockets that listen, UDP sockets that are connected to nobody, bound
    /// to more than a loopback address. Of other transports nothing is known. Takes some tens of microseconds.
    ///
    /// # Errors
    /// The kernel's words; `ENOENT` when its module for this transport is missing.
    pub fn ports(&mut self, protocol: Protocol) -> Result<BTreeSet<Port>, KernelError> {
        let states = match protocol {
            Protocol::Tcp => TCPF_LISTEN,
            Protocol::Udp => TCPF_CLOSE,
            Protocol::Sctp => return Ok(BTreeSet::new()),
        };
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let message = request(family, protocol.number(), states);
            let all = self.socket.dump(message, |m| Ok(read(m.payload)));
            found.extend(all.map_err(|cause| cause.of(command(&self.ns)))?);
        }
        found.retain(|bound| !bound.addr.to_canonical().is_loopback());
        if let Some(first) = self.of.filter(|_| !found.is_empty()) {
            let own = sockets_of(first);
            found.retain(|bound| own.as_ref().is_none_or(|own| own.contains(&bound.inode)));
        }
        Ok(found.into_iter().map(|bound| bound.port).collect())
    }
}

fn command(ns: &Ns) -> String {
    match ns {
        Ns::Host => "ss -lntu".to_owned(),
        Ns::Path(path) => format!("nsenter --net={} ss -lntu", path.display()),
    }
}

/// A socket's own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    addr: IpAddr,
    port: Port,
    inode: u32,
}

/// `struct inet_diag_req_v2` for all sockets of a family and transport in these states.
fn request(family: u8, protocol: u8, states: u32) -> Message {
    let mut fixed = vec![family, protocol, 0, 0];
    fixed.extend_from_slice(&states.to_ne_bytes());
    fixed.resize(fixed.len() + SOCKID, 0);
    Message::new(SOCK_DIAG_BY_FAMILY, 0, &fixed)
}

/// Reads `struct inet_diag_msg`.
fn read(payload: &[u8]) -> Option<Bound> {
    let v4: [u8; 4] = payload.get(SOURCE..SOURCE + 4)?.try_into().ok()?;
    let v6: [u8; 16] = payload.get(SOURCE..SOURCE + 16)?.try_into().ok()?;
    let addr = match *payload.first()? {
        AF_INET => IpAddr::V4(Ipv4Addr::from(v4)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(v6)),
        _ => return None,
    };
    let port = payload.get(SOURCE_PORT..SOURCE_PORT + 2)?.try_into().ok()?;
    payload.get(INODE..INODE + 4)?;
    Some(Bound { addr, port: Port::from_be_bytes(port), inode: u32_at(payload, INODE) })
}

/// Inodes of the sockets that a process and its descendants have open; none if that cannot be told.
fn sockets_of(first: i32) -> Option<BTreeSet<u32>> {
    let (mut found, mut processes, mut next) = (BTreeSet::new(), vec![first], 0);
    while let Some(pid) = processes.get(next).copied() {
        next += 1;
        // One that ends meanwhile has none any more.
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
            found.extend(inode.and_then(|inode| inode.parse::<u32>().ok()));
        }
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = match fs::read_to_string(thread.path().join("children")) {
                Ok(children) => children,
                // Without CONFIG_PROC_CHILDREN descendants are not known.
                Err(_) if pid == first && !thread.path().join("children").exists() => return None,
                Err(_) => continue,
            };
            processes.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        if processes.len() > PROCESSES {
            return None;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::{Kernel, LinuxKernel, Step, netns::Scratch};

    #[test]
    fn what_is_bound_to_more_than_loopback_is_seen() {
        if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
            return;
        }
        let scratch = Scratch::new().unwrap();
        LinuxKernel::new().execute(&Step::SetUp { ns: scratch.ns(), link: "lo".into(), up: true }).unwrap();
        let mut listeners = Listeners::open(&scratch.ns(), None).unwrap();
        let mut seen = |protocol| listeners.ports(protocol).unwrap();
        assert_eq!(seen(Protocol::Tcp), BTreeSet::new());
        let tcp = |addr: &'static str| scratch.run(move || TcpListener::bind(addr).unwrap()).unwrap();
        let udp = |addr: &'static str| scratch.run(move || UdpSocket::bind(addr).unwrap()).unwrap();

        let (_v4, _v6) = (tcp("0.0.0.0:80"), tcp("[::]:81"));
        let (_lo4, _lo6) = (tcp("127.0.0.1:82"), tcp("[::1]:83"));
        // Somebody talks: that is no listener of its own.
        let _client = scratch.run(|| TcpStream::connect("127.0.0.1:80").unwrap()).unwrap();
        assert_eq!(seen(Protocol::Tcp), [80, 81].into());

        let (_any, connected, _lo) = (udp("[::]:53"), udp("0.0.0.0:54"), udp("127.0.0.11:55"));
        assert_eq!(seen(Protocol::Udp), [53, 54].into());
        scratch.run(|| connected.connect("127.0.0.11:55").unwrap()).unwrap();
        assert_eq!(seen(Protocol::Udp), [53].into());
        assert_eq!(seen(Protocol::Sctp), BTreeSet::new());
        drop(_v4);
        assert_eq!(seen(Protocol::Tcp), [81].into());
    }

    #[test]
    fn only_the_sockets_of_ones_own_processes_count() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = i32::try_from(std::process::id()).unwrap();
        let seen = |of| Listeners::open(&Ns::Host, of).unwrap().ports(Protocol::Tcp).unwrap();
        assert!(seen(None).contains(&port) && seen(Some(own)).contains(&port));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let others = seen(Some(i32::try_from(child.id()).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!others.contains(&port), "{others:?}");
    }

    #[test]
    fn what_is_cut_short_is_passed_by() {
        for length in 0..72 {
            assert_eq!(read(&vec![AF_INET; length]), None);
        }
        let mut whole = vec![0; 72];
        (whole[0], whole[4], whole[5]) = (AF_INET, 0, 80);
        whole[8..12].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(read(&whole), Some(Bound { addr: [10, 0, 0, 1].into(), port: 80, inode: 0 }));
    }
}
