#![allow(clippy::unwrap_used, clippy::expect_used)]
use gossip::EndpointState;

use super::*;
use crate::fixture::{World, id};

fn desired(w: &World) -> NodeDesired {
    let table = Arc::new(ServiceTable::compute(&w.assigned, &w.view, &w.member.me));
    NodeDesired::compute(Some(w.swarm()), &w.local, table)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn world() -> World {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    w.task("web", 1, "a", 11, EndpointState::Ready);
    w.task("web", 2, "b", 12, EndpointState::Ready);
    w
}

#[test]
fn an_overlay_is_there_while_a_task_here_uses_it() {
    let mut w = world();
    let d = desired(&w);
    let app = &d.networks[&id::<NetworkId>("app")];
    let DriverState::Overlay { peers, .. } = &app.state;
    assert_eq!(peers.len(), 2, "the other node's task, both families: {peers:?}");
    let peer = peers[&ip("fd00:2::c")];
    assert_eq!((peer.mac.to_string().as_str(), peer.vtep), ("02:42:0a:00:01:0c", ip("10.77.0.2")));
    w.local.sandboxes.clear();
    assert!(desired(&w).networks.is_empty());
    // The node goes on serving the port.
    assert_eq!(
        desired(&w).mesh.unwrap().ports[&(Protocol::Tcp, 8080)],
        [(ip("10.0.0.12"), 80), (ip("fd00:1::c"), 80)]
    );
}

#[test]
fn mesh_backends_here_are_reached_by_their_gateway_address() {
    let mesh = desired(&world()).mesh.unwrap();
    let mut to = mesh.ports[&(Protocol::Udp, 8080)].clone();
    to.sort();
    assert_eq!(
        to,
        [(ip("10.0.0.12"), 80), (ip("172.18.0.11"), 80), (ip("fd00:1::c"), 80), (ip("fd18::b"), 80)]
    );
    assert_eq!(mesh.remote_tasks[&ip("10.0.0.12")].to_string(), "02:42:0a:00:00:02");
    assert_eq!(mesh.peers.len(), 2);
}

#[test]
fn a_port_that_somebody_else_holds_is_left_alone() {
    let mut w = world();
    w.local.port_conflicts.insert((Protocol::Tcp, 8080));
    let mesh = desired(&w).mesh.unwrap();
    assert_eq!(mesh.ports.keys().collect::<Vec<_>>(), [&(Protocol::Udp, 8080)]);
}

#[test]
fn a_dead_node_keeps_its_addresses_but_gets_no_new_connections() {
    let mut w = world();
    w.set_alive("b", false);
    let d = desired(&w);
    let DriverState::Overlay { peers, .. } = &d.networks[&id::<NetworkId>("app")].state;
    assert_eq!(peers.len(), 2);
    assert_eq!(d.mesh.unwrap().ports[&(Protocol::Tcp, 8080)].len(), 2);
}
