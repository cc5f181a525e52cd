//! Machines whose clocks disagree.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, image::IMAGE, wait};
use nix::sys::signal::Signal;

/// Three managers: the first goes right, the second is ten minutes ahead, the third ten minutes behind.
fn cluster() -> Result<Cluster> {
    let mut cluster = Cluster::daemons(3)?;
    for (host, clock) in cluster.hosts.iter_mut().zip([0, 600, -600]) {
        host.stop(Signal::SIGTERM)?;
        host.clock = clock;
        host.start()?;
    }
    cluster.form(3)?;
    cluster.import()?;
    Ok(cluster)
}

/// Waits until the managers say this of a node's clock.
fn wait_remark(cluster: &Cluster, node: &str, remark: &str) -> Result<()> {
    wait::until(&format!("{node}: {remark:?}"), wait::LONG, || {
        let now = cluster.manager().rnctl(&[
            "node",
            "inspect",
            "--format",
            "{{with .Status.Message}}{{.}}{{end}}",
            node,
        ])?;
        ensure!(now == remark, "{now:?}");
        Ok(())
    })
}

#[test]
fn clocks_ten_minutes_apart_hurt_nobody() -> Result<()> {
    let mut cluster = cluster()?;
    wait_remark(&cluster, "host1", "")?;
    wait_remark(&cluster, "host2", "its clock is 10 minutes ahead of the leader's")?;
    wait_remark(&cluster, "host3", "its clock is 10 minutes behind the leader's")?;

    cluster.service(&["--name", "web", "--replicas", "6", "--publish", "8080:80"])?;
    cluster.wait_running("web", 6)?;
    cluster.wait_answers(8080)?;
    let (_, list) = cluster.running("web")?;
    ensure!(!list.contains("minute"), "all of them have been running for seconds:\n{list}");

    let mut led = BTreeSet::from([cluster.leader()?]);
    let mut replicas = 6;
    for _ in 0..30 {
        let leader = cluster.leader()?;
        cluster.hosts[leader].stop(Signal::SIGKILL)?;
        cluster.ask((leader + 1) % 3);
        wait::until("another one leads", wait::LONG, || {
            ensure!(cluster.leader()? != leader);
            Ok(())
        })?;
        cluster.hosts[leader].start()?;
        cluster.wait_managers(3)?;
        if led.insert(cluster.leader()?) {
            replicas += 1;
            cluster.manager().rnctl(&["service", "scale", "-d", &format!("web={replicas}")])?;
            cluster.wait_running("web", replicas)?;
            cluster.wait_ready(3)?;
        }
        if led.len() == 3 {
            break;
        }
    }
    ensure!(led.len() == 3, "only these have led: {led:?}");
    let last = cluster.leader()?;
    let (behind, minutes) = if last == 1 { ("host3", 20) } else { ("host1", 10) };
    let side = if last == 1 { "behind" } else { "ahead of" };
    wait_remark(&cluster, behind, &format!("its clock is {minutes} minutes {side} the leader's"))?;

    // A root that is made by one clock is good by the others.
    cluster.manager().rnctl(&["swarm", "ca", "--rotate"])?;
    cluster.manager().rnctl(&["wait", "--converged"])?;
    cluster.wait_answers(8080)?;
    Ok(())
}

#[test]
fn delays_are_kept_whatever_a_nodes_clock_says() -> Result<()> {
    const DELAY: u64 = 2;
    let cluster = cluster()?;
    // One fails while it runs. One fails before that, when it is made ready: the second one beside the delay, not after it.
    for (name, image, tasks) in [("exits", IMAGE, 3), ("lacks", "127.0.0.1:1/nosuch:1", 4)] {
        let began = Instant::now();
        let delay = format!("{DELAY}s");
        let mut args = vec!["service", "create", "-d", "--no-resolve-image", "--name", name];
        args.extend(["--mode", "global", "--restart-delay", &delay, image, "/bin/rn-testd", "not-a-port"]);
        cluster.manager().rnctl(&args)?;
        for host in &cluster.hosts {
            wait::until(
                &format!("{tasks} tasks of {name} have failed on {}", host.name),
                wait::LONG,
                || {
                    let format = "{{.Node}} {{.CurrentState}}";
                    let list = cluster.manager().rnctl(&["service", "ps", "--format", format, name])?;
                    let here = list.lines().filter(|line| line.starts_with(&host.name));
                    let failed = here.filter(|line| line.contains("Failed") || line.contains("Rejected"));
                    ensure!(failed.count() >= tasks, "{list}");
                    Ok(())
                },
            )?;
        }
        let took = began.elapsed().as_secs();
        ensure!(took >= 2 * DELAY, "{tasks} tasks of {name}, and two delays, in {took} s");
        cluster.manager().rnctl(&["service", "rm", name])?;
    }
    Ok(())
}
