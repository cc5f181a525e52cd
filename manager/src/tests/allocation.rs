//! Who gets which address, VNI and port.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proto::model::{
    EndpointMode, IpamConfig, Millis, NetworkDriver, OverlayOptions, ServiceId, TaskState, Timestamp, Vni,
};

use super::{
    fixture::{self, add_service, edit_service, network, port, service},
    world::World,
};
use crate::{
    allocator::Allocator,
    store::{command::Command, state::State},
};

/// Every address in use, with its owner, panicking at a second one.
pub(super) fn owners(state: &State) -> BTreeMap<(String, IpAddr), String> {
    let mut owners = BTreeMap::new();
    let ingress =
        state.networks.values().find(|n| n.spec.ingress).map(|n| n.id.to_string()).unwrap_or_default();
    let mut own = |network: &str, addr: IpAddr, owner: String| {
        let before = owners.insert((network.to_owned(), addr), owner.clone());
        assert_eq!(before, None, "{addr} also belongs to {owner}");
    };
    for network in state.networks.values() {
        for subnet in network.allocation.iter().flat_map(|a| &a.subnets) {
            own(network.id.as_str(), subnet.gateway, "gateway".into());
        }
    }
    for node in state.nodes.values() {
        node.ingress_addrs.iter().for_each(|a| own(&ingress, *a, node.id.to_string()));
    }
    for service in state.services.values() {
        for vip in service.allocation.iter().flat_map(|a| &a.vips) {
            vip.addrs.iter().for_each(|a| own(vip.network.as_str(), *a, service.spec.name.clone()));
        }
    }
    for task in state.tasks.values().filter(|t| !t.status.state.is_terminal()) {
        let Some(allocation) = &task.allocation else { continue };
        for attachment in &allocation.attachments {
            attachment.addrs.iter().for_each(|a| own(attachment.network.as_str(), a.addr, task.name()));
        }
        allocation.ingress_addrs.iter().for_each(|a| own(&ingress, *a, task.name()));
    }
    owners
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|a| a.to_string()).collect()
}

#[test]
fn a_fresh_cluster_is_allocated_in_one_entry() {
    let mut state = fixture::state();
    fixture::add_nodes(&mut state, &["n1", "n2"]);
    fixture::add_networks(&mut state, &["app"]);
    let web = service(&state, "web", 2, &["app"], &[port(8080, 80), port(0, 443)]);
    let web = add_service(&mut state, web, Timestamp(1));
    let mut ids = (1..).map(|n| format!("t{n}").parse().unwrap());
    let tasks = crate::orchestrator::plan(&state, Timestamp(1), &mut || ids.next().unwrap());
    fixture::must(&mut state, tasks.commands, Timestamp(1));

    let mut allocator = Allocator::default();
    let plan = allocator.plan(&state, Timestamp(1));
    // Two networks, two nodes, the service, two tasks.
    assert_eq!(plan.commands.len(), 7, "{plan:?}");
    fixture::must(&mut state, plan.commands, Timestamp(1));
    assert!(allocator.plan(&state, Timestamp(1)).commands.is_empty());

    let ingress = state.network_by_name("ingress").unwrap().allocation.clone().unwrap();
    let app = state.network_by_name("app").unwrap().allocation.clone().unwrap();
    assert_eq!((ingress.vni, app.vni, app.mtu), (Vni(4096), Vni(4097), 1450));
    assert_eq!(texts(ingress.subnets.iter().map(|s| s.subnet)), ["10.0.0.0/24", "fd12:3456:789a::/64"]);
    assert_eq!(texts(app.subnets.iter().map(|s| s.subnet)), ["10.0.1.0/24", "fd12:3456:789a:1::/64"]);
    assert_eq!(texts(app.subnets.iter().map(|s| s.gateway)), ["10.0.1.1", "fd12:3456:789a:1::1"]);
    let node = state.nodes.get("n1").unwrap();
    assert_eq!(texts(&node.ingress_addrs), ["10.0.0.2", "fd12:3456:789a::2"]);
    let allocation = state.services.get(&web).unwrap().allocation.clone().unwrap();
    assert_eq!(allocation.ports.iter().map(|p| p.published).collect::<Vec<_>>(), [8080, 30_000]);
    assert_eq!(allocation.vips.len(), 1, "none on ingress");
    assert_eq!(texts(&allocation.vips[0].addrs), ["10.0.1.2", "fd12:3456:789a:1::2"]);
    let task = state.tasks.get("t1").unwrap();
    assert_eq!(task.status.state, TaskState::Pending);
    let got = task.allocation.clone().unwrap();
    assert_eq!(texts(&got.attachments[0].addrs), ["10.0.1.3/24", "fd12:3456:789a:1::3/64"]);
    assert_eq!(texts(&got.ingress_addrs), ["10.0.0.4", "fd12:3456:789a::4"]);
    assert_eq!(got.ports, allocation.ports);
    owners(&state);
}

