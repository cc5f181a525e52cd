//! The same steps, against Linux and against the model: what is then observed must be the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, path::Path, process::Command};

use proto::model::{Mac, Vni};

use super::{
    Cause, ConntrackFilter, Element, ElementChange, FakeKernel, Family, FdbEntry, IpFamily, Kernel,
    KernelError, LinkKind, LinuxKernel, Neigh, Ns, Observed, Part, PortFlags, Route, Rule, Ruleset, Scope,
    Step, Value, Verdict, VethEnd, Vxlan, Wanted, alias,
    netns::{self, Scratch},
};

const DAEMON: &str = "d1";

/// Two kernels in the same state: Linux, in fresh namespaces, and the model.
struct Both {
    dir: tempfile::TempDir,
    linux: LinuxKernel,
    fake: FakeKernel,
}

/// Runs a scenario in a fresh host namespace, if this process may make one.
fn both(scenario: impl FnOnce(&Both) + Send) {
    let host = match Scratch::new() {
        Ok(host) => host,
        Err(e) => return println!("skipped: no network namespace can be made here: {e}"),
    };
    host.run(|| {
        let dir = tempfile::tempdir().unwrap();
        let both = Both { dir, linux: LinuxKernel::new(), fake: FakeKernel::new() };
        both.run(&[up(&Ns::Host, "lo")]);
        scenario(&both);
        for path in both.scope().namespaces.keys().filter_map(Ns::path) {
            both.linux.execute(&Step::DeleteNetns { path: path.to_owned() }).unwrap();
        }
    })
    .unwrap();
}

impl Both {
    fn ns(&self, name: &str) -> Ns {
        Ns::Path(self.dir.path().join(name))
    }

    /// Makes a namespace.
    fn sandbox(&self, name: &str) -> Ns {
        let path = self.dir.path().join(name);
        self.run(&[Step::CreateNetns { path: path.clone() }]);
        Ns::Path(path)
    }

    fn scope(&self) -> Scope {
        let mut scope = Scope::host();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            scope.namespaces.insert(Ns::Path(entry.unwrap().path()), Wanted::default());
        }
        for wanted in scope.namespaces.values_mut() {
            wanted.elements =
                BTreeSet::from([(Family::Inet, "t".to_owned()), (Family::Netdev, "t".to_owned())]);
            wanted.sysctls =
                BTreeSet::from(["net/ipv4/ip_forward".to_owned(), "net/ipv4/conf/lo/route_localnet".into()]);
        }
        scope.netns_dir = Some(self.dir.path().into());
        scope
    }

    /// Executes steps on both, twice each, and compares what is seen afterwards.
    fn run(&self, steps: &[Step]) {
        for step in steps {
            for _ in 0..2 {
                self.linux.execute(step).unwrap();
                self.fake.execute(step).unwrap();
            }
        }
        self.compare();
    }

    fn compare(&self) {
        let scope = self.scope();
        let (linux, fake) = (self.linux.observe(&scope).unwrap(), self.fake.observe(&scope).unwrap());
        similar_asserts(&normal(linux, &fake), &normal(fake.clone(), &fake));
    }

    fn seen(&self) -> Observed {
        self.linux.observe(&self.scope()).unwrap()
    }

    /// Both refuse.
    fn refused(&self, step: &Step) -> KernelError {
        assert!(self.fake.execute(step).is_err(), "the model does {step}");
        self.linux.execute(step).unwrap_err()
    }
}

fn similar_asserts(linux: &Observed, fake: &Observed) {
    assert!(linux == fake, "Linux has\n{linux:#?}\nthe model has\n{fake:#?}");
}

/// Without what the kernel chooses and the model does not know.
fn normal(mut seen: Observed, fake: &Observed) -> Observed {
    for (place, ns) in &mut seen.namespaces {
        for link in ns.links.values_mut() {
            link.index = 0;
        }
        for table in ns.tables.values_mut() {
            table.base_chains.clear();
        }
        // The model starts without sysctls.
        ns.sysctls.retain(|key, _| fake.ns(place).is_some_and(|f| f.sysctls.contains_key(key)));
    }
    seen
}

fn up(ns: &Ns, link: &str) -> Step {
    Step::SetUp { ns: ns.clone(), link: link.into(), up: true }
}

