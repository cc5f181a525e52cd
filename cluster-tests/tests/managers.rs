//! Several managers: they come and go, and any minority of them may be lost.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, probe::Load, wait};
use nix::sys::signal::Signal;

fn networks(host: &Host) -> Result<String> {
    host.rnctl(&["network", "ls", "--format", "{{.Name}}"])
}

/// Creates an overlay until it succeeds; how long that took.
fn write(host: &Host, name: &str) -> Result<Duration> {
    let start = Instant::now();
    wait::until(&format!("{} accepts a write", host.name), wait::SHORT, || {
        host.rnctl(&["network", "create", "-d", "overlay", name])
    })?;
    Ok(start.elapsed())
}

#[test]
fn managers_join_are_promoted_and_demoted_and_all_of_them_serve() -> Result<()> {
    let cluster = Cluster::managed(3, 5)?;
    let hosts = &cluster.hosts;
    for (k, host) in hosts[..3].iter().enumerate() {
        host.rnctl(&["network", "create", "-d", "overlay", &format!("by{k}")])?;
        for other in &hosts[..3] {
            let list = networks(other)?;
            ensure!(
                list.lines().any(|l| l == format!("by{k}")),
                "{} does not read what {} wrote: {list}",
                other.name,
                host.name
            );
        }
    }
    hosts[3].says(&["node", "ls"], &["not a swarm manager"])?;

    let said = hosts[0].rnctl(&["node", "promote", "host4", "host5"])?;
    ensure!(
        said == "Node host4 promoted to a manager in the swarm.\nNode host5 promoted to a manager in the swarm.",
        "{said}"
    );
    cluster.wait_managers(5)?;
    ensure!(hosts[0].rnctl(&["node", "promote", "host4"])? == "Node host4 is already a manager.");
    let seen = networks(&hosts[4])?;
    ensure!(seen.lines().any(|l| l == "by2"), "{seen}");
    hosts[3].rnctl(&["network", "create", "-d", "overlay", "by3"])?;
    let info = hosts[3].rnctl(&["info", "--format", "{{.Swarm.ControlAvailable}} {{.Swarm.Managers}}"])?;
    ensure!(info == "true 5", "{info}");

    // One demotes another, and itself.
    ensure!(hosts[3].rnctl(&["node", "demote", "host5"])? == "Manager host5 demoted in the swarm.");
    ensure!(hosts[3].rnctl(&["node", "demote", "host4"])? == "Manager host4 demoted in the swarm.");
    for host in &hosts[3..] {
        wait::until(&format!("{} is a worker", host.name), wait::LONG, || {
            host.says(&["node", "ls"], &["Worker nodes can't be used"])
        })?;
        wait::until("a worker keeps no manager's state", wait::SHORT, || {
            ensure!(!host.data_root().join("swarm/raft").exists(), "{}", host.name);
            Ok(())
        })?;
    }
    ensure!(hosts[0].rnctl(&["node", "demote", "host4"])? == "Node host4 is already a worker.");
    cluster.wait_managers(3)?;
    cluster.wait_ready(5)?;

    // The leader demotes itself: another takes over.
    let leader = cluster.leader()?;
    let name = hosts[leader].name.clone();
    hosts[leader].rnctl(&["node", "demote", &name])?;
    let other = hosts.iter().find(|h| h.name != name).unwrap();
    write(other, "after")?;
    wait::until("two managers are left", wait::LONG, || {
        let list = other.rnctl(&["node", "ls", "--format", "{{.ManagerStatus}}"])?;
        let count = |status: &str| list.lines().filter(|l| *l == status).count();
        ensure!(count("Leader") == 1 && count("Reachable") == 1, "{list}");
        Ok(())
    })?;
    let managers: Vec<&Host> = hosts[..3].iter().filter(|h| h.name != name).collect();
    managers[0].rnctl(&["node", "demote", &managers[1].name])?;
    wait::until("one manager is left", wait::LONG, || {
        managers[1].says(&["node", "ls"], &["Worker nodes can't be used"])
    })?;
    managers[0].says(
        &["node", "demote", &managers[0].name],
        &["attempting to demote the last manager of the swarm"],
    )?;
    managers[0]
        .says(&["swarm", "leave"], &["Removing the last manager erases all current state of the swarm"])?;
    Ok(())
}

