//! What services, tasks, nodes and ports amount to as elements of the tables' maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use kernel::{Element, ElementChange, Part, Verdict};
use proto::model::{Mac, Port, Protocol};

use super::rulesets::{chain, slots_for};
use crate::{
    desired::{DnsPorts, Mesh, MeshPeer, NodeDesired},
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

/// Sets in which a packet looks up what a verdict, looked up before, has led it to.
const SLOT_SETS: [&str; 2] = ["backend4", "backend6"];

/// Takes out of the changes those that must come in a transaction of their own, after the others.
///
/// Each lookup sees the tables as they are at its moment. A packet may be sent to the chain of three slots just before a
/// transaction and look for the third just after; were it gone by then, the packet would be translated to nowhere. So a slot
/// that goes outlives the verdict that led to it.
pub fn split_off_late(changes: &mut Vec<ElementChange>) -> Vec<ElementChange> {
    let late = |change: &mut ElementChange| {
        let replaced: BTreeSet<_> = change.add.iter().map(|e| &e.key).collect();
        let del = change.del.extract_if(.., |e| !replaced.contains(&e.key)).collect();
        ElementChange { set: change.set.clone(), del, add: Vec::new() }
    };
    let slots = changes.iter_mut().filter(|c| SLOT_SETS.contains(&c.set.as_str()));
    let late: Vec<_> = slots.map(late).filter(|c| !c.del.is_empty()).collect();
    changes.retain(|c| !c.del.is_empty() || !c.add.is_empty());
    late
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
            // A jump: whom no slot takes in comes back, and is refused.
            let to = Verdict::Jump(chain(v4, slots));
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
            let protocol = Part::Proto(protocol.number());
            put(&mut out, "dns", Element::map([protocol.clone()], [Part::Port(port)]));
            put(&mut out, "dns_answers", Element::key([protocol, Part::Port(port)]));
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
                put(&mut out, of_family(v4, "no_backend4", "no_backend6"), Element::key(port_key(*key)));
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
            put(&mut out, of_family(task.is_ipv4(), "hairpin4", "hairpin6"), Element::key(key));
        }
    }
    out
}

/// Who may send VXLAN here.
pub fn members(senders: &BTreeSet<IpAddr>) -> Elements {
    let mut out = Elements::new();
    for addr in senders {
        put(&mut out, of_family(addr.is_ipv4(), "member4", "member6"), Element::key([Part::from(*addr)]));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use proto::model::{ServiceId, TaskId};

    use super::*;
    use crate::services::{Backend, ServiceEntry};
    use kernel::Value;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2));

    /// A service with these backends.
    fn table(backends: &BTreeSet<u8>) -> Elements {
        let backend = |n: &u8| Backend {
            task: TaskId::random(),
            node: "n".parse().unwrap(),
            addrs: vec![Ipv4Addr::new(10, 0, 2, *n).into()],
        };
        let (name, vips) = ("web".into(), vec![VIP]);
        let entry = ServiceEntry { name, vips, backends: backends.iter().map(backend).collect() };
        let services = BTreeMap::from([("s".parse::<ServiceId>().unwrap(), entry)]);
        virtual_addresses([&NetworkTable { services, ..NetworkTable::default() }])
    }

    fn apply(elements: &mut Elements, changes: &[ElementChange]) {
        for change in changes {
            let set = elements.entry(change.set.clone()).or_default();
            set.retain(|e| !change.del.iter().any(|d| d.key == e.key));
            set.extend(change.add.iter().cloned());
        }
        elements.retain(|_, set| !set.is_empty());
    }

    /// Where the verdict of `before` may lead, looked up in `after`.
    fn lookups(before: &Elements, after: &Elements) -> Vec<Option<Element>> {
        let Some(service) = before.get("service4").and_then(BTreeSet::first) else { return Vec::new() };
        let Some(Value::Verdict(Verdict::Jump(chain))) = &service.value else { panic!("{service:?}") };
        let slots: u32 = chain.strip_prefix("four-").unwrap().parse().unwrap();
        let find = |slot| {
            let key = vec![Part::from(VIP), Part::U32(slot)];
            after.get("backend4").and_then(|set| set.iter().find(|e| e.key == key).cloned())
        };
        (0..slots).map(find).collect()
    }

    proptest! {
        #[test]
        fn a_verdict_from_before_a_transaction_leads_somewhere_after_it(
            old in proptest::collection::btree_set(any::<u8>(), 0..20),
            new in proptest::collection::btree_set(any::<u8>(), 0..20),
        ) {
            let (old, new) = (table(&old), table(&new));
            let mut first = changes(&old, &new);
            let late = split_off_late(&mut first);
            let mut states = vec![old];
            for transaction in [&first, &late] {
                let mut next = states.last().unwrap().clone();
                apply(&mut next, transaction);
                states.push(next);
            }
            prop_assert_eq!(states.last().unwrap(), &new);
            for pair in states.windows(2) {
                prop_assert!(lookups(&pair[0], &pair[1]).iter().all(Option::is_some));
            }
        }
    }
}
