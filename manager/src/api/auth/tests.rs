#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use prost::Message;
use proto::{
    error::Kind,
    model::{Cluster, ClusterId, ClusterSpec, Meta, RootCa},
};

use super::*;

#[test]
fn each_rpc_has_a_row_and_each_row_an_rpc() {
    let set = prost_types::FileDescriptorSet::decode(proto::pb::DESCRIPTORS).unwrap();
    let mut rpcs = BTreeSet::new();
    for file in &set.file {
        assert_eq!(file.package(), "rn.v1");
        for service in &file.service {
            rpcs.extend(service.method.iter().map(|m| format!("{}/{}", service.name(), m.name())));
        }
    }
    let rows: BTreeSet<String> = ROLES.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
    assert_eq!(rows.len(), ROLES.len(), "a row is there twice");
    assert_eq!(rows, rpcs);
}

fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::random(),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCa::default(),
        default_addr_pools: Vec::new(),
        subnet_size: 24,
        ula_prefix: "fd00::/48".parse().unwrap(),
        data_path_port: 4789,
        network_keys: Vec::new(),
        key_clock: 0,
        removed_nodes: Vec::new(),
        epoch: 0,
        unlock_key: Default::default(),
    }
}

struct World {
    state: State,
    id: NodeId,
    cluster: ClusterId,
}

impl World {
    fn new() -> Self {
        let cluster = cluster();
        let id = cluster.id.clone();
        let mut state = State::default();
        state.put(cluster);
        Self { state, id: NodeId::random(), cluster: id }
    }

    fn conn(&self, role: Option<Role>) -> ConnInfo {
        let peer = role.map(|role| Peer {
            node_id: self.id.clone(),
            role,
            cluster_id: self.cluster.clone(),
            not_before: SystemTime::now(),
            not_after: SystemTime::now() + Duration::from_secs(3600),
        });
        ConnInfo { peer, expired_peer: None, remote: "192.0.2.1:1000".parse().unwrap() }
    }

    fn call(&self, role: Option<Role>, rpc: &str, headers: &HeaderMap) -> Result<Caller, ApiError> {
        authorize(&self.state, Some(&self.conn(role)), &format!("/rn.v1.{rpc}"), headers)
    }

    fn kind(&self, role: Option<Role>, rpc: &str) -> Option<Kind> {
        self.call(role, rpc, &HeaderMap::new()).err().map(|e| e.kind)
    }
}

#[test]
fn roles_are_enforced() {
    let world = World::new();
    let (anon, worker, manager) = (None, Some(Role::Worker), Some(Role::Manager));
    for (caller, rpc, denied) in [
        (anon, "Ca/GetRootCa", false),
        (anon, "Dispatcher/Session", true),
        (anon, "Control/ListNodes", true),
        (worker, "Ca/IssueCertificate", false),
        (worker, "Dispatcher/Session", false),
        (worker, "Control/ListNodes", true),
        (worker, "Raft/Vote", true),
        (manager, "Dispatcher/Session", false),
        (manager, "Control/ListNodes", false),
        (manager, "Raft/Vote", false),
        (manager, "Local/SwarmInit", true),
        (manager, "Control/NoSuchCall", true),
    ] {
        assert_eq!(world.kind(caller, rpc), denied.then_some(Kind::Denied), "{caller:?} {rpc}");
    }
}

#[test]
fn removed_nodes_and_other_clusters_are_refused_with_the_reason() {
    let mut world = World::new();
    let mut cluster = (**world.state.cluster.as_ref().unwrap()).clone();
    cluster.removed_nodes.push(world.id.clone());
    world.state.put(cluster);
    let error = world.call(Some(Role::Worker), "Dispatcher/Session", &HeaderMap::new()).unwrap_err();
    assert!(error.message.contains("was removed from the swarm"), "{error}");

    let mut world = World::new();
    world.cluster = ClusterId::random();
    let error = world.call(Some(Role::Manager), "Control/ListNodes", &HeaderMap::new()).unwrap_err();
    assert!(error.message.contains("belongs to swarm"), "{error}");
}

#[test]
fn an_expired_certificate_is_good_for_a_new_one_only() {
    let world = World::new();
    let mut conn = world.conn(Some(Role::Manager));
    conn.expired_peer = conn.peer.take();
    let call = |rpc: &str| authorize(&world.state, Some(&conn), &format!("/rn.v1.{rpc}"), &HeaderMap::new());
    assert!(matches!(call("Ca/IssueCertificate").unwrap().origin, Origin::Node { .. }));
    assert!(call("Control/ListNodes").unwrap_err().message.contains("expired"));
}

#[test]
fn only_managers_speak_for_others() {
    let world = World::new();
    let worker = Caller {
        origin: Origin::Node { id: NodeId::random(), role: Role::Worker },
        remote: Some("192.0.2.9:77".parse().unwrap()),
        forwarded: false,
    };
    let mut headers = HeaderMap::new();
    stamp(&worker, &mut headers).unwrap();
    let heard = world.call(Some(Role::Manager), "Dispatcher/Session", &headers).unwrap();
    assert_eq!(heard, Caller { forwarded: true, ..worker.clone() });
    // The worker gains nothing by the manager's certificate, and a worker cannot play manager.
    assert!(world.call(Some(Role::Manager), "Control/ListNodes", &headers).is_err());
    assert!(world.call(Some(Role::Worker), "Dispatcher/Session", &headers).is_err());
    assert!(world.call(None, "Ca/IssueCertificate", &headers).is_err());

    let mut headers = HeaderMap::new();
    stamp(&Caller::LOCAL, &mut headers).unwrap();
    assert!(world.call(Some(Role::Manager), "Control/ListNodes", &headers).unwrap().forwarded);
    assert!(world.call(Some(Role::Worker), "Control/ListNodes", &headers).is_err());
}