fn mac(n: u8) -> Mac {
    Mac([2, 0x42, 10, 0, 0, n])
}

fn veth(a: &Ns, name_a: &str, b: &Ns, name_b: &str, n: u8) -> Step {
    let end = |ns: &Ns, name: &str, n| VethEnd {
        ns: ns.clone(),
        name: name.into(),
        mac: Some(mac(n)),
        alias: Some(alias(DAEMON, "task1")),
    };
    Step::CreateVeth { a: end(a, name_a, n), b: end(b, name_b, n + 1), mtu: 1450 }
}

fn bridge(ns: &Ns, name: &str, n: u8) -> Step {
    let alias = Some(alias(DAEMON, "net1"));
    Step::CreateBridge { ns: ns.clone(), name: name.into(), mac: Some(mac(n)), mtu: 1450, alias }
}

fn vxlan(ns: &Ns, name: &str, vni: u32, local: &str) -> Step {
    Step::CreateVxlan {
        ns: ns.clone(),
        name: name.into(),
        vxlan: Vxlan { vni: Vni(vni), port: 4789, local: local.parse().unwrap(), dev: None, proxy: true },
        mac: Some(mac(99)),
        mtu: 1450,
        alias: Some(alias(DAEMON, "net1")),
    }
}

fn addr(ns: &Ns, link: &str, text: &str) -> Step {
    Step::AddAddr { ns: ns.clone(), link: link.into(), addr: text.parse().unwrap() }
}

