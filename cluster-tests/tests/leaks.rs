//! Nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use anyhow::Result;
use cluster_tests::{Cluster, inventory::Inventory, wait};

/// What stays after `swarm leave`, as Docker's gateway bridge does.
const STAYS: &[&str] = &["rn_gwbridge", "rn-user", "172.18.", "rn-gateway"];

#[test]
fn service_rm_network_rm_and_swarm_leave_leave_nothing() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let clean: Vec<Inventory> = cluster.hosts.iter().map(Inventory::of).collect::<Result<_>>()?;
    let (one, two) = (&cluster.hosts[0], &cluster.hosts[1]);
    one.rnctl(&["swarm", "init", "--advertise-addr", &one.v4().to_string()])?;
    let token = one.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    two.rnctl(&["swarm", "join", "--token", &token, &format!("{}:2377", one.v4())])?;
    cluster.wait_ready(2)?;
    cluster.import()?;
    // Once through, so that the bridge that stays is there before the comparison.
    once(&cluster)?;
    let idle: Vec<Inventory> = cluster.hosts.iter().map(Inventory::of).collect::<Result<_>>()?;
    for _ in 0..2 {
        once(&cluster)?;
    }
    for (host, before) in cluster.hosts.iter().zip(&idle) {
        wait::until(&format!("{} is as before", host.name), wait::SHORT, || {
            Inventory::of(host)?.assert_only(before, &[])
        })?;
    }
    two.rnctl(&["swarm", "leave"])?;
    one.rnctl(&["swarm", "leave", "--force"])?;
    for (host, before) in cluster.hosts.iter().zip(&clean) {
        wait::until(&format!("{} is clean", host.name), wait::SHORT, || {
            Inventory::of(host)?.assert_only(before, STAYS)
        })?;
    }
    Ok(())
}

fn once(cluster: &Cluster) -> Result<()> {
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--replicas", "4", "--publish", "8080:80"])?;
    cluster.wait_running("web", 4)?;
    cluster.wait_answers(8080)?;
    cluster.manager().rnctl(&["service", "rm", "web"])?;
    cluster.manager().rnctl(&["network", "rm", "app"])?;
    wait::until("all containers are gone", wait::LONG, || {
        for host in &cluster.hosts {
            let all = host.rnctl(&["ps", "-aq"])?;
            anyhow::ensure!(all.is_empty(), "{}: {all}", host.name);
        }
        Ok(())
    })
}
