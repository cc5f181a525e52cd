//! Writes per second through the whole store, with every one on the disk before it is answered, next to what the disk itself
//! does in the same run. `cargo bench --profile dev -p manager --bench raft_writes [-- DIR]`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use manager::{
    raft::NoPeers,
    store::{Command, Store, StoreConfig},
};
use proto::model::{Meta, Network, NetworkId, NetworkSpec, NodeId};

const ROUND: Duration = Duration::from_secs(3);

fn main() {
    // cargo bench passes `--bench`.
    let base = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_else(|| "/var/tmp".into());
    let dir = tempfile::Builder::new().prefix("rn-bench").tempdir_in(base).unwrap();
    disk(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(store(dir.path()));
}

fn report(what: &str, elapsed: Duration, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("{what:<34} {rate:>8.0}/s  p50 {:>9.2?}  p99 {:>9.2?}", at(50), at(99));
}

/// Appends of the size of an entry, each with its own fdatasync.
fn disk(dir: &Path) {
    let mut file = File::create(dir.join("raw")).unwrap();
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < ROUND {
        let write = Instant::now();
        file.write_all(&[7; 256]).unwrap();
        file.sync_data().unwrap();
        times.push(write.elapsed());
    }
    report("256 bytes + fdatasync", start.elapsed(), times);
}

async fn store(dir: &Path) {
    let config = StoreConfig::new(dir.join("raft"), NodeId::random(), ([127, 0, 0, 1], 2377).into());
    let store = Store::open(config.clone(), NoPeers).await.unwrap();
    store.initialise(Vec::new()).await.unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    for clients in [1, 16, 64, 256] {
        let start = Instant::now();
        let clients_at_work = (0..clients).map(|_| {
            let (store, next) = (store.clone(), next.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while start.elapsed() < ROUND {
                    let command = create(next.fetch_add(1, Ordering::Relaxed));
                    let write = Instant::now();
                    store.propose_one(command).await.unwrap();
                    times.push(write.elapsed());
                }
                times
            })
        });
        let mut times = Vec::new();
        for client in clients_at_work.collect::<Vec<_>>() {
            times.extend(client.await.unwrap());
        }
        report(&format!("store, one manager, {clients} at once"), start.elapsed(), times);
    }
    let objects = store.read().networks.len();
    store.shutdown().await;
    drop(store);
    let start = Instant::now();
    let store = Store::open(config, NoPeers).await.unwrap();
    store.leadership().wait_for(|l| l.is_leader()).await.unwrap();
    println!("{objects} objects: open to leading again {:.2?}", start.elapsed());
    store.shutdown().await;
}

fn create(n: usize) -> Command {
    let spec = NetworkSpec { name: format!("network-{n}"), ..NetworkSpec::default() };
    let id = NetworkId::random();
    Command::CreateNetwork(Box::new(Network {
        id,
        meta: Meta::default(),
        spec,
        allocation: None,
        conditions: Vec::new(),
    }))
}
