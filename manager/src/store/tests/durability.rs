//! What was acknowledged is there again, however the process ended.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command as Process, Stdio},
};

use super::*;
use crate::store::{Leadership, snapshot};

const DIR: &str = "RN_TEST_STORE_DIR";

/// Not a test: the process that `a_killed_manager_loses_nothing` kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a_killed_manager_loses_nothing"]
async fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = open_alone(Path::new(&dir)).await;
    let first = store.read().networks.len();
    for n in first.. {
        let writes = (0..4).map(|i| store.propose_one(create(4 * n + i)));
        for (i, written) in futures::future::join_all(writes).await.into_iter().enumerate() {
            // The name may be there from the last life: acknowledged or not, it is the same network.
            if written.is_ok() {
                println!("acknowledged {}", 4 * n + i);
            }
        }
        std::io::stdout().flush().unwrap();
    }
}

async fn open_alone(dir: &Path) -> Store {
    let mut config = Home::new(1).config();
    config.dir = dir.to_owned();
    let store = Store::open(config, crate::raft::NoPeers).await.unwrap();
    if store.read().cluster.is_none() {
        store.initialise(vec![Command::InitCluster(Box::new(cluster()))]).await.unwrap();
    }
    let mut leadership = store.leadership();
    leadership.wait_for(Leadership::is_leader).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_manager_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("raft");
    let mut acknowledged = Vec::new();
    for round in 1..=4 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::durability::writer",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(DIR, &dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut numbers = lines.filter_map(|l| l.split_once("acknowledged ")?.1.parse::<usize>().ok());
        acknowledged.extend(numbers.by_ref().take(60 * round));
        // SIGKILL, in the middle of the next writes.
        child.kill().unwrap();
        acknowledged.extend(numbers);
        child.wait().unwrap();

        let store = open_alone(&dir).await;
        let state = store.read_index().await.unwrap();
        for n in &acknowledged {
            assert!(
                state.networks.get(format!("network{n}").as_str()).is_some(),
                "round {round}: {n} is lost"
            );
        }
        store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_store_opens_again_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_alone(dir.path()).await;
    for n in 0..20 {
        store.propose_one(create(n)).await.unwrap();
    }
    let (before, raft_id) = (store.read(), store.raft_id());
    drop(store);

    let store = open_alone(dir.path()).await;
    let state = store.read_index().await.unwrap();
    assert_eq!(snapshot::encode(&state), snapshot::encode(&before));
    assert_eq!(store.raft_id(), raft_id);
    // Alone, it leads at once: there is nobody to wait for.
    store.shutdown().await;
    drop(store);
    let start = Instant::now();
    let store = open_alone(dir.path()).await;
    println!("opened and leading after {:?}", start.elapsed());
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_compacted_and_the_state_outlives_it() {
    let home = Home::new(1);
    let spec =
        ClusterSpec { snapshot_interval: 20, log_entries_for_slow_followers: 5, ..ClusterSpec::default() };
    let store = home.initialise(&Mesh::default(), 1, spec).await;
    for n in 0..100 {
        store.propose_one(create(n)).await.unwrap();
    }
    eventually("the log is purged", || async { store.metrics().purged > 50 }).await;
    let before = store.read();
    store.shutdown().await;
    drop(store);
    let store = home.open(&Mesh::default()).await;
    let state = store.read_index().await.unwrap();
    assert_eq!(snapshot::encode(&state), snapshot::encode(&before));
    store.propose_one(create(100)).await.unwrap();
    assert_eq!(store.read().networks.len(), 101);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_do_not_lie_open_on_disk() {
    let home = Home::new(1);
    let store = home.initialise(&Mesh::default(), 1, ClusterSpec::default()).await;
    store.shutdown().await;
    drop(store);
    let dir = home.config().dir;
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(dir.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
    for file in std::fs::read_dir(dir.join("db")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|w| w == b"SWMTKN-1-"), "a token can be read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_serves_its_own_node_only() {
    let home = Home::new(1);
    let store = home.initialise(&Mesh::default(), 1, ClusterSpec::default()).await;
    store.shutdown().await;
    drop(store);
    let config = StoreConfig { node_id: id("node", 2), ..home.config() };
    let Err(error) = Store::open(config, Mesh::default()).await else { panic!("opened") };
    assert!(error.to_string().contains("belongs to node node1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_hear_of_changes_only() {
    let home = Home::new(1);
    let store = home.initialise(&Mesh::default(), 1, ClusterSpec::default()).await;
    let (mut revisions, mut changes) = (store.watch(), store.changes());
    revisions.mark_unchanged();
    store.propose_one(create(1)).await.unwrap();
    assert!(revisions.has_changed().unwrap());
    assert_eq!(*revisions.borrow_and_update(), store.read().revision);
    assert_eq!(changes.recv().await.unwrap().len(), 1);
    store.propose_one(create(1)).await.unwrap_err();
    assert!(!revisions.has_changed().unwrap());
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_gets_its_own_outcomes() {
    let home = Home::new(1);
    let store = home.initialise(&Mesh::default(), 1, ClusterSpec::default()).await;
    let first = store.read().revision;
    let calls = (0..64).map(|n| {
        let store = store.clone();
        async move { (n, store.propose(vec![create(n / 2), create(1000 + n)]).await.unwrap()) }
    });
    let outcomes = futures::future::join_all(calls).await;
    for (n, outcome) in &outcomes {
        assert_eq!(outcome.len(), 2);
        assert!(outcome[1].is_ok(), "{n}: {outcome:?}");
    }
    let created = outcomes.iter().filter(|(_, o)| o[0].is_ok()).count();
    assert_eq!((created, store.read().networks.len()), (32, 32 + 64));
    // They shared entries.
    assert!(store.read().revision.0 - first.0 < 64);
    store.shutdown().await;
}
