//! Who may send VXLAN to a node: members, and nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, lan, wait};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

const VXLAN: u16 = 4789;
/// Nobody listens there: each datagram that arrives is counted by the task's kernel.
const CLOSED: u16 = 9999;
/// How many frames a stranger sends.
const MANY: u64 = 20;

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|w| u16::from_be_bytes([w[0], w[1]]));
    // Ones' complement: a carry comes back in at the low end.
    !words.fold(0u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// An IPv4 packet with a UDP datagram in it.
fn packet(from: Ipv4Addr, to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = |header: usize| u16::try_from(header + payload.len()).unwrap().to_be_bytes();
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&length(28));
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    ip.extend(4444u16.to_be_bytes());
    ip.extend(port.to_be_bytes());
    ip.extend(length(8));
    ip.extend([0, 0]);
    ip.extend(payload);
    ip
}

/// A task on an overlay, as somebody knows it who guesses well.
struct Victim {
    vni: u32,
    addr: Ipv4Addr,
    /// Its network namespace.
    netns: PathBuf,
}

impl Victim {
    fn of(cluster: &Cluster, host: &Host, service: &str, network: &str) -> Result<Self> {
        let (running, list) = cluster.running(service)?;
        let (name, _) = running.iter().find(|(_, node)| *node == host.name).context(list)?;
        let task = name.rsplit('.').next().context("no id")?;
        let vni = "{{index .Options \"com.docker.network.driver.overlay.vxlanid_list\"}}";
        let manager = cluster.manager();
        let netns = host.exec_root().join("netns").join(task);
        let addrs = lan::run(lan::command(&netns, "ip").args(["-4", "-br", "addr", "show", "eth0"]))?;
        let addrs = String::from_utf8_lossy(&addrs.stdout).into_owned();
        let addr = addrs.split_whitespace().nth(2).and_then(|a| a.split_once('/')).context(addrs.clone())?.0;
        Ok(Self {
            vni: manager.rnctl(&["network", "inspect", "--format", vni, network])?.parse()?,
            addr: addr.parse()?,
            netns,
        })
    }

    /// A VXLAN frame with a datagram to it, as if from another task.
    fn frame(&self) -> Vec<u8> {
        let [a, b, c, d] = self.addr.octets();
        let mut frame = vec![8, 0, 0, 0];
        frame.extend((self.vni << 8).to_be_bytes());
        frame.extend([2, 0x42, a, b, c, d]);
        frame.extend([2, 0x42, a, b, c, 200]);
        frame.extend([8, 0]);
        frame.extend(packet([a, b, c, 200].into(), self.addr, CLOSED, b"forged"));
        frame
    }

    /// How many datagrams came to a port where nobody listens.
    fn arrived(&self) -> Result<u64> {
        lan::enter(&self.netns, || {
            let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
            let mut udp = text.lines().filter(|l| l.starts_with("Udp:"));
            let column =
                udp.next().and_then(|l| l.split(' ').position(|w| w == "NoPorts")).context("NoPorts")?;
            udp.next()
                .and_then(|l| l.split(' ').nth(column))
                .context("no counter")?
                .parse()
                .context("a number")
        })?
    }
}

/// Sends datagrams from a namespace.
fn send(from: &Path, to: SocketAddr, payload: &[u8], count: u64) -> Result<()> {
    lan::enter(from, || {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        for _ in 0..count {
            socket.send_to(payload, to)?;
        }
        Ok(())
    })?
}

/// The same with a source address of somebody else.
fn send_as(source: Ipv4Addr, from: &Path, to: Ipv4Addr, payload: &[u8], count: u64) -> Result<()> {
    lan::enter(from, || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        let packet = packet(source, to, VXLAN, payload);
        for _ in 0..count {
            socket.send_to(&packet, &SocketAddr::new(to.into(), 0).into())?;
        }
        Ok(())
    })?
}

/// What strangers have sent before this has not arrived: a member's frame, sent after theirs, is the only one.
fn only_members(victim: &Victim, before: u64, member: &Host, to: SocketAddr, what: &str) -> Result<u64> {
    send(&member.ns.path(), to, &victim.frame(), 1)?;
    wait::until("a member's frame arrives", wait::SHORT, || {
        let now = victim.arrived()?;
        ensure!(now > before, "{now}");
        Ok(())
    })?;
    let now = victim.arrived()?;
    ensure!(now == before + 1, "{what}: {} forged frames arrived", now - before - 1);
    Ok(now)
}

fn vxlan_from(host: &Host) -> Result<String> {
    host.rnctl(&["info", "--format", "{{.Swarm.VXLANFrom}}"])
}

