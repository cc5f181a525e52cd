//! Two nodes and a client in namespaces of their own, on real packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use gossip::EndpointState;
use kernel::{LinuxKernel, Ns, netns::in_ns};
use proto::model::TaskId;

use super::{engine::Depth, engine::Engine, *};
use crate::{
    desired::{DnsPorts, Member, Underlay},
    fixture::{World, id},
};

mod timed;

const WAIT: Duration = Duration::from_secs(2);

fn sh(line: &str) {
    let done = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

fn root() -> bool {
    !skip::unless(&[skip::Need::Root, skip::Need::Namespaces])
}

/// A machine: a namespace on the test's LAN.
struct Host {
    name: String,
    world: World,
    engine: Option<Engine>,
    dir: tempfile::TempDir,
}

struct Lan {
    prefix: String,
}

impl Lan {
    fn new(test: &str, hosts: &[&str]) -> Self {
        let prefix = format!("plan-{test}-{}", std::process::id());
        sh(&format!(
            "ip netns add {prefix}-lan; ip -n {prefix}-lan link add lan type bridge; ip -n {prefix}-lan link set lan up"
        ));
        for (n, host) in hosts.iter().enumerate() {
            let (ns, n) = (format!("{prefix}-{host}"), n + 1);
            sh(&format!(
                "ip netns add {ns}; ip -n {ns} link set lo up
                 nsenter --net=/run/netns/{ns} sysctl -qw net.ipv6.conf.default.accept_dad=0
                 ip -n {ns} link add eth0 type veth peer name p{n} netns {prefix}-lan
                 ip -n {prefix}-lan link set p{n} master lan up
                 ip -n {ns} addr add 10.77.0.{n}/24 dev eth0; ip -n {ns} addr add fd77::{n}/64 dev eth0 nodad
                 ip -n {ns} link set eth0 up"
            ));
        }
        Self { prefix }
    }

    fn ns(&self, host: &str) -> Ns {
        Ns::Path(format!("/run/netns/{}-{host}", self.prefix).into())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // For a look around after a failure.
        if let Some(seconds) = std::env::var("RN_TEST_HOLD").ok().and_then(|s| s.parse().ok()) {
            thread::sleep(Duration::from_secs(seconds));
        }
        let list = Command::new("ip").args(["netns", "list"]).output().unwrap();
        for line in String::from_utf8_lossy(&list.stdout).lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            if name.starts_with(&self.prefix) {
                _ = Command::new("ip").args(["netns", "del", name]).status();
            }
        }
    }
}

impl Host {
    fn new(lan: &Lan, name: &str, world: World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Self { name: format!("{}-{name}", lan.prefix), world, engine: None, dir };
        let config = Config {
            names: host.world.local.names.clone(),
            state_dir: host.dir.path().join("network"),
            netns_dir: host.netns_dir(),
            gateway_subnet: None,
            firewall_compat: true,
            vxlan_members_only: true,
        };
        host.engine = host.within(|_| Some(Engine::new(config, Arc::new(LinuxKernel::new()))));
        let underlay = Underlay { addr: host.underlay(), ..host.world.member.underlay.clone() };
        let member = Member { underlay, ..host.world.member.clone() };
        host.within(|host| {
            let engine = host.engine.as_mut().unwrap();
            engine.enter(member, &[]).unwrap();
            for sandbox in host.world.local.sandboxes.values() {
                let request = SandboxRequest {
                    workload: Arc::clone(&sandbox.workload),
                    networks: sandbox.networks.clone(),
                };
                engine.admit(request).unwrap();
            }
        });
        host
    }

    fn underlay(&self) -> IpAddr {
        self.world.view.nodes[&self.world.member.me].vtep
    }

    fn netns_dir(&self) -> PathBuf {
        self.dir.path().join("netns")
    }

    fn task_ns(&self, task: &str) -> Ns {
        Ns::Path(self.netns_dir().join(task))
    }

    /// On a thread that is in the machine.
    fn within<T: Send>(&mut self, work: impl FnOnce(&mut Self) -> T + Send) -> T {
        let ns = Ns::Path(format!("/run/netns/{}", self.name).into());
        in_ns(&ns, || work(self)).unwrap()
    }

    fn pass(&mut self, depth: Depth) {
        let (assigned, view) = (Arc::new(self.world.assigned.clone()), Arc::new(self.world.view.clone()));
        let status = self.within(|host| {
            let engine = host.engine.as_mut().unwrap();
            engine.pass(&assigned, &view, depth);
            engine.status()
        });
        assert_eq!((&status.failed, &status.port_conflicts), (&vec![], &vec![]), "{}", self.name);
    }