#[test]
fn what_the_user_asked_for_is_what_there_is() {
    let mut state = fixture::state();
    let asked = network("asked", |s| {
        s.driver = NetworkDriver::Overlay(OverlayOptions {
            mtu: Some(1300),
            vnis: vec![Vni(300)],
            ..OverlayOptions::default()
        });
        s.ipam = vec![IpamConfig {
            subnet: Some("192.168.5.0/24".parse().unwrap()),
            ip_range: Some("192.168.5.128/25".parse().unwrap()),
            gateway: Some("192.168.5.254".parse().unwrap()),
            aux_addresses: [("printer".to_owned(), "192.168.5.129".parse().unwrap())].into(),
        }];
    });
    let only_v6 = network("v6", |s| s.ipv4 = false);
    let clash = network("clash", |s| {
        s.ipam =
            vec![IpamConfig { subnet: Some("192.168.0.0/16".parse().unwrap()), ..IpamConfig::default() }];
    });
    let create = [asked, only_v6, clash].map(|n| Command::CreateNetwork(Box::new(n)));
    for (i, command) in create.into_iter().enumerate() {
        fixture::must(&mut state, vec![command], Timestamp(i as u64));
    }
    let web = service(&state, "web", 1, &["asked"], &[]);
    let id = add_service(&mut state, web, Timestamp(9));
    let plan = Allocator::default().plan(&state, Timestamp(9));
    fixture::must(&mut state, plan.commands, Timestamp(9));

    let asked = state.network_by_name("asked").unwrap().allocation.clone().unwrap();
    assert_eq!((asked.vni, asked.mtu), (Vni(300), 1300));
    assert_eq!(asked.subnets[0].gateway.to_string(), "192.168.5.254");
    assert!(asked.subnets[1].subnet.addr().is_ipv6(), "the other family comes from the pool");
    let vip = &state.services.get(&id).unwrap().allocation.as_ref().unwrap().vips[0];
    // .128 is in the range, .129 is kept for the printer.
    assert_eq!(vip.addrs[0].to_string(), "192.168.5.128");
    let v6 = state.network_by_name("v6").unwrap().allocation.clone().unwrap();
    assert_eq!(v6.subnets.len(), 1);
    let clash = state.network_by_name("clash").unwrap();
    assert_eq!(clash.allocation, None);
    assert_eq!(
        clash.conditions[0].message,
        "subnet 192.168.0.0/16 overlaps with 192.168.5.0/24 of network asked"
    );
    // Once the other one is gone it is allocated, and the reason goes.
    let remove = vec![
        Command::RemoveService(id),
        Command::RemoveNetwork(state.network_by_name("asked").unwrap().id.clone()),
    ];
    fixture::must(&mut state, remove, Timestamp(10));
    let plan = Allocator::default().plan(&state, Timestamp(10));
    fixture::must(&mut state, plan.commands, Timestamp(10));
    let clash = state.network_by_name("clash").unwrap();
    assert!(clash.allocation.is_some() && clash.conditions.is_empty());
}

#[test]
fn a_full_network_says_so_and_goes_on_when_there_is_room() {
    let mut world = World::new(&["n1"]);
    let small = network("small", |s| {
        s.ipv6 = false;
        s.ipam = vec![IpamConfig { subnet: Some("10.77.0.0/29".parse().unwrap()), ..IpamConfig::default() }];
    });
    fixture::must(&mut world.state, vec![Command::CreateNetwork(Box::new(small))], world.now);
    let web = service(&world.state, "web", 6, &["small"], &[]);
    let id = add_service(&mut world.state, web, world.now);
    world.run();
    // Of six addresses the gateway and the VIP have one each.
    let (running, waiting): (Vec<_>, Vec<_>) =
        world.live(&id).into_iter().partition(|t| t.status.state == TaskState::Running);
    assert_eq!((running.len(), waiting.len()), (4, 2));
    for task in &waiting {
        let [condition] = task.conditions.as_slice() else { panic!("{:?}", task.conditions) };
        assert_eq!(condition.kind, "allocation");
        assert_eq!(condition.message, "network small has no free address in 10.77.0.0/29: 6 of 6 are in use");
    }
    // A second pass over an unchanged world does nothing.
    assert!(world.allocate().commands.is_empty());
    edit_service(&mut world.state, &id, world.now, |s| s.mode = proto::model::ServiceMode::Replicated(4));
    world.run();
    assert_eq!(world.live(&id).len(), 4);
    assert!(world.live(&id).iter().all(|t| t.status.state == TaskState::Running));
    owners(&world.state);
}