/// Each task reaches the others by the service's name, again and again.
fn tasks_reach_each_other(cluster: &Cluster) -> Result<()> {
    for host in &cluster.hosts {
        let container = cluster.container(host, "web")?;
        wait::until(&format!("{container} reaches both"), wait::LONG, || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..8 {
                let answer = host.exec(&container, &["rn-testd", "get", "web:80"])?;
                seen.extend(answer.split_whitespace().next().map(str::to_owned));
            }
            ensure!(seen.len() == cluster.hosts.len(), "{seen:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn serve(cluster: &Cluster) -> Result<()> {
    cluster.import()?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--mode", "global", "--publish", "8080:80"])?;
    cluster.wait_running("web", cluster.hosts.len())?;
    cluster.wait_answers(8080)
}

#[test]
fn strangers_and_tasks_inject_nothing_and_members_go_on() -> Result<()> {
    let mut cluster = Cluster::swarm(2)?;
    serve(&cluster)?;
    ensure!(vxlan_from(&cluster.hosts[0])? == "members (1 other addresses)");
    let victim = Victim::of(&cluster, &cluster.hosts[0], "web", "app")?;
    let elsewhere = Victim::of(&cluster, &cluster.hosts[1], "web", "app")?;
    let stranger = cluster.client.path();
    let node = SocketAddr::new(cluster.hosts[0].v4(), VXLAN);
    let other = SocketAddr::new(cluster.hosts[1].v4(), VXLAN);

    let mut count = victim.arrived()?;
    send(&stranger, node, &victim.frame(), MANY)?;
    count = only_members(&victim, count, &cluster.hosts[1], node, "from a stranger")?;
    // A task's packets bear its node's address when they leave it: the other node cannot tell.
    let there = elsewhere.arrived()?;
    send(&victim.netns, other, &elsewhere.frame(), MANY)?;
    only_members(&elsewhere, there, &cluster.hosts[0], other, "from a task to another node")?;
    // To its own node it may bear any address.
    send(&victim.netns, node, &victim.frame(), MANY)?;
    let IpAddr::V4(own) = node.ip() else { unreachable!() };
    let IpAddr::V4(member) = other.ip() else { unreachable!() };
    send_as(member, &victim.netns, own, &victim.frame(), MANY)?;
    count = only_members(&victim, count, &cluster.hosts[1], node, "from a task to its own node")?;

    // Switched off, all that arrives; switched on again, nothing does.
    cluster.hosts[0].stop(Signal::SIGTERM)?;
    cluster.hosts[0].flags = vec!["--vxlan-members-only=false".into()];
    cluster.hosts[0].start()?;
    wait::until("forged frames arrive", wait::LONG, || {
        send(&stranger, node, &victim.frame(), 1)?;
        ensure!(victim.arrived()? > count, "none yet");
        Ok(())
    })?;
    ensure!(vxlan_from(&cluster.hosts[0])? == "anywhere");
    cluster.hosts[0].stop(Signal::SIGTERM)?;
    cluster.hosts[0].flags.clear();
    cluster.hosts[0].start()?;
    wait::until("members only again", wait::LONG, || {
        let before = victim.arrived()?;
        send(&stranger, node, &victim.frame(), MANY)?;
        only_members(&victim, before, &cluster.hosts[1], node, "from a stranger, after a restart").map(drop)
    })?;
    cluster.wait_answers(8080)?;
    tasks_reach_each_other(&cluster)?;

    // A member that moves goes on; whoever gets its old address is let in for a while only.
    cluster.hosts[1].renumber([10, 77, 0, 99].into())?;
    cluster.wait_ready(2)?;
    cluster.wait_answers(8080)?;
    tasks_reach_each_other(&cluster)?;
    let before = victim.arrived()?;
    send(&stranger, node, &victim.frame(), MANY)?;
    only_members(&victim, before, &cluster.hosts[1], node, "from a stranger, after a move")?;
    Ok(())
}

#[test]
fn over_ipv6_too() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let [first, second] = cluster.hosts.as_slice() else { unreachable!() };
    first.rnctl(&["swarm", "init", "--advertise-addr", &first.v6().to_string()])?;
    let token = first.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    let (own, manager) = (second.v6().to_string(), format!("[{}]:2377", first.v6()));
    second.rnctl(&["swarm", "join", "--token", &token, "--advertise-addr", &own, &manager])?;
    cluster.wait_ready(2)?;
    serve(&cluster)?;
    let victim = Victim::of(&cluster, first, "web", "app")?;
    let count = victim.arrived()?;
    for node in [first.v6(), first.v4()] {
        send(&cluster.client.path(), SocketAddr::new(node, VXLAN), &victim.frame(), MANY)?;
    }
    only_members(&victim, count, second, SocketAddr::new(first.v6(), VXLAN), "from a stranger")?;
    tasks_reach_each_other(&cluster)
}
