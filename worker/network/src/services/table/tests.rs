#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::fixture::{World, id};

fn table(world: &World) -> ServiceTable {
    ServiceTable::compute(&world.assigned, &world.view, &world.member.me)
}

fn v4(table: &ServiceTable, name: &str) -> Option<Vec<String>> {
    let addrs = table.resolve(&[id("app")], name)?;
    Some(addrs.v4.iter().map(ToString::to_string).collect())
}

fn world() -> World {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &["www"]);
    w.service("db", &[], 0, &[]);
    w.task("web", 1, "a", 11, EndpointState::Ready);
    w.task("web", 2, "b", 12, EndpointState::Ready);
    w.task("db", 1, "c", 21, EndpointState::Ready);
    w
}

#[test]
fn names_are_those_of_swarm() {
    let t = table(&world());
    for (name, addrs) in [
        ("web", vec!["10.0.1.2"]),
        ("www", vec!["10.0.1.2"]),
        ("tasks.web", vec!["10.0.1.11", "10.0.1.12"]),
        ("tasks.www", vec!["10.0.1.11", "10.0.1.12"]),
        ("web.app", vec!["10.0.1.2"]),
        ("tasks.web.app", vec!["10.0.1.11", "10.0.1.12"]),
        ("web.1.web1", vec!["10.0.1.11"]),
        ("web.1.web1.app", vec!["10.0.1.11"]),
        ("shortweb2", vec!["10.0.1.12"]),
        ("db", vec!["10.0.1.21"]),
    ] {
        assert_eq!(v4(&t, name), Some(addrs.into_iter().map(String::from).collect()), "{name}");
    }
    for unknown in ["nobody", "web.ingress", "app", "tasks.app", "web.other", ""] {
        assert_eq!(v4(&t, unknown), None, "{unknown}");
    }
    assert_eq!(t.resolve(&[id("app")], "web").unwrap().v6, ["fd00:2::2".parse::<Ipv6Addr>().unwrap()]);
}

#[test]
fn a_name_is_seen_on_its_own_networks_only() {
    let t = table(&world());
    assert_eq!(t.resolve(&[id("ingress"), id("other")], "web"), None);
    assert_eq!(t.reverse(&[id("other")], "10.0.1.11".parse().unwrap()), None);
    assert_eq!(t.reverse(&[id("app")], "10.0.1.11".parse().unwrap()), Some("web.1.web1.app"));
    assert_eq!(t.reverse(&[id("app")], "fd00:2::2".parse().unwrap()), Some("web.app"));
}

#[test]
fn a_service_without_ready_tasks_is_known() {
    let mut w = world();
    w.task("db", 1, "c", 21, EndpointState::Draining);
    w.task("web", 1, "a", 11, EndpointState::Starting);
    let t = table(&w);
    assert_eq!(v4(&t, "db"), Some(vec![]));
    assert_eq!(v4(&t, "tasks.web"), Some(vec!["10.0.1.12".into()]));
    assert_eq!(v4(&t, "shortdb1"), None);
    assert!(t.reverse(&[id("app")], "10.0.1.21".parse().unwrap()).is_some());
    assert_eq!(t.published[&(Protocol::Tcp, 8080)].backends.len(), 1);
}

#[test]
fn dead_nodes_lose_their_tasks_unless_none_would_be_left() {
    let mut w = world();
    w.set_alive("b", false);
    assert_eq!(v4(&table(&w), "tasks.web"), Some(vec!["10.0.1.11".into()]));
    w.set_alive("c", false);
    assert_eq!(v4(&table(&w), "db"), Some(vec!["10.0.1.21".into()]), "fail static");
    w.task("web", 1, "a", 11, EndpointState::Draining);
    assert_eq!(v4(&table(&w), "tasks.web"), Some(vec!["10.0.1.12".into()]), "fail static");
    // A node never counts itself dead.
    w.task("web", 1, "a", 11, EndpointState::Ready);
    w.set_alive("a", false);
    assert_eq!(v4(&table(&w), "tasks.web"), Some(vec!["10.0.1.11".into()]));
}

#[test]
fn a_task_cannot_take_the_name_of_a_service() {
    let mut w = world();
    let key = (id("app"), id("db1"));
    Arc::make_mut(w.view.endpoints.get_mut(&key).unwrap()).task_aliases = vec!["WEB".into(), "Mixed".into()];
    let t = table(&w);
    assert_eq!(v4(&t, "web"), Some(vec!["10.0.1.2".into()]));
    assert_eq!(v4(&t, "mixed"), Some(vec!["10.0.1.21".into()]));
}
