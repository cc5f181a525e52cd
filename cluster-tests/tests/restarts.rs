//! Daemons come and go; traffic does not notice.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, probe::Load, wait};
use nix::sys::signal::Signal;

#[test]
fn every_daemon_restarts_under_load_without_a_failed_request() -> Result<()> {
    let mut cluster = Cluster::with_image(3)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.wait_running("web", 3)?;
    cluster.wait_answers(8080)?;
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 12, Duration::from_millis(10));
    load.wait_for(200);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for k in 0..3 {
            cluster.hosts[k].stop(signal)?;
            load.wait_for(300);
            cluster.hosts[k].start()?;
            load.wait_for(300);
        }
        cluster.wait_ready(3)?;
        cluster.wait_running("web", 3)?;
    }
    let report = load.stop();
    println!("{} requests, {} failed", report.done, report.failures.len());
    ensure!(
        report.failures.is_empty(),
        "first failures: {:#?}",
        &report.failures[..report.failures.len().min(5)]
    );

    // The same tasks as before: nothing was replaced.
    let (_, list) = cluster.running("web")?;
    ensure!(list.lines().count() == 3, "no task was replaced:\n{list}");
    Ok(())
}

#[test]
fn a_manager_killed_during_creates_loses_nothing_acknowledged() -> Result<()> {
    let mut cluster = Cluster::with_image(1)?;
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let killer = cluster.hosts[0].pid().unwrap();
        let delay = Duration::from_millis(40 + 35 * round);
        let kill = std::thread::spawn(move || {
            std::thread::sleep(delay);
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(killer), Signal::SIGKILL)
        });
        for n in 0..200 {
            let name = format!("n{round}-{n}");
            match cluster.manager().try_rnctl(&["network", "create", "-d", "overlay", &name]) {
                Ok(output) if output.status.success() => acknowledged.push(name),
                _ => break,
            }
        }
        kill.join().unwrap()?;
        cluster.hosts[0].stop(Signal::SIGKILL)?;
        cluster.hosts[0].start()?;
        let list = wait::until("the manager leads again", wait::SHORT, || {
            cluster.manager().rnctl(&["network", "ls", "--format", "{{.Name}}"])
        })?;
        for name in &acknowledged {
            ensure!(list.lines().any(|l| l == name), "{name} was acknowledged and is lost");
        }
    }
    println!("{} creates acknowledged in 4 rounds, none lost", acknowledged.len());
    ensure!(!acknowledged.is_empty(), "the manager was killed before any create");
    Ok(())
}

#[test]
fn a_worker_reboots_without_a_manager_and_serves() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    cluster.service(&["--name", "web", "--publish", "8080:80", "--constraint", "node.hostname==host2"])?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)?;
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[1].reboot()?;
    let addr = SocketAddr::new(cluster.hosts[1].v4(), 8080);
    wait::until("the rebooted worker serves alone", wait::LONG, || {
        cluster_tests::probe::get_from(&cluster.client.path(), addr, "/")
    })?;
    cluster.hosts[0].start()?;
    cluster.wait_running("web", 1)?;
    Ok(())
}

#[test]
fn a_killed_task_is_replaced_and_the_others_do_not_notice() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    cluster.service(&[
        "--name",
        "web",
        "--replicas",
        "4",
        "--restart-delay",
        "1s",
        "--publish",
        "8080:80",
    ])?;
    cluster.wait_running("web", 4)?;
    cluster.wait_answers(8080)?;
    let (before, _) = cluster.running("web")?;
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 0, Duration::from_millis(5));
    load.wait_for(100);
    let victim = cluster.container(&cluster.hosts[1], "web")?;
    let pid = cluster.hosts[1].rnctl(&["inspect", "--format", "{{.State.Pid}}", &victim])?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse()?), Signal::SIGKILL)?;
    wait::until("the task is replaced", wait::LONG, || {
        let (now, list) = cluster.running("web")?;
        ensure!(now.len() == 4 && now != before, "{list}");
        Ok(())
    })?;
    load.wait_for(200);
    let report = load.stop();
    println!("{} requests, {} failed", report.done, report.failures.len());
    // At most what was in flight to the killed task, and what arrived before its node had noticed.
    ensure!(report.failures.len() <= 8, "{:#?}", report.failures);
    Ok(())
}