fn text(command: &str, args: &[&str]) -> String {
    let out = Command::new(command).args(args).output().unwrap();
    assert!(out.status.success(), "{command} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn namespaces_come_and_go() {
    both(|k| {
        let a = k.sandbox("a");
        let path = a.path().unwrap().to_owned();
        assert_eq!(k.seen().netns, BTreeSet::from([path.clone()]));
        let inner = netns::in_ns(&a, || std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_ne!(inner, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        k.run(&[Step::DeleteNetns { path: path.clone() }]);
        assert!(!path.exists());
        assert!(matches!(k.refused(&up(&a, "lo")).cause, Cause::NoNamespace(_)));
        assert!(k.refused(&up(&a, "lo")).is_missing());
        // Its file's place is taken by another: the old one's sockets must not be used for it.
        k.sandbox("a");
        k.run(&[bridge(&a, "br0", 1)]);
        // A plain file there is what a crash or a reboot left behind.
        std::fs::write(k.dir.path().join("b"), "").unwrap();
        assert_eq!(k.seen().stale, BTreeSet::from([k.dir.path().join("b")]));
        k.linux.execute(&Step::DeleteNetns { path: k.dir.path().join("b") }).unwrap();
        assert_eq!(k.seen().stale, BTreeSet::new());
    });
}

#[test]
fn a_sandbox_is_wired() {
    both(|k| {
        let (net, task) = (k.sandbox("net"), k.sandbox("task"));
        k.run(&[
            bridge(&net, "br0", 1),
            up(&net, "br0"),
            addr(&net, "br0", "10.0.0.1/24"),
            addr(&net, "br0", "fd00:1::1/64"),
            veth(&task, "eth0", &net, "rnv1", 10),
            Step::SetMaster { ns: net.clone(), link: "rnv1".into(), master: Some("br0".into()) },
            Step::SetPort {
                ns: net.clone(),
                link: "rnv1".into(),
                flags: PortFlags { isolated: true, hairpin: true, learning: false, ..PortFlags::default() },
            },
            up(&net, "rnv1"),
            addr(&task, "eth0", "10.0.0.5/24"),
            addr(&task, "eth0", "fd00:1::5/64"),
            up(&task, "eth0"),
            Step::SetMtu { ns: task.clone(), link: "eth0".into(), mtu: 1400 },
            Step::SetMac { ns: task.clone(), link: "eth0".into(), mac: mac(50) },
            Step::SetAlias { ns: task.clone(), link: "eth0".into(), alias: alias(DAEMON, "task2") },
        ]);
        let seen = k.seen();
        let leg = seen.link(&task, "eth0").unwrap();
        assert_eq!((leg.mtu, leg.mac, leg.up), (1400, Some(mac(50)), true));
        assert_eq!(leg.owned_by(DAEMON), Some("task2"));
        assert_eq!(leg.owned_by("d"), None);
        assert_eq!(seen.link(&net, "rnv1").unwrap().master.as_deref(), Some("br0"));
        // A packet gets through: the two ends are one cable.
        netns::in_ns(&task, || text("ping", &["-c1", "-W2", "10.0.0.1"])).unwrap();
        netns::in_ns(&task, || text("ping", &["-c1", "-W2", "fd00:1::1"])).unwrap();
        k.run(&[
            Step::DelAddr { ns: task.clone(), link: "eth0".into(), addr: "fd00:1::5/64".parse().unwrap() },
            Step::SetMaster { ns: net.clone(), link: "rnv1".into(), master: None },
            Step::DeleteLink { ns: net.clone(), link: "rnv1".into() },
        ]);
        assert!(k.seen().link(&task, "eth0").is_none(), "the peer goes too");
        k.run(&[Step::DelAddr { ns: task, link: "eth0".into(), addr: "10.0.0.5/24".parse().unwrap() }]);
    });
}

#[test]
fn names_that_both_ends_have_do_not_collide() {
    both(|k| {
        let task = k.sandbox("task");
        k.run(&[veth(&Ns::Host, "eth0", &task, "eth0", 10), veth(&task, "eth1", &Ns::Host, "rn1", 20)]);
        k.run(&[vxlan(&task, "vx0", 77, "127.0.0.1"), vxlan(&Ns::Host, "vx0", 78, "127.0.0.1")]);
    });
}

#[test]
fn creating_something_else_under_a_name_is_refused() {
    both(|k| {
        k.run(&[bridge(&Ns::Host, "x", 1), vxlan(&Ns::Host, "vx0", 5, "127.0.0.1")]);
        let other = vxlan(&Ns::Host, "x", 9, "127.0.0.1");
        let e = k.refused(&other);
        assert!(matches!(e.cause, Cause::Differs { .. }), "{e}");
        assert!(e.to_string().starts_with("ip link add x address 02:42:0a:00:00:63 mtu 1450"), "{e}");
        assert!(e.to_string().contains("x exists already as Bridge"), "{e}");
        // The kernel's own words are passed on.
        let e = k.refused(&vxlan(&Ns::Host, "vx1", 5, "127.0.0.1"));
        assert!(e.to_string().contains("VNI"), "{e}");
        k.refused(&vxlan(&Ns::Host, "vx0", 6, "127.0.0.1"));
        k.refused(&up(&Ns::Host, "nothing"));
        k.refused(&Step::SetMaster { ns: Ns::Host, link: "vx0".into(), master: Some("nothing".into()) });
    });
}

#[test]
fn overlays_keep_their_socket_with_the_host() {
    both(|k| {
        let net = k.sandbox("net");
        let dst = "10.9.9.2".parse().unwrap();
        let at = |n| FdbEntry { mac: mac(n), dst };
        let flood = |dst: &str| FdbEntry { mac: Mac([0; 6]), dst: dst.parse().unwrap() };
        let on = |entry| Step::ReplaceFdb { ns: net.clone(), link: "vx0".into(), entry };
        let neigh = |a: &str, n| Neigh { addr: a.parse().unwrap(), mac: mac(n) };
        let know = |neigh| Step::ReplaceNeigh { ns: net.clone(), link: "vx0".into(), neigh };
        k.run(&[
            vxlan(&net, "vx0", 4097, "127.0.0.1"),
            bridge(&net, "br0", 1),
            Step::SetMaster { ns: net.clone(), link: "vx0".into(), master: Some("br0".into()) },
            up(&net, "vx0"),
            on(at(2)),
            on(at(3)),
            on(FdbEntry { dst: "10.9.9.3".parse().unwrap(), ..at(3) }),
            on(flood("10.9.9.2")),
            on(flood("10.9.9.3")),
            know(neigh("10.0.0.2", 2)),
            know(neigh("10.0.0.2", 3)),
            know(neigh("fd00::2", 2)),
        ]);
        let listening = |ns: &Ns| netns::in_ns(ns, || text("ss", &["-lunH", "sport", "=", ":4789"])).unwrap();
        assert!(!listening(&Ns::Host).is_empty());
        assert!(listening(&net).is_empty());
        k.run(&[
            Step::DelFdb { ns: net.clone(), link: "vx0".into(), entry: at(2) },
            Step::DelFdb { ns: net.clone(), link: "vx0".into(), entry: flood("10.9.9.3") },
            Step::DelNeigh { ns: net.clone(), link: "vx0".into(), addr: "10.0.0.2".parse().unwrap() },
            Step::DelNeigh { ns: net.clone(), link: "gone".into(), addr: "10.0.0.2".parse().unwrap() },
        ]);
        // The VNI is free again as soon as the namespace is gone, whoever still holds it open.
        let held = netns::open(net.path().unwrap()).unwrap();
        for _ in 0..5 {
            k.run(&[Step::DeleteNetns { path: net.path().unwrap().to_owned() }]);
            k.sandbox("net");
            k.run(&[vxlan(&net, "vx0", 4097, "127.0.0.1")]);
        }
        drop(held);
    });
}

#[test]
fn an_overlay_may_have_an_ipv6_underlay() {
    both(|k| {
        let net = k.sandbox("net");
        k.run(&[vxlan(&net, "vx0", 4097, "::1"), up(&net, "vx0")]);
        let entry = FdbEntry { mac: mac(2), dst: "fd77::2".parse().unwrap() };
        k.run(&[Step::ReplaceFdb { ns: net, link: "vx0".into(), entry }]);
    });
}

#[test]
fn routes_and_rules_are_ours_by_their_protocol() {
    both(|k| {
        k.run(&[
            bridge(&Ns::Host, "d0", 1),
            up(&Ns::Host, "d0"),
            addr(&Ns::Host, "d0", "10.1.0.1/24"),
            addr(&Ns::Host, "d0", "fd01::1/64"),
        ]);
        text("ip", &["route", "add", "10.99.0.0/16", "dev", "d0"]);
        text("ip", &["rule", "add", "pref", "77", "lookup", "77"]);
        let on_link = |dst: &str| Route::on_link(dst.parse().unwrap(), "d0");
        let add = |route| Step::AddRoute { ns: Ns::Host, route };
        let via = |dst: &str, via: &str| Route { via: Some(via.parse().unwrap()), ..on_link(dst) };
        let default = Route { table: 100, onlink: true, ..via("0.0.0.0/0", "169.254.1.1") };
        let default6 = Route { table: 100, onlink: true, ..via("::/0", "fe80::1") };
        let rule = |family, pref| Rule { family, pref, fwmark: Some((0xa, 0xff)), to: None, table: 100 };
        let to = Rule { to: Some("10.3.0.0/16".parse().unwrap()), fwmark: None, ..rule(IpFamily::V4, 92) };
        let last = Rule { fwmark: None, table: 101, ..rule(IpFamily::V6, 40000) };
        let rules = [rule(IpFamily::V4, 90), rule(IpFamily::V6, 90), to, last];
        let routes = [
            Route { table: 100, ..on_link("10.0.0.0/24") },
            Route { table: 100, ..on_link("fd00:1::/64") },
            Route { metric: 50, ..via("10.2.0.0/16", "10.1.0.9") },
            Route { src: Some("10.1.0.1".parse().unwrap()), ..on_link("10.4.0.0/16") },
            via("fd02::/64", "fd01::9"),
            default,
            default6,
        ];
        k.run(&routes.clone().map(add));
        k.run(&rules.map(|rule| Step::AddRule { ns: Ns::Host, rule }));
        let seen = k.seen();
        assert_eq!(seen.ns(&Ns::Host).unwrap().routes, routes.iter().cloned().collect());
        k.run(&[add(Route { metric: 50, ..via("10.2.0.0/16", "10.1.0.8") })]);
        k.refused(&add(via("10.5.0.0/16", "10.77.0.1")));
        k.run(&rules.map(|rule| Step::DelRule { ns: Ns::Host, rule }));
        let mut gone = routes;
        gone[2].via = Some("10.1.0.8".parse().unwrap());
        k.run(&gone.map(|route| Step::DelRoute { ns: Ns::Host, route }));
        assert!(text("ip", &["route"]).contains("10.99.0.0/16"), "others' routes stay");
        assert!(text("ip", &["rule"]).contains("77:"), "others' rules stay");
        k.run(&[add(on_link("10.6.0.0/16")), Step::SetUp { ns: Ns::Host, link: "d0".into(), up: false }]);
        k.refused(&add(on_link("10.6.0.0/16")));
    });
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    both(|k| {
        let task = k.sandbox("task");
        let set = |ns: &Ns, key: &str, value: &str| Step::SetSysctl {
            ns: ns.clone(),
            key: key.into(),
            value: value.into(),
        };
        k.run(&[
            set(&task, "net/ipv4/ip_forward", "1"),
            set(&task, "net/ipv4/conf/lo/route_localnet", "1"),
            set(&Ns::Host, "net/ipv4/ip_forward", "0"),
        ]);
        let seen = k.seen();
        assert_eq!(seen.ns(&task).unwrap().sysctls["net/ipv4/ip_forward"], "1");
        assert_eq!(seen.ns(&Ns::Host).unwrap().sysctls["net/ipv4/ip_forward"], "0");
        let bad = k.linux.execute(&set(&task, "../../etc/passwd", "x")).unwrap_err();
        assert!(matches!(bad.cause, Cause::Invalid(_)));
        assert!(
            k.linux
                .execute(&set(&task, "net/ipv4/nothing", "1"))
                .unwrap_err()
                .to_string()
                .contains("nsenter")
        );
    });
}

const BODY: &str = "
map pub4 { typeof meta l4proto . th dport : ip daddr . th dport; }
map pub6 { typeof meta l4proto . th dport : ip6 daddr . th dport; }
map slots { typeof ip daddr . numgen random mod 16 : ip daddr; }
map vips { typeof ip daddr : verdict; }
map names { type ifname : verdict; }
map macs { typeof meta mark : ether daddr; }
set ports { type inet_service; }
set protos { type inet_proto; }
set quads { type ether_addr . ipv4_addr . mark . ifname; }
chain one { accept; }
chain two { drop; }
chain out {
  type nat hook output priority -100;
  ip daddr vmap @vips
  dnat ip to meta l4proto . th dport map @pub4
}";

fn ruleset(elements: Vec<(String, Vec<Element>)>) -> Ruleset {
    Ruleset { family: Family::Inet, table: "t".into(), body: BODY.into(), elements }
}

fn v4(text: &str) -> Part {
    Part::Ipv4(text.parse().unwrap())
}

fn update(changes: Vec<ElementChange>) -> Step {
    Step::UpdateElements { ns: Ns::Host, family: Family::Inet, table: "t".into(), changes }
}

fn change(set: &str, del: Vec<Element>, add: Vec<Element>) -> ElementChange {
    ElementChange { set: set.into(), del, add }
}

fn goto(vip: &str, chain: &str) -> Element {
    Element::verdict([v4(vip)], Verdict::Goto(chain.into()))
}

#[test]
fn elements_of_every_kind_are_written_and_read() {
    both(|k| {
        let tcp80 = || [Part::Proto(6), Part::Port(8080)];
        let every = vec![
            change("pub4", vec![], vec![Element::map(tcp80(), [v4("10.0.0.5"), Part::Port(80)])]),
            change(
                "pub6",
                vec![],
                vec![Element::map(tcp80(), [Part::Ipv6("fd00::5".parse().unwrap()), Part::Port(80)])],
            ),
            change(
                "slots",
                vec![],
                (0..16).map(|n| Element::map([v4("10.0.0.9"), Part::U32(n)], [v4("10.0.0.5")])).collect(),
            ),
            change(
                "vips",
                vec![],
                vec![goto("10.0.0.9", "one"), Element::verdict([v4("10.0.0.8")], Verdict::Drop)],
            ),
            change(
                "names",
                vec![],
                vec![Element::verdict([Part::IfName("eth0".into())], Verdict::Jump("two".into()))],
            ),
            change("macs", vec![], vec![Element::map([Part::U32(0x0100_000a)], [Part::Mac(mac(1))])]),
            change("ports", vec![], vec![Element::key([Part::Port(80)]), Element::key([Part::Port(443)])]),
            change("protos", vec![], vec![Element::key([Part::Proto(17)])]),
            change(
                "quads",
                vec![],
                vec![Element::key([
                    Part::Mac(mac(1)),
                    v4("10.0.0.1"),
                    Part::U32(7),
                    Part::IfName("eth0".into()),
                ])],
            ),
        ];
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(vec![]) }, update(every.clone())]);
        // nft itself reads them as they were meant.
        let listed = text("nft", &["list", "table", "inet", "t"]);
        for line in [
            "tcp . 8080 : 10.0.0.5 . 80",
            "tcp . 8080 : fd00::5 . 80",
            "10.0.0.9 : goto one",
            "10.0.0.8 : drop",
            "\"eth0\" : jump two",
            "0x0100000a : 02:42:0a:00:00:01",
            "elements = { 80, 443 }",
            "elements = { udp }",
            "02:42:0a:00:00:01 . 10.0.0.1 . 0x00000007 . \"eth0\"",
        ] {
            assert!(listed.contains(line), "{line} is not in {listed}");
        }
        // And what nft wrote is read as it was meant: the same, laid down with the table.
        let initial = every.iter().map(|c| (c.set.clone(), c.add.clone())).collect();
        let before = k.seen();
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(initial) }]);
        assert_eq!(before.ns(&Ns::Host).unwrap().tables, k.seen().ns(&Ns::Host).unwrap().tables);
        let table = &before.ns(&Ns::Host).unwrap().tables[&(Family::Inet, "t".to_owned())];
        assert_eq!(table.digest, Some(ruleset(vec![]).digest()));
        assert_eq!(table.chains, ["one", "two", "out"].map(String::from).into());
        assert_eq!(table.base_chains[0].name, "out");
        k.run(&[Step::DeleteTable { ns: Ns::Host, family: Family::Inet, table: "t".into() }]);
    });
}

