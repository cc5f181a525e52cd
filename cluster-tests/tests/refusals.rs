//! What is refused, and what it says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, host::binary, wait};

#[test]
fn outside_a_swarm_and_on_workers() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let (one, two) = (&cluster.hosts[0], &cluster.hosts[1]);
    let info = one.rnctl(&["info"])?;
    ensure!(info.contains("Swarm: inactive"), "{info}");
    one.says(&["node", "ls"], &["This node is not a swarm manager", "swarm init"])?;
    one.says(&["swarm", "leave"], &["not part of a swarm"])?;
    one.says(&["swarm", "init", "--advertise-addr", "0.0.0.0"], &["0.0.0.0"])?;
    one.says(&["swarm", "init", "--advertise-addr", "nosuch0"], &["nosuch0"])?;
    one.rnctl(&["swarm", "init", "--advertise-addr", "eth0"])?;
    one.says(&["swarm", "init"], &["already part of a swarm"])?;
    one.says(&["swarm", "leave"], &["last manager", "--force"])?;

    let manager = format!("{}:2377", one.v4());
    let token = one.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    two.says(&["swarm", "join", "--token", "SWMTKN-1-x", &manager], &["token"])?;
    let foreign = format!("SWMTKN-1-{}-{}", "1".repeat(50), "2".repeat(25));
    two.says(&["swarm", "join", "--token", &foreign, &manager], &["CA"])?;
    let (digest, _) = token.rsplit_once('-').unwrap();
    two.says(&["swarm", "join", "--token", &format!("{digest}-{}", "0".repeat(25)), &manager], &["token"])?;
    one.rnctl(&["swarm", "join-token", "--rotate", "-q", "worker"])?;
    two.says(&["swarm", "join", "--token", &token, &manager], &["token"])?;
    two.says(&["swarm", "join", "--token", &token, "10.77.0.1:1"], &["10.77.0.1:1", "refused"])?;
    let info = two.rnctl(&["info", "--format", "{{.Swarm.LocalNodeState}}"])?;
    ensure!(info == "inactive", "refused joins leave nothing behind: {info}");

    let token = one.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    let joined = two.rnctl(&["swarm", "join", "--token", &token, &manager])?;
    ensure!(joined.contains("This node joined a swarm as a worker"), "{joined}");
    two.says(&["service", "ls"], &["not a swarm manager", "Worker nodes"])?;
    two.says(&["swarm", "join", "--token", &token, &manager], &["already part of a swarm"])?;
    Ok(())
}

