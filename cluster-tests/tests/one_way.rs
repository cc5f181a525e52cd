//! A line that carries packets in one direction only: nobody sends connections where they are lost, and writes go round.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, probe::Load, wait};

/// Of every service of the cluster, `from` does not reach the tasks on `to`: whether the nodes have noticed, by their logs.
fn noticed(cluster: &Cluster, host: usize, lines: usize) -> Result<()> {
    let host = &cluster.hosts[host];
    wait::until(&format!("{} has noticed", host.name), wait::SHORT, || {
        let log = std::fs::read_to_string(host.log())?;
        ensure!(
            log.lines().skip(lines).any(|l| l.contains("no new connections to its endpoints")),
            "not yet"
        );
        Ok(())
    })
}

#[test]
fn no_request_goes_where_it_is_lost() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    cluster.service(&["--name", "web", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.wait_running("web", 3)?;
    cluster.wait_answers(8080)?;
    // Once from a worker to another one, and once the other way round.
    for (from, to) in [(1, 2), (2, 1)] {
        let lines = |n: usize| -> Result<usize> {
            Ok(std::fs::read_to_string(cluster.hosts[n].log())?.lines().count())
        };
        let (one, two) = (lines(1)?, lines(2)?);
        cluster.lan.deafen(&cluster.hosts[from].port, &cluster.hosts[to].port)?;
        // Both sides: the one whose packets are lost hears the other all the while.
        noticed(&cluster, 1, one)?;
        noticed(&cluster, 2, two)?;
        // In the kernel a moment later.
        std::thread::sleep(Duration::from_millis(500));
        let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 0, Duration::from_millis(5));
        load.wait_for(1500);
        let report = load.stop();
        println!("{from} -> {to} lost: {} requests, {} failed", report.done, report.failures.len());
        ensure!(report.failures.is_empty(), "{:#?}", &report.failures[..report.failures.len().min(5)]);
        cluster.lan.hear()?;
        wait::until("they are friends again", wait::SHORT, || {
            for n in [1, 2] {
                let log = std::fs::read_to_string(cluster.hosts[n].log())?;
                let last = log.lines().rfind(|l| {
                    l.contains("no new connections to its endpoints") || l.contains("node is alive")
                });
                ensure!(last.is_some_and(|l| l.contains("node is alive")), "{last:?}");
            }
            Ok(())
        })?;
    }
    cluster.wait_answers(8080)?;
    Ok(())
}

#[test]
fn a_manager_that_does_not_hear_the_leader_passes_writes_on() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    let leader = cluster.leader()?;
    let (deaf, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.ask(other);
    for (round, (from, to)) in [(leader, deaf), (deaf, leader)].into_iter().enumerate() {
        cluster.lan.deafen(&cluster.hosts[from].port, &cluster.hosts[to].port)?;
        // Before anybody has noticed: the connection to the leader fails.
        cluster.hosts[deaf].rnctl(&["network", "create", "-d", "overlay", &format!("early{round}")])?;
        wait::until("the leader has lost it", wait::LONG, || {
            let statuses = cluster.statuses()?;
            ensure!(
                statuses.contains(&(cluster.hosts[deaf].name.clone(), "Unreachable".into())),
                "{statuses:?}"
            );
            Ok(())
        })?;
        for n in 0..5 {
            let name = format!("round{round}n{n}");
            cluster.hosts[deaf].rnctl(&["network", "create", "-d", "overlay", &name])?;
            let list = cluster.hosts[deaf].try_rnctl(&["network", "ls", "--format", "{{.Name}}"])?;
            let (list, warning) =
                (String::from_utf8_lossy(&list.stdout), String::from_utf8_lossy(&list.stderr));
            ensure!(list.lines().any(|l| l == name), "it reads what it wrote: {list} {warning}");
        }
        ensure!(cluster.leader()? == leader, "the leader was unseated");
        cluster.lan.hear()?;
        cluster.wait_managers(3)?;
    }
    Ok(())
}