#[test]
fn who_would_take_the_quorum_along_does_not_leave() -> Result<()> {
    let mut cluster = Cluster::managed(3, 4)?;
    let leader = cluster.leader()?;
    let (one, two) = match leader {
        0 => (1, 2),
        1 => (0, 2),
        _ => (0, 1),
    };
    let follower = cluster.hosts[one].name.clone();
    cluster.hosts[one].says(
        &["swarm", "leave"],
        &["participating as a manager", "--force-new-cluster", "Use `--force` to suppress this message"],
    )?;
    cluster.hosts[leader]
        .says(&["node", "rm", "-f", &follower], &["must be demoted to worker before removal"])?;
    cluster.hosts[leader].says(&["node", "rm", "host4"], &["is not down and can't be removed"])?;

    cluster.ask(leader);
    cluster.hosts[two].stop(Signal::SIGKILL)?;
    wait::until("the killed manager is Unreachable", wait::SHORT, || {
        let statuses = cluster.statuses()?;
        ensure!(statuses.iter().any(|(_, s)| s == "Unreachable"), "{statuses:?}");
        Ok(())
    })?;
    cluster.hosts[leader].says(
        &["node", "demote", &follower],
        &["can't remove member from the raft: this would result in a loss of quorum"],
    )?;
    cluster.hosts[one].says(
        &["swarm", "leave"],
        &[
            "Removing this node leaves 1 managers out of 3",
            "Without a Raft quorum your swarm will be inaccessible",
        ],
    )?;
    // A dead manager may go: the rest still decides.
    let dead = cluster.hosts[two].name.clone();
    cluster.hosts[leader].rnctl(&["node", "demote", &dead])?;
    wait::until("the dead manager is out of raft", wait::SHORT, || {
        let statuses = cluster.statuses()?;
        ensure!(statuses.iter().filter(|(_, s)| !s.is_empty()).count() == 2, "{statuses:?}");
        Ok(())
    })?;
    // It comes back as what it was made meanwhile.
    cluster.hosts[two].start()?;
    wait::until("the returned one is a worker", wait::LONG, || {
        cluster.hosts[two].says(&["node", "ls"], &["Worker nodes can't be used"])
    })?;
    cluster.wait_ready(4)?;

    // With force a manager leaves, raft knows, and the node can be removed once it is down.
    ensure!(cluster.hosts[leader].rnctl(&["node", "promote", &dead])?.contains("promoted"));
    cluster.wait_managers(3)?;
    ensure!(cluster.hosts[one].rnctl(&["swarm", "leave", "--force"])? == "Node left the swarm.");
    let state = cluster.hosts[one].rnctl(&["info", "--format", "{{.Swarm.LocalNodeState}}"])?;
    ensure!(state == "inactive", "{state}");
    wait::until("the node that left is Down", wait::LONG, || {
        let list = cluster.manager().rnctl(&[
            "node",
            "ls",
            "--format",
            "{{.Hostname}} {{.Status}} {{.ManagerStatus}}",
        ])?;
        ensure!(list.lines().any(|l| l == format!("{follower} Down Unreachable")), "{list}");
        Ok(())
    })?;
    cluster.manager().rnctl(&["node", "rm", &follower])?;
    // A worker leaves without force; both join again.
    cluster.hosts[3].rnctl(&["swarm", "leave"])?;
    cluster.join(&cluster.hosts[one], "manager")?;
    let joined = cluster.join(&cluster.hosts[3], "worker")?;
    ensure!(joined.contains("This node joined a swarm as a worker"), "{joined}");
    cluster.wait_managers(3)?;
    Ok(())
}

#[test]
fn a_killed_leader_is_replaced_and_neither_tasks_nor_traffic_notice() -> Result<()> {
    let mut cluster = Cluster::managed(3, 4)?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "4", "--publish", "8080:80"])?;
    cluster.wait_running("web", 4)?;
    cluster.wait_answers(8080)?;
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 8, Duration::from_millis(10));
    load.wait_for(100);
    for round in 0..2 {
        let leader = cluster.leader()?;
        let other = (leader + 1) % 3;
        cluster.ask(other);
        cluster.hosts[leader].stop(Signal::SIGKILL)?;
        let took = write(&cluster.hosts[other], &format!("after{round}"))?;
        println!("leader killed -> next write: {took:?}");
        ensure!(cluster.leader()? != leader);
        // The workers' sessions have gone to the new leader: it can place a task on each.
        let name = format!("all{round}");
        cluster.service(&["--name", &name, "--replicas", "6", "--constraint", "node.role==worker"])?;
        cluster.wait_running(&name, 6)?;
        cluster.hosts[leader].start()?;
        cluster.wait_managers(3)?;
        cluster.wait_ready(4)?;
        ensure!(cluster.leader()? != leader, "who returns does not take the leadership back");
        let list = networks(&cluster.hosts[leader])?;
        ensure!(list.lines().any(|l| l == format!("after{round}")), "{list}");
    }
    let report = load.stop();
    println!("{} requests, {} failed", report.done, report.failures.len());
    ensure!(report.failures.is_empty(), "{:#?}", &report.failures[..report.failures.len().min(5)]);
    let (running, list) = cluster.running("web")?;
    ensure!(running.len() == 4 && list.lines().count() == 4, "no task was replaced:\n{list}");
    Ok(())
}

