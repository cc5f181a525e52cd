//! Nodes are lost and come back, are drained, paused, labelled and removed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, wait};
use nix::sys::signal::Signal;

/// Waits until `node ls` says this of the host.
fn wait_status(cluster: &Cluster, host: &str, status: &str) -> Result<()> {
    wait::until(&format!("{host} is {status}"), wait::LONG, || {
        let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        ensure!(list.lines().any(|l| l == format!("{host} {status}")), "{list}");
        Ok(())
    })
}

/// How many running tasks of the service are on the host.
fn on(cluster: &Cluster, service: &str, host: &str) -> Result<usize> {
    Ok(cluster.running(service)?.0.iter().filter(|(_, node)| node == host).count())
}

#[test]
fn a_lost_node_is_down_its_tasks_are_replaced_and_the_surplus_stops_on_return() -> Result<()> {
    let mut cluster = Cluster::with_image(3)?;
    cluster.manager().rnctl(&["swarm", "update", "--dispatcher-heartbeat", "1s"])?;
    cluster.service(&["--name", "web", "--replicas", "6", "--restart-delay", "1s"])?;
    cluster.wait_running("web", 6)?;
    ensure!(on(&cluster, "web", "host3")? == 2, "spread evenly");
    cluster.lan.cut(&cluster.hosts[2].port)?;
    // A new leader cannot tell yet.
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[0].start()?;
    wait_status(&cluster, "host3", "Unknown")?;
    ensure!(on(&cluster, "web", "host3")? == 2, "nothing is replaced on a suspicion");
    wait_status(&cluster, "host3", "Down")?;
    wait::until("its tasks run elsewhere", wait::LONG, || {
        let (running, list) = cluster.running("web")?;
        let elsewhere = running.iter().filter(|(_, node)| node != "host3").count();
        ensure!(elsewhere == 6, "{list}");
        Ok(())
    })?;
    // Cut off, it went on.
    ensure!(cluster.hosts[2].containers()?.iter().filter(|c| c.starts_with("web.")).count() == 2);
    cluster.lan.heal(&cluster.hosts[2].port)?;
    wait_status(&cluster, "host3", "Ready")?;
    wait::until("the surplus is stopped", wait::LONG, || {
        let left = cluster.hosts[2].containers()?;
        ensure!(!left.iter().any(|c| c.starts_with("web.")), "{left:?}");
        Ok(())
    })?;
    cluster.wait_running("web", 6)?;
    ensure!(on(&cluster, "web", "host3")? == 0, "a node that returns gets no running task by itself");
    Ok(())
}

#[test]
fn drain_moves_pause_keeps_and_active_moves_nothing_back() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    let manager = cluster.manager();
    cluster.service(&["--name", "web", "--replicas", "6"])?;
    cluster.wait_running("web", 6)?;
    cluster.service(&["--name", "each", "--mode", "global"])?;
    cluster.wait_running("each", 3)?;

    ensure!(manager.rnctl(&["node", "update", "--availability", "pause", "host2"])? == "host2");
    manager.rnctl(&["service", "scale", "-d", "web=9"])?;
    cluster.wait_running("web", 9)?;
    ensure!(on(&cluster, "web", "host2")? == 2, "a paused node keeps what it has and gets nothing");

    manager.rnctl(&["node", "update", "--availability", "drain", "host3"])?;
    wait::until("host3 is drained", wait::LONG, || {
        let left = cluster.hosts[2].containers()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    cluster.wait_running("web", 9)?;
    cluster.wait_running("each", 2)?;
    ensure!(on(&cluster, "web", "host2")? == 2 && on(&cluster, "web", "host1")? == 7);
    let list = manager.rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}}"])?;
    ensure!(list == "host1 Ready Active\nhost2 Ready Pause\nhost3 Ready Drain", "{list}");

    manager.rnctl(&["node", "update", "--availability", "active", "host3"])?;
    manager.rnctl(&["node", "update", "--availability", "active", "host2"])?;
    cluster.wait_running("each", 3)?;
    ensure!(on(&cluster, "web", "host3")? == 0, "nothing moves back by itself");
    manager.rnctl(&["service", "scale", "-d", "web=11"])?;
    cluster.wait_running("web", 11)?;
    ensure!(on(&cluster, "web", "host3")? == 2, "new tasks go there");
    Ok(())
}

