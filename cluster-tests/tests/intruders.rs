//! Who is no manager, and says so or otherwise; and strangers in numbers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cluster_tests::{
    Cluster, Host,
    flood::{Flood, Kind},
    intruder::{DENIED, EXHAUSTED, Intruder, Reply, field},
    wait,
};
use nix::sys::signal::Signal;

/// What managers answer to managers only.
const MANAGERS: [&str; 35] = [
    "Control/GetCluster",
    "Control/UpdateCluster",
    "Control/GetUnlockKey",
    "Control/ListNodes",
    "Control/GetNode",
    "Control/UpdateNode",
    "Control/RemoveNode",
    "Control/CreateNetwork",
    "Control/ListNetworks",
    "Control/GetNetwork",
    "Control/RemoveNetwork",
    "Control/CreateService",
    "Control/ListServices",
    "Control/GetService",
    "Control/UpdateService",
    "Control/RemoveService",
    "Control/ListTasks",
    "Control/GetTask",
    "Control/CreateSecret",
    "Control/ListSecrets",
    "Control/GetSecret",
    "Control/UpdateSecret",
    "Control/RemoveSecret",
    "Control/CreateConfig",
    "Control/ListConfigs",
    "Control/GetConfig",
    "Control/UpdateConfig",
    "Control/RemoveConfig",
    "Control/Convergence",
    "Logs/Subscribe",
    "Raft/AppendEntries",
    "Raft/Vote",
    "Raft/InstallSnapshot",
    "Membership/Join",
    "Membership/Leave",
];

/// What they answer to nodes.
const NODES: [&str; 10] = [
    "Dispatcher/Session",
    "Dispatcher/Heartbeat",
    "Dispatcher/Assignments",
    "Dispatcher/UpdateTaskStatus",
    "Dispatcher/ListEndpoints",
    "Dispatcher/Attach",
    "Dispatcher/Leave",
    "LogBroker/Listen",
    "LogBroker/Publish",
    "Ca/IssueCertificate",
];

fn port(host: &Host) -> SocketAddr {
    SocketAddr::new(host.v4(), 2377)
}

/// The id of a host's node.
fn id(host: &Host) -> Result<String> {
    host.rnctl(&["info", "--format", "{{.Swarm.NodeID}}"])
}

struct Attack<'a> {
    cluster: &'a Cluster,
    /// A manager in good standing, for whom the intruder passes itself off.
    victim: &'a Host,
    targets: Vec<SocketAddr>,
}

impl Attack<'_> {
    /// Headers that a manager would send along: on behalf of the victim, and of the user of its own socket.
    fn forgeries(&self) -> Result<[Vec<(&'static str, String)>; 2]> {
        let victim = id(self.victim)?;
        Ok([
            vec![
                ("rn-forwarded-for", format!("{}:40000", self.victim.v4())),
                ("rn-forwarded-node", victim),
                ("rn-forwarded-role", "manager".into()),
                ("rn-forwarded-version", format!("{0}.{0}", u64::MAX)),
            ],
            vec![("rn-forwarded-for", "local".into())],
        ])
    }

    /// Calls everything with each forgery, and what is for managers without one: all is refused, for this reason.
    fn is_refused(&self, who: &str, intruder: &Intruder, reasons: &[&str]) -> Result<()> {
        let ns = self.cluster.client.path();
        for to in &self.targets {
            let check = |rpc: &str, headers: &[(&str, &str)]| {
                // Those who have proved nothing are let in at a certain rate only.
                let reply = wait::until("it is let in", wait::LONG, || {
                    let reply = intruder.call(&ns, *to, rpc, headers, &[])?;
                    ensure!(reply.code != EXHAUSTED, "{reply:?}");
                    Ok(reply)
                })?;
                let reason = reasons.iter().any(|reason| reply.message.contains(reason));
                ensure!(reply.code == DENIED && reason, "{who}, {rpc} at {to} with {headers:?}: {reply:?}");
                Ok(reply)
            };
            let mut last = None;
            for rpc in MANAGERS.iter().chain(&NODES) {
                for forged in self.forgeries()? {
                    let headers: Vec<_> =
                        forged.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    check(rpc, &headers)?;
                }
                if MANAGERS.contains(rpc) {
                    last = Some(check(rpc, &[])?);
                }
            }
            println!("{who} at {to}: {:?}", last.map(|r: Reply| r.message));
        }
        Ok(())
    }
}

