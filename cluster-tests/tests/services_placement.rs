//! Where tasks go, and what keeps them off a node.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, image::IMAGE, probe, wait};

/// Running tasks on each node.
fn spread(cluster: &Cluster, service: &str) -> Result<BTreeMap<String, usize>> {
    let mut nodes = BTreeMap::new();
    for (_, node) in cluster.running(service)?.0 {
        *nodes.entry(node).or_default() += 1;
    }
    Ok(nodes)
}

/// Waits until the running tasks are so many on these nodes.
fn wait_spread(cluster: &Cluster, service: &str, want: &[(&str, usize)]) -> Result<()> {
    let want: BTreeMap<String, usize> = want.iter().map(|(n, k)| ((*n).to_owned(), *k)).collect();
    wait::until(&format!("{service} runs on {want:?}"), wait::LONG, || {
        let now = spread(cluster, service)?;
        ensure!(now == want, "{now:?}\n{}", cluster.running(service)?.1);
        Ok(())
    })
}

/// Waits until `service ps` says this of a task that waits.
fn wait_reason(cluster: &Cluster, service: &str, reason: &str) -> Result<()> {
    wait::until(&format!("a task of {service} waits: {reason}"), wait::LONG, || {
        let list = cluster.manager().rnctl(&["service", "ps", "--no-trunc", service])?;
        ensure!(list.contains(reason), "{list}");
        Ok(())
    })
}

#[test]
fn a_global_service_is_on_every_node_that_fits_and_on_one_that_joins() -> Result<()> {
    let cluster = Cluster::daemons(3)?;
    let (one, two, three) = (&cluster.hosts[0], &cluster.hosts[1], &cluster.hosts[2]);
    one.rnctl(&["swarm", "init", "--advertise-addr", &one.v4().to_string()])?;
    let token = one.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    let manager = format!("{}:2377", one.v4());
    two.rnctl(&["swarm", "join", "--token", &token, &manager])?;
    cluster.wait_ready(2)?;
    cluster.import()?;
    cluster.service(&[
        "--name",
        "agent",
        "--mode",
        "global",
        "--publish",
        "mode=host,target=80,published=9000",
    ])?;
    cluster.service(&["--name", "ssd", "--mode", "global", "--constraint", "node.labels.disk==ssd"])?;
    wait_spread(&cluster, "agent", &[("host1", 1), ("host2", 1)])?;
    three.rnctl(&["swarm", "join", "--token", &token, &manager])?;
    wait_spread(&cluster, "agent", &[("host1", 1), ("host2", 1), ("host3", 1)])?;
    let list =
        one.rnctl(&["service", "ls", "--filter", "name=agent", "--format", "{{.Mode}} {{.Replicas}}"])?;
    ensure!(list == "global 3/3", "{list}");
    probe::get_from(&cluster.client.path(), SocketAddr::new(three.v4(), 9000), "/")?;
    let ps = one.rnctl(&["service", "ps", "--format", "{{.Name}} {{.Ports}}", "agent"])?;
    ensure!(ps.matches("*:9000->80/tcp").count() == 3, "{ps}");

    // Labels come and go, and tasks with them.
    one.rnctl(&["node", "update", "--label-add", "disk=ssd", "host2"])?;
    wait_spread(&cluster, "ssd", &[("host2", 1)])?;
    one.rnctl(&["node", "update", "--label-add", "disk=ssd", "host3"])?;
    wait_spread(&cluster, "ssd", &[("host2", 1), ("host3", 1)])?;
    one.rnctl(&["node", "update", "--label-rm", "disk", "host2"])?;
    wait_spread(&cluster, "ssd", &[("host3", 1)])?;
    one.rnctl(&["node", "update", "--availability", "drain", "host3"])?;
    wait_spread(&cluster, "ssd", &[])?;
    wait_spread(&cluster, "agent", &[("host1", 1), ("host2", 1)])?;
    let (_, text) = one.rnctl_fails(&["service", "scale", "agent=2"])?;
    ensure!(text.contains("scale can only be used with replicated mode"), "{text}");
    Ok(())
}

