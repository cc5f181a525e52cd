#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use certs::Peer;
use prost::Message;
use proto::{
    error::Kind,
    model::{Availability, Cluster, ClusterId, ClusterSpec, Meta, Revision, RootCa},
};

use super::*;
use crate::ca::joined;

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

/// A state of the first epoch.
fn of(revision: u64) -> StateVersion {
    StateVersion { epoch: 0, revision: Revision(revision) }
}

struct World {
    state: State,
    id: NodeId,
    cluster: ClusterId,
    /// Of the certificate.
    version: StateVersion,
}

impl World {
    /// A node of this role, as the state has it.
    fn of(role: Role) -> Self {
        let cluster = cluster();
        let (cluster_id, id) = (cluster.id.clone(), NodeId::random());
        let mut state = State::default();
        state.put(cluster);
        state.put(joined(&id, role, Availability::Active));
        state.revision = Revision(100);
        Self { state, id, cluster: cluster_id, version: of(50) }
    }

    fn conn(&self, role: Option<Role>) -> ConnInfo {
        let peer = role.map(|role| Peer {
            node_id: self.id.clone(),
            role,
            cluster_id: self.cluster.clone(),
            version: self.version,
            not_before: SystemTime::now(),
            not_after: SystemTime::now() + Duration::from_secs(3600),
        });
        ConnInfo {
            peer,
            expired_peer: None,
            remote: "192.0.2.1:1000".parse().unwrap(),
            hang_up: Default::default(),
        }
    }

    fn call(&self, role: Option<Role>, rpc: &str, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let path = format!("/rn.v1.{rpc}");
        authorize(&self.state, &|_| false, Some(&self.conn(role)), &path, headers)
    }

    fn kind(&self, role: Option<Role>, rpc: &str) -> Option<Kind> {
        self.call(role, rpc, &HeaderMap::new()).err().map(|e| e.kind)
    }

    /// Why a manager's certificate does not do.
    fn refusal(&self, rpc: &str, headers: &HeaderMap) -> String {
        let error = self.call(Some(Role::Manager), rpc, headers).expect_err(rpc);
        assert_eq!(error.kind, Kind::Denied, "{error}");
        error.message
    }

    fn remove(&mut self) {
        let mut cluster = (**self.state.cluster.as_ref().unwrap()).clone();
        cluster.removed_nodes.push(self.id.clone());
        self.state.put(cluster);
    }
}

/// Headers by which `caller` is spoken for.
fn on_behalf_of(caller: &Caller) -> HeaderMap {
    let mut headers = HeaderMap::new();
    stamp(caller, &mut headers).unwrap();
    headers
}

/// A manager that is not the one of the world.
fn live_manager(world: &mut World) -> Caller {
    let id = NodeId::random();
    world.state.put(joined(&id, Role::Manager, Availability::Active));
    Caller {
        origin: Origin::Node { id, role: Role::Manager, version: of(7) },
        remote: Some("192.0.2.9:77".parse().unwrap()),
        forwarded: false,
    }
}

#[test]
fn roles_are_enforced() {
    let world = World::of(Role::Manager);
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
    let mut world = World::of(Role::Worker);
    world.remove();
    let error = world.call(Some(Role::Worker), "Dispatcher/Session", &HeaderMap::new()).unwrap_err();
    assert!(error.message.contains("was removed from the swarm"), "{error}");

    let mut world = World::of(Role::Manager);
    world.cluster = ClusterId::random();
    let error = world.call(Some(Role::Manager), "Control/ListNodes", &HeaderMap::new()).unwrap_err();
    assert!(error.message.contains("belongs to swarm"), "{error}");
}

#[test]
fn an_expired_certificate_is_good_for_a_new_one_only() {
    let mut world = World::of(Role::Manager);
    let mut conn = world.conn(Some(Role::Manager));
    conn.expired_peer = conn.peer.take();
    let forged = on_behalf_of(&live_manager(&mut world));
    let call = |rpc: &str, headers: &HeaderMap| {
        authorize(&world.state, &|_| true, Some(&conn), &format!("/rn.v1.{rpc}"), headers)
    };
    let renewing = call("Ca/IssueCertificate", &HeaderMap::new()).unwrap();
    assert_eq!(renewing.node().unwrap(), &world.id);
    for (rpc, headers) in [
        ("Control/ListNodes", &HeaderMap::new()),
        ("Raft/AppendEntries", &HeaderMap::new()),
        // For itself, and for nobody else.
        ("Ca/IssueCertificate", &forged),
        ("Control/ListNodes", &forged),
    ] {
        assert!(call(rpc, headers).unwrap_err().message.contains("expired"), "{rpc}");
    }
}

