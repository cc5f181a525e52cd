//! Containers put on networks and taken off them by Debian's `docker` client, as it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, docker::CLIENT, image::IMAGE};

#[test]
fn a_container_that_rests_is_put_on_networks_and_taken_off_them() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(2)?;
    let (host, worker) = (&cluster.hosts[0], &cluster.hosts[1]);
    for (name, subnet) in [("front", "10.9.1.0/24"), ("back", "10.9.2.0/24")] {
        host.docker(&["network", "create", "-d", "overlay", "--attachable", "--subnet", subnet, name])?;
    }
    host.docker(&["network", "create", "-d", "overlay", "closed"])?;
    host.docker(&["create", "--name", "one", "--network", "front", IMAGE, "sleep", "1000"])?;

    // As compose does: off, and on again with names and addresses.
    host.docker(&["network", "disconnect", "front", "one"])?;
    host.docker_says(&["start", "one"], 1, &["has no network"])?;
    host.docker(&["network", "connect", "--alias", "db", "--ip", "10.9.1.77", "front", "one"])?;
    let back = host.docker(&["network", "inspect", "--format", "{{.Id}}", "back"])?;
    host.docker(&["network", "connect", &back, "one"])?;

    let error = "Error response from daemon";
    for (args, words) in [
        (["connect", "front", "one"], "endpoint with name one already exists in network front"),
        (["connect", "nosuch", "one"], "network nosuch not found"),
        (["connect", "front", "nosuch"], "No such container: nosuch"),
        (["connect", "closed", "one"], "not manually attachable"),
        (["connect", "ingress", "one"], "routing mesh"),
        (["connect", "host", "one"], "connected to host network"),
        (["disconnect", "closed", "one"], "container one is not connected to the network closed"),
    ] {
        host.docker_says(&[&["network"][..], &args[..]].concat(), 1, &[error, words])?;
    }
    host.docker_says(
        &["network", "connect", "--link", "x", "closed", "one"],
        1,
        &["Links is not supported"],
    )?;

    host.docker(&["start", "one"])?;
    let addresses = host.docker(&["exec", "one", "ip", "-4", "addr"])?;
    ensure!(addresses.contains("10.9.1.77/24") && addresses.contains("10.9.2."), "{addresses}");
    host.docker_says(&["network", "connect", "closed", "one"], 1, &[error])?;
    host.docker_says(&["network", "disconnect", "back", "one"], 1, &[error, "is running"])?;
    worker.docker(&["run", "-d", "--name", "two", "--network", "front", IMAGE, "sleep", "1000"])?;
    let found = worker.docker(&["exec", "two", "nslookup", "db"])?;
    ensure!(found.contains("10.9.1.77"), "{found}");

    host.docker(&["stop", "-t", "1", "one"])?;
    host.docker(&["network", "disconnect", "back", "one"])?;
    host.docker(&["start", "one"])?;
    let addresses = host.docker(&["exec", "one", "ip", "-4", "addr"])?;
    ensure!(addresses.contains("10.9.1.77/24") && !addresses.contains("10.9.2."), "{addresses}");
    Ok(())
}
