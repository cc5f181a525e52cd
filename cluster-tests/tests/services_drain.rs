//! Services are replaced under load, and nobody notices.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_tests::{
    http_load,
    updates::{SIZE, Updates, WEB},
    wait,
};

fn replaced_under_load(order: &str) -> Result<()> {
    Updates::new(order)?.replaced_under_load(order)
}

#[test]
fn a_service_is_replaced_stop_first_without_a_failed_request() -> Result<()> {
    replaced_under_load("stop-first")
}

#[test]
fn a_service_is_replaced_start_first_without_a_failed_request() -> Result<()> {
    replaced_under_load("start-first")
}

/// A node is cut off while the service is being updated. Requests that were under way to its tasks are lost with it, and the
/// connections that clients keep to them; everything else is answered, and nothing fails when the node returns.
#[test]
fn a_node_is_cut_off_in_mid_update_and_only_what_was_under_way_to_it_fails() -> Result<()> {
    let updates = Updates::new("stop-first")?;
    let cluster = &updates.cluster;
    let (manager, lost) = (cluster.manager(), &cluster.hosts[2]);
    let storm = updates.storm(&[0, 1], SIZE)?;
    storm.wait_for(500);
    let before = cluster.running(WEB)?.0;
    manager.rnctl(&["service", "update", "-d", "--force", WEB])?;
    wait::until("one task is replaced", wait::SHORT, || {
        let now = cluster.running(WEB)?.0;
        ensure!(now.iter().any(|t| !before.contains(t)));
        Ok(())
    })?;
    cluster.lan.cut(&lost.port)?;
    let cut = storm.elapsed();
    // Its daemon and its tasks go on by themselves; a task's host name is its container's short id.
    let ids = lost.rnctl(&["ps", "-a", "--format", "{{.ID}} {{.Names}}"])?;
    let ids: Vec<&str> =
        ids.lines().filter(|l| l.contains(&format!(" {WEB}."))).filter_map(|l| l.split(' ').next()).collect();
    wait::until("the update is done without that node", 2 * wait::LONG, || {
        let (now, list) = cluster.running(WEB)?;
        let here =
            now.iter().filter(|(name, node)| node != "host3" && !before.iter().any(|(b, _)| b == name));
        ensure!(here.count() == 3, "{list}");
        Ok(())
    })?;
    storm.wait_for(500);
    let healed = storm.elapsed();
    cluster.lan.heal(&lost.port)?;
    wait::until("the node is back, and what it ran too long is gone", wait::LONG, || {
        let left = lost.containers()?;
        ensure!(!left.iter().any(|n| n.starts_with(&format!("{WEB}."))), "{left:?}");
        Ok(())
    })?;
    storm.wait_for(500);
    let report = storm.stop()?;
    let under_way = Duration::from_millis(200);
    let (theirs, others): (Vec<_>, Vec<_>) = report.failures.iter().cloned().partition(|f| match &f.task {
        Some(task) => f.began < healed && ids.contains(&task.as_str()),
        None => f.began <= cut + under_way && f.began + http_load::PATIENCE >= cut,
    });
    println!(
        "{} requests; cut off at {cut:?}: {} failed that were under way to that node, {} others; slowest {:?}",
        report.done(),
        theirs.len(),
        others.len(),
        report.slowest
    );
    ensure!(others.is_empty(), "{}", http_load::describe(&others));
    // Each kept connection is lost once.
    ensure!(theirs.len() <= SIZE.keep_alive + 20, "{}", http_load::describe(&theirs));
    Ok(())
}
