//! Overlay and mesh next to a path laid by hand and to the bare network, in the same run, in turn.
//!
//! * hand-made: the same MTU, a bridge, a VXLAN device and a veth pair between two fresh namespaces (`bench::handmade`).
//! * host network: between two machines without rn, one hop, no translation.
//! * relay: one DNAT and one masquerade rule lead a port of one machine to another: the least that a second hop costs.
//!
//! iperf3: one TCP connection. wrk: 32 connections. The asking side has one core, the serving side another; what the kernel does on
//! the way falls on both, so figures say what the path costs in CPU, which is what a virtual path is short of.
//!
//! Each path has a client of its own: two paths to one task from one client would meet in conntrack, as their replies look the same,
//! and cost each other their source ports.
//!
//! `cargo bench --workspace --profile dev --bench throughput`

use std::{net::SocketAddr, path::Path as Ns, process::ExitCode};

use anyhow::Result;
use cluster_tests::{
    Cluster,
    bench::{
        self, cores,
        handmade::Handmade,
        iperf,
        paths::{in_turn, path},
        running::Running,
        table::{Aim, Samples, Table, Unit},
        task::Task,
        wrk,
    },
    lan::Namespace,
};

const ROUNDS: usize = 5;
const WEB: u16 = 80;
const MESH: u16 = 8080;
const RELAY: u16 = 8081;
const RELAY_IPERF: u16 = 8082;
/// Least part of the hand-made overlay.
const OVERLAY: Aim = Aim::Share(0.95);
/// Least part of the host network.
const MESH_AIM: Aim = Aim::Share(0.80);

fn main() -> ExitCode {
    bench::run("Throughput", run)
}

fn run() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    let on = |host: &str| format!("node.hostname=={host}");
    for client in ["asks", "asks-vip"] {
        cluster.service(&["--name", client, "--network", "app", "--constraint", &on("host1")])?;
    }
    let iperf_port = format!("{0}:{0}", iperf::PORT);
    cluster.service(&[
        "--name",
        "serves",
        "--network",
        "app",
        "--constraint",
        &on("host2"),
        "--publish",
        &format!("{MESH}:{WEB}"),
        "--publish",
        &iperf_port,
    ])?;
    for service in ["asks", "asks-vip", "serves"] {
        cluster.wait_running(service, 1)?;
    }
    cluster.wait_answers(MESH)?;
    let asks = Task::of(&cluster, &cluster.hosts[0], "asks", "app")?;
    let asks_vip = Task::of(&cluster, &cluster.hosts[0], "asks-vip", "app")?;
    let further = Namespace::new("further")?;
    cluster.lan.plug(&further)?;
    let serves = Task::of(&cluster, &cluster.hosts[1], "serves", "app")?;
    cores::pin(serves.pid, cores::SERVER)?;

    let hand = Handmade::overlay(&cluster.lan, serves.mtu()?)?;
    hand.relay(RELAY, WEB)?;
    hand.relay(RELAY_IPERF, iperf::PORT)?;
    let bare = &hand.second;
    let _servers = [
        iperf::serve(&serves.netns)?,
        iperf::serve(&bare.task.path())?,
        iperf::serve(&bare.host.path())?,
        Running::web(&bare.task.path(), SocketAddr::new(bare.task_addr(true), WEB))?,
        Running::web(&bare.host.path(), SocketAddr::new(bare.addr(true), WEB))?,
    ];

    let mut table = Table::new();
    for v4 in [true, false] {
        overlay(&mut table, v4, [&asks, &asks_vip], &serves, &hand)?;
    }
    for v4 in [true, false] {
        mesh(&mut table, v4, &cluster, &further.path(), &hand)?;
    }
    table.end();
    Ok(())
}

fn family(v4: bool) -> &'static str {
    if v4 { "v4" } else { "v6" }
}

