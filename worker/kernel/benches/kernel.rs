//! What each step costs on this machine: `cargo bench -p kernel --bench kernel` (root).
//!
//! The network's part of a task start has a budget of 15 ms; an element of a map was measured at 2.4 us with another encoder.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use kernel::{
    Element, ElementChange, Family, FdbEntry, Kernel, LinuxKernel, Neigh, Ns, Part, Route, Ruleset, Scope,
    Step, VethEnd, Vxlan, netns::Scratch,
};
use proto::model::{Mac, Vni};

fn main() {
    if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
        return;
    }
    Scratch::new().unwrap().run(bench).unwrap();
}

/// Runs `step` for each of `n` and prints the median and the worst.
fn measure(what: &str, n: usize, mut step: impl FnMut(usize)) -> Duration {
    let mut times: Vec<Duration> = (0..n)
        .map(|i| {
            let start = Instant::now();
            step(i);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{what:<66} median {:>10.1?}  worst {:>10.1?}", times[n / 2], times[n - 1]);
    times[n / 2]
}

const ROUNDS: usize = 50;

fn bench() {
    let dir = tempfile::tempdir().unwrap();
    let k = LinuxKernel::new();
    let run = |step: Step| k.execute(&step).unwrap();
    let ns = |i: usize| Ns::Path(dir.path().join(format!("t{i}")));
    let path = |i: usize| dir.path().join(format!("t{i}"));
    let end = |ns: Ns, name: String| VethEnd { ns, name, mac: None, alias: Some("rn:bench:x".into()) };

    run(Step::CreateNetns { path: dir.path().join("net") });
    let net = Ns::Path(dir.path().join("net"));
    let bridge = |ns: &Ns| Step::CreateBridge {
        ns: ns.clone(),
        name: "br0".into(),
        mac: None,
        mtu: 1450,
        alias: None,
    };
    for ns in [&net, &Ns::Host] {
        run(bridge(ns));
        run(Step::SetUp { ns: ns.clone(), link: "br0".into(), up: true });
    }
    let body = "map slots { typeof ip daddr . numgen random mod 16 : ip daddr; }\n\
                chain out {\ntype nat hook output priority -100;\n\
                dnat ip to ip daddr . numgen random mod 16 map @slots\n}";
    let table = |i: usize| Step::ApplyRuleset {
        ns: ns(i),
        ruleset: Ruleset { family: Family::Inet, table: "vip".into(), body: body.into(), elements: vec![] },
    };

    let mut total = Duration::ZERO;
    total += measure("namespace", ROUNDS, |i| run(Step::CreateNetns { path: path(i) }));
    total += measure("overlay leg: veth, port, 2 addresses, up, route", ROUNDS, |i| {
        leg(&k, end(ns(i), "eth0".into()), end(net.clone(), format!("p{i}")), i);
    });
    total += measure("gateway leg: the same, with 2 default routes", ROUNDS, |i| {
        leg(&k, end(ns(i), "eth1".into()), end(Ns::Host, format!("g{i}")), i);
        for (dst, via) in [("0.0.0.0/0", "10.0.255.254"), ("::/0", "fd00::ffff")] {
            let route =
                Route { via: Some(via.parse().unwrap()), ..Route::on_link(dst.parse().unwrap(), "eth1") };
            run(Step::AddRoute { ns: ns(i), route });
        }
    });
    total += measure("service table (nft forked)", ROUNDS, |i| run(table(i)));
    total +=
        measure("look at the task's namespace", ROUNDS, |i| drop(k.observe(&Scope::of([ns(i)])).unwrap()));
    println!("a task's start: {total:.1?} of 15 ms\n");

    let slots = |from: u32, n: u32, to: u8| -> Vec<Element> {
        (from..from + n)
            .map(|i| {
                Element::map(
                    [Part::Ipv4((0x0a00_0000 + i).into()), Part::U32(i % 16)],
                    [Part::Ipv4([10, 9, 9, to].into())],
                )
            })
            .collect()
    };
    let update = |del, add| Step::UpdateElements {
        ns: ns(0),
        family: Family::Inet,
        table: "vip".into(),
        changes: vec![ElementChange { set: "slots".into(), del, add }],
    };
    measure("one element", ROUNDS, |i| run(update(vec![], slots(i as u32, 1, 1))));
    measure("a service's 16 slots, replaced", ROUNDS, |i| {
        run(update(if i == 0 { vec![] } else { slots(0x100, 16, 1) }, slots(0x100, 16, 1)));
    });
    let bulk = measure("10,000 elements, one transaction", 5, |i| {
        run(update(vec![], slots(0x1_0000 * (i as u32 + 1), 10_000, 1)));
    });
    println!("{:<66} {:.2} us\n", "  each", bulk.as_secs_f64() * 1e6 / 1e4);

    let vxlan = Vxlan { vni: Vni(4096), port: 4789, local: [127, 0, 0, 1].into(), dev: None, proxy: true };
    let vxlan =
        Step::CreateVxlan { ns: net.clone(), name: "vx0".into(), vxlan, mac: None, mtu: 1450, alias: None };
    measure("VXLAN device", 1, |_| run(vxlan.clone()));
    let mac = |i: usize| Mac([2, 0x42, 0, 0, (i >> 8) as u8, i as u8]);
    measure("a peer: forwarding entry and 2 neighbours", 1000, |i| {
        let (hi, lo) = ((i >> 8) as u8, i as u8);
        let entry = FdbEntry { mac: mac(i), dst: [10, 9, 9, 9].into() };
        run(Step::ReplaceFdb { ns: net.clone(), link: "vx0".into(), entry });
        for addr in [[10, 1, hi, lo].into(), [0xfd00, 0, 0, 0, 0, 0, 0, i as u16].into()] {
            run(Step::ReplaceNeigh {
                ns: net.clone(),
                link: "vx0".into(),
                neigh: Neigh { addr, mac: mac(i) },
            });
        }
    });
    measure("look at the overlay: 1000 peers, 50 ports", 20, |_| {
        drop(k.observe(&Scope::of([net.clone()])).unwrap())
    });
    measure("look at the host", 20, |_| drop(k.observe(&Scope::host()).unwrap()));
    measure("sysctl", ROUNDS, |i| {
        run(Step::SetSysctl { ns: ns(i), key: "net/ipv4/ip_forward".into(), value: "1".into() });
    });
    measure("namespace deleted, with its legs", ROUNDS, |i| run(Step::DeleteNetns { path: path(i) }));
    run(Step::DeleteNetns { path: dir.path().join("net") });
}

fn leg(k: &LinuxKernel, task: VethEnd, port: VethEnd, i: usize) {
    let (task_ns, link) = (task.ns.clone(), task.name.clone());
    let (port_ns, port_link) = (port.ns.clone(), port.name.clone());
    let subnet = if link == "eth0" { 1 } else { 0 };
    let v4 = format!("10.{subnet}.0.{}/16", i + 2);
    let v6 = format!("fd0{subnet}::{:x}/64", i + 2);
    k.execute_all(&[
        Step::CreateVeth { a: task, b: port, mtu: 1450 },
        Step::SetMaster { ns: port_ns.clone(), link: port_link.clone(), master: Some("br0".into()) },
        Step::SetUp { ns: port_ns, link: port_link, up: true },
        Step::AddAddr { ns: task_ns.clone(), link: link.clone(), addr: v4.parse().unwrap() },
        Step::AddAddr { ns: task_ns.clone(), link: link.clone(), addr: v6.parse().unwrap() },
        Step::SetUp { ns: task_ns.clone(), link: link.clone(), up: true },
        Step::AddRoute {
            ns: task_ns,
            route: Route::on_link(format!("10.2{subnet}.0.0/16").parse().unwrap(), link),
        },
    ])
    .unwrap();
}
