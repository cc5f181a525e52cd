//! The same steps, against Linux and against the model: what is then observed must be the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, path::Path, process::Command};

use proto::model::{Mac, Vni};

use super::{
    Cause, ConntrackFilter, Element, ElementChange, FakeKernel, Family, FdbEntry, IpFamily, Kernel,
    KernelError, LinuxKernel, Neigh, Ns, Observed, Part, PortFlags, Route, Rule, Ruleset, Scope, Step,
    Verdict, VethEnd, Vxlan, Wanted, alias,
    netns::{self, Scratch},
};

mod conntrack;
mod nft;

use nft::{change, goto, update};

const DAEMON: &str = "d1";

/// Two kernels in the same state: Linux, in fresh namespaces, and the model.
struct Both {
    dir: tempfile::TempDir,
    linux: LinuxKernel,
    fake: FakeKernel,
}

/// Runs a scenario in a fresh host namespace, if this process may make one.
fn both(scenario: impl FnOnce(&Both) + Send) {
    if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
        return;
    }
    let host = Scratch::new().unwrap();
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
        assert_same(&normal(linux, &fake), &normal(fake.clone(), &fake));
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

fn assert_same(linux: &Observed, fake: &Observed) {
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
        let interface = seen.link(&task, "eth0").unwrap();
        assert_eq!((interface.mtu, interface.mac, interface.up), (1400, Some(mac(50)), true));
        assert_eq!(interface.owned_by(DAEMON), Some("task2"));
        assert_eq!(interface.owned_by("d"), None);
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
    if skip::unless(&[skip::Need::Root, skip::Need::Namespaces]) {
        return;
    }
    let host = Scratch::new().unwrap();
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
}