#[test]
fn certificates_of_those_who_are_no_managers_any_more_open_nothing() -> Result<()> {
    let mut cluster = Cluster::managed(4, 5)?;
    let worker = Intruder::stolen_from(&cluster.hosts[4])?;
    let manager = Intruder::stolen_from(&cluster.hosts[1])?;
    let (demoted, removed) =
        (Intruder::stolen_from(&cluster.hosts[2])?, Intruder::stolen_from(&cluster.hosts[3])?);
    let ns = cluster.client.path();
    let asks = |intruder: &Intruder, to: &Host, headers: &[(&str, &str)]| {
        intruder.call(&ns, port(to), "Control/ListNodes", headers, &[])
    };
    // The means are good: with a manager's certificate all of this works, for itself and for the user of its socket.
    for target in &cluster.hosts[..2] {
        for stolen in [&manager, &demoted, &removed] {
            ensure!(asks(stolen, target, &[])?.code == 0);
        }
    }
    let leader = cluster.leader()?;
    ensure!(asks(&manager, &cluster.hosts[leader], &[("rn-forwarded-for", "local")])?.code == 0);

    cluster.hosts[0].rnctl(&["node", "demote", "host3", "host4"])?;
    for host in &cluster.hosts[2..4] {
        wait::until("it is a worker", wait::LONG, || host.says(&["node", "ls"], &["Worker nodes"]))?;
    }
    cluster.hosts[3].stop(Signal::SIGTERM)?;
    cluster.hosts[0].rnctl(&["node", "rm", "--force", "host4"])?;
    cluster.wait_managers(2)?;
    wait::until("both managers know", wait::SHORT, || {
        for target in &cluster.hosts[..2] {
            for gone in [&demoted, &removed] {
                ensure!(asks(gone, target, &[])?.code == DENIED);
            }
        }
        Ok(())
    })?;

    let before = cluster.hosts[0].rnctl(&["node", "ls"])?;
    let attack = Attack {
        cluster: &cluster,
        victim: &cluster.hosts[0],
        targets: cluster.hosts[..2].iter().map(port).collect(),
    };
    attack.is_refused("a demoted manager", &demoted, &["it was demoted"])?;
    attack.is_refused("a removed manager", &removed, &["was removed from the swarm"])?;
    attack.is_refused("a worker", &worker, &["only a manager", "is for managers"])?;
    let nobody = Intruder::anonymous()?;
    attack.is_refused("nobody", &nobody, &["only a manager", "is for managers", "is for nodes"])?;
    for rpc in NODES.iter().filter(|rpc| **rpc != "Ca/IssueCertificate") {
        let reply = nobody.call(&ns, port(&cluster.hosts[0]), rpc, &[], &[])?;
        ensure!(reply.code == DENIED, "{rpc}: {reply:?}");
    }
    // A demoted one gets its next certificate for itself: by what it says here, only the signing request is missing.
    for target in &cluster.hosts[..2] {
        let reply = demoted.call(&ns, port(target), "Ca/IssueCertificate", &[], &[])?;
        ensure!(reply.message.contains("signing request"), "{reply:?}");
    }
    ensure!(cluster.hosts[0].rnctl(&["node", "ls"])? == before, "and nothing has changed");

    // Who is promoted anew is a manager again, whatever its old certificate was worth.
    cluster.hosts[0].rnctl(&["node", "promote", "host3"])?;
    cluster.wait_managers(3)?;
    ensure!(asks(&Intruder::stolen_from(&cluster.hosts[2])?, &cluster.hosts[1], &[])?.code == 0);
    Ok(())
}