#[test]
fn labels_and_roles_are_updated_and_found() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    manager.rnctl(&["node", "update", "--label-add", "zone=a", "--label-add", "ssd", "host2"])?;
    let labels = manager.rnctl(&["node", "inspect", "--format", "{{json .Spec.Labels}}", "host2"])?;
    ensure!(labels == r#"{"ssd":"","zone":"a"}"#, "{labels}");
    let found =
        manager.rnctl(&["node", "ls", "--filter", "node.label=zone=a", "--format", "{{.Hostname}}"])?;
    ensure!(found == "host2", "{found}");
    cluster.service(&["--name", "web", "--replicas", "2", "--constraint", "node.labels.zone==a"])?;
    cluster.wait_running("web", 2)?;
    ensure!(on(&cluster, "web", "host2")? == 2);
    manager.rnctl(&["node", "update", "--label-rm", "zone", "host2"])?;
    let labels = manager.rnctl(&["node", "inspect", "--format", "{{json .Spec.Labels}}", "host2"])?;
    ensure!(labels == r#"{"ssd":""}"#, "{labels}");
    manager.says(&["node", "update", "--availability", "sleep", "host2"], &["sleep"])?;

    manager.rnctl(&["node", "update", "--role", "manager", "host2"])?;
    cluster.wait_managers(2)?;
    let found = manager.rnctl(&["node", "ls", "--filter", "role=manager", "-q"])?;
    ensure!(found.lines().count() == 2, "{found}");
    manager.rnctl(&["node", "update", "--role", "worker", "host2"])?;
    cluster.wait_managers(1)?;
    wait::until("host2 is a worker", wait::LONG, || {
        cluster.hosts[1].says(&["node", "ls"], &["Worker nodes can't be used"])
    })?;
    cluster.wait_ready(2)?;
    Ok(())
}

#[test]
fn a_removed_node_is_refused_until_it_joins_anew() -> Result<()> {
    let mut cluster = Cluster::with_image(3)?;
    cluster.service(&["--name", "web", "--replicas", "3", "--restart-delay", "1s"])?;
    cluster.wait_running("web", 3)?;
    cluster.manager().says(&["node", "rm", "host3"], &["node host3 is not down and can't be removed"])?;
    cluster.manager().says(&["node", "rm", "nosuch"], &["nosuch", "not found"])?;
    ensure!(cluster.manager().rnctl(&["node", "rm", "--force", "host3"])? == "host3");
    let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}}"])?;
    ensure!(list == "host1\nhost2", "{list}");
    wait::until("its task runs elsewhere", wait::LONG, || {
        let (running, list) = cluster.running("web")?;
        ensure!(running.len() == 3 && running.iter().all(|(_, node)| node != "host3"), "{list}");
        Ok(())
    })?;
    // Neither as it is nor after a restart.
    for _ in 0..2 {
        wait::until("it is told", wait::LONG, || {
            let error = cluster.hosts[2].rnctl(&["info", "--format", "{{.Swarm.Error}}"])?;
            ensure!(error.contains("removed from the swarm"), "{error:?}");
            Ok(())
        })?;
        cluster.hosts[2].stop(Signal::SIGTERM)?;
        cluster.hosts[2].start()?;
    }
    let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}}"])?;
    ensure!(list == "host1\nhost2", "{list}");
    cluster.hosts[2].rnctl(&["swarm", "leave"])?;
    cluster.join(&cluster.hosts[2], "worker")?;
    cluster.wait_ready(3)?;
    let left = cluster.hosts[2].containers()?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
