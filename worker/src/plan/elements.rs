//! What services, tasks, nodes and ports amount to as elements of the tables' maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proto::model::{Mac, Port, Protocol};

use super::rulesets::{RESOLVER, chain, slots_for};
use crate::{
    desired::{DnsPorts, Mesh, MeshPeer, NodeDesired},
    kernel::{Element, ElementChange, Part, Verdict},
    services::NetworkTable,
};

/// Elements of a table's sets and maps, by set.
pub type Elements = BTreeMap<String, BTreeSet<Element>>;

/// The changes that turn `old` into `new`.
pub fn changes(old: &Elements, new: &Elements) -> Vec<ElementChange> {
    let none = BTreeSet::new();
    let sets: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |set: &String| {
        let (old, new) = (old.get(set).unwrap_or(&none), new.get(set).unwrap_or(&none));
        ElementChange {
            set: set.clone(),
            del: old.difference(new).cloned().collect(),
            add: new.difference(old).cloned().collect(),
        }
    };
    sets.into_iter().map(change).filter(|c| !c.del.is_empty() || !c.add.is_empty()).collect()
}

fn put(elements: &mut Elements, set: &str, element: Element) {
    match elements.get_mut(set) {
        Some(set) => _ = set.insert(element),
        None => _ = elements.insert(set.to_owned(), BTreeSet::from([element])),
    }
}

/// The name of a map in its form for the address's family.
fn of_family(v4: bool, four: &'static str, six: &'static str) -> &'static str {
    if v4 { four } else { six }
}

/// Virtual addresses of all services of the networks, for a sandbox that is on them.
pub fn virtual_addresses<'a>(networks: impl IntoIterator<Item = &'a NetworkTable>) -> Elements {
    let mut out = Elements::new();
    for service in networks.into_iter().flat_map(|n| n.services.values()) {
        for vip in &service.vips {
            let v4 = vip.is_ipv4();
            put(&mut out, of_family(v4, "vip4", "vip6"), Element::key([Part::from(*vip)]));
            let backends: Vec<IpAddr> = service
                .backends
                .iter()
                .flat_map(|b| &b.addrs)
                .filter(|a| a.is_ipv4() == v4)
                .copied()
                .collect();
            let Some(slots) = slots_for(backends.len()) else { continue };
            let to = Verdict::Goto(chain(v4, slots));
            put(&mut out, of_family(v4, "service4", "service6"), Element::verdict([Part::from(*vip)], to));
            for (slot, addr) in (0..slots).zip(backends.iter().cycle()) {
                let element = Element::map([Part::from(*vip), Part::U32(slot)], [Part::from(*addr)]);
                put(&mut out, of_family(v4, "backend4", "backend6"), element);
            }
        }
    }
    out
}

/// Where a sandbox's resolver listens.
pub fn resolver(ports: Option<DnsPorts>) -> Elements {
    let mut out = Elements::new();
    if let Some(DnsPorts { udp, tcp }) = ports {
        for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
            let data = [Part::Ipv4(RESOLVER), Part::Port(port)];
            put(&mut out, "dns", Element::map([Part::Proto(protocol.number())], data));
        }
    }
    out
}

fn port_key((protocol, port): (Protocol, Port)) -> [Part; 2] {
    [Part::Proto(protocol.number()), Part::Port(port)]
}

/// Host-mode ports.
pub fn host_ports(desired: &NodeDesired) -> Elements {
    let mut out = Elements::new();
    for (key, to) in &desired.host_ports {
        // Two tasks cannot have one port; were it so, the first holds it.
        for v4 in [true, false] {
            if let Some((addr, port)) = to.iter().find(|(a, _)| a.is_ipv4() == v4) {
                let data = [Part::from(*addr), Part::Port(*port)];
                put(&mut out, of_family(v4, "host4", "host6"), Element::map(port_key(*key), data));
            }
        }
    }
    out
}

/// Published ports, tasks here, the marks and zones of other nodes, and which of those nodes' own addresses must not reach which task.
pub fn mesh(mesh: &Mesh) -> Elements {
    let mut out = Elements::new();
    for (key, to) in &mesh.ports {
        for v4 in [true, false] {
            let backends: Vec<_> = to.iter().filter(|(a, _)| a.is_ipv4() == v4).collect();
            let Some(slots) = slots_for(backends.len()) else {
                // Held on this node and served by nobody: refused at once.
                put(&mut out, of_family(v4, "idle4", "idle6"), Element::key(port_key(*key)));
                continue;
            };
            let verdict = Verdict::Goto(chain(v4, slots));
            put(&mut out, of_family(v4, "port4", "port6"), Element::verdict(port_key(*key), verdict));
            for (slot, (addr, port)) in (0..slots).zip(backends.into_iter().cycle()) {
                let [protocol, published] = port_key(*key);
                let element = Element::map(
                    [protocol, published, Part::U32(slot)],
                    [Part::from(*addr), Part::Port(*port)],
                );
                put(&mut out, of_family(v4, "backend4", "backend6"), element);
            }
        }
    }
    for (mesh_addr, gateway_addr) in &mesh.local_tasks {
        let set = of_family(mesh_addr.is_ipv4(), "task4", "task6");
        put(&mut out, set, Element::map([Part::from(*mesh_addr)], [Part::from(*gateway_addr)]));
    }
    for peer in mesh.peers.values() {
        put(&mut out, "node_mark", Element::map([Part::Mac(peer.mac)], [Part::U32(peer.mark)]));
        put(&mut out, "node_zone", Element::map([Part::Mac(peer.mac)], [Part::U16(peer.zone)]));
    }
    let nodes: BTreeMap<Mac, &MeshPeer> = mesh.peers.values().map(|peer| (peer.mac, peer)).collect();
    for (task, mac) in &mesh.remote_tasks {
        let hosts = nodes.get(mac).into_iter().flat_map(|peer| &peer.host_addrs);
        for host in hosts.filter(|host| host.is_ipv4() == task.is_ipv4()) {
            let key = [Part::from(*host), Part::from(*task)];
            put(&mut out, of_family(task.is_ipv4(), "returning4", "returning6"), Element::key(key));
        }
    }
    out
}

/// Which node a mark names.
pub fn mesh_egress(mesh: &Mesh) -> Elements {
    let mut out = Elements::new();
    for peer in mesh.peers.values() {
        put(&mut out, "node_mac", Element::map([Part::U32(peer.mark)], [Part::Mac(peer.mac)]));
    }
    out
}