#[test]
fn a_change_of_elements_says_the_outcome() {
    both(|k| {
        let start = vec![("vips".to_owned(), vec![goto("10.0.0.1", "one"), goto("10.0.0.2", "one")])];
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(start) }]);
        k.run(&[
            // Another value for a key that is there, a key that is not there to delete, both at once.
            update(vec![change("vips", vec![], vec![goto("10.0.0.1", "two")])]),
            update(vec![change(
                "vips",
                vec![goto("10.0.0.7", "one"), goto("10.0.0.2", "two")],
                vec![goto("10.0.0.3", "one")],
            )]),
            update(vec![
                change("vips", vec![goto("10.0.0.3", "one")], vec![goto("10.0.0.3", "two")]),
                change("ports", vec![Element::key([Part::Port(1)])], vec![Element::key([Part::Port(2)])]),
            ]),
        ]);
        // Nothing of a change that is refused is made.
        let before = k.seen();
        let half = vec![
            change("vips", vec![], vec![goto("10.0.0.4", "one")]),
            change("nowhere", vec![], vec![goto("10.0.0.4", "one")]),
        ];
        k.refused(&update(half));
        let wrong =
            vec![change("vips", vec![], vec![goto("10.0.0.4", "one"), goto("10.0.0.5", "no-such-chain")])];
        k.linux.execute(&update(wrong)).unwrap_err();
        let unknown = Step::UpdateElements {
            ns: Ns::Host,
            family: Family::Ip,
            table: "u".into(),
            changes: vec![change("vips", vec![], vec![goto("10.0.0.4", "one")])],
        };
        assert!(k.refused(&unknown).is_missing());
        assert_eq!(before, k.seen());
    });
}

