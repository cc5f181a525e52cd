//! `rnctl wait --converged`: when it returns, everything answers at the first try; when it cannot, it names what is missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, probe, wait};
use nix::sys::signal::Signal;

const WAIT: [&str; 4] = ["wait", "--converged", "--timeout", "30s"];

/// How many tasks a caller on this host resolves.
fn resolved(cluster: &Cluster, host: &Host) -> Result<usize> {
    let caller = cluster.container(host, "caller")?;
    let found = host.exec(&caller, &["nslookup", "-type=a", "tasks.web"])?;
    Ok(found.lines().filter(|l| l.starts_with("Address") && l.contains("10.0.")).count())
}

#[test]
fn what_has_converged_answers_at_the_first_try() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    let manager = cluster.manager();
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "caller", "--network", "app", "--mode", "global"])?;
    // A process that has started does not listen yet.
    let mut args = vec!["--name", "web", "--network", "app", "--publish", "8080:80", "--replicas", "2"];
    args.extend(["--health-cmd", "rn-testd get 127.0.0.1:80", "--health-interval", "10s"]);
    args.extend(["--health-start-period", "30s", "--health-start-interval", "50ms"]);
    cluster.service(&args)?;
    for replicas in [2, 5, 1, 7, 3] {
        manager.rnctl(&["service", "scale", "-d", &format!("web={replicas}")])?;
        let said = manager.rnctl(&WAIT)?;
        ensure!(said.ends_with("verify: 3 nodes have applied every change"), "{said}");
        for host in &cluster.hosts {
            ensure!(resolved(&cluster, host)? == replicas, "{}: {replicas} tasks", host.name);
        }
        for addr in cluster.everywhere(8080) {
            // Tasks are chosen at random: of 200 requests, one of 7 tasks gets none in 1 run of 10^12.
            let tally = probe::tcp_many(&cluster.client.path(), addr, 200)?;
            tally.assert_clean(&format!("{addr}"))?;
            ensure!(tally.by_task().len() == replicas, "{addr}: {:?}", tally.by_task());
        }
    }

    // A node that is cut off and not yet down is waited for, and named.
    let lost = &cluster.hosts[2];
    cluster.lan.cut(&lost.port)?;
    manager.rnctl(&["service", "scale", "-d", "web=2"])?;
    let (code, text) = manager.rnctl_fails(&["wait", "--converged", "--timeout", "2s"])?;
    ensure!(code == 1 && text.contains("not converged after 2") && text.contains("node host3: "), "{text}");
    cluster.lan.heal(&lost.port)?;
    manager.rnctl(&WAIT)?;

    // What cannot be placed is named with the reason.
    cluster.service(&["--name", "nowhere", "--constraint", "node.hostname==host9"])?;
    wait::until("the reason is told", wait::LONG, || {
        let (code, text) = manager.rnctl_fails(&["wait", "--converged", "--timeout", "1s"])?;
        ensure!(code == 1 && text.contains("service nowhere: 0 of 1 tasks run: one is Pending: "), "{text}");
        Ok(())
    })
}

/// A port that another program holds is named, with the node and the program, wherever somebody looks; and it heals.
#[test]
fn a_port_that_another_program_holds_is_named_and_taken_once_it_is_free() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let held = |port| cluster.hosts[1].ns.enter(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
    let mesh = held(8080)??;
    cluster.service(&["--name", "web", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    let holder = format!("(pid {})", std::process::id());
    let named = "port 8080/tcp for web is in use on this node by ".to_owned();
    wait::until("the port is told", wait::LONG, || {
        let (code, text) = manager.rnctl_fails(&["wait", "--converged", "--timeout", "3s"])?;
        ensure!(
            code == 1 && text.contains(&format!("node host2: {named}")) && text.contains(&holder),
            "{text}"
        );
        Ok(())
    })?;
    let shown = |what: &str, name: &str| manager.rnctl(&[what, "inspect", name]);
    for (what, name) in [("node", "host2"), ("service", "web")] {
        wait::until(&format!("the {what} says so"), wait::SHORT, || {
            let said = shown(what, name)?;
            ensure!(said.contains(&named) && said.contains(&holder), "{said}");
            Ok(())
        })?;
    }
    ensure!(shown("service", "web")?.contains("host2: "), "{}", shown("service", "web")?);
    ensure!(!shown("node", "host1")?.contains("in use"), "{}", shown("node", "host1")?);
    drop(mesh);
    manager.rnctl(&WAIT)?;
    cluster.wait_answers(8080)?;
    for (what, name) in [("node", "host2"), ("service", "web")] {
        wait::until(&format!("the {what} says so no more"), wait::SHORT, || {
            let said = shown(what, name)?;
            ensure!(!said.contains(&named), "{said}");
            Ok(())
        })?;
    }

    // In host mode it is the task that cannot be.
    let host_mode = held(8081)??;
    let port = "mode=host,published=8081,target=80";
    let mut args = vec!["--name", "direct", "--constraint", "node.hostname==host2", "--publish", port];
    args.extend(["--restart-delay", "1s"]);
    cluster.service(&args)?;
    wait::until("the task says so", wait::SHORT, || {
        let list = manager.rnctl(&["service", "ps", "--no-trunc", "direct"])?;
        ensure!(list.contains("port 8081/tcp for task direct.1.") && list.contains(&holder), "{list}");
        Ok(())
    })?;
    // Between two tries the reason is the delay's.
    wait::until("the port is told", wait::LONG, || {
        let (_, text) = manager.rnctl_fails(&["wait", "--converged", "--timeout", "1s"])?;
        ensure!(
            text.contains("service direct: 0 of 1 tasks run") && text.contains("port 8081/tcp"),
            "{text}"
        );
        Ok(())
    })?;
    drop(host_mode);
    manager.rnctl(&WAIT)?;
    probe::get_from(&cluster.client.path(), SocketAddr::new(cluster.hosts[1].v4(), 8081), "/")?;

    // Its node shows it by itself, without a manager to ask.
    let bound = |host: &Host| host.rnctl(&["ps", "--format", "{{.Ports}}", "--filter", "name=direct."]);
    ensure!(
        bound(&cluster.hosts[1])? == "0.0.0.0:8081->80/tcp, [::]:8081->80/tcp",
        "{}",
        bound(&cluster.hosts[1])?
    );
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    cluster.hosts[1].start()?;
    wait::until("the node knows its ports", wait::SHORT, || {
        let ports = bound(&cluster.hosts[1])?;
        ensure!(ports.starts_with("0.0.0.0:8081->80/tcp"), "{ports}");
        Ok(())
    })?;
    Ok(())
}
