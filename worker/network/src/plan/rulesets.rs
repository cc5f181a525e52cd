//! The nftables tables, as text.
//!
//! A base chain is called after its hook, and after its priority where a table has several on one hook. Other names stand in
//! `docs/packets.md`. Names are part of a table's digest: a daemon that finds a table with other ones replaces it, in one transaction.
//!
//! A table's rules depend on things that hardly ever change: device names, subnets, this node's addresses. Services, tasks,
//! nodes and published ports are elements of its maps, so their coming and going rewrites no rule.
//!
//! Load balancing over any number of backends needs no rule per service either. `numgen random mod N` needs its N in the rule,
//! so there is one small chain per N ([`SLOTS`]); a verdict map sends a service to the chain of its number of backends, and
//! that chain picks the slot. A service of three backends costs four elements.

use std::{fmt::Write, net::Ipv4Addr};

use kernel::{Family, Ruleset};
use proto::model::Port;

use super::names::{Marks, Names};
use crate::desired::{GatewaySubnets, Mesh};

/// Where a sandbox's resolver listens, as Docker's.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The table in each task's sandbox.
pub const SANDBOX_TABLE: &str = "rn";
/// The administrator's table.
pub const USER_TABLE: &str = "rn-user";

/// Sizes of the slot tables. Up to 16 backends each has exactly one slot. Up to 1,024 there are at least 8 slots each, so that none
/// gets over an eighth more than another; from there to 8,192 one may get up to twice as much.
pub const SLOTS: [u32; 22] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 256, 512, 1024, 2048, 4096, 8192];

/// Number of slots for that many backends, none for none. More than 8192 backends are cut off there.
pub fn slots_for(backends: usize) -> Option<u32> {
    match backends {
        0 => None,
        1..=16 => u32::try_from(backends).ok(),
        n => SLOTS.into_iter().find(|s| *s >= 256 && *s as usize >= 8 * n).or(Some(8192)),
    }
}

/// Name of the chain that balances over that many slots.
pub fn chain(v4: bool, slots: u32) -> String {
    format!("{}-{slots}", if v4 { "four" } else { "six" })
}

/// A task's sandbox: virtual addresses, and the redirect to its resolver. The same for every task.
pub fn sandbox() -> Ruleset {
    let mut body = String::from(
        " map dns { typeof meta l4proto : th dport; }
 set dns_answers { typeof meta l4proto . th sport; }
 set vip4 { typeof ip daddr; }
 set vip6 { typeof ip6 daddr; }
 map service4 { typeof ip daddr : verdict; }
 map service6 { typeof ip6 daddr : verdict; }
 map backend4 { typeof ip daddr . numgen random mod 65536 : ip daddr; }
 map backend6 { typeof ip6 daddr . numgen random mod 65536 : ip6 daddr; }
",
    );
    for n in SLOTS {
        let _ = write!(
            body,
            " chain four-{n} {{ dnat ip to ip daddr . numgen random mod {n} map @backend4\n }}
 chain six-{n} {{ dnat ip6 to ip6 daddr . numgen random mod {n} map @backend6\n }}\n"
        );
    }
    // Packets of the tasks' connections meet two short rules; what more there is, only the first of a connection does.
    // `resolver`: ports are exchanged packet by packet. Names are asked for all the time, each time from another port: entries in
    // conntrack for that cost more than the answers. `unknown_connections`: a packet in the middle of a connection that conntrack no longer
    // knows is answered by a reset, rather than balanced to a task that has never heard of it. `refuse`: what no verdict has led
    // elsewhere goes to a virtual address without a backend.
    let _ = write!(
        body,
        " chain resolver_replies {{
  udp sport set 53
  tcp sport set 53
 }}
 chain resolver {{
  type filter hook output priority raw
  oif != lo accept
  ip daddr {RESOLVER} udp dport 53 notrack udp dport set meta l4proto map @dns accept
  ip daddr {RESOLVER} tcp dport 53 notrack tcp dport set meta l4proto map @dns accept
  ip saddr {RESOLVER} meta l4proto . th sport @dns_answers notrack goto resolver_replies
 }}
 chain unknown_connections {{
  type filter hook output priority -150
  ct state established,related,untracked accept
  ip daddr @vip4 tcp flags & (fin | syn | rst | ack) != syn ct state new,invalid reject with tcp reset
  ip6 daddr @vip6 tcp flags & (fin | syn | rst | ack) != syn ct state new,invalid reject with tcp reset
 }}
 chain refuse {{
  meta l4proto tcp reject with tcp reset
  reject
 }}
 chain virtual_addresses {{
  type nat hook output priority -100
  ip daddr vmap @service4
  ip6 daddr vmap @service6
  ip daddr @vip4 goto refuse
  ip6 daddr @vip6 goto refuse
 }}
"
    );
    Ruleset { family: Family::Inet, table: SANDBOX_TABLE.into(), body, elements: Vec::new() }
}

// A device's name takes longer to compare than a number. So where a rule asks for both, the number comes first.