#[test]
fn only_managers_speak_for_others() {
    let mut world = World::of(Role::Manager);
    let id = NodeId::random();
    world.state.put(joined(&id, Role::Worker, Availability::Active));
    let worker = Caller {
        origin: Origin::Node { id, role: Role::Worker, version: of(3) },
        remote: Some("192.0.2.9:77".parse().unwrap()),
        forwarded: false,
    };
    let headers = on_behalf_of(&worker);
    let heard = world.call(Some(Role::Manager), "Dispatcher/Session", &headers).unwrap();
    assert_eq!(heard, Caller { forwarded: true, ..worker.clone() });
    // The worker gains nothing by the manager's certificate, and a worker cannot play manager.
    assert!(world.call(Some(Role::Manager), "Control/ListNodes", &headers).is_err());
    assert!(world.call(Some(Role::Worker), "Dispatcher/Session", &headers).is_err());
    assert!(world.call(None, "Ca/IssueCertificate", &headers).is_err());

    let headers = on_behalf_of(&Caller::LOCAL);
    assert!(world.call(Some(Role::Manager), "Control/ListNodes", &headers).unwrap().forwarded);
    assert!(world.call(Some(Role::Worker), "Control/ListNodes", &headers).is_err());
    // What each manager answers itself is not passed on by anybody.
    assert!(world.refusal("Raft/AppendEntries", &headers).contains("not passed on"));
    // Headers without their first one are no headers of ours.
    let mut headers = on_behalf_of(&live_manager(&mut world));
    headers.remove(FORWARDED_FOR);
    assert!(world.call(Some(Role::Manager), "Control/ListNodes", &headers).is_err());
}

#[test]
fn who_is_a_manager_no_longer_speaks_neither_for_itself_nor_for_others() {
    // The certificate is still good for weeks.
    let mut demoted = World::of(Role::Worker);
    let mut removed = World::of(Role::Manager);
    removed.remove();
    for (world, reason) in [(&mut demoted, "it was demoted"), (&mut removed, "was removed")] {
        let (forged, local) = (on_behalf_of(&live_manager(world)), on_behalf_of(&Caller::LOCAL));
        for (rpc, access) in ROLES.iter().filter(|(_, access)| *access != Access::LocalOnly) {
            for headers in [&forged, &local] {
                assert!(world.refusal(rpc, headers).contains(reason), "{rpc}");
            }
            if *access == Access::Manager {
                assert!(world.refusal(rpc, &HeaderMap::new()).contains(reason), "{rpc}");
            }
        }
    }
    // What is left to a demoted one is what a worker may do: it gets a worker's certificate, and serves.
    for rpc in ["Ca/IssueCertificate", "Dispatcher/Session"] {
        let caller = demoted.call(Some(Role::Manager), rpc, &HeaderMap::new()).unwrap();
        assert!(matches!(caller.origin, Origin::Node { role: Role::Worker, .. }));
    }
    let stranger = World { id: NodeId::random(), ..demoted };
    assert!(stranger.refusal("Control/ListNodes", &HeaderMap::new()).contains("not a node of this swarm"));
    // A live manager that speaks for a demoted one does not make it one again.
    let world = World::of(Role::Manager);
    let mut state = world.state.clone();
    let id = NodeId::random();
    state.put(joined(&id, Role::Worker, Availability::Active));
    let origin = Origin::Node { id, role: Role::Manager, version: of(3) };
    let headers =
        on_behalf_of(&Caller { origin, remote: Some("192.0.2.9:77".parse().unwrap()), forwarded: false });
    assert!(World { state, ..world }.refusal("Control/ListNodes", &headers).contains("it was demoted"));
}

#[test]
fn a_state_that_lags_behind_a_certificate_believes_it() {
    // Promoted at 120, and this manager has come to 100.
    let mut world = World::of(Role::Worker);
    world.version = of(120);
    for rpc in ["Raft/AppendEntries", "Control/ListNodes", "Membership/Join"] {
        assert_eq!(world.kind(Some(Role::Manager), rpc), None, "{rpc}");
    }
    // Joined at 120.
    let unknown = World { id: NodeId::random(), ..World::of(Role::Worker) };
    let unknown = World { version: of(120), ..unknown };
    assert_eq!(unknown.kind(Some(Role::Manager), "Raft/AppendEntries"), None);
    // Once it has come as far, the state decides.
    world.state.revision = Revision(120);
    assert_eq!(world.kind(Some(Role::Manager), "Raft/AppendEntries"), Some(Kind::Denied));
    // A certificate of an earlier epoch proves nothing, whatever its number: those who were left behind count on.
    let mut cluster = (**world.state.cluster.as_ref().unwrap()).clone();
    cluster.epoch = 1;
    world.state.put(cluster);
    world.version = of(500);
    assert_eq!(world.kind(Some(Role::Manager), "Raft/AppendEntries"), Some(Kind::Denied));
    world.version = StateVersion { epoch: 2, revision: Revision(1) };
    assert_eq!(world.kind(Some(Role::Manager), "Raft/AppendEntries"), None);
    // One that has just joined knows nothing at all.
    let new = World { state: State::default(), version: of(0), ..world };
    assert_eq!(new.kind(Some(Role::Manager), "Raft/AppendEntries"), None);
}

#[test]
fn a_demoted_manager_is_one_until_it_is_out_of_raft() {
    let mut world = World::of(Role::Worker);
    let mut node = joined(&world.id, Role::Worker, Availability::Active);
    node.raft_id = 5;
    world.state.put(node);
    assert_eq!(world.kind(Some(Role::Manager), "Control/ListNodes"), None);
    // The tables say a moment before raft that it is out.
    world.state.put(joined(&world.id, Role::Worker, Availability::Active));
    let counted = |rpc: &str| {
        let (conn, path) = (world.conn(Some(Role::Manager)), format!("/rn.v1.{rpc}"));
        authorize(&world.state, &|_| true, Some(&conn), &path, &HeaderMap::new())
    };
    assert!(counted("Raft/Vote").is_ok());
    assert!(counted("Control/ListNodes").is_err());
}
