//! `rnctl wait --converged`: when it returns, everything answers at the first try; when it cannot, it names what is missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, probe};

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
            let tally = probe::tcp_many(&cluster.client.path(), addr, 40)?;
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
    let (code, text) = manager.rnctl_fails(&["wait", "--converged", "--timeout", "1s"])?;
    ensure!(code == 1 && text.contains("service nowhere: 0 of 1 tasks run: one is Pending: "), "{text}");
    Ok(())
}