#[test]
fn a_freed_address_is_not_handed_out_at_once() {
    let mut world = World::new(&["n1"]);
    let old = world.serve("old", 3);
    world.run();
    let addrs = |world: &World, id: &ServiceId| -> BTreeSet<String> {
        let tasks = world.live(id);
        tasks.iter().flat_map(|t| texts(&t.allocation.as_ref().unwrap().attachments[0].addrs)).collect()
    };
    let before = addrs(&world, &old);
    fixture::must(&mut world.state, vec![Command::RemoveService(old)], world.now);
    world.run();
    assert!(world.tasks().is_empty(), "the tasks of a removed service are forgotten");
    let new = world.serve("new", 3);
    world.run();
    assert!(before.is_disjoint(&addrs(&world, &new)));
    owners(&world.state);
}

#[test]
fn addresses_and_ports_survive_updates_and_are_given_up_when_unwanted() {
    let mut world = World::new(&["n1", "n2"]);
    let web = service(&world.state, "web", 2, &["app"], &[port(0, 80)]);
    let id = add_service(&mut world.state, web, world.now);
    world.run();
    let before = world.service(&id).allocation.clone().unwrap();
    let tasks = world.live(&id);
    world.pass(Millis::secs(1));
    edit_service(&mut world.state, &id, world.now, |s| s.endpoint.ports.push(port(9090, 90)));
    world.run();
    let after = world.service(&id).allocation.clone().unwrap();
    assert_eq!(after.vips, before.vips);
    assert_eq!(after.ports.iter().map(|p| p.published).collect::<Vec<_>>(), [30_000, 9090]);
    assert_eq!(world.live(&id), tasks, "another mesh port replaces no task");
    world.pass(Millis::secs(1));
    edit_service(&mut world.state, &id, world.now, |s| s.endpoint.mode = EndpointMode::DnsRr);
    world.run();
    assert!(world.service(&id).allocation.as_ref().unwrap().vips.is_empty());
    // A service that starts to publish needs tasks with mesh addresses.
    let quiet = world.serve("quiet", 1);
    world.run();
    let before = world.live(&quiet);
    edit_service(&mut world.state, &quiet, world.now, |s| s.endpoint.ports.push(port(7000, 70)));
    world.run();
    let after = world.live(&quiet);
    assert_ne!(after[0].id, before[0].id);
    assert_eq!(after[0].allocation.as_ref().unwrap().ingress_addrs.len(), 2);
    owners(&world.state);
}

#[test]
fn without_an_ingress_network_publishing_waits_and_the_rest_goes_on() {
    let mut world = World::new(&["n1"]);
    let ingress = world.state.network_by_name("ingress").unwrap().id.clone();
    fixture::must(&mut world.state, vec![Command::RemoveNetwork(ingress)], world.now);
    let web = service(&world.state, "web", 1, &["app"], &[port(80, 80)]);
    let web = add_service(&mut world.state, web, world.now);
    let quiet = world.serve("quiet", 1);
    world.run();
    assert!(world.state.nodes.get("n1").unwrap().ingress_addrs.is_empty());
    assert_eq!(world.service(&web).conditions[0].message, "no ingress network is present");
    assert_eq!(world.live(&web)[0].conditions[0].message, "no ingress network is present");
    assert_eq!(world.live(&quiet)[0].status.state, TaskState::Running);
    fixture::must(
        &mut world.state,
        vec![Command::CreateNetwork(Box::new(network("ingress2", |s| s.ingress = true)))],
        world.now,
    );
    world.run();
    assert_eq!(world.live(&web)[0].status.state, TaskState::Running);
    assert!(world.service(&web).conditions.is_empty() && world.live(&web)[0].conditions.is_empty());
    owners(&world.state);
}
