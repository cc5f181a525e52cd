//! Nodes come into being, meet and part.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, net::TcpListener};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, image::IMAGE, wait};
use nix::sys::signal::Signal;

fn is(host: &Host, state: &str) -> Result<()> {
    let template = "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}";
    wait::until(&format!("{} is {state}", host.name), wait::SHORT, || {
        let now = host.rnctl(&["info", "--format", template])?;
        ensure!(now == state, "{now}");
        Ok(())
    })
}

#[test]
fn a_node_inits_joins_leaves_returns_and_restarts() -> Result<()> {
    let mut cluster = Cluster::daemons(2)?;
    for host in &cluster.hosts {
        is(host, "inactive false")?;
    }
    let first = &cluster.hosts[0];
    first.rnctl(&["swarm", "init", "--advertise-addr", &first.v4().to_string()])?;
    is(first, "active true")?;
    for _ in 0..3 {
        let said = cluster.join(&cluster.hosts[1], "worker")?;
        ensure!(said == "This node joined a swarm as a worker.", "{said}");
        is(&cluster.hosts[1], "active false")?;
        let managers = cluster.hosts[1].rnctl(&["info", "--format", "{{json .Swarm.RemoteManagers}}"])?;
        ensure!(managers.contains(&format!("{}:2377", first.v4())), "{managers}");
        let said = cluster.hosts[1].rnctl(&["swarm", "leave"])?;
        ensure!(said == "Node left the swarm.", "{said}");
        is(&cluster.hosts[1], "inactive false")?;
    }
    cluster.join(&cluster.hosts[1], "worker")?;
    for (k, state) in [(1, "active false"), (0, "active true")] {
        cluster.hosts[k].stop(Signal::SIGTERM)?;
        cluster.hosts[k].start()?;
        is(&cluster.hosts[k], state)?;
    }
    // The lives before this one are down and can be forgotten.
    wait::until("one is ready beside the manager", wait::LONG, || {
        let list = cluster.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        let count = |line: &str| list.lines().filter(|l| *l == line).count();
        ensure!(count("host2 Ready") == 1 && count("host2 Down") == 3, "{list}");
        Ok(())
    })
}

#[test]
fn a_port_in_use_and_addresses_that_are_none_are_refused_and_leave_nothing() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let (host, addr) = (&cluster.hosts[0], cluster.hosts[0].v4().to_string());
    let taken = host.ns.enter(|| TcpListener::bind("0.0.0.0:2377"))??;
    host.says(
        &["swarm", "init", "--advertise-addr", &addr],
        &["2377", "ddress already in use", "(pid ", "has it"],
    )?;
    is(host, "inactive false")?;
    drop(taken);
    host.says(&["swarm", "init", "--listen-addr", ""], &["a value is required for '--listen-addr"])?;
    host.says(&["swarm", "init", "--advertise-addr", "0.0.0.0"], &["advertise"])?;
    is(host, "inactive false")?;
    host.rnctl(&["swarm", "init", "--advertise-addr", &addr])?;
    let token = host.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    let other = &cluster.hosts[1];
    other.says(&["swarm", "join", "--token", &token, ""], &["address"])?;
    other.says(&["swarm", "join", "--token", &token, "10.77.0.1:1"], &["10.77.0.1:1"])?;
    is(other, "inactive false")
}

/// Control plane, gossip and VXLAN over IPv6 alone; the service answers over both families all the same.
#[test]
fn a_swarm_over_ipv6_serves_both_families() -> Result<()> {
    let cluster = Cluster::daemons(3)?;
    let first = &cluster.hosts[0];
    first.rnctl(&["swarm", "init", "--advertise-addr", &first.v6().to_string()])?;
    let token = first.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    let manager = format!("[{}]:2377", first.v6());
    for host in &cluster.hosts[1..] {
        host.rnctl(&[
            "swarm",
            "join",
            "--token",
            &token,
            "--advertise-addr",
            &host.v6().to_string(),
            &manager,
        ])?;
    }
    cluster.wait_ready(3)?;
    for host in &cluster.hosts {
        let addr = first.rnctl(&["node", "inspect", "--format", "{{.Status.Addr}}", &host.name])?;
        ensure!(addr == host.v6().to_string(), "{}: {addr}", host.name);
    }
    cluster.import()?;
    first.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.wait_running("web", 3)?;
    cluster.wait_answers(8080)?;
    for host in &cluster.hosts {
        let container = cluster.container(host, "web")?;
        for _ in 0..10 {
            host.exec(&container, &["rn-testd", "get", "web:80"])?;
        }
    }
    Ok(())
}