#[test]
fn thousands_of_elements_go_in_one_transaction() {
    both(|k| {
        let many: Vec<Element> = (0..20_000u32)
            .map(|n| {
                Element::map([Part::Ipv4((0x0a00_0000 + n).into()), Part::U32(n % 16)], [v4("10.0.0.5")])
            })
            .collect();
        k.run(&[
            Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(vec![]) },
            update(vec![change("slots", vec![], many.clone())]),
        ]);
        let wrong: Vec<Element> = many.iter().take(5000).cloned().chain([goto("10.0.0.1", "one")]).collect();
        k.linux.execute(&update(vec![change("slots", wrong, vec![])])).unwrap_err();
        k.compare();
        k.run(&[update(vec![change("slots", many, vec![])])]);
    });
}

#[test]
fn a_broken_ruleset_changes_nothing_and_says_why() {
    both(|k| {
        k.run(&[Step::ApplyRuleset { ns: Ns::Host, ruleset: ruleset(vec![]) }]);
        let broken = Ruleset { body: "chain c { nonsense }".into(), ..ruleset(vec![]) };
        let e = k.linux.execute(&Step::ApplyRuleset { ns: Ns::Host, ruleset: broken }).unwrap_err();
        assert!(e.to_string().starts_with("nft -f - # table inet t"), "{e}");
        assert!(matches!(&e.cause, Cause::Nft(said) if said.contains("nonsense")), "{e}");
        k.compare();
    });
}