fn overlay(
    table: &mut Table,
    v4: bool,
    [asks, asks_vip]: [&Task; 2],
    serves: &Task,
    hand: &Handmade,
) -> Result<()> {
    let f = family(v4);
    let (task, vip) = (serves.addr(v4)?, asks_vip.resolve("serves", v4)?);
    let (from, by_hand) = (hand.first.task.path(), hand.second.task_addr(v4));
    let (client, bare) = (hand.first.host.path(), hand.second.addr(v4));

    let [[direct], [virt], [hand_made], [host]] = in_turn(
        [Unit::Bits],
        ROUNDS,
        [
            path("overlay", || iperf::bits(&asks.netns, task, iperf::PORT)),
            path("VIP", || iperf::bits(&asks_vip.netns, vip, iperf::PORT)),
            path("hand-made", || iperf::bits(&from, by_hand, iperf::PORT)),
            path("host network", || iperf::bits(&client, bare, iperf::PORT)),
        ],
    )?;
    table.beside(&format!("overlay {f}, task to task: TCP"), &direct, "hand-made", &hand_made, OVERLAY);
    table.beside(&format!("overlay {f}, through the VIP: TCP"), &virt, "hand-made", &hand_made, OVERLAY);
    table.beside(&format!("overlay {f}, task to task: TCP"), &direct, "host network", &host, Aim::None);

    for (keep, what) in [(true, "requests, kept connections"), (false, "new connections")] {
        let web = |addr| SocketAddr::new(addr, WEB);
        let [[direct], [virt], [hand_made]] = in_turn(
            [Unit::Rate],
            ROUNDS,
            [
                path("overlay", || wrk::requests(&asks.netns, web(task), keep)),
                path("VIP", || wrk::requests(&asks_vip.netns, web(vip), keep)),
                path("hand-made", || wrk::requests(&from, web(by_hand), keep)),
            ],
        )?;
        let row = |table: &mut Table, way: &str, samples: &Samples| {
            table.beside(&format!("overlay {f}, {way}: {what}"), samples, "hand-made", &hand_made, OVERLAY);
        };
        row(table, "task to task", &direct);
        row(table, "through the VIP", &virt);
    }
    Ok(())
}

fn mesh(table: &mut Table, v4: bool, cluster: &Cluster, further: &Ns, hand: &Handmade) -> Result<()> {
    let f = family(v4);
    let client = cluster.client.path();
    let host_addr = |n: usize| if v4 { cluster.hosts[n].v4() } else { cluster.hosts[n].v6() };
    let (remote, local) = (host_addr(0), host_addr(1));
    let (relay, bare) = (hand.first.addr(v4), hand.second.addr(v4));

    let ns: &Ns = &client;
    mesh_rows(
        table,
        &format!("mesh {f}: TCP"),
        Unit::Bits,
        [
            &mut || iperf::bits(ns, local, iperf::PORT),
            &mut || iperf::bits(further, remote, iperf::PORT),
            &mut || iperf::bits(ns, relay, RELAY_IPERF),
            &mut || iperf::bits(ns, bare, iperf::PORT),
        ],
    )?;
    for (keep, what) in [(true, "requests, kept connections"), (false, "new connections")] {
        let rate = |ns: &Ns, addr, port| wrk::requests(ns, SocketAddr::new(addr, port), keep);
        mesh_rows(
            table,
            &format!("mesh {f}: {what}"),
            Unit::Rate,
            [
                &mut || rate(ns, local, MESH),
                &mut || rate(further, remote, MESH),
                &mut || rate(ns, relay, RELAY),
                &mut || rate(ns, bare, WEB),
            ],
        )?;
    }
    Ok(())
}

/// One figure over: the node of the task, another node, the relay, the host network.
fn mesh_rows(
    table: &mut Table,
    what: &str,
    unit: Unit,
    [local, remote, relay, bare]: [&mut dyn FnMut() -> Result<f64>; 4],
) -> Result<()> {
    let [[local], [remote], [relay], [bare]] = in_turn(
        [unit],
        ROUNDS,
        [
            path("mesh, the task's node", local),
            path("mesh, another node", remote),
            path("relay", relay),
            path("host network", bare),
        ],
    )?;
    table.beside(&format!("{what}, asked at the task's node"), &local, "host network", &bare, MESH_AIM);
    table.beside(&format!("{what}, asked at another"), &remote, "host network", &bare, MESH_AIM);
    table.beside(&format!("{what}, asked at another"), &remote, "relay", &relay, Aim::None);
    Ok(())
}
