//! Services are replaced under load, and nobody notices.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_tests::{
    storm,
    updates::{Size, Updates},
};

const SIZE: Size = Size { keep_alive: 24, think: Duration::from_millis(20), new_per_second: 200 };

fn replaced_under_load(order: &str) -> Result<()> {
    let updates = Updates::new(order)?;
    let storm = updates.storm(&[0, 1, 2], SIZE)?;
    storm.wait_for(500);
    for _ in 0..2 {
        updates.replace()?;
    }
    storm.wait_for(500);
    let report = storm.stop()?;
    println!(
        "{order}: {} requests on {} connections to {} tasks, {} failed, slowest {:?}",
        report.done(),
        report.connections,
        report.tasks.len(),
        report.failures.len(),
        report.slowest
    );
    ensure!(report.failures.is_empty(), "{}", storm::describe(&report.failures));
    ensure!(report.tasks.len() == 9, "three times three tasks have answered: {:?}", report.tasks);
    ensure!(report.answered.len() == 8, "by all addresses: {:?}", report.answered);
    Ok(())
}

#[test]
fn a_service_is_replaced_stop_first_without_a_failed_request() -> Result<()> {
    replaced_under_load("stop-first")
}

#[test]
fn a_service_is_replaced_start_first_without_a_failed_request() -> Result<()> {
    replaced_under_load("start-first")
}