#[test]
fn tables_of_others_are_seen_and_left_alone() {
    both(|k| {
        let script = "table inet rn-user {\nchain RN-USER {\ntype filter hook forward priority -1; policy drop;\n}\n}\n";
        k.run(&[Step::RunNft { ns: Ns::Host, script: script.into() }]);
        let seen = k.seen();
        let table = &seen.ns(&Ns::Host).unwrap().tables[&(Family::Inet, "rn-user".to_owned())];
        assert_eq!(table.digest, None);
        let base = &table.base_chains[0];
        assert_eq!(
            (base.name.as_str(), base.hook, base.priority, base.policy_drop),
            ("RN-USER", 2, -1, true)
        );
    });
}

#[test]
fn connections_are_forgotten_by_what_they_are() {
    both(|k| {
        let (a, b) = (k.sandbox("a"), k.sandbox("b"));
        k.run(&[
            veth(&a, "eth0", &b, "eth0", 10),
            addr(&a, "eth0", "10.0.0.1/24"),
            addr(&b, "eth0", "10.0.0.2/24"),
            addr(&a, "eth0", "fd00::1/64"),
            addr(&b, "eth0", "fd00::2/64"),
            up(&a, "eth0"),
            up(&b, "eth0"),
            Step::RunNft {
                ns: a.clone(),
                script: "table inet tracked {\nchain c {\ntype filter hook output priority 0;\nct state new accept\n}\n}\n".into(),
            },
        ]);
        let send = || {
            netns::in_ns(&a, || {
                for (to, from) in
                    [("10.0.0.2:53", "0.0.0.0:0"), ("10.0.0.2:54", "0.0.0.0:0"), ("[fd00::2]:53", "[::]:0")]
                {
                    std::net::UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap();
                }
            })
            .unwrap();
        };
        // /proc/net/nf_conntrack need not exist; the tool asks by netlink.
        let count = |what: &[&str]| {
            let args = [&["-L"], what].concat();
            netns::in_ns(&a, || text("conntrack", &args).lines().filter(|l| l.contains("udp")).count())
                .unwrap()
        };
        let all = || count(&["-f", "ipv4"]) + count(&["-f", "ipv6"]);
        let v4 = ConntrackFilter::family(IpFamily::V4);
        let dst = Some("10.0.0.2".parse().unwrap());
        let cases = [
            (ConntrackFilter { proto: Some(17), orig_dst: dst, orig_dport: Some(53), ..v4 }, 2),
            (ConntrackFilter { proto: Some(17), orig_dst: dst, orig_dport: Some(55), ..v4 }, 3),
            (ConntrackFilter { proto: Some(6), orig_dst: dst, ..v4 }, 3),
            (ConntrackFilter { reply_src: dst, ..v4 }, 1),
            (ConntrackFilter { proto: Some(17), reply_src: dst, reply_sport: Some(54), ..v4 }, 2),
            (v4, 1),
            (
                ConntrackFilter {
                    orig_dst: Some("fd00::2".parse().unwrap()),
                    ..ConntrackFilter::family(IpFamily::V6)
                },
                2,
            ),
            (ConntrackFilter::family(IpFamily::V6), 2),
        ];
        for (filter, left) in cases {
            k.run(&[Step::FlushConntrack { ns: a.clone(), filter: v4 }]);
            k.run(&[Step::FlushConntrack { ns: a.clone(), filter: ConntrackFilter::family(IpFamily::V6) }]);
            assert_eq!(all(), 0);
            send();
            assert_eq!(all(), 3);
            k.linux.execute(&Step::FlushConntrack { ns: a.clone(), filter }).unwrap();
            assert_eq!(all(), left, "{filter}");
        }
    });
}