    fn sh(&mut self, line: &str) {
        self.within(|_| sh(line));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let dir = self.netns_dir();
        for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            _ = Command::new("umount").arg("-l").arg(file.path()).status();
        }
    }
}

/// Answers each TCP connection and UDP datagram to the port with `name peer`.
fn serve(ns: &Ns, name: &str, port: u16) {
    let (tcp, udp) =
        in_ns(ns, || (TcpListener::bind(("::", port)).unwrap(), UdpSocket::bind(("::", port)).unwrap()))
            .unwrap();
    let answer = |name: &str, peer: SocketAddr| format!("{name} {}", peer.ip().to_canonical());
    let own = name.to_owned();
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let peer = stream.peer_addr().unwrap();
            let mut stream = stream;
            let mut line = [0u8; 4];
            if stream.read_exact(&mut line).is_ok() {
                let body = if &line == b"big\n" { "x".repeat(3_000_000) } else { String::new() };
                _ = stream.write_all((answer(&own, peer) + &body).as_bytes());
            }
        }
    });
    let own = name.to_owned();
    thread::spawn(move || {
        let mut buffer = [0u8; 2048];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            _ = udp.send_to(answer(&own, peer).as_bytes(), peer);
        }
    });
}

fn tcp(ns: &Ns, to: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    in_ns(ns, || {
        let mut stream = TcpStream::connect_timeout(&to, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.write_all(b"who\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?
}

fn udp(ns: &Ns, to: &str) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    in_ns(ns, || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.connect(to)?;
        socket.send(b"who")?;
        let mut buffer = [0u8; 200];
        let n = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
    })?
}

/// Asks until both `web1` and `web2` have answered, each time with the client's address.
fn both(what: &str, peer: &str, ask: impl Fn() -> io::Result<String>) {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = ask().unwrap_or_else(|e| panic!("{what}: {e}"));
        let (name, from) = answer.split_once(' ').unwrap();
        assert_eq!(from, peer, "{what}, answered by {name}");
        seen.insert(name.to_owned());
        if seen.len() == 2 {
            println!("{what:<42} task saw {peer}");
            return;
        }
    }
    panic!("{what}: only {seen:?} answered");
}

fn world(node: &str) -> World {
    let mut w = World::seen_by(node);
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    w.service("idle", &["10.0.1.3", "fd00:2::3"], 8081, &[]);
    w.service("cli", &[], 0, &[]);
    w.task("web", 1, "a", 11, EndpointState::Ready);
    w.task("web", 2, "b", 12, EndpointState::Ready);
    w.task("cli", 1, "a", 13, EndpointState::Ready);
    w
}

fn cluster(test: &str) -> (Host, Host, Lan) {
    let lan = Lan::new(test, &["a", "b", "c", "client"]);
    let (mut a, mut b) = (Host::new(&lan, "a", world("a")), Host::new(&lan, "b", world("b")));
    a.pass(Depth::Changes);
    b.pass(Depth::Changes);
    serve(&a.task_ns("web1"), "web1", 80);
    serve(&b.task_ns("web2"), "web2", 80);
    (a, b, lan)
}

#[test]
fn the_mesh_keeps_the_clients_address() {
    if !root() {
        return;
    }
    let (a, _b, lan) = cluster("mesh");
    let client = lan.ns("client");
    for (to, own) in [
        ("10.77.0.1:8080", "10.77.0.4"),
        ("10.77.0.2:8080", "10.77.0.4"),
        ("[fd77::1]:8080", "fd77::4"),
        ("[fd77::2]:8080", "fd77::4"),
    ] {
        both(&format!("tcp outside client -> {to}"), own, || tcp(&client, to));
        both(&format!("udp outside client -> {to}"), own, || udp(&client, to));
    }
    let (node, task) = (lan.ns("a"), a.task_ns("cli1"));
    both("tcp the node itself -> its address", "10.77.0.1", || tcp(&node, "10.77.0.1:8080"));
    both("tcp the node itself -> its address, v6", "fd77::1", || tcp(&node, "[fd77::1]:8080"));
    both("udp the node itself -> its address", "10.77.0.1", || udp(&node, "10.77.0.1:8080"));
    both("tcp the node itself -> 127.0.0.1", "10.0.0.1", || tcp(&node, "127.0.0.1:8080"));
    both("udp the node itself -> 127.0.0.1", "10.0.0.1", || udp(&node, "127.0.0.1:8080"));
    both("tcp a task here -> its node", "10.0.0.1", || tcp(&task, "10.77.0.1:8080"));
    both("tcp a task here -> its node, v6", "fd00:1::1", || tcp(&task, "[fd77::1]:8080"));
    // Led back to its own node, the flow bears the ingress address of the node it asked; elsewhere the asker's own.
    let answers = |ns: &Ns| (0..40).map(|_| tcp(ns, "10.77.0.2:8080").unwrap()).collect::<BTreeSet<_>>();
    let expected = BTreeSet::from(["web1 10.0.0.2".to_owned(), "web2 10.77.0.1".to_owned()]);
    assert_eq!(answers(&task), expected, "a task here -> the other node");
    assert_eq!(answers(&node), expected, "the node itself -> the other node");

    // Refused, not given up on after a while.
    for (what, refused) in [
        ("::1", tcp(&node, "[::1]:8080")),
        ("no backend, tcp", tcp(&client, "10.77.0.1:8081")),
        ("no backend, tcp, v6", tcp(&client, "[fd77::2]:8081")),
        ("no backend, udp", udp(&client, "10.77.0.1:8081")),
    ] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "{what}");
    }

    let body = in_ns(&client, || {
        let mut stream = TcpStream::connect("10.77.0.1:8080").unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.write_all(b"big\n").unwrap();
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        body
    });
    assert!(body.unwrap().len() > 3_000_000, "a large reply");
}

