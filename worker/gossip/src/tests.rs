//! Several nodes in one process, over real UDP on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::model::{KeySubsystem, NetworkKey};
use tokio::time::{Instant, timeout};

use super::*;

fn keys(list: &[(u64, u8)]) -> KeyRing {
    let key = |&(lamport, byte): &(u64, u8)| NetworkKey {
        subsystem: KeySubsystem::Gossip,
        lamport,
        key: vec![byte; 16],
    };
    KeyRing::new(&list.iter().map(key).collect::<Vec<_>>())
}

struct TestNode {
    id: NodeId,
    gossip: Gossip,
    keys: watch::Sender<KeyRing>,
}

fn quick() -> Timing {
    Timing {
        round: Duration::from_millis(200),
        dead_after: Duration::from_millis(1500),
        settle: Duration::from_millis(1500),
        ..Timing::default()
    }
}

async fn node_at(
    name: &str,
    addr: SocketAddr,
    generation: u64,
    seeds: &[SocketAddr],
    ring: KeyRing,
) -> TestNode {
    node_with(name, addr, generation, seeds, ring, quick()).await
}

async fn node_with(
    name: &str,
    addr: SocketAddr,
    generation: u64,
    seeds: &[SocketAddr],
    ring: KeyRing,
    timing: Timing,
) -> TestNode {
    let (tx, rx) = watch::channel(ring);
    let id: NodeId = name.parse().unwrap();
    let config = GossipConfig {
        cluster: "c1".parse().unwrap(),
        node: id.clone(),
        hostname: name.into(),
        ingress_addrs: Vec::new(),
        bind: addr,
        advertise: addr,
        vtep: addr.ip(),
        host_addrs: Vec::new(),
        seeds: seeds.to_vec(),
        generation,
        timing,
    };
    TestNode { id, gossip: Gossip::start(config, rx).await.unwrap(), keys: tx }
}

