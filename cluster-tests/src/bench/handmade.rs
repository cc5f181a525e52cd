//! What one would lay by hand: two machines without rn, on the same segment as the hosts.
//!
//! The overlay is the plainest there is: bridge and VXLAN device in the machine's own namespace, one veth pair to the task's.
//! The relay is one DNAT and one masquerade rule, which is how a port of one machine is led to another without rn.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};

use crate::lan::{Lan, Namespace, Port, ip, run};

/// A machine with one task.
pub struct Machine {
    /// The machine.
    pub host: Namespace,
    /// Its place on the segment.
    pub port: Port,
    /// The task's namespace.
    pub task: Namespace,
    number: u8,
}

impl Machine {
    /// The machine's own address.
    pub fn addr(&self, v4: bool) -> IpAddr {
        if v4 { self.port.v4.into() } else { self.port.v6.into() }
    }

    /// The task's address on the overlay.
    pub fn task_addr(&self, v4: bool) -> IpAddr {
        let number = self.number;
        if v4 {
            Ipv4Addr::new(10, 99, 0, number).into()
        } else {
            Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into()).into()
        }
    }
}

/// Two of them.
pub struct Handmade {
    /// The asking one.
    pub first: Machine,
    /// The serving one.
    pub second: Machine,
}

impl Handmade {
    /// Lays an overlay with this MTU between two new machines.
    pub fn overlay(lan: &Lan, mtu: u32) -> Result<Self> {
        let machine = |number: u8| -> Result<Machine> {
            let host = Namespace::new(&format!("hand{number}"))?;
            let port = lan.plug(&host)?;
            Ok(Machine { host, port, task: Namespace::new(&format!("task{number}"))?, number })
        };
        let (first, second) = (machine(1)?, machine(2)?);
        for (own, other) in [(&first, &second), (&second, &first)] {
            let (host, task, number) = (own.host.name(), own.task.name(), own.number);
            let (local, remote) = (own.port.v4, other.port.v4);
            ip(&format!("-n {host} link add br0 mtu {mtu} type bridge"))?;
            ip(&format!(
                "-n {host} link add vx0 mtu {mtu} type vxlan id 99 dstport 4789 local {local} remote {remote}"
            ))?;
            ip(&format!("-n {host} link add t0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {task}"))?;
            for port in ["vx0", "t0"] {
                ip(&format!("-n {host} link set {port} master br0 up"))?;
            }
            ip(&format!("-n {host} link set br0 up"))?;
            ip(&format!("-n {task} addr add 10.99.0.{number}/24 dev eth0"))?;
            ip(&format!("-n {task} addr add fd99::{number}/64 dev eth0 nodad"))?;
            ip(&format!("-n {task} link set eth0 up"))?;
        }
        Ok(Self { first, second })
    }

    /// Leads a TCP port of the first machine to one of the second.
    pub fn relay(&self, port: u16, to: u16) -> Result<()> {
        let host = &self.first.host;
        run(host.command("sysctl").args(["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]))?;
        let rules = format!(
            "table inet relay {{
 chain pre {{
  type nat hook prerouting priority dstnat
  meta nfproto ipv4 tcp dport {port} dnat ip to {}:{to}
  meta nfproto ipv6 tcp dport {port} dnat ip6 to [{}]:{to}
 }}
 chain post {{
  type nat hook postrouting priority srcnat
  ct status dnat masquerade
 }}
}}
",
            self.second.addr(true),
            self.second.addr(false)
        );
        let mut nft = host.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("nft")?;
        nft.stdin.take().context("stdin of nft")?.write_all(rules.as_bytes())?;
        ensure!(nft.wait()?.success(), "nft refused the relay's rules");
        Ok(())
    }
}
