//! The network's part of a task's start: from the request to a sandbox that is up, with a leg on an overlay and one on the gateway
//! bridge, the table of virtual addresses, and the way to its resolver. `cargo bench -p network --features fixture --profile dev --bench sandbox` (root).
//!
//! The reconciler is the daemon's own, in a namespace of its own; what else it does (a pass for each change, a check each second)
//! goes on meanwhile. Beside it: the same devices, addresses and routes by one `ip -batch` and one `nft -f`, as a script would.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use gossip::EndpointState;
use kernel::{LinuxKernel, netns::Scratch};
use network::{
    desired::DnsPorts,
    fixture::World,
    reconciler::{Config, Membership, Reconciler, SandboxRequest},
    workload::WorkloadId,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const ROUNDS: u32 = 30;
const AIM: Duration = Duration::from_millis(15);

fn main() {
    if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
        return;
    }
    Scratch::new().unwrap().run(bench).unwrap();
}

fn run(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program).args(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {args:?} with:\n{input}");
}

fn bench() {
    let underlay = "link set lo up\nlink add eth0 type veth peer name far\naddr add 10.77.0.1/24 dev eth0\n\
                    link set eth0 up\nlink set far up\n";
    run("ip", &["-batch", "-"], underlay);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [mut ensure, mut dns, mut whole] = runtime.block_on(ours());
    let mut by_hand = by_hand();
    println!("{:<66} {:>10} {:>10}", "network of a task", "median", "worst");
    let print = |what: &str, times: &mut Vec<Duration>| {
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{what:<66} {median:>10.2?} {worst:>10.2?}");
        median
    };
    print("  sandbox: namespace, two legs, addresses, routes, table", &mut ensure);
    print("  way to its resolver", &mut dns);
    let ours = print("network part of a task start", &mut whole);
    let hand = print("  the same by ip -batch and nft -f", &mut by_hand);
    let met = if ours < AIM { "met" } else { "MISSED" };
    println!(
        "  {:.0} % of the script's; aim < {AIM:?}: {met}",
        ours.as_secs_f64() / hand.as_secs_f64() * 100.0
    );
}

async fn ours() -> [Vec<Duration>; 3] {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::seen_by("a");
    world.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    let (assigned, assigned_in) = watch::channel(Arc::new(world.assigned.clone()));
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

    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let mut tasks = Vec::new();
    for n in 0..ROUNDS {
        let task = WorkloadId::Task(world.task("web", n.into(), "a", 11 + n, EndpointState::Ready));
        let sandbox = world.local.sandboxes[&task].clone();
        let request = SandboxRequest { workload: sandbox.workload, networks: sandbox.networks };
        let began = Instant::now();
        reconciler.ensure(request).await.unwrap();
        let made = began.elapsed();
        reconciler.set_dns(task.clone(), DnsPorts { udp: 40_000, tcp: 40_001 }).await.unwrap();
        let whole = began.elapsed();
        // The first one brings the overlay and the gateway bridge with it.
        if n > 0 {
            times.iter_mut().zip([made, whole - made, whole]).for_each(|(all, t)| all.push(t));
        }
        tasks.push(task);
        // Then it is ready, and every sandbox here hears of it, before the next one comes.
        let mut status = reconciler.status();
        status.borrow_and_update();
        view.send_replace(Arc::new(world.view.clone()));
        status.changed().await.unwrap();
        assert_eq!(status.borrow().failed, []);
    }
    for task in tasks {
        reconciler.remove(task).await.unwrap();
    }
    shutdown.cancel();
    drop(assigned);
    times
}

/// As a script would: a namespace, two veth pairs on bridges that are there, addresses, routes, and a table that translates a
/// virtual address.
fn by_hand() -> Vec<Duration> {
    let id = std::process::id();
    run(
        "ip",
        &["-batch", "-"],
        "link add hand0 type bridge\nlink set hand0 up\nlink add hand1 type bridge\nlink set hand1 up\n",
    );
    let mut times = Vec::new();
    for n in 0..ROUNDS {
        let ns = format!("rn-bench-{id}-{n}");
        let interfaces: String = (0..2)
            .map(|interface| {
                format!(
                    "link add h{interface}x{n} mtu 1450 type veth peer name eth{interface} mtu 1450 netns {ns}\n\
                     link set h{interface}x{n} master hand{interface} up\n"
                )
            })
            .collect();
        let inside: String = (0..2)
            .map(|interface| {
                format!(
                    "addr add 10.{interface}.9.{0}/24 dev eth{interface}\naddr add fd9{interface}::{0}/64 dev eth{interface} nodad\n\
                     link set eth{interface} up\n",
                    n + 1
                )
            })
            .collect();
        let _gone = Gone(&ns);
        let began = Instant::now();
        run("ip", &["netns", "add", &ns], "");
        run("ip", &["-batch", "-"], &interfaces);
        let routes = "route add default via 10.1.9.254\nroute add default via fd91::fe\n";
        run("ip", &["-n", &ns, "-batch", "-"], &format!("{inside}{}", routes));
        let table = "table inet vip { chain out { type nat hook output priority -100; ip daddr 10.0.1.2 dnat ip to 10.0.1.11;\n };\n}\n";
        run("nsenter", &[&format!("--net=/run/netns/{ns}"), "nft", "-f", "-"], table);
        times.push(began.elapsed());
    }
    times
}

/// Deletes a named namespace when it goes out of sight, however that comes about.
struct Gone<'a>(&'a str);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", self.0]).status();
    }
}