#[test]
fn a_step_in_a_place_that_is_gone_fails_unless_it_removes() {
    both(|k| {
        let gone = k.ns("gone");
        k.refused(&bridge(&gone, "br0", 1));
        k.refused(&veth(&Ns::Host, "rn1", &gone, "eth0", 1));
        k.run(&[
            Step::DeleteLink { ns: gone.clone(), link: "x".into() },
            Step::DeleteTable { ns: gone.clone(), family: Family::Inet, table: "t".into() },
            Step::DeleteLink { ns: Ns::Host, link: "x".into() },
            Step::DeleteTable { ns: Ns::Host, family: Family::Inet, table: "t".into() },
            Step::DelRoute { ns: Ns::Host, route: Route::on_link("10.0.0.0/8".parse().unwrap(), "x") },
            Step::DelRule {
                ns: Ns::Host,
                rule: Rule { family: IpFamily::V4, pref: 5, fwmark: None, to: None, table: 5 },
            },
        ]);
        let long = k.linux.execute(&bridge(&Ns::Host, "a-name-that-is-too-long", 1)).unwrap_err();
        assert!(matches!(long.cause, Cause::Invalid(_)));
    });
}

#[test]
fn a_veth_whose_other_end_is_gone_is_not_taken_for_done() {
    both(|k| {
        let task = k.sandbox("task");
        k.run(&[bridge(&task, "eth0", 3)]);
        k.refused(&veth(&Ns::Host, "rn1", &task, "eth0", 1));
        assert!(k.seen().link(&Ns::Host, "rn1").is_none());
    });
}

