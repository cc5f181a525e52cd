//! Which node, or why none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::model::{
    Availability, Millis, NodeDescription, PortConfig, PublishMode, RestartPolicy, ServiceId, ServiceMode,
    ServiceSpec, TaskState,
};

use super::{
    fixture::{self, add_service, edit_node, edit_service, node_id, port, service},
    world::World,
};
use crate::store::command::Command;

fn serve_as(world: &mut World, name: &str, replicas: u64, edit: impl FnOnce(&mut ServiceSpec)) -> ServiceId {
    let mut service = service(&world.state, name, replicas, &["app"], &[]);
    edit(&mut service.spec);
    add_service(&mut world.state, service, world.now)
}

fn redescribe(world: &mut World, name: &str, edit: impl FnOnce(&mut NodeDescription)) {
    let mut description = Box::new(world.state.nodes.get(name).unwrap().description.clone().unwrap());
    edit(&mut description);
    let report = Command::ReportNode { id: node_id(name), status: None, description: Some(description) };
    fixture::must(&mut world.state, vec![report], world.now);
}

fn reasons(world: &World, id: &ServiceId) -> Vec<String> {
    world.live(id).iter().flat_map(|t| &t.conditions).map(|c| c.message.clone()).collect()
}

#[test]
fn a_service_spreads_and_the_next_one_fills_the_emptiest() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    let web = world.serve("web", 4);
    world.run();
    assert_eq!(world.spread(&web).values().copied().collect::<Vec<_>>(), [2, 1, 1]);
    let api = world.serve("api", 2);
    world.run();
    let spread = world.spread(&api);
    assert!(!spread.contains_key("n1"), "n1 has most tasks in total: {spread:?}");
}

#[test]
fn reasons_are_counted_and_go_when_there_is_a_place() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Pause);
    edit_node(&mut world.state, "n3", |n| drop(n.labels.insert("zone".into(), "a".into())));
    let id = serve_as(&mut world, "web", 1, |s| {
        s.task.placement.constraints = vec!["node.labels.zone==a".into()];
        s.task.reservations.memory_bytes = 9 << 30;
    });
    world.run();
    assert_eq!(
        reasons(&world, &id),
        [
            "no suitable node (not available for new tasks (paused) on 1 node; insufficient resources (memory) on 1 node; \
             scheduling constraint node.labels.zone==a not satisfied on 1 node)"
        ]
    );
    assert!(world.schedule().commands.is_empty(), "a reason that stands is not written again");
    redescribe(&mut world, "n3", |d| d.memory_bytes = 16 << 30);
    world.run();
    assert_eq!(world.spread(&id), [("n3".to_owned(), 1)].into());
    assert_eq!(reasons(&world, &id), Vec::<String>::new());
    assert!(fixture::state().nodes.is_empty());
}

#[test]
fn reservations_host_ports_and_replica_limits_bound_a_node() {
    let mut world = World::new(&["n1", "n2"]);
    let cpu = serve_as(&mut world, "cpu", 5, |s| s.task.reservations.nano_cpus = 2_000_000_000);
    let host = PortConfig { mode: PublishMode::Host, ..port(53, 53) };
    let dns = serve_as(&mut world, "dns", 3, |s| s.endpoint.ports = vec![host.clone()]);
    let most = serve_as(&mut world, "most", 5, |s| s.task.placement.max_replicas = 2);
    world.run();
    assert_eq!(world.spread(&cpu), [("n1".to_owned(), 2), ("n2".to_owned(), 2)].into());
    assert_eq!(reasons(&world, &cpu), ["no suitable node (insufficient resources (CPU) on 2 nodes)"]);
    assert_eq!(world.spread(&dns), [("n1".to_owned(), 1), ("n2".to_owned(), 1)].into());
    assert_eq!(reasons(&world, &dns), ["no suitable node (host-mode port 53/tcp already in use on 2 nodes)"]);
    assert_eq!(world.spread(&most).values().sum::<usize>(), 4);
    assert_eq!(reasons(&world, &most), ["no suitable node (max replicas per node limit exceed on 2 nodes)"]);
    // Another service's host port clashes only where it is.
    let other = serve_as(&mut world, "other", 1, |s| s.endpoint.ports = vec![host]);
    world.run();
    assert_eq!(world.spread(&other).len(), 0);
    edit_service(&mut world.state, &dns, world.now, |s| s.mode = ServiceMode::Replicated(1));
    world.run();
    assert_eq!(world.spread(&other).len(), 1);
}