#[test]
fn limits_preferences_reservations_and_ports_decide_where_tasks_go() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    let manager = cluster.manager();
    for (host, zone) in [("host1", "a"), ("host2", "a"), ("host3", "b")] {
        manager.rnctl(&["node", "update", "--label-add", &format!("zone={zone}"), host])?;
    }
    cluster.service(&["--name", "few", "--replicas", "4", "--replicas-max-per-node", "1"])?;
    wait_spread(&cluster, "few", &[("host1", 1), ("host2", 1), ("host3", 1)])?;
    wait_reason(&cluster, "few", "no suitable node (max replicas per node limit exceed on 3 nodes)")?;
    let list = manager.rnctl(&["service", "ls", "--filter", "name=few", "--format", "{{.Replicas}}"])?;
    ensure!(list == "3/4 (max 1 per node)", "{list}");

    cluster.service(&[
        "--name",
        "zones",
        "--replicas",
        "4",
        "--placement-pref",
        "spread=node.labels.zone",
    ])?;
    wait_spread(&cluster, "zones", &[("host1", 1), ("host2", 1), ("host3", 2)])?;

    cluster.service(&["--name", "huge", "--reserve-cpu", "1000"])?;
    wait_reason(&cluster, "huge", "no suitable node (insufficient resources (CPU) on 3 nodes)")?;
    cluster.service(&["--name", "fat", "--reserve-memory", "1000t"])?;
    wait_reason(&cluster, "fat", "insufficient resources (memory)")?;
    // What is asked for is lowered: the waiting task follows.
    manager.rnctl(&["service", "update", "-d", "--reserve-cpu", "0.001", "huge"])?;
    cluster.wait_running("huge", 1)?;

    // A port of the node is a resource like any other.
    let port = "mode=host,target=80,published=9000";
    cluster.service(&["--name", "bound", "--replicas", "4", "--publish", port])?;
    wait_spread(&cluster, "bound", &[("host1", 1), ("host2", 1), ("host3", 1)])?;
    wait_reason(&cluster, "bound", "no suitable node (host-mode port 9000/tcp already in use on 3 nodes)")?;
    for host in &cluster.hosts {
        for ip in [host.v4(), host.v6()] {
            probe::get_from(&cluster.client.path(), SocketAddr::new(ip, 9000), "/")?;
        }
    }
    manager.rnctl(&["service", "scale", "-d", "bound=3"])?;
    manager.rnctl(&["service", "update", "-q", "--force", "--update-monitor", "100ms", "bound"])?;
    wait_spread(&cluster, "bound", &[("host1", 1), ("host2", 1), ("host3", 1)])?;
    // Two services may have the same one, on different nodes; the mesh shares with nobody.
    manager.rnctl(&["service", "scale", "-d", "bound=1"])?;
    cluster.wait_running("bound", 1)?;
    cluster.service(&["--name", "other", "--replicas", "2", "--publish", port])?;
    cluster.wait_running("other", 2)?;
    let (_, text) =
        manager.rnctl_fails(&["service", "create", "--name", "mesh", "--publish", "9000:80", IMAGE])?;
    ensure!(text.contains("9000") && text.contains("host-mode port"), "{text}");
    Ok(())
}

#[test]
fn every_key_of_a_constraint_is_known() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    manager.rnctl(&["node", "update", "--label-add", "disk=ssd", "host2"])?;
    let id = manager.rnctl(&["node", "inspect", "--format", "{{.ID}}", "host2"])?;
    let os = manager.rnctl(&["node", "inspect", "--format", "{{.Description.Platform.OS}}", "host2"])?;
    let arch =
        manager.rnctl(&["node", "inspect", "--format", "{{.Description.Platform.Architecture}}", "host2"])?;
    let ip = cluster.hosts[1].v4().to_string();
    let two = [
        format!("node.id=={id}"),
        "node.hostname==HOST2".to_owned(),
        format!("node.ip=={ip}"),
        format!("node.ip=={ip}/32"),
        "node.role==worker".to_owned(),
        "node.role!=manager".to_owned(),
        "node.labels.disk==ssd".to_owned(),
    ];
    for (n, constraint) in two.iter().enumerate() {
        let name = format!("s{n}");
        let platform = format!("node.platform.os=={os}");
        let machine = format!("node.platform.arch=={arch}");
        cluster.service(&[
            "--name",
            &name,
            "--constraint",
            constraint,
            "--constraint",
            &platform,
            "--constraint",
            &machine,
        ])?;
    }
    for n in 0..two.len() {
        wait_spread(&cluster, &format!("s{n}"), &[("host2", 1)])?;
    }
    for (name, constraint) in [("x", "node.platform.os==plan9"), ("y", "engine.labels.x==y")] {
        cluster.service(&["--name", name, "--constraint", constraint])?;
        let reason =
            format!("no suitable node (scheduling constraint {constraint} not satisfied on 2 nodes)");
        wait_reason(&cluster, name, &reason)?;
    }
    // A global service has no task that could say so: it says so itself, where it is made and where it is looked at.
    let mut args = vec!["service", "create", "--name", "g", "--mode", "global"];
    args.extend(["--constraint", "node.labels.gpu==yes", IMAGE, "/bin/rn-testd"]);
    let reason = "no suitable node (scheduling constraint node.labels.gpu==yes not satisfied on 2 nodes)";
    let said = cluster.manager().rnctl(&args)?;
    ensure!(said.contains(reason), "{said}");
    let shown = cluster.manager().rnctl(&["service", "inspect", "g"])?;
    ensure!(shown.contains("Conditions") && shown.contains(reason), "{shown}");
    cluster.manager().rnctl(&["node", "update", "--label-add", "gpu=yes", "host2"])?;
    wait_spread(&cluster, "g", &[("host2", 1)])?;
    let shown = cluster.manager().rnctl(&["service", "inspect", "g"])?;
    ensure!(!shown.contains("no suitable node"), "{shown}");
    Ok(())
}