fn free_addr() -> SocketAddr {
    // Freed at once and taken again by the node: nobody else on the machine is likely to be given it in between.
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn start(name: &str, seeds: &[SocketAddr]) -> TestNode {
    node_at(name, free_addr(), 1000, seeds, keys(&[(1, 1), (2, 2), (3, 3)])).await
}

async fn until(node: &TestNode, what: &str, done: impl FnMut(&Arc<PeerView>) -> bool) -> Arc<PeerView> {
    let mut view = node.gossip.view();
    let limit = Duration::from_secs(10);
    match timeout(limit, view.wait_for(done)).await {
        Ok(view) => view.unwrap().clone(),
        Err(_) => panic!("{}: {what} not reached; view {:#?}", node.id, node.gossip.view().borrow()),
    }
}

/// Stands in for the reconciler: whatever the view says is in the kernel after `delay`.
fn reconciler(node: &TestNode, delay: Duration) -> JoinHandle<()> {
    let gossip = node.gossip.clone();
    let mut view = gossip.view();
    tokio::spawn(async move {
        loop {
            let revision = view.borrow_and_update().revision;
            tokio::time::sleep(delay).await;
            gossip.applied(revision, BTreeSet::new());
            if view.changed().await.is_err() {
                return;
            }
        }
    })
}

fn net() -> NetworkId {
    "net1".parse().unwrap()
}

fn record(task: &str, state: EndpointState) -> EndpointRecord {
    EndpointRecord {
        network: net(),
        task: task.parse().unwrap(),
        node: "nobody".parse().unwrap(),
        service: "web".parse().unwrap(),
        service_name: "web".into(),
        task_name: format!("web.1.{task}"),
        slot: 1,
        addrs: vec!["10.0.1.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        aliases: vec!["www".into()],
        task_aliases: Vec::new(),
        state,
        seq: 0,
    }
}

fn state_of(view: &PeerView, task: &str) -> Option<EndpointState> {
    view.endpoints.get(&(net(), task.parse().unwrap())).map(|r| r.state)
}

async fn cluster(names: &[&str]) -> Vec<TestNode> {
    let mut nodes: Vec<TestNode> = Vec::new();
    for name in names {
        let seeds: Vec<_> = nodes.first().map(|n| n.gossip.local_addr()).into_iter().collect();
        nodes.push(start(name, &seeds).await);
    }
    for node in &nodes {
        until(node, "all nodes alive", |v| v.nodes.len() == names.len() && v.nodes.values().all(|f| f.alive))
            .await;
    }
    nodes
}

#[tokio::test]
async fn four_nodes_meet_and_a_change_is_in_every_kernel_before_it_counts() {
    let t = Instant::now();
    let nodes = cluster(&["a", "b", "c", "d"]).await;
    println!("four nodes met in {:?}", t.elapsed());
    for node in &nodes[..3] {
        node.gossip.join(net());
        reconciler(node, Duration::from_millis(5));
    }
    for node in &nodes[..3] {
        until(node, "three members", |v| {
            v.nodes.values().filter(|f| f.networks.contains(&net())).count() == 3
        })
        .await;
    }
    let mut times = Vec::new();
    for i in 0..20 {
        let t = Instant::now();
        let state = if i % 2 == 0 { EndpointState::Ready } else { EndpointState::Draining };
        let handle = nodes[0].gossip.publish(record("t1", state)).await;
        let report = handle.acknowledged(Duration::from_secs(3)).await;
        assert!(report.all, "{report:?}");
        times.push(t.elapsed());
        for node in &nodes[1..3] {
            let view = node.gossip.view();
            assert_eq!(state_of(&view.borrow(), "t1"), Some(state));
            assert_eq!(view.borrow().endpoints[&(net(), "t1".parse().unwrap())].node.as_str(), "a");
        }
    }
    times.sort();
    println!("notice to all acknowledgements, kernel 5 ms: median {:?}, worst {:?}", times[10], times[19]);
    assert_eq!(state_of(&nodes[3].gossip.view().borrow(), "t1"), None, "d is not a member");

    let handle = nodes[0].gossip.withdraw(net(), "t1".parse().unwrap()).await;
    assert!(handle.acknowledged(Duration::from_secs(3)).await.all);
    assert_eq!(state_of(&nodes[1].gossip.view().borrow(), "t1"), None);
}

#[tokio::test]
async fn a_new_member_gets_the_endpoints_at_once_and_gossip_has_them_too() {
    let nodes = cluster(&["a", "b"]).await;
    nodes[0].gossip.publish(record("t1", EndpointState::Ready)).await;
    let t = Instant::now();
    nodes[1].gossip.join(net());
    until(&nodes[1], "endpoint", |v| state_of(v, "t1").is_some()).await;
    println!("a joining member had the endpoint after {:?}", t.elapsed());
    // A third node that meets only the second one has it by gossip alone.
    let late = start("late", &[nodes[1].gossip.local_addr()]).await;
    late.gossip.join(net());
    until(&late, "endpoint", |v| state_of(v, "t1") == Some(EndpointState::Ready)).await;
}

#[tokio::test]
async fn alone_nobody_is_waited_for() {
    let node = start("solo", &[]).await;
    reconciler(&node, Duration::ZERO);
    let handle = node.gossip.publish(record("t1", EndpointState::Draining)).await;
    assert!(handle.acknowledged(Duration::from_secs(3)).await.all);
    assert!(
        node.gossip.withdraw(net(), "unknown".parse().unwrap()).await.acknowledged(Duration::ZERO).await.all
    );
}

#[tokio::test]
async fn a_member_that_does_not_apply_is_named() {
    let nodes = cluster(&["a", "b"]).await;
    nodes.iter().for_each(|n| n.gossip.join(net()));
    reconciler(&nodes[0], Duration::ZERO);
    until(&nodes[0], "member", |v| v.nodes.values().filter(|f| f.networks.contains(&net())).count() == 2)
        .await;
    let handle = nodes[0].gossip.publish(record("t1", EndpointState::Ready)).await;
    let report = handle.acknowledged(Duration::from_millis(300)).await;
    assert_eq!(report, AckReport { all: false, missing: vec!["b".parse().unwrap()] });
    nodes[1].gossip.applied(u64::MAX, BTreeSet::new());
    assert!(handle.acknowledged(Duration::from_secs(2)).await.all);
}

#[tokio::test]
async fn a_killed_node_is_dead_in_time_and_its_records_stay() {
    let mut nodes = cluster(&["a", "b", "c"]).await;
    nodes.iter().for_each(|n| n.gossip.join(net()));
    nodes[2].gossip.publish(record("t1", EndpointState::Ready)).await;
    until(&nodes[0], "endpoint", |v| state_of(v, "t1").is_some()).await;
    let victim = nodes.pop().unwrap();
    let addr = victim.gossip.local_addr();
    victim.gossip.shutdown().await;
    drop(victim);
    let t = Instant::now();
    let c: NodeId = "c".parse().unwrap();
    let view = until(&nodes[0], "death", |v| !v.is_alive(&c)).await;
    println!("death noticed after {:?} (limit 1.5 s, round 200 ms)", t.elapsed());
    assert_eq!(state_of(&view, "t1"), Some(EndpointState::Ready));
    // Nobody waits for the dead.
    reconciler(&nodes[0], Duration::ZERO);
    reconciler(&nodes[1], Duration::ZERO);
    let handle = nodes[0].gossip.publish(record("t2", EndpointState::Ready)).await;
    assert!(handle.acknowledged(Duration::from_secs(1)).await.all);
    // It comes back at the same place and publishes nothing: what it had is void once it has settled.
    let back = node_at("c", addr, 2000, &[nodes[0].gossip.local_addr()], keys(&[(2, 2), (3, 3)])).await;
    let view = until(&nodes[0], "return", |v| v.is_alive(&c)).await;
    assert_eq!(state_of(&view, "t1"), Some(EndpointState::Ready), "no flap before it has settled");
    back.gossip.settled();
    until(&nodes[0], "settled", |v| state_of(v, "t1").is_none()).await;
}

#[tokio::test]
async fn leaving_is_known_at_once() {
    let nodes = cluster(&["a", "b"]).await;
    nodes[1].gossip.publish(record("t1", EndpointState::Ready)).await;
    nodes[0].gossip.join(net());
    until(&nodes[0], "endpoint", |v| state_of(v, "t1").is_some()).await;
    nodes[1].gossip.leave_cluster().await;
    // A silent node would stay known, and its endpoints with it.
    until(&nodes[0], "gone", |v| v.nodes.len() == 1 && v.endpoints.is_empty()).await;
}

#[tokio::test]
async fn a_wrong_key_sees_nobody_and_is_seen_by_nobody_and_rotation_loses_nothing() {
    // Nothing is said twice: what one node cannot read of the other's is never acknowledged.
    let never = Duration::from_secs(600);
    let timing = Timing { retry: (never, never), give_up: never, ..quick() };
    let ring = keys(&[(1, 1), (2, 2), (3, 3)]);
    let a = node_with("a", free_addr(), 1000, &[], ring.clone(), timing).await;
    let b = node_with("b", free_addr(), 1000, &[a.gossip.local_addr()], ring, timing).await;
    let nodes = [a, b];
    for node in &nodes {
        until(node, "both alive", |v| v.nodes.len() == 2 && v.nodes.values().all(|f| f.alive)).await;
    }
    let stranger = node_at("evil", free_addr(), 1000, &[nodes[0].gossip.local_addr()], keys(&[(2, 9)])).await;
    nodes.iter().for_each(|n| n.gossip.join(net()));
    nodes.iter().for_each(|n| drop(reconciler(n, Duration::ZERO)));
    until(&nodes[0], "member", |v| v.nodes.values().filter(|f| f.networks.contains(&net())).count() == 2)
        .await;
    // Two rotations, never at the same time on both nodes, a change at every step.
    let rings = [[1u64, 2, 3], [2, 3, 4], [3, 4, 5]].map(|r| keys(&r.map(|l| (l, l as u8))));
    for ring in &rings {
        for node in &nodes {
            node.keys.send_replace(ring.clone());
            for from in &nodes {
                let handle =
                    from.gossip.publish(record(&format!("t{}", from.id), EndpointState::Ready)).await;
                // Long before it would be repeated.
                let report = handle.acknowledged(Duration::from_secs(30)).await;
                assert!(report.all, "{report:?}");
            }
        }
    }
    assert!(nodes.iter().all(|n| n.gossip.view().borrow().nodes.values().all(|f| f.alive)));
    assert!(nodes.iter().all(|n| n.gossip.view().borrow().nodes.len() == 2));
    assert_eq!(stranger.gossip.view().borrow().nodes.len(), 1);
}