/// The gateway bridge: tasks reach the world masqueraded, and each other only by flows that were translated on purpose;
/// host-mode ports.
pub fn gateway(names: &Names, subnets: &GatewaySubnets) -> Ruleset {
    let (gw, v4, v6) = (&names.gateway_bridge, subnets.v4, subnets.v6);
    // `route_localnet` is on for the bridge, so that 127.0.0.1:PORT works; `prerouting_raw` keeps tasks from using it the other way.
    let body = format!(
        " map host4 {{ typeof meta l4proto . th dport : ip daddr . th dport; }}
 map host6 {{ typeof meta l4proto . th dport : ip6 daddr . th dport; }}
 chain prerouting_raw {{
  type filter hook prerouting priority -300
  ip daddr 127.0.0.0/8 iifname \"{gw}\" drop
 }}
 chain host_ports {{
  ip6 daddr ::1 return
  fib daddr type local dnat ip to meta l4proto . th dport map @host4
  fib daddr type local dnat ip6 to meta l4proto . th dport map @host6
 }}
 chain prerouting_nat {{
  type nat hook prerouting priority dstnat
  jump host_ports
 }}
 chain output_nat {{
  type nat hook output priority -100
  jump host_ports
 }}
 chain isolate {{
  type filter hook forward priority 0
  ct state new oifname \"{gw}\" ct status & dnat == 0 drop
 }}
 chain redirects {{
  type filter hook output priority 0
  icmp type redirect oifname \"{gw}\" drop
  icmpv6 type nd-redirect oifname \"{gw}\" drop
 }}
 chain postrouting {{
  type nat hook postrouting priority 101
  oifname \"{gw}\" ip saddr {{ 127.0.0.0/8, {v4} }} ct status dnat masquerade
  oifname \"{gw}\" ip6 saddr {v6} ct status dnat masquerade
  oifname != \"{gw}\" ip saddr {v4} masquerade
  oifname != \"{gw}\" ip6 saddr {v6} masquerade
 }}
"
    );
    Ruleset { family: Family::Inet, table: names.gateway_table.clone(), body, elements: Vec::new() }
}

