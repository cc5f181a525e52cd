//! The cost of one backend that comes or goes in a cluster of a thousand services: from the changed view to a kernel that has
//! it, in each of ten sandboxes and in the mesh. `cargo bench -p network --features fixture --profile dev --bench backends` (root).
//!
//! Beside it: the same element added and deleted by the nft command in one sandbox's table, which is what a daemon that calls nft
//! pays, at the least, for each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use gossip::EndpointState;
use kernel::{LinuxKernel, netns::Scratch};
use network::{
    fixture::World,
    reconciler::{Config, Membership, Reconciler, SandboxRequest},
    workload::WorkloadId,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SERVICES: u32 = 1000;
const SANDBOXES: u32 = 10;
const ROUNDS: u32 = 30;

fn main() {
    if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
        return;
    }
    Scratch::new().unwrap().run(bench).unwrap();
}

fn sh(line: &str) {
    assert!(Command::new("sh").args(["-ec", line]).status().unwrap().success(), "{line}");
}

fn bench() {
    sh("ip link set lo up; ip link add eth0 type veth peer name far; ip addr add 10.77.0.1/24 dev eth0
        ip link set eth0 up; ip link set far up");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [mut ours, mut nft] = runtime.block_on(measure());
    let print = |what: &str, times: &mut Vec<Duration>| {
        times.sort();
        println!(
            "{what:<66} median {:>9.2?}  worst {:>9.2?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
    };
    print(&format!("one backend of {SERVICES} services, {SANDBOXES} sandboxes and the mesh"), &mut ours);
    print("  one element of one table by the nft command", &mut nft);
}

async fn measure() -> [Vec<Duration>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::seen_by("a");
    let vip = |n: u32| [format!("10.0.{}.{}", 100 + n / 250, 2 + n % 250), format!("fd00:2::1:{n:x}")];
    for n in 0..SERVICES {
        let [v4, v6] = vip(n);
        let port = u16::try_from(10_000 + n).unwrap();
        world.service(&format!("s{n}"), &[&v4, &v6], port, &[]);
        for slot in 0..2 {
            world.task(
                &format!("s{n}"),
                slot,
                "b",
                2 + (2 * n + u32::try_from(slot).unwrap()) % 200,
                EndpointState::Ready,
            );
        }
    }
    let (_assigned, assigned_in) = watch::channel(Arc::new(world.assigned.clone()));
    let (view, view_in) = watch::channel(Arc::new(world.view.clone()));
    let config = Config {
        names: world.local.names.clone(),
        state_dir: dir.path().join("network"),
        netns_dir: dir.path().join("netns"),
        gateway_subnet: None,
        firewall_compat: false,
        vxlan_members_only: true,
    };
    let (kernel, shutdown) = (Arc::new(LinuxKernel::new()), CancellationToken::new());
    let on_applied = Box::new(|_: network::reconciler::Applied<'_>| {});
    let reconciler = Reconciler::start(config, kernel, shutdown.clone());
    let member = world.member.clone();
    let membership =
        Membership { member, assigned: assigned_in, view: view_in, on_applied, keep: Vec::new() };
    reconciler.enter(membership).await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..SANDBOXES {
        let task = WorkloadId::Task(world.task("s0", (100 + n).into(), "a", 210 + n, EndpointState::Ready));
        let sandbox = world.local.sandboxes[&task].clone();
        let request = SandboxRequest { workload: sandbox.workload, networks: sandbox.networks };
        reconciler.ensure(request).await.unwrap();
        tasks.push(task);
    }
    let mut status = reconciler.status();
    let mut change = async |world: &World| {
        status.borrow_and_update();
        let began = Instant::now();
        view.send_replace(Arc::new(world.view.clone()));
        status.changed().await.unwrap();
        assert_eq!(status.borrow().failed, []);
        began.elapsed()
    };
    change(&world).await;
    let (without, mut ours, mut nft) = (world.clone(), Vec::new(), Vec::new());
    world.task("s7", 9, "b", 205, EndpointState::Ready);
    let netns = dir.path().join("netns").read_dir().unwrap().flatten().map(|e| e.path());
    let sandbox = netns.into_iter().find(|p| p.to_string_lossy().contains(tasks[0].as_str())).unwrap();
    for round in 0..ROUNDS {
        ours.push(change(if round % 2 == 0 { &world } else { &without }).await);
        let verb = if round % 2 == 0 { "add" } else { "delete" };
        let began = Instant::now();
        sh(&format!("nsenter --net={} nft {verb} element inet rn vip4 '{{ 10.9.9.9 }}'", sandbox.display()));
        nft.push(began.elapsed());
    }
    for task in tasks {
        reconciler.remove(task).await.unwrap();
    }
    shutdown.cancel();
    [ours, nft]
}