#[test]
fn tasks_reach_services_the_world_and_their_resolver_but_not_each_other() {
    if !root() {
        return;
    }
    let (mut a, _b, lan) = cluster("task");
    let task = a.task_ns("cli1");
    both("tcp virtual address", "10.0.1.13", || tcp(&task, "10.0.1.2:80"));
    both("udp virtual address", "10.0.1.13", || udp(&task, "10.0.1.2:80"));
    both("tcp virtual address, v6", "fd00:2::d", || tcp(&task, "[fd00:2::2]:80"));
    assert_eq!(tcp(&task, "10.0.1.12:80").unwrap(), "web2 10.0.1.13", "a task by its own address");
    assert_eq!(tcp(&task, "[fd00:2::c]:80").unwrap(), "web2 fd00:2::d");
    let itself = a.task_ns("web1");
    both("tcp a service's own task", "10.0.1.11", || tcp(&itself, "10.0.1.2:80"));

    // Refused, not given up on after a while.
    for to in ["10.0.1.3:80", "[fd00:2::3]:80"] {
        assert_eq!(tcp(&task, to).unwrap_err().kind(), io::ErrorKind::ConnectionRefused, "no backend");
    }
    // The sender itself is told, before the packet has left.
    assert_eq!(udp(&task, "10.0.1.3:80").unwrap_err().kind(), io::ErrorKind::PermissionDenied, "no backend");

    serve(&lan.ns("client"), "world", 90);
    assert_eq!(tcp(&task, "10.77.0.4:90").unwrap(), "world 10.77.0.1", "masqueraded");
    assert_eq!(tcp(&task, "[fd77::4]:90").unwrap(), "world fd77::1", "masqueraded");

    let web1: WorkloadId = id("web1");
    let sandbox = a.engine.as_ref().unwrap().info(&web1).unwrap();
    for addr in sandbox.gateway_addrs {
        let to = SocketAddr::new(addr, 80).to_string();
        assert!(tcp(&task, &to).is_err(), "a task's gateway address is not for other tasks");
    }

    let cli1: WorkloadId = id("cli1");
    let resolver = in_ns(&task, || UdpSocket::bind("127.0.0.11:0").unwrap()).unwrap();
    let port = resolver.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0u8; 100];
        while let Ok((_, peer)) = resolver.recv_from(&mut buffer) {
            _ = resolver.send_to(b"answer", peer);
        }
    });
    a.engine.as_mut().unwrap().set_dns(&cli1, DnsPorts { udp: port, tcp: port });
    a.pass(Depth::Changes);
    assert_eq!(udp(&task, "127.0.0.11:53").unwrap(), "answer");
}

