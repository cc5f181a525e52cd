//! Three managers over TLS on this machine, each with a disk of its own: writes a second through the API, and memory with a
//! thousand services and ten thousand running tasks. `cargo bench --profile dev -p manager --bench control_plane`
//!
//! All three share the process, the CPUs and the disk, so a write costs three syncs of one device here. Workers are simulated:
//! sessions that report every task as running.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    fs::File,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use manager::bootstrap::InitOptions;
use proto::{model::Availability, pb};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Host, Worker, eventually, service};

const ROUND: Duration = Duration::from_secs(3);
const SERVICES: usize = 1000;
const REPLICAS: u64 = 10;
const NODES: usize = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    disk();
    runtime.block_on(writes());
    runtime.block_on(memory());
}

fn report(what: &str, elapsed: Duration, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("{what:<44} {rate:>8.0}/s  p50 {:>9.2?}  p99 {:>9.2?}", at(50), at(99));
}

/// Appends of the size of an entry, each with its own fdatasync.
fn disk() {
    let mut file: File = tempfile::tempfile().unwrap();
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < ROUND {
        let write = Instant::now();
        file.write_all(&[7; 256]).unwrap();
        file.sync_data().unwrap();
        times.push(write.elapsed());
    }
    report("256 bytes + fdatasync", start.elapsed(), times);
}

async fn writes() {
    let mut first = Host::init(InitOptions::default()).await;
    let second = Host::join(&mut first).await;
    let third = Host::join(&mut first).await;
    let next = Arc::new(AtomicUsize::new(0));
    for clients in [1, 16, 64, 256] {
        let start = Instant::now();
        let at_work = (0..clients).map(|_| {
            let (mut control, next) = (first.control.clone(), next.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while start.elapsed() < ROUND {
                    let name = format!("s{}", next.fetch_add(1, Ordering::Relaxed));
                    let request = pb::CreateServiceRequest { spec: Some(service(&name, 0, &[], &[])) };
                    let write = Instant::now();
                    control.create_service(request).await.unwrap();
                    times.push(write.elapsed());
                }
                times
            })
        });
        let mut times = Vec::new();
        for client in at_work.collect::<Vec<_>>() {
            times.extend(client.await.unwrap());
        }
        report(&format!("service create, 3 managers, {clients} at once"), start.elapsed(), times);
    }
    drop((second, third, first));
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

async fn memory() {
    // Room for all tasks in one network. The first node is to run none: nobody simulates it.
    let options =
        InitOptions { subnet_size: 16, availability: Availability::Drain, ..InitOptions::default() };
    let mut host = Host::init(options).await;
    host.network("app").await.unwrap();
    let before = resident();
    let mut workers = Vec::new();
    for n in 0..NODES {
        let mut worker = Worker::join(&mut host, &format!("w{n}")).await;
        workers.push(tokio::spawn(async move {
            let mut assigned = worker.assignments().await;
            let mut told = std::collections::BTreeSet::new();
            loop {
                let news: Vec<String> =
                    assigned.ids().into_iter().filter(|id| told.insert(id.clone())).collect();
                if !news.is_empty() {
                    worker.report(&news, pb::TaskState::Running).await;
                }
                worker.beat().await.unwrap();
                assigned.soon(Duration::from_secs(1)).await;
            }
        }));
    }
    let began = Instant::now();
    for n in 0..SERVICES {
        host.service(service(&format!("s{n}"), REPLICAS, &["app"], &[])).await.unwrap();
    }
    let mut control = host.control.clone();
    loop {
        let reply = control.list_services(pb::ListServicesRequest {}).await.unwrap().into_inner();
        let running: u64 = reply.services.iter().map(|s| s.running).sum();
        if running == SERVICES as u64 * REPLICAS {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(300), "{running} run");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let after = resident();
    println!(
        "{SERVICES} services, {} running tasks: {:.1} MB more than the {:.1} MB of an empty manager; made and running in {:.1?}",
        SERVICES as u64 * REPLICAS,
        after.saturating_sub(before) as f64 / 1e6,
        before as f64 / 1e6,
        began.elapsed()
    );
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("the workers have ended", async || workers.iter().all(tokio::task::JoinHandle::is_finished))
        .await;
}
