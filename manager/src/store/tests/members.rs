//! Several managers over an in-memory transport.

use super::*;
use crate::store::{Leadership, ProposeError, snapshot};

struct Three {
    mesh: Mesh,
    homes: Vec<Home>,
    stores: Vec<Store>,
}

impl Three {
    async fn new(spec: ClusterSpec) -> Self {
        let mesh = Mesh::default();
        let homes: Vec<_> = (1..=3).map(Home::new).collect();
        let mut stores = vec![homes[0].initialise(&mesh, 3, spec).await];
        for home in &homes[1..] {
            let config = home.config();
            let raft_id = stores[0].add_member(&config.node_id, config.addr).await.unwrap();
            stores.push(home.open_as(&mesh, Some(raft_id)).await);
        }
        let three = Self { mesh, homes, stores };
        eventually("all three vote", || async {
            three.stores[0].metrics().members.iter().filter(|m| m.voter).count() == 3
        })
        .await;
        three
    }

    /// The leader among those that are connected.
    async fn leader(&self, except: &[usize]) -> usize {
        let mut found = None;
        eventually("somebody leads", || {
            found = (0..3).find(|i| !except.contains(i) && self.stores[*i].leadership().borrow().is_leader());
            async move { found.is_some() }
        })
        .await;
        found.unwrap()
    }

    async fn agree(&self) {
        eventually("all managers have the same state", || async {
            let states: Vec<_> = self.stores.iter().map(Store::read).collect();
            states.iter().all(|s| s.revision == states[0].revision)
                && states.iter().all(|s| snapshot::encode(s) == snapshot::encode(&states[0]))
        })
        .await;
    }