#[test]
fn a_manager_that_was_cut_off_disturbs_nobody_and_catches_up() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    let leader = cluster.leader()?;
    let (cut, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.ask(leader);
    cluster.lan.cut(&cluster.hosts[cut].port)?;
    wait::until("it is Unreachable", wait::SHORT, || {
        let statuses = cluster.statuses()?;
        ensure!(statuses.contains(&(cluster.hosts[cut].name.clone(), "Unreachable".into())), "{statuses:?}");
        Ok(())
    })?;
    // Many election times, during which it must not collect terms.
    let until = Instant::now() + Duration::from_secs(6);
    let mut n = 0;
    while Instant::now() < until {
        cluster.hosts[other].rnctl(&["network", "create", "-d", "overlay", &format!("n{n}")])?;
        n += 1;
    }
    // What it knows it still tells, and says how old that is; it decides nothing.
    let stale = cluster.hosts[cut].try_rnctl(&["network", "ls"])?;
    let warning = String::from_utf8_lossy(&stale.stderr).into_owned();
    println!("{warning}");
    ensure!(stale.status.success() && warning.contains("does not have a leader"), "{warning}");
    cluster.hosts[cut].says(
        &["network", "create", "-d", "overlay", "alone"],
        &[
            "The swarm does not have a leader. It's possible that too few managers are online. \
             Make sure more than half of the managers are online.",
            "--force-new-cluster",
        ],
    )?;

    cluster.lan.heal(&cluster.hosts[cut].port)?;
    wait::until("it reads what was written meanwhile", wait::SHORT, || {
        let list = networks(&cluster.hosts[cut])?;
        ensure!(list.lines().any(|l| l == format!("n{}", n - 1)), "{list}");
        Ok(())
    })?;
    // The same leader as before, without one refused write on the way.
    for k in 0..50 {
        cluster.hosts[other].rnctl(&["network", "create", "-d", "overlay", &format!("m{k}")])?;
    }
    ensure!(cluster.leader()? == leader, "the leader was unseated");
    cluster.wait_managers(3)?;
    cluster.wait_ready(3)?;
    Ok(())
}

#[test]
fn a_manager_far_behind_is_sent_a_snapshot() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    cluster.manager().rnctl(&["swarm", "update", "--snapshot-interval", "50"])?;
    let leader = cluster.leader()?;
    let (behind, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.hosts[behind].stop(Signal::SIGKILL)?;
    cluster.ask(other);
    // More entries than are kept for slow followers.
    for _ in 0..700 {
        cluster.manager().rnctl(&["swarm", "join-token", "--rotate", "-q", "worker"])?;
    }
    let token = cluster.manager().rnctl(&["swarm", "join-token", "-q", "worker"])?;
    cluster.hosts[behind].start()?;
    cluster.wait_managers(3)?;
    // `info` tells of the manager's own copy.
    let version =
        |k: usize| cluster.hosts[k].rnctl(&["info", "--format", "{{.Swarm.Cluster.Version.Index}}"]);
    wait::until("its copy is the newest", wait::LONG, || {
        let (own, newest) = (version(behind)?, version(other)?);
        ensure!(own == newest, "{own}, not {newest}");
        Ok(())
    })?;
    // And it is what it says: alone, it answers from it.
    cluster.hosts[leader].stop(Signal::SIGKILL)?;
    cluster.hosts[other].stop(Signal::SIGKILL)?;
    let own = cluster.hosts[behind].rnctl(&["swarm", "join-token", "-q", "worker"])?;
    ensure!(own == token, "{own} is not the last token");
    Ok(())
}

#[test]
fn without_a_quorum_it_answers_and_with_it_again_it_decides() -> Result<()> {
    let mut cluster = Cluster::managed(3, 4)?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.wait_running("web", 3)?;
    cluster.wait_answers(8080)?;
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 8, Duration::from_millis(10));
    load.wait_for(50);
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    cluster.hosts[2].stop(Signal::SIGKILL)?;
    wait::until("the last manager knows", wait::SHORT, || {
        cluster.hosts[0]
            .says(&["network", "create", "-d", "overlay", "x"], &["more than half of the managers"])
    })?;
    for args in [&["service", "ls"][..], &["service", "ps", "web"], &["node", "ls"], &["network", "ls"]] {
        let output = cluster.hosts[0].try_rnctl(args)?;
        let warning = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && warning.contains("does not have a leader"), "{args:?}: {warning}");
    }
    load.wait_for(200);
    cluster.hosts[2].start()?;
    write(&cluster.hosts[0], "again")?;
    cluster.hosts[1].start()?;
    cluster.wait_managers(3)?;
    cluster.wait_ready(4)?;
    let report = load.stop();
    println!("{} requests, {} failed", report.done, report.failures.len());
    ensure!(report.failures.is_empty(), "{:#?}", &report.failures[..report.failures.len().min(5)]);
    let (running, list) = cluster.running("web")?;
    ensure!(running.len() == 3 && list.lines().count() == 3, "no task was replaced:\n{list}");
    Ok(())
}