#[test]
fn what_is_in_place_is_left_alone_and_what_is_broken_is_repaired() {
    if !root() {
        return;
    }
    let (mut a, mut b, lan) = cluster("repair");
    let client = lan.ns("client");
    let nothing_to_do = |host: &mut Host| {
        let plan = host.within(|host| host.engine.as_ref().unwrap().dry_run());
        assert!(plan.is_empty(), "{}", plan.steps().map(|s| format!("{s}\n")).collect::<String>());
    };
    nothing_to_do(&mut a);
    nothing_to_do(&mut b);

    let began = Instant::now();
    for _ in 0..20 {
        a.pass(Depth::Light);
    }
    println!("a light pass: {:?}", began.elapsed() / 20);

    a.sh("nft flush ruleset; ip link del rn-ingress; ip rule del pref 90");
    assert!(tcp(&client, "10.77.0.1:8080").is_err());
    a.pass(Depth::Light);
    nothing_to_do(&mut a);
    both("after the host's tables were flushed", "10.77.0.4", || tcp(&client, "10.77.0.1:8080"));

    let overlay = a.netns_dir().join("ov-app");
    let inside = format!("nsenter --net={}", overlay.display());
    a.sh(&format!(
        "{inside} bridge fdb del 02:42:0a:00:01:0c dev vxlan0; {inside} ip neigh del 10.0.1.12 dev vxlan0"
    ));
    let task = a.task_ns("cli1");
    a.pass(Depth::Light);
    assert_eq!(tcp(&task, "10.0.1.12:80").unwrap(), "web2 10.0.1.13");

    // A task that drains gets nothing new, and its place is given back when it goes.
    for host in [&mut a, &mut b] {
        host.world.task("web", 1, "a", 11, EndpointState::Draining);
        host.pass(Depth::Changes);
    }
    for _ in 0..12 {
        assert_eq!(tcp(&client, "10.77.0.1:8080").unwrap(), "web2 10.77.0.4");
        assert_eq!(udp(&task, "10.0.1.2:80").unwrap(), "web2 10.0.1.13");
    }
    let (web1, app, ingress) = (id::<TaskId>("web1"), id("app"), id("ingress"));
    a.world.view.endpoints.remove(&(app, web1.clone()));
    a.world.view.endpoints.remove(&(ingress, web1.clone()));
    let web1 = WorkloadId::Task(web1);
    a.world.local.sandboxes.remove(&web1);
    a.engine.as_mut().unwrap().dismiss(&web1);
    a.pass(Depth::Changes);
    assert!(!a.netns_dir().join("web1").exists());
    nothing_to_do(&mut a);

    // The last task takes the overlay with it; the node still serves the port.
    let cli1: WorkloadId = id("cli1");
    a.engine.as_mut().unwrap().dismiss(&cli1);
    a.pass(Depth::Changes);
    assert!(!overlay.exists());
    assert_eq!(tcp(&client, "10.77.0.1:8080").unwrap(), "web2 10.77.0.4");
    nothing_to_do(&mut a);
}

/// As ufw or dockerd leave a machine: what nobody has allowed is not forwarded.
#[test]
fn other_firewalls_that_drop_are_opened_for_us_alone() {
    if !root() {
        return;
    }
    let (mut a, _b, lan) = cluster("wall");
    let (client, task) = (lan.ns("client"), a.task_ns("cli1"));
    serve(&client, "world", 90);
    let wall = "nft add table FAMILY filter; nft 'add chain FAMILY filter FORWARD { type filter hook forward priority 0; policy drop; }'";
    let walls = "nft add table inet rejecting; nft 'add chain inet rejecting last { type filter hook forward priority 10; }'; \
                 nft add rule inet rejecting last counter reject with icmpx admin-prohibited";
    for line in [wall.replace("FAMILY", "ip"), wall.replace("FAMILY", "ip6"), walls.to_owned()] {
        a.sh(&line);
    }
    // A task here answers from behind the forward hook; so does one on another node.
    let blocked = (0..4).filter(|_| tcp(&client, "10.77.0.1:8080").is_err()).count();
    assert_eq!(blocked, 4, "the walls stand");
    a.pass(Depth::Light);
    both("tcp, through other firewalls", "10.77.0.4", || tcp(&client, "10.77.0.1:8080"));
    both("tcp, through other firewalls, v6", "fd77::4", || tcp(&client, "[fd77::1]:8080"));
    assert_eq!(tcp(&task, "10.77.0.4:90").unwrap(), "world 10.77.0.1", "out");
    assert_eq!(a.engine.as_ref().unwrap().status().dropping.len(), 3);
    let plan = a.within(|host| host.engine.as_ref().unwrap().dry_run());
    assert!(plan.is_empty(), "a second pass has nothing to do");

    // A firewall that is loaded anew is opened again; one that has become open gets back what is its own.
    a.sh("nft flush chain ip filter FORWARD");
    assert!(tcp(&client, "10.77.0.1:8080").is_err());
    a.pass(Depth::Light);
    both("tcp, after a reload", "10.77.0.4", || tcp(&client, "10.77.0.1:8080"));
    a.sh("nft 'chain ip filter FORWARD { policy accept; }'; nft flush chain inet rejecting last");
    a.pass(Depth::Light);
    let rules = a.within(|_| {
        let listed = |args: &[&str]| Command::new("nft").args(args).output().unwrap().stdout;
        [
            listed(&["list", "chain", "ip", "filter", "FORWARD"]),
            listed(&["list", "chain", "inet", "rejecting", "last"]),
            listed(&["list", "chain", "ip6", "filter", "FORWARD"]),
        ]
        .map(|text| String::from_utf8_lossy(&text).matches("rn:daemon-a:forward").count())
    });
    assert_eq!(rules, [0, 0, 4]);
}
