//! A task without a health check serves once it listens, and an update waits for that.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, image::IMAGE, probe, updates::Updates, wait};
use nix::sys::signal::Signal;

/// Clients of every kind, through the mesh and by virtual address, over both families, while tasks are replaced whose program
/// listens two seconds after its start, and says so to nobody.
fn replaced_under_load(order: &str) -> Result<()> {
    Updates::with(order, &["--env", "LISTEN_AFTER=2"])?.replaced_under_load(order)
}

#[test]
fn what_listens_late_is_replaced_stop_first_without_a_failed_request() -> Result<()> {
    replaced_under_load("stop-first")
}

#[test]
fn what_listens_late_is_replaced_start_first_without_a_failed_request() -> Result<()> {
    replaced_under_load("start-first")
}

/// Every task of the service in `service ps`: state and what is said of it.
fn states(cluster: &Cluster, service: &str) -> Result<String> {
    let format = "{{.DesiredState}}/{{.CurrentState}} {{.Error}}";
    cluster.manager().rnctl(&["service", "ps", "--no-trunc", "--format", format, service])
}

/// Waits until `service ps` shows a task in this state, with these words.
fn wait_state(cluster: &Cluster, service: &str, state: &str, words: &str) -> Result<()> {
    wait::until(&format!("{service} is {state}: {words}"), wait::LONG, || {
        let now = states(cluster, service)?;
        ensure!(now.lines().any(|l| l.starts_with(state) && l.contains(words)), "{now}");
        Ok(())
    })
}

fn create(cluster: &Cluster, name: &str, args: &[&str], image: &str, program: &[&str]) -> Result<()> {
    let mut all = vec!["service", "create", "-d", "--name", name, "--restart-condition", "none"];
    all.extend(args);
    all.push(image);
    all.extend(program);
    cluster.manager().rnctl(&all).map(drop)
}

#[test]
fn where_a_task_is_to_listen_is_waited_for_and_what_never_does_is_named() -> Result<()> {
    const LIMIT: &str = "8s";
    let cluster = Cluster::daemons_with(1, &["--listen-timeout", LIMIT])?;
    cluster.form(1)?;
    cluster.import()?;
    cluster.import_as("exposes:1", &["EXPOSE 80 443 53/udp"])?;
    let testd = ["/bin/rn-testd"];
    let late = ["--env", "LISTEN_AFTER=3"];

    // Each transport and way of publishing; ready within the time, and then there is nothing to say.
    for (name, port) in
        [("mesh", "8080:80"), ("host", "mode=host,published=8081,target=80"), ("datagrams", "8082:80/udp")]
    {
        create(&cluster, name, &[&late[..], &["--publish", port]].concat(), IMAGE, &testd)?;
        let protocol = if name == "datagrams" { "udp" } else { "tcp" };
        wait_state(&cluster, name, "Running/Starting", &format!("waiting for port 80/{protocol}"))?;
        cluster.wait_running(name, 1)?;
        let said = states(&cluster, name)?;
        ensure!(!said.contains("port"), "{said}");
    }
    probe::get_from(&cluster.client.path(), SocketAddr::new(cluster.manager().v4(), 8080), "/")?;

    // What the image exposes, where nothing is published: one of them is enough.
    create(&cluster, "exposed", &late, "exposes:1", &testd)?;
    wait_state(&cluster, "exposed", "Running/Starting", "waiting for ports 80/tcp or 443/tcp")?;
    cluster.wait_running("exposed", 1)?;
    ensure!(!states(&cluster, "exposed")?.contains("port"), "{}", states(&cluster, "exposed")?);
    // In the node's own network, where other programs listen on that port, only its own count.
    let other = cluster.manager().ns.enter(|| std::net::TcpListener::bind("[::]:443"))??;
    create(&cluster, "own", &[&late[..], &["--network", "host"]].concat(), "exposes:1", &testd)?;
    wait_state(&cluster, "own", "Running/Starting", "waiting for ports")?;
    wait_state(&cluster, "own", "Running/Running", "")?;
    ensure!(!states(&cluster, "own")?.contains("port"), "{}", states(&cluster, "own")?);
    drop(other);

    // Never, or where nobody can reach it: ready after its time all the same, and named.
    let loopback = ["httpd", "-f", "-p", "127.0.0.1:80"];
    create(&cluster, "never", &["--publish", "8090:81"], IMAGE, &testd)?;
    create(&cluster, "loopback", &["--publish", "8091:80"], IMAGE, &loopback)?;
    let both = [("never", 81), ("loopback", 80)];
    for (name, port) in both {
        wait_state(&cluster, name, "Running/Starting", &format!("waiting for port {port}/tcp"))?;
    }
    for (name, port) in both {
        let said = format!("nothing listens on port {port}/tcp after {LIMIT}");
        wait_state(&cluster, name, "Running/Running", &said)?;
    }

    // One that ends before it listens has failed, and never ran.
    create(
        &cluster,
        "fails",
        &["--env", "LISTEN_AFTER=60", "--env", "FAIL=1", "--publish", "8092:80"],
        IMAGE,
        &testd,
    )?;
    wait_state(&cluster, "fails", "Shutdown/Failed", "non-zero exit (3)")?;
    // Nothing to wait for: at once.
    create(&cluster, "quiet", &[], IMAGE, &["sleep", "1000"])?;
    wait_state(&cluster, "quiet", "Running/Running", "")?;
    Ok(())
}

#[test]
fn a_restart_of_the_daemon_neither_forgets_who_was_ready_nor_who_was_not() -> Result<()> {
    let mut cluster = Cluster::daemons_with(1, &["--listen-timeout", "40s"])?;
    cluster.form(1)?;
    cluster.import()?;
    // Ready by its time, though it never listens: it stays so.
    create(&cluster, "web", &["--publish", "8080:80"], IMAGE, &["/bin/rn-testd"])?;
    cluster.wait_running("web", 1)?;
    let before = cluster.running("web")?.0;
    let late = ["--publish", "8081:80", "--env", "LISTEN_AFTER=6"];
    create(&cluster, "late", &late, IMAGE, &["/bin/rn-testd"])?;
    wait_state(&cluster, "late", "Running/Starting", "waiting for port 80/tcp")?;
    let host = &mut cluster.hosts[0];
    host.stop(Signal::SIGKILL)?;
    host.start()?;
    let (client, addr) = (cluster.client.path(), |port| SocketAddr::new(cluster.hosts[0].v4(), port));
    wait::until("the first answers", wait::SHORT, || probe::get_from(&client, addr(8080), "/"))?;
    ensure!(cluster.running("web")?.0 == before, "{}", cluster.running("web")?.1);
    ensure!(states(&cluster, "late")?.starts_with("Running/Starting"), "{}", states(&cluster, "late")?);
    ensure!(probe::get_from(&client, addr(8081), "/").is_err(), "it does not listen yet");
    cluster.wait_running("late", 1)?;
    probe::get_from(&client, addr(8081), "/")?;
    Ok(())
}