#[test]
fn a_new_cluster_keeps_tasks_traffic_and_workers_and_takes_old_managers_back() -> Result<()> {
    let mut cluster = Cluster::managed(3, 4)?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "4", "--publish", "8080:80"])?;
    cluster.wait_running("web", 4)?;
    cluster.wait_answers(8080)?;
    let (before, _) = cluster.running("web")?;
    cluster.hosts[3].says(&["swarm", "init", "--force-new-cluster"], &["not a swarm manager"])?;
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 8, Duration::from_millis(10));
    load.wait_for(50);
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    cluster.ask(2);
    let said = cluster.hosts[2].rnctl(&["swarm", "init", "--force-new-cluster"])?;
    ensure!(said.contains("is now a manager"), "{said}");
    let took = write(&cluster.hosts[2], "anew")?;
    println!("new cluster -> first write: {took:?}");
    wait::until("it leads, the others are Unreachable", wait::SHORT, || {
        let statuses = cluster.statuses()?;
        let of = |host: &Host| statuses.iter().find(|(n, _)| *n == host.name).map(|(_, s)| s.clone());
        let wanted = [Some("Unreachable".into()), Some("Unreachable".into()), Some("Leader".into())];
        ensure!(cluster.hosts[..3].iter().map(of).collect::<Vec<_>>() == wanted, "{statuses:?}");
        Ok(())
    })?;
    // The worker is this cluster's.
    cluster.service(&["--name", "more", "--replicas", "2", "--constraint", "node.role==worker"])?;
    cluster.wait_running("more", 2)?;
    load.wait_for(100);

    // Both come back at once with their old disks: they could make a quorum of their own, and do not.
    cluster.hosts[0].launch()?;
    cluster.hosts[1].launch()?;
    cluster.wait_managers(3)?;
    cluster.wait_ready(4)?;
    for host in &cluster.hosts[..3] {
        wait::until("all of them have the new cluster's state", wait::SHORT, || {
            let list = networks(host)?;
            ensure!(list.lines().any(|l| l == "anew"), "{}: {list}", host.name);
            Ok(())
        })?;
    }
    let report = load.stop();
    println!("{} requests, {} failed", report.done, report.failures.len());
    ensure!(report.failures.is_empty(), "{:#?}", &report.failures[..report.failures.len().min(5)]);
    let (after, list) = cluster.running("web")?;
    ensure!(after == before, "no task was replaced:\n{list}");
    Ok(())
}

#[test]
fn all_managers_change_address_at_once_and_meet_again() -> Result<()> {
    let mut cluster = Cluster::managed(3, 4)?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "4", "--publish", "8080:80"])?;
    cluster.wait_running("web", 4)?;
    cluster.wait_answers(8080)?;
    for (round, running) in [(1, false), (2, true)] {
        if !running {
            for host in &mut cluster.hosts[..3] {
                host.stop(Signal::SIGTERM)?;
            }
        }
        for (k, host) in cluster.hosts[..3].iter_mut().enumerate() {
            host.renumber([10, 77, 0, u8::try_from(100 * round + k)?].into())?;
        }
        let start = Instant::now();
        if !running {
            for host in &mut cluster.hosts[..3] {
                host.launch()?;
            }
        }
        wait::until("they decide again", wait::LONG, || {
            cluster.manager().rnctl(&["network", "create", "-d", "overlay", &format!("moved{round}")])
        })?;
        println!(
            "{} moved -> next write: {:?}",
            if running { "running" } else { "stopped" },
            start.elapsed()
        );
        cluster.wait_managers(3)?;
        cluster.wait_ready(4)?;
        println!("all nodes ready after {:?}", start.elapsed());
        wait::until("node inspect shows the new addresses", wait::LONG, || {
            for host in &cluster.hosts[..3] {
                let shown = cluster.manager().rnctl(&[
                    "node",
                    "inspect",
                    "--format",
                    "{{.ManagerStatus.Addr}}",
                    &host.name,
                ])?;
                ensure!(shown == format!("{}:2377", host.v4()), "{} is at {shown}", host.name);
            }
            Ok(())
        })?;
        cluster.wait_answers(8080)?;
        let (running, list) = cluster.running("web")?;
        ensure!(running.len() == 4 && list.lines().count() == 4, "no task was replaced:\n{list}");
    }
    Ok(())
}