#[tokio::test]
async fn changes_are_told() {
    let host = match Scratch::new() {
        Ok(host) => host,
        Err(e) => return println!("skipped: no network namespace can be made here: {e}"),
    };
    let mut events = super::events::Events::open(&host.ns()).unwrap();
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), events.changed()).await;
    assert!(quiet.is_err(), "nothing changed yet");
    let kernel = LinuxKernel::new();
    let bridge = Step::CreateBridge { ns: host.ns(), name: "b".into(), mac: None, mtu: 1500, alias: None };
    kernel.execute(&bridge).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), events.changed()).await.unwrap().unwrap();
    let table = Step::RunNft { ns: host.ns(), script: "table inet t\n".into() };
    kernel.execute(&table).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), events.changed()).await.unwrap().unwrap();
}

#[test]
fn steps_print_as_the_commands_they_stand_for() {
    let task = Ns::Path(Path::new("/run/rn/netns/t1").into());
    let line = |step: Step| step.to_string();
    assert_eq!(
        line(veth(&task, "eth0", &Ns::Host, "rn1", 1)),
        "ip -n /run/rn/netns/t1 link add eth0 address 02:42:0a:00:00:01 mtu 1450 type veth \
         peer name rn1 address 02:42:0a:00:00:02 mtu 1450 netns host"
    );
    assert_eq!(
        line(update(vec![change("vips", vec![goto("10.0.0.9", "one")], vec![goto("10.0.0.8", "two")])])),
        "nft 'delete element inet t vips { 10.0.0.9 : goto one }; add element inet t vips { 10.0.0.8 : goto two }'"
    );
    let route = Route {
        table: 100,
        onlink: true,
        via: Some("169.254.1.1".parse().unwrap()),
        ..Route::on_link("0.0.0.0/0".parse().unwrap(), "rn-ingress")
    };
    assert_eq!(
        line(Step::AddRoute { ns: Ns::Host, route }),
        "ip route replace 0.0.0.0/0 via 169.254.1.1 dev rn-ingress table 100 onlink"
    );
    assert_eq!(
        line(Step::SetSysctl { ns: task, key: "net/ipv4/ip_forward".into(), value: "1".into() }),
        "nsenter --net=/run/rn/netns/t1 sysctl -w net/ipv4/ip_forward=\"1\""
    );
    let _ = (LinkKind::Bridge, Value::Verdict(Verdict::Accept));
}