#[test]
fn an_expired_certificate_gets_its_own_successor_and_nothing_else() -> Result<()> {
    let mut cluster = Cluster::managed_with(3, 4, &["--min-cert-expiry", "1s"])?;
    cluster.manager().rnctl(&["swarm", "update", "--cert-expiry", "10s"])?;
    let first = |host: &Host| -> Result<String> {
        Ok(std::fs::read_to_string(host.data_root().join("swarm/certificates/swarm-node.crt"))?)
    };
    let before: Vec<String> = cluster.hosts.iter().map(first).collect::<Result<_>>()?;
    cluster.manager().rnctl(&["swarm", "ca", "--rotate", "-q"])?;
    for (host, before) in cluster.hosts.iter().zip(&before) {
        wait::until("it has a certificate that is short-lived", wait::LONG, || {
            ensure!(first(host)? != *before);
            Ok(())
        })?;
    }
    // The others go on renewing theirs.
    for k in [2, 3] {
        cluster.hosts[k].stop(Signal::SIGKILL)?;
    }
    let stolen = [Intruder::stolen_from(&cluster.hosts[2])?, Intruder::stolen_from(&cluster.hosts[3])?];
    let ns = cluster.client.path();
    let asks = |intruder: &Intruder, rpc: &str| intruder.call(&ns, port(&cluster.hosts[0]), rpc, &[], &[]);
    for intruder in &stolen {
        wait::until("it has expired", wait::LONG, || {
            let reply = asks(intruder, "Dispatcher/Heartbeat")?;
            ensure!(reply.message.contains("has expired"), "{reply:?}");
            Ok(())
        })?;
    }
    let attack = Attack {
        cluster: &cluster,
        victim: &cluster.hosts[0],
        targets: cluster.hosts[..2].iter().map(port).collect(),
    };
    attack.is_refused("an expired manager", &stolen[0], &["has expired"])?;
    attack.is_refused("an expired worker", &stolen[1], &["has expired"])?;
    for intruder in &stolen {
        let reply = asks(intruder, "Ca/IssueCertificate")?;
        ensure!(reply.message.contains("signing request"), "{reply:?}");
    }
    for k in [2, 3] {
        cluster.hosts[k].start()?;
    }
    cluster.wait_managers(3)?;
    cluster.wait_ready(4)
}

/// How long writes take, one after the other.
fn writes(host: &Host, label: &str, n: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for k in 0..n {
        let start = Instant::now();
        host.rnctl(&["network", "create", "-d", "overlay", &format!("{label}{k}")])?;
        took.push(start.elapsed());
        host.rnctl(&["network", "rm", &format!("{label}{k}")])?;
    }
    took.sort_unstable();
    Ok(took)
}

/// How long two hosts take to join, one as a worker and one as a manager, and leave again.
fn joins(cluster: &Cluster, n: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        cluster.join(&cluster.hosts[4], "worker")?;
        took.push(start.elapsed());
        cluster.hosts[4].rnctl(&["swarm", "leave"])?;
    }
    took.sort_unstable();
    Ok(took)
}

