//! Leaders that come back, were away, heard nobody, or know less than their workers: no node is given up for what is not its doing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, wait};
use nix::sys::signal::Signal;

/// What makes a node be given up: three heartbeats of silence, and some.
const LONGER_THAN_THE_GRACE: Duration = Duration::from_secs(20);

/// The running tasks of a service, and that there have been no others.
fn untouched(cluster: &Cluster, service: &str) -> Result<Vec<(String, String)>> {
    let (mut running, list) = cluster.running(service)?;
    ensure!(list.lines().count() == running.len(), "a task was replaced:\n{list}");
    running.sort();
    Ok(running)
}

fn message(cluster: &Cluster, node: &str) -> Result<String> {
    let said = cluster.manager().rnctl(&["node", "inspect", "--format", "{{.Status.Message}}", node])?;
    Ok(if said == "<no value>" { String::new() } else { said })
}

/// That every node is ready, or yet to register with a new leader.
fn nobody_is_down(cluster: &Cluster) -> Result<()> {
    let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
    ensure!(!list.contains("Down"), "a node was given up:\n{list}");
    Ok(())
}

#[test]
fn a_manager_that_leads_again_keeps_every_task() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "6"])?;
    cluster.wait_running("web", 6)?;
    let before = untouched(&cluster, "web")?;
    let mut led = vec![cluster.leader()?];
    // What a first term has left would be past by then: no session of it is heard of for longer than the grace.
    let mut again = 0;
    while again < 3 {
        let leader = *led.last().unwrap();
        cluster.ask((leader + 1) % 3);
        let frozen = cluster.hosts[leader].freeze()?;
        sleep(Duration::from_secs(4));
        drop(frozen);
        cluster.wait_managers(3)?;
        let now = wait::until("somebody leads", wait::LONG, || cluster.leader())?;
        if now == leader {
            continue;
        }
        let former = led.contains(&now);
        println!("{} leads{}", cluster.hosts[now].name, if former { " again" } else { "" });
        again += usize::from(former);
        led.push(now);
        cluster.wait_ready(3)?;
        ensure!(untouched(&cluster, "web")? == before);
    }
    Ok(())
}

#[test]
fn a_leader_that_was_stopped_gives_nobody_up() -> Result<()> {
    let mut cluster = Cluster::with_image(4)?;
    cluster.service(&["--name", "web", "--replicas", "4"])?;
    cluster.wait_running("web", 4)?;
    let before = untouched(&cluster, "web")?;
    let frozen = cluster.hosts[0].freeze()?;
    sleep(LONGER_THAN_THE_GRACE);
    drop(frozen);
    wait::until("the reason is on the nodes", wait::SHORT, || {
        for host in &cluster.hosts {
            let said = message(&cluster, &host.name)?;
            ensure!(said.contains("the leader did not run for"), "{}: {said}", host.name);
        }
        println!("{}", message(&cluster, "host2")?);
        Ok(())
    })?;
    wait::until("all is as ever", wait::LONG, || {
        // Not to be waited for: it must not be so at any time.
        nobody_is_down(&cluster).unwrap();
        let said = message(&cluster, "host2")?;
        ensure!(said.is_empty(), "{said}");
        Ok(())
    })?;
    cluster.wait_ready(4)?;
    ensure!(untouched(&cluster, "web")? == before);
    // Who is lost indeed is given up as ever.
    cluster.hosts[3].stop(Signal::SIGKILL)?;
    wait::until("the lost node is Down", wait::LONG, || {
        let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        ensure!(list.lines().any(|l| l == "host4 Down"), "{list}");
        Ok(())
    })
}