    async fn shutdown(self) {
        for store in &self.stores {
            store.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_managers_replicate_and_survive_the_loss_of_the_leader() {
    let three = Three::new(ClusterSpec::default()).await;
    for n in 0..10 {
        three.stores[0].propose_one(create(n)).await.unwrap();
    }
    three.agree().await;
    let refused = three.stores[1].propose(vec![create(99)]).await.unwrap_err();
    let leader = three.homes[0].config();
    assert_eq!(refused, ProposeError::NotLeader { leader: Some((leader.node_id, leader.addr)) });

    three.mesh.cut(&three.stores[0]);
    let start = Instant::now();
    let next = three.leader(&[0]).await;
    println!("a new leader after {:?} (election time 400 ms)", start.elapsed());
    three.stores[next].propose_one(create(10)).await.unwrap();
    // The old one knows that it decides nothing any more.
    eventually("the old leader steps down", || async {
        *three.stores[0].leadership().borrow() == Leadership::None
    })
    .await;
    assert!(matches!(three.stores[0].propose(vec![create(98)]).await, Err(ProposeError::Unavailable(_))));

    three.mesh.heal(&three.stores[0]);
    three.agree().await;
    assert_eq!(three.stores[0].read().networks.len(), 11);
    assert!(three.stores[0].metrics().members.iter().all(|m| m.voter));
    three.shutdown().await;
}

/// What it had not synced may be lost, while others have it: it must not go on giving out the ids of that term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_restarts_does_not_go_on_in_its_term() {
    let mut three = Three::new(ClusterSpec::default()).await;
    let term = |store: &Store| match *store.leadership().borrow() {
        Leadership::Leader { term } => term,
        _ => 0,
    };
    let before = term(&three.stores[0]);
    assert_ne!(before, 0, "the first one leads");
    three.mesh.leave(three.stores[0].raft_id());
    three.stores[0].shutdown().await;
    drop(three.stores.remove(0));
    three.stores.insert(0, three.homes[0].open(&three.mesh).await);
    let next = three.leader(&[]).await;
    assert!(term(&three.stores[next]) > before);
    three.stores[next].propose_one(create(1)).await.unwrap();
    three.agree().await;
    three.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_cut_off_does_not_unseat_the_leader() {
    let three = Three::new(ClusterSpec::default()).await;
    let term = three.stores[0].metrics().term;
    three.mesh.cut(&three.stores[2]);
    // Many election times: without a pre-vote its term would be far ahead by now.
    eventually("the lost manager knows no leader", || async {
        *three.stores[2].leadership().borrow() == Leadership::None
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(three.stores[2].metrics().term, term);
    // On a busy machine the other two may have elected anew meanwhile: that is not the lost one's doing.
    let leader = three.leader(&[2]).await;
    let reigns = three.stores[leader].metrics().term;
    three.stores[leader].propose_one(create(1)).await.unwrap();
    three.mesh.heal(&three.stores[2]);
    three.agree().await;
    assert!(three.stores[leader].leadership().borrow().is_leader());
    assert_eq!(three.stores[leader].metrics().term, reigns);
    three.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_far_behind_is_sent_a_snapshot() {
    let spec =
        ClusterSpec { snapshot_interval: 20, log_entries_for_slow_followers: 5, ..ClusterSpec::default() };
    let three = Three::new(spec).await;
    three.mesh.cut(&three.stores[2]);
    for n in 0..120 {
        three.stores[0].propose_one(create(n)).await.unwrap();
    }
    eventually("the leader drops what the lost one would need", || async {
        three.stores[0].metrics().purged > three.stores[2].metrics().last_log
    })
    .await;
    let (mut changes, had) = (three.stores[2].changes(), three.stores[2].read().networks.len());
    three.mesh.heal(&three.stores[2]);
    three.agree().await;
    assert_eq!(three.stores[2].read().networks.len(), 120);
    let heard: usize = std::iter::from_fn(|| changes.try_recv().ok()).map(|c| c.len()).sum();
    assert_eq!(heard, 120 - had, "watchers hear of what the snapshot brought");
    // What came by snapshot is on disk as what came by log is.
    let before = snapshot::encode(&three.stores[2].read());
    three.mesh.leave(three.stores[2].raft_id());
    three.stores[2].shutdown().await;
    let Three { mesh, homes, mut stores } = three;
    drop(stores.pop());
    let again = homes[2].open(&mesh).await;
    eventually("it is back", || async { again.read().revision >= stores[0].read().revision }).await;
    assert_eq!(snapshot::encode(&again.read()), before);
    stores.push(again);
    Three { mesh, homes, stores }.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_leave_as_long_as_the_rest_can_decide() {
    let three = Three::new(ClusterSpec::default()).await;
    let leader = &three.stores[0];
    leader.remove_member(three.stores[2].node_id()).await.unwrap();
    assert_eq!(leader.metrics().members.len(), 2);
    assert_eq!(leader.read().nodes.get("node3").unwrap().raft_id, 0);
    // Of two, neither may go while the other does not answer.
    three.mesh.cut(&three.stores[1]);
    eventually("the other does not answer", || async {
        leader.metrics().reachable(three.stores[1].raft_id()) != Some(true)
    })
    .await;
    let refused = leader.remove_member(leader.node_id()).await.unwrap_err();
    assert!(refused.message.contains("cannot leave the managers"), "{refused}");
    three.mesh.heal(&three.stores[1]);
    // For a moment the leader may still doubt its majority: unavailable, and worth another try.
    eventually("the other leaves", || async {
        leader.remove_member(three.stores[1].node_id()).await.is_ok()
    })
    .await;
    assert_eq!(leader.metrics().members.len(), 1);
    // One that the tables have given a raft id, and that went away before raft took it in: it is let go all the same, or it could
    // never be removed.
    let id = three.stores[1].node_id().clone();
    let raft_addr = Some(three.homes[1].config().addr);
    let half = Command::SetNodeRaft { id: id.clone(), raft_id: 77, raft_addr };
    leader.propose_one(half).await.unwrap();
    leader.remove_member(&id).await.unwrap();
    assert_eq!(leader.read().nodes.get(&id).unwrap().raft_id, 0);
    leader.propose_one(create(1)).await.unwrap();
    let refused = leader.remove_member(leader.node_id()).await.unwrap_err();
    assert!(refused.message.contains("cannot leave"), "{refused}");
    three.shutdown().await;
}
