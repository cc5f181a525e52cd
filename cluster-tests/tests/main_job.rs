//! The main job, as a user types it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, probe, wait};

#[test]
fn three_hosts_one_service_every_node_answers() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    let manager = cluster.manager();

    let nodes = manager.rnctl(&["node", "ls"])?;
    ensure!(
        nodes.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>()
            == ["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER", "STATUS", "ENGINE", "VERSION"],
        "columns: {nodes}"
    );
    ensure!(nodes.matches(" Leader ").count() == 1 && nodes.matches(" Ready ").count() == 3, "{nodes}");

    let network = manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    ensure!(network.len() == 25, "network create prints the id: {network:?}");
    cluster.service(&["--name", "web", "--network", "app", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.wait_running("web", 3)?;
    let (running, detail) = cluster.running("web")?;
    let on: BTreeSet<&str> = running.iter().map(|(_, node)| node.as_str()).collect();
    ensure!(on.len() == 3, "three tasks on three nodes:\n{detail}");

    cluster.wait_answers(8080)?;
    for addr in cluster.everywhere(8080) {
        let tally = probe::tcp_many(&cluster.client.path(), addr, 60)?;
        tally.assert_clean(&format!("{addr}"))?;
        ensure!(tally.by_task().len() == 3, "{addr} spreads over all tasks: {:?}", tally.by_task());
        let clients: Vec<_> = tally.clients().into_keys().collect();
        ensure!(clients == [cluster.client_addr(addr.ip())], "{addr}: tasks saw {clients:?}");
    }

    // Names, from a task on each node: one virtual address, three task addresses, both families.
    for host in &cluster.hosts {
        let container = cluster.container(host, "web")?;
        let vip = addresses(&host.exec(&container, &["nslookup", "web"])?);
        ensure!(vip.len() == 2, "{}: web is {vip:?}", host.name);
        let tasks = addresses(&host.exec(&container, &["nslookup", "tasks.web"])?);
        ensure!(tasks.len() == 6, "{}: tasks.web is {tasks:?}", host.name);
        ensure!(vip.is_disjoint(&tasks), "the virtual address is nobody's own");
        let body = host.exec(&container, &["rn-testd", "get", "web:80"])?;
        ensure!(body.split_whitespace().count() == 2, "by name: {body:?}");
    }

    let inspect: serde_json::Value = serde_json::from_str(&manager.rnctl(&["network", "inspect", "app"])?)?;
    let here = inspect[0]["Containers"].as_object().map_or(0, serde_json::Map::len);
    let peers = inspect[0]["Peers"].as_array().map_or(0, Vec::len);
    ensure!((here, peers) == (1, 3), "one container here, three nodes in all: {inspect:#}");
    let locals = manager.rnctl(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"])?;
    ensure!(locals.lines().any(|l| l == "rn_gwbridge bridge local"), "{locals}");

    let scaled = manager.rnctl(&["service", "scale", "-d", "web=10"])?;
    ensure!(scaled.contains("web scaled to 10"), "{scaled}");
    cluster.wait_running("web", 10)?;
    let list = manager.rnctl(&["service", "ls"])?;
    ensure!(list.contains("10/10") && list.contains("*:8080->80/tcp"), "{list}");

    let logs = manager.rnctl(&["service", "logs", "web"])?;
    ensure!(logs.matches("serves port 80").count() == 10, "a line of each task:\n{logs}");
    ensure!(logs.contains("web.1.") && logs.contains("@host"), "prefixed with task and node:\n{logs}");

    manager.rnctl(&["service", "rm", "web"])?;
    manager.rnctl(&["network", "rm", "app"])?;
    let left = manager.rnctl(&["network", "ls", "--filter", "name=app", "-q"])?;
    ensure!(left.is_empty(), "app is gone: {left:?}");
    Ok(())
}

/// The addresses that an nslookup printed after the server's own.
fn addresses(text: &str) -> BTreeSet<String> {
    text.lines()
        .skip_while(|l| !l.starts_with("Name:") && !l.starts_with("Non-authoritative"))
        .filter_map(|l| l.strip_prefix("Address").and_then(|r| r.split(": ").nth(1)))
        .map(|a| a.split_whitespace().next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn virtual_addresses_and_names_work_between_all_pairs_of_nodes() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    for k in 1..=3 {
        let (name, constraint) = (format!("s{k}"), format!("node.hostname==host{k}"));
        cluster.service(&["--name", &name, "--network", "app", "--constraint", &constraint])?;
    }
    for k in 1..=3 {
        cluster.wait_running(&format!("s{k}"), 1)?;
    }
    for from in 0..3 {
        let host = &cluster.hosts[from];
        let container = cluster.container(host, &format!("s{}", from + 1))?;
        for to in 1..=3 {
            for name in [format!("s{to}"), format!("tasks.s{to}"), format!("s{to}.app")] {
                let url = format!("{name}:80");
                let body = wait::until(&format!("{} reaches {name}", host.name), wait::SHORT, || {
                    host.exec(&container, &["rn-testd", "get", &url])
                })?;
                ensure!(body.split_whitespace().count() == 2, "{url}: {body:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn fifty_services() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    for n in 0..50 {
        let (name, port) = (format!("s{n}"), format!("{}:80", 9000 + n));
        cluster.service(&["--name", &name, "--network", "app", "--publish", &port])?;
    }
    for n in 0..50 {
        cluster.wait_running(&format!("s{n}"), 1)?;
    }
    for n in 0..50 {
        cluster.wait_answers(9000 + n)?;
    }
    for n in 0..50 {
        cluster.manager().rnctl(&["service", "rm", &format!("s{n}")])?;
    }
    cluster.manager().rnctl(&["network", "rm", "app"])?;
    Ok(())
}