/// The routing mesh (see `plan/mesh.rs` for the way of a packet).
///
/// `refuse` answers TCP with a reset: what ICMP says is limited to about one a second for each asker.
pub fn mesh(names: &Names, subnets: &GatewaySubnets, mesh: &Mesh, marks: Marks, vxlan: Port) -> Ruleset {
    let (gw, dev) = (&names.gateway_bridge, &names.mesh_device);
    let (entered, came, mask) = (marks.entered(), marks.came(), marks.mask());
    let others = !mask;
    let mut body = String::from(
        " set no_backend4 { typeof meta l4proto . th dport; }
 set no_backend6 { typeof meta l4proto . th dport; }
 map port4 { typeof meta l4proto . th dport : verdict; }
 map port6 { typeof meta l4proto . th dport : verdict; }
 map backend4 { typeof meta l4proto . th dport . numgen random mod 65536 : ip daddr . th dport; }
 map backend6 { typeof meta l4proto . th dport . numgen random mod 65536 : ip6 daddr . th dport; }
 map task4 { typeof ip daddr : ip daddr; }
 map task6 { typeof ip6 daddr : ip6 daddr; }
 map node_mark { typeof ether saddr : meta mark; }
 map node_zone { typeof ether saddr : ct zone; }
 set hairpin4 { typeof ip saddr . ip daddr; }
 set hairpin6 { typeof ip6 saddr . ip6 daddr; }
",
    );
    let set = format!(
        "ct mark set ct mark & {others:#010x} | {entered:#010x} meta mark set meta mark & {others:#010x} | {entered:#010x}"
    );
    for n in SLOTS {
        let _ = write!(
            body,
            " chain four-{n} {{ {set} dnat ip to meta l4proto . th dport . numgen random mod {n} map @backend4\n }}
 chain six-{n} {{ {set} dnat ip6 to meta l4proto . th dport . numgen random mod {n} map @backend6\n }}\n"
        );
    }
    // A node asks another one, and the task chosen is back on the first: that would see a packet of its own come in from outside.
    let own = |v4: bool| mesh.addrs.iter().find(|a| a.is_ipv4() == v4);
    let mut snat = String::new();
    if let Some(own) = own(true) {
        let _ = writeln!(
            snat,
            "  ct mark & {mask:#010x} == {entered:#010x} ip saddr {{ 127.0.0.0/8, {} }} snat ip to {own}
  oifname \"{dev}\" ct mark & {mask:#010x} == {entered:#010x} ip saddr . ip daddr @hairpin4 snat ip to {own}",
            subnets.v4
        );
    }
    if let Some(own) = own(false) {
        let _ = writeln!(
            snat,
            "  ct mark & {mask:#010x} == {entered:#010x} ip6 saddr {} snat ip6 to {own}
  oifname \"{dev}\" ct mark & {mask:#010x} == {entered:#010x} ip6 saddr . ip6 daddr @hairpin6 snat ip6 to {own}",
            subnets.v6
        );
    }
    // `prerouting_raw`, last rule: what a client sends to one task through two nodes, from one source port, looks the same here but is two
    // connections. Replies are in no zone, so conntrack gives the later one another source port.
    // 1 and 58 are ICMP and ICMPv6: a machine without `/etc/protocols` does not know the name of the second.
    // Tunnels are not connections, and each direction would be one of its own: `prerouting_raw` and `output_raw` leave them untracked, and
    // untracked packets leave each chain at once.
    let _ = write!(
        body,
        " chain prerouting_raw {{
  type filter hook prerouting priority -300
  udp dport {vxlan} iifname != \"{dev}\" fib daddr type local notrack accept
  ip daddr 127.0.0.0/8 iifname \"{dev}\" drop
  iifname \"{dev}\" ct original zone set ether saddr map @node_zone
 }}
 chain output_raw {{
  type filter hook output priority -300
  udp dport {vxlan} notrack
 }}
 chain prerouting_mangle {{
  type filter hook prerouting priority mangle
  ct state untracked accept
  ct state new iifname \"{dev}\" ct mark set ether saddr map @node_mark
  ct state new iifname \"{dev}\" ct mark & {mask:#010x} != {came:#010x} drop
  ct direction reply ct mark & {mask:#010x} == {came:#010x} iifname \"{gw}\" meta mark set ct mark
  ct direction original ct mark & {mask:#010x} == {entered:#010x} meta mark set meta mark & {others:#010x} | {entered:#010x}
 }}
 chain output_mangle {{
  type route hook output priority mangle
  ct state untracked accept
  ct direction original ct mark & {mask:#010x} == {entered:#010x} meta mark set meta mark & {others:#010x} | {entered:#010x}
 }}
 chain published_ports {{
  ip6 daddr ::1 return
  fib daddr type local meta nfproto ipv4 meta l4proto . th dport vmap @port4
  fib daddr type local meta nfproto ipv6 meta l4proto . th dport vmap @port6
 }}
 chain prerouting_nat {{
  type nat hook prerouting priority dstnat
  iifname \"{dev}\" dnat ip to ip daddr map @task4
  iifname \"{dev}\" dnat ip6 to ip6 daddr map @task6
  iifname != \"{dev}\" jump published_ports
 }}
 chain output_nat {{
  type nat hook output priority -100
  jump published_ports
 }}
 chain refuse {{
  meta l4proto tcp reject with tcp reset
  reject
 }}
 chain input {{
  type filter hook input priority 0
  ct state established,related,untracked accept
  iifname \"{dev}\" ct state new meta l4proto != {{ 1, 58 }} drop
  meta nfproto ipv4 meta l4proto . th dport @no_backend4 ct status & dnat == 0 jump refuse
  meta nfproto ipv6 meta l4proto . th dport @no_backend6 ct status & dnat == 0 jump refuse
 }}
 chain forward {{
  type filter hook forward priority mangle
  ct state new iifname \"{dev}\" ct status & dnat == 0 drop
  tcp flags & (syn | rst) == syn oifname \"{dev}\" tcp option maxseg size set rt mtu
  tcp flags & (syn | rst) == syn iifname \"{dev}\" tcp option maxseg size set rt mtu
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat
{snat} }}
"
    );
    Ruleset { family: Family::Inet, table: names.mesh_table.clone(), body, elements: Vec::new() }
}

/// The way back of the mesh: the mark names the node that a reply goes to. The mark is cleared then, since the outer VXLAN
/// packet is routed by the inner one's mark and would come back here.
pub fn mesh_egress(names: &Names) -> Ruleset {
    let body = format!(
        " map node_mac {{ typeof meta mark : ether daddr; }}
 chain egress {{
  type filter hook egress device \"{}\" priority 0
  ether daddr set meta mark map @node_mac
  meta mark set 0
 }}
",
        names.mesh_device
    );
    Ruleset { family: Family::Netdev, table: names.mesh_table.clone(), body, elements: Vec::new() }
}

/// Who may send VXLAN here (see `plan/underlay.rs`).
///
/// On the input hook, where fragments are whole again. The port comes first: all that is not for it leaves after one comparison.
pub fn underlay(names: &Names, vxlan: Port) -> Ruleset {
    let gw = &names.gateway_bridge;
    let body = format!(
        " set member4 {{ typeof ip saddr; }}
 set member6 {{ typeof ip6 saddr; }}
 chain input {{
  type filter hook input priority -10
  udp dport {vxlan} jump members
 }}
 chain members {{
  iifname \"{gw}\" counter drop
  ip saddr @member4 return
  ip6 saddr @member6 return
  counter drop
 }}
 chain forward {{
  type filter hook forward priority -10
  udp dport {vxlan} iifname \"{gw}\" jump tasks
 }}
 chain tasks {{
  ip daddr @member4 counter drop
  ip6 daddr @member6 counter drop
 }}
"
    );
    Ruleset { family: Family::Inet, table: names.vxlan_table.clone(), body, elements: Vec::new() }
}

/// The administrator's table: made once, never touched again.
pub fn user() -> String {
    format!(
        "add table inet {USER_TABLE}\n\
         add chain inet {USER_TABLE} RN-USER {{ type filter hook forward priority -10; policy accept; }}\n"
    )
}