fn middle_and_worst(took: &[Duration]) -> String {
    format!("median {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1])
}

#[test]
fn strangers_in_thousands_hold_up_no_member() -> Result<()> {
    let mut cluster = Cluster::daemons(5)?;
    let first = cluster.hosts[0].v4().to_string();
    cluster.hosts[0].rnctl(&["swarm", "init", "--advertise-addr", &first])?;
    for (k, role) in [(1, "manager"), (2, "manager"), (3, "worker")] {
        cluster.join(&cluster.hosts[k], role)?;
    }
    cluster.wait_managers(3)?;
    let (calm_joins, calm_writes) = (joins(&cluster, 5)?, writes(cluster.manager(), "calm", 20)?);
    let leader = cluster.leader()?;
    let follower = if leader == 1 { 2 } else { 1 };

    let targets: Vec<SocketAddr> =
        cluster.hosts[..3].iter().flat_map(|h| [port(h), SocketAddr::new(h.v6(), 2377)]).collect();
    let kinds = [Kind::Silent, Kind::Half, Kind::Whole, Kind::BadToken];
    let flood = Flood::start(cluster.client.path(), targets, &kinds, 600)?;
    wait::until("the flood is there", wait::LONG, || {
        let (connections, handshakes, tokens) = flood.counts();
        ensure!(connections > 3000 && handshakes > 200 && tokens > 0, "{:?}", flood.counts());
        Ok(())
    })?;
    let before = flood.counts();
    let start = Instant::now();
    let (joined, wrote) = (joins(&cluster, 5)?, writes(cluster.manager(), "flood", 20)?);
    // A member that was away comes back through it, a worker and a manager.
    for k in [3, follower] {
        cluster.hosts[k].stop(Signal::SIGKILL)?;
        cluster.hosts[k].start()?;
    }
    cluster.wait_managers(3)?;
    wait::until("all that are members are ready", wait::LONG, || {
        let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        for host in &cluster.hosts[..4] {
            ensure!(list.lines().any(|l| l == format!("{} Ready", host.name)), "{list}");
        }
        Ok(())
    })?;
    let (secs, after) = (start.elapsed().as_secs_f64(), flood.counts());
    let rate = |before: u64, after: u64| (after - before) as f64 / secs;
    println!(
        "flood: {:.0} connections/s, {:.0} handshakes/s, {:.0} bad tokens/s",
        rate(before.0, after.0),
        rate(before.1, after.1),
        rate(before.2, after.2)
    );
    println!("join, calm:  {}", middle_and_worst(&calm_joins));
    println!("join, flood: {}", middle_and_worst(&joined));
    println!("write, calm:  {}", middle_and_worst(&calm_writes));
    println!("write, flood: {}", middle_and_worst(&wrote));
    ensure!(cluster.leader()? == leader, "heartbeats go on: the leader is the same");
    drop(flood);
    Ok(())
}

/// A token that is none costs the managers no round: without a majority it is refused as quickly as with one.
#[test]
fn a_bad_token_is_refused_without_asking_anybody() -> Result<()> {
    let mut cluster = Cluster::managed(2, 2)?;
    let leader = cluster.leader()?;
    let (to, ns) = (port(&cluster.hosts[leader]), cluster.client.path());
    let nobody = Intruder::anonymous()?;
    let token = |secret: &str| {
        let real = cluster.manager().rnctl(&["swarm", "join-token", "-q", "worker"])?;
        let (digest, _) = real.rsplit_once('-').unwrap();
        Ok::<_, anyhow::Error>(field(2, &format!("{digest}-{secret}")))
    };
    let bad = token(&"0".repeat(25))?;
    for message in [&bad[..], &[]] {
        let reply = nobody.call(&ns, to, "Ca/IssueCertificate", &[], message)?;
        ensure!(reply.code == DENIED, "{reply:?}");
    }
    // Frozen, the other manager acknowledges nothing. The leader still leads for a moment: whatever needs a majority waits.
    let frozen = nix::unistd::Pid::from_raw(cluster.hosts[1 - leader].pid().unwrap());
    cluster.ask(leader);
    wait::until("it is refused while the leader still leads", wait::LONG, || {
        cluster.wait_managers(2)?;
        ensure!(cluster.leader()? == leader, "the other one leads by now");
        nix::sys::signal::kill(frozen, Signal::SIGSTOP)?;
        let reply = nobody.call(&ns, to, "Ca/IssueCertificate", &[], &bad);
        nix::sys::signal::kill(frozen, Signal::SIGCONT)?;
        let reply = reply?;
        ensure!(reply.code == DENIED && reply.message.contains("join token"), "{reply:?}");
        Ok(())
    })
}