#[test]
fn a_leader_whose_cable_was_pulled_gives_up_only_who_is_lost() -> Result<()> {
    let mut cluster = Cluster::with_image(4)?;
    cluster.service(&["--name", "web", "--replicas", "3", "--constraint", "node.hostname!=host4"])?;
    cluster.wait_running("web", 3)?;
    let before = untouched(&cluster, "web")?;
    cluster.lan.cut(&cluster.hosts[0].port)?;
    cluster.hosts[3].stop(Signal::SIGKILL)?;
    wait::until("the leader doubts its own hearing", wait::LONG, || {
        nobody_is_down(&cluster).unwrap();
        let said = message(&cluster, "host2")?;
        ensure!(said.contains("3 of 4 nodes fell silent within one heartbeat"), "{said}");
        println!("{said}");
        Ok(())
    })?;
    cluster.lan.heal(&cluster.hosts[0].port)?;
    wait::until("the lost node is Down, the others are Ready", wait::LONG, || {
        let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        let down: Vec<&str> = list.lines().filter(|l| l.ends_with("Down")).collect();
        assert!(down.is_empty() || down == ["host4 Down"], "{list}");
        ensure!(!down.is_empty() && list.lines().filter(|l| l.ends_with("Ready")).count() == 3, "{list}");
        Ok(())
    })?;
    ensure!(untouched(&cluster, "web")? == before);
    Ok(())
}

#[test]
fn workers_follow_a_new_cluster_whose_manager_knew_less_than_they() -> Result<()> {
    let mut cluster = Cluster::managed(3, 4)?;
    cluster.import()?;
    let worker = ["--constraint", "node.role==worker"];
    cluster.service(&[&["--name", "web", "--replicas", "2"], &worker[..]].concat())?;
    cluster.wait_running("web", 2)?;
    let before = untouched(&cluster, "web")?;
    let lagging = (cluster.leader()? + 1) % 3;
    cluster.hosts[lagging].stop(Signal::SIGKILL)?;
    let (one, two) = ((lagging + 1) % 3, (lagging + 2) % 3);
    cluster.ask(one);
    // More than the new cluster will have written by itself when it speaks to the worker.
    for n in 0..60 {
        cluster.manager().rnctl(&["network", "create", "-d", "overlay", &format!("n{n}")])?;
    }
    cluster.service(&[&["--name", "late", "--replicas", "1"], &worker[..]].concat())?;
    cluster.wait_running("late", 1)?;
    cluster.hosts[one].stop(Signal::SIGKILL)?;
    cluster.hosts[two].stop(Signal::SIGKILL)?;

    cluster.hosts[lagging].start()?;
    cluster.ask(lagging);
    let said = cluster.manager().rnctl(&["swarm", "init", "--force-new-cluster"])?;
    ensure!(said.contains("is now a manager"), "{said}");
    cluster.service(&[&["--name", "more", "--replicas", "2"], &worker[..]].concat())?;
    cluster.wait_running("more", 2)?;
    ensure!(untouched(&cluster, "web")? == before, "what both knew goes on");
    wait::until("what the new cluster knows nothing of has ended", wait::LONG, || {
        let running = cluster.hosts[3].containers()?;
        ensure!(!running.iter().any(|name| name.starts_with("late.")), "{running:?}");
        Ok(())
    })?;
    // And after a restart from its disk.
    cluster.hosts[3].stop(Signal::SIGTERM)?;
    cluster.hosts[3].start()?;
    cluster.manager().rnctl(&["service", "scale", "-d", "more=3"])?;
    cluster.wait_running("more", 3)?;
    let log = std::fs::read_to_string(cluster.hosts[3].log())?;
    ensure!(!log.contains("is known already"), "the worker refused assignments as old");
    Ok(())
}

#[test]
fn what_an_earlier_membership_has_left_is_not_the_next_ones() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    // The first swarm's entries are well ahead of what a new one begins with.
    for n in 0..60 {
        cluster.manager().rnctl(&["network", "create", "-d", "overlay", &format!("n{n}")])?;
    }
    cluster.service(&["--name", "web", "--replicas", "2"])?;
    cluster.wait_running("web", 2)?;
    let kept = cluster.hosts[1].data_root().join("worker/assigned.pb");
    let assigned = std::fs::read(&kept)?;
    cluster.hosts[1].rnctl(&["swarm", "leave"])?;
    // As if the power had failed before the last file was removed.
    std::fs::write(&kept, assigned)?;
    let own = cluster.hosts[1].v4().to_string();
    cluster.hosts[1].rnctl(&["swarm", "init", "--advertise-addr", &own])?;
    cluster.ask(1);
    cluster.service(&["--name", "own", "--replicas", "1"])?;
    cluster.wait_running("own", 1)
}