#[test]
fn nodes_may_come_drained_and_take_tasks_once_they_are_active() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let (first, second) = (&cluster.hosts[0], &cluster.hosts[1]);
    let addr = first.v4().to_string();
    first.rnctl(&["swarm", "init", "--advertise-addr", &addr, "--availability", "drain"])?;
    let token = first.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    let manager = format!("{addr}:2377");
    second.rnctl(&["swarm", "join", "--token", &token, "--availability", "drain", &manager])?;
    cluster.wait_ready(2)?;
    let list = first.rnctl(&["node", "ls", "--format", "{{.Availability}}"])?;
    ensure!(list == "Drain\nDrain", "{list}");
    cluster.import()?;
    cluster.service(&["--name", "web"])?;
    wait::until("the task says why it waits", wait::SHORT, || {
        let list = first.rnctl(&["service", "ps", "--no-trunc", "--format", "{{.Error}}", "web"])?;
        ensure!(list.contains("no suitable node") && list.contains("2 nodes"), "{list}");
        Ok(())
    })?;
    first.rnctl(&["node", "update", "--availability", "active", "host2"])?;
    cluster.wait_running("web", 1)?;
    ensure!(cluster.running("web")?.0[0].1 == "host2");
    Ok(())
}

#[test]
fn who_leaves_lets_its_tasks_end_in_order() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let (first, second) = (&cluster.hosts[0], &cluster.hosts[1]);
    let out = second.dir().join("out");
    fs::create_dir(&out)?;
    let mount = format!("type=bind,src={},dst=/out", out.display());
    let script = "trap 'echo bye >/out/bye; exit 0' TERM; echo up >/out/up; while true; do sleep 0.05; done";
    let mut args = vec!["service", "create", "-d", "--name", "web", "--constraint", "node.hostname==host2"];
    args.extend(["--mount", &mount, IMAGE, "sh", "-c", script]);
    first.rnctl(&args)?;
    wait::until("the task is up", wait::LONG, || {
        ensure!(out.join("up").exists());
        Ok(())
    })?;
    second.rnctl(&["swarm", "leave"])?;
    ensure!(out.join("bye").exists(), "it was killed without a word");
    // The managers know at once, and not by its silence.
    let list = first.rnctl(&["node", "ls", "--filter", "name=host2", "--format", "{{.Status}}"])?;
    ensure!(list == "Down", "{list}");
    first.rnctl(&["node", "rm", "host2"])?;
    Ok(())
}

#[test]
fn a_promoted_node_of_a_locked_swarm_is_locked_too() -> Result<()> {
    let mut cluster = Cluster::managed(1, 2)?;
    cluster.manager().rnctl(&["swarm", "update", "--autolock"])?;
    cluster.manager().rnctl(&["node", "promote", "host2"])?;
    cluster.wait_managers(2)?;
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    cluster.hosts[1].start()?;
    is(&cluster.hosts[1], "locked false")?;
    // It may leave by force, and begin anew.
    let leave = ["swarm", "leave", "--force"];
    ensure!(cluster.hosts[1].rnctl(&leave)? == "Node left the swarm.");
    is(&cluster.hosts[1], "inactive false")?;
    cluster.hosts[1].rnctl(&["swarm", "init", "--advertise-addr", &cluster.hosts[1].v4().to_string()])?;
    is(&cluster.hosts[1], "active true")
}