#[test]
fn two_global_services_with_one_host_port_do_not_block_each_other() {
    let mut world = World::new(&["n1"]);
    let host = PortConfig { mode: PublishMode::Host, ..port(53, 53) };
    let global = |s: &mut ServiceSpec| {
        s.mode = ServiceMode::Global;
        s.endpoint.ports = vec![host.clone()];
    };
    let a = serve_as(&mut world, "a", 0, global);
    let b = serve_as(&mut world, "b", 0, global);
    world.run();
    let running = [a, b].map(|id| world.live(&id)[0].status.state == TaskState::Running);
    assert_ne!(running[0], running[1], "one has the port, the other waits for it");
    assert!(world.schedule().commands.is_empty());
}

#[test]
fn a_global_service_without_a_node_says_why() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    edit_node(&mut world.state, "n3", |n| n.availability = Availability::Drain);
    let id = serve_as(&mut world, "agent", 0, |s| {
        s.mode = ServiceMode::Global;
        s.task.placement.constraints = vec!["node.platform.os==linux".into(), "node.labels.gpu==yes".into()];
    });
    world.run();
    let said = |world: &World| -> Vec<String> {
        world.service(&id).conditions.iter().map(|c| c.message.clone()).collect()
    };
    assert_eq!(
        said(&world),
        ["no suitable node (scheduling constraint node.labels.gpu==yes not satisfied on 2 nodes; \
             not available for new tasks (drained) on 1 node)"]
    );
    assert!(world.schedule().commands.is_empty(), "said once");
    edit_node(&mut world.state, "n2", |n| drop(n.labels.insert("gpu".into(), "yes".into())));
    world.run();
    assert_eq!(world.spread(&id), [("n2".to_owned(), 1)].into());
    assert_eq!(said(&world), Vec::<String>::new());
    // One of several nodes is enough, even while its task has yet to come.
    edit_node(&mut world.state, "n2", |n| n.labels.clear());
    world.run();
    assert_eq!(said(&world).len(), 1);
}

#[test]
fn preferences_even_out_label_values() {
    let mut world = World::new(&["a1", "a2", "a3", "b1", "x1"]);
    for (node, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")] {
        edit_node(&mut world.state, node, |n| drop(n.labels.insert("zone".into(), zone.into())));
    }
    let id = serve_as(&mut world, "web", 9, |s| {
        s.task.placement.preferences = vec!["spread=node.labels.zone".into()];
    });
    world.run();
    let spread = world.spread(&id);
    assert_eq!((spread["b1"], spread["x1"]), (3, 3), "a missing label is a value of its own: {spread:?}");
    assert_eq!((spread["a1"], spread["a2"], spread["a3"]), (1, 1, 1));
}

#[test]
fn nodes_where_it_keeps_failing_come_last_for_a_while() {
    let mut world = World::new(&["n1", "n2"]);
    // n2 is busy, so that n1 would be preferred.
    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Pause);
    world.serve("ballast", 3);
    world.run();
    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Active);
    let id = serve_as(&mut world, "web", 1, |s| {
        s.task.restart =
            Some(RestartPolicy { delay: Millis(0), max_attempts: 20, ..RestartPolicy::default() });
    });
    world.run();
    for _ in 0..5 {
        assert_eq!(world.spread(&id), [("n1".to_owned(), 1)].into());
        world.pass(Millis::secs(1));
        let task = world.live(&id)[0].clone();
        world.end(&task, TaskState::Failed);
        world.run();
    }
    assert_eq!(world.spread(&id), [("n2".to_owned(), 1)].into());
}

#[test]
fn a_missing_feature_keeps_off_only_what_needs_it() {
    let mut world = World::new(&["n1"]);
    redescribe(&mut world, "n1", |d| {
        d.missing_features =
            vec!["netdev egress hook is missing: the routing mesh cannot return replies (x)".into()];
    });
    let mesh = serve_as(&mut world, "mesh", 1, |s| s.endpoint.ports = vec![port(80, 80)]);
    let quiet = world.serve("quiet", 1);
    world.run();
    assert_eq!(
        reasons(&world, &mesh),
        ["no suitable node (missing kernel feature: netdev egress hook on 1 node)"]
    );
    assert_eq!(world.spread(&quiet).len(), 1);
}

#[test]
fn a_node_that_cannot_carry_the_network_gets_none_of_its_tasks() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    redescribe(&mut world, "n1", |d| d.underlay_mtu = 1400);
    redescribe(&mut world, "n2", |d| {
        d.missing_features = vec![
            "nftables jhash expression is missing: services cannot have session affinity (no such file)"
                .into(),
            "VXLAN devices is missing: overlay networks and the routing mesh do not work (not supported)"
                .into(),
        ]
    });
    let id = serve_as(&mut world, "web", 3, |s| s.task.placement.max_replicas = 1);
    world.run();
    assert_eq!(world.spread(&id), [("n3".to_owned(), 1)].into());
    assert_eq!(
        reasons(&world, &id)[0],
        "no suitable node (max replicas per node limit exceed on 1 node; underlay MTU too small for network app on 1 \
         node; missing kernel feature: VXLAN devices on 1 node)"
    );
}