#[test]
fn bad_requests_name_object_cause_and_way_out() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--publish", "8080:80"])?;
    let image = cluster_tests::image::IMAGE;
    for (args, words) in [
        (vec!["network", "create", "-d", "overlay", "app"], vec!["app", "already"]),
        (vec!["network", "create", "-d", "overlay", "--subnet", "10.5.0.1/24", "x"], vec!["10.5.0.1/24"]),
        (vec!["network", "create", "-d", "overlay", "--subnet", "10.5.0.0/33", "x"], vec!["10.5.0.0/33"]),
        (vec!["network", "rm", "app"], vec!["app", "web"]),
        (vec!["network", "rm", "nosuch"], vec!["nosuch", "not found"]),
        (vec!["network", "inspect", "nosuch"], vec!["nosuch", "not found"]),
        (vec!["service", "create", "--name", "web", image], vec!["web", "already"]),
        (vec!["service", "create", "--name", "w2", "--publish", "8080:80", image], vec!["8080", "web"]),
        (vec!["service", "create", "--name", "w2", "--publish", "80800:80", image], vec!["80800"]),
        (vec!["service", "create", "--name", "w2", "--network", "nosuch", image], vec!["nosuch"]),
        (vec!["service", "create", "--name", "w_2!", image], vec!["w_2!"]),
        (
            vec!["service", "create", "--name", "w2", "--constraint", "node.role=worker", image],
            vec!["node.role=worker"],
        ),
        (
            vec!["service", "create", "--name", "w2", "--constraint", "node.foo==x", image],
            vec!["no key node.foo", "node.labels.NAME"],
        ),
        (
            vec!["service", "create", "--name", "w2", "--constraint", "node.role==boss", image],
            vec!["no role boss", "manager and worker"],
        ),
        (
            vec!["service", "create", "--name", "w2", "--constraint", "node.ip!=here", image],
            vec!["here is neither an address"],
        ),
        (
            vec!["service", "update", "--constraint-add", "node.label.x==y", "web"],
            vec!["no key node.label.x"],
        ),
        (vec!["service", "create", "--name", "w2", "--nonsense", image], vec!["--nonsense"]),
        (
            vec![
                "service",
                "create",
                "--name",
                "w2",
                "--endpoint-mode",
                "dnsrr",
                "--publish",
                "9000:80",
                image,
            ],
            vec!["dnsrr", "mode=host"],
        ),
        (vec!["service", "rm", "nosuch"], vec!["nosuch", "not found"]),
        (vec!["service", "scale", "web=-1"], vec!["-1"]),
        (vec!["service", "scale", "nosuch=1"], vec!["nosuch", "not found"]),
        (vec!["service", "ps", "nosuch"], vec!["nosuch"]),
        (vec!["service", "logs", "nosuch"], vec!["nosuch"]),
        (vec!["node", "inspect", "nosuch"], vec!["nosuch", "not found"]),
        (vec!["exec", "nosuch", "true"], vec!["nosuch"]),
        (vec!["image", "rm", "nosuch"], vec!["nosuch"]),
        (vec!["import", "/nonexistent.tar", "x"], vec!["/nonexistent.tar"]),
    ] {
        host.says(&args, &words)?;
    }
    let list = host.rnctl(&["service", "ls", "--format", "{{.Name}}"])?;
    ensure!(list == "web", "nothing was half made: {list}");
    Ok(())
}

#[test]
fn a_daemon_that_does_not_run_is_named() -> Result<()> {
    let output = std::process::Command::new(binary("rnctl")?)
        .args(["-H", "unix:///nonexistent/rn.sock", "info"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && text.contains("/nonexistent/rn.sock") && text.contains("rnd"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_published_port_that_a_host_process_uses_is_a_reported_conflict() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let host = &cluster.hosts[1];
    let holder = host.ns.enter(|| TcpListener::bind("0.0.0.0:8080"))??;
    cluster.service(&["--name", "web", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    wait::until("the conflict shows", wait::SHORT, || {
        // Warnings of `info` go to standard error, as Docker's do.
        let info = host.try_rnctl(&["info"])?;
        let warnings = String::from_utf8_lossy(&info.stderr).into_owned();
        ensure!(
            warnings.contains("8080") && warnings.contains("refusals"),
            "it names the port and who holds it: {warnings}"
        );
        Ok(())
    })?;
    drop(holder);
    wait::until("the port is taken once it is free", wait::LONG, || cluster.wait_answers(8080))?;
    Ok(())
}

#[test]
fn a_task_that_cannot_run_says_why() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    manager.rnctl(&[
        "service",
        "create",
        "-d",
        "--name",
        "ghost",
        "--restart-condition",
        "none",
        "no/such:image",
    ])?;
    manager.rnctl(&[
        "service",
        "create",
        "-d",
        "--name",
        "lost",
        "--constraint",
        "node.hostname==mars",
        "testweb:1",
        "true",
    ])?;
    wait::until("service ps says why", wait::SHORT, || {
        let ghost = manager.rnctl(&["service", "ps", "--no-trunc", "ghost"])?;
        ensure!(ghost.contains("No such image") && ghost.contains("no/such:image"), "{ghost}");
        let lost = manager.rnctl(&["service", "ps", "--no-trunc", "lost"])?;
        ensure!(
            lost.contains(
                "no suitable node (scheduling constraint node.hostname==mars not satisfied on 1 node"
            ),
            "{lost}"
        );
        Ok(())
    })
}
