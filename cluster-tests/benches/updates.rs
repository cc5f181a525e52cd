//! Failed requests per million while a service is replaced: 3 nodes, 200 keep-alive clients, 500 new connections a second,
//! through the mesh and by virtual address, IPv4 and IPv6.
//!
//! `cargo bench --workspace --profile dev --bench updates -- [--order stop-first|start-first] [--updates 20]
//! [--requests 1000000]`; without an order both are measured, each with half of the requests.

use std::time::Duration;

use anyhow::{Context, Result};
use cluster_tests::{
    http_load,
    updates::{Size, Updates},
};

const KEEP_ALIVE: usize = 200;
const NEW_PER_SECOND: u32 = 500;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|n| args.get(n + 1));
    let number =
        |name: &str, default: u64| value(name).map_or(Ok(default), |v| v.parse().context("a number"));
    let (updates, requests) = (number("--updates", 20)?, number("--requests", 1_000_000)?);
    match value("--order") {
        Some(order) => measure(order, updates, requests),
        None => {
            measure("stop-first", updates.div_ceil(2), requests / 2)?;
            measure("start-first", updates.div_ceil(2), requests / 2)
        }
    }
}

fn measure(order: &str, updates: u64, requests: u64) -> Result<()> {
    let think =
        Duration::from_millis(std::env::var("THINK_MS").ok().and_then(|t| t.parse().ok()).unwrap_or(30));
    let size = Size { keep_alive: KEEP_ALIVE, think, new_per_second: NEW_PER_SECOND };
    let world = Updates::new(order)?;
    let storm = world.storm(&[0, 1, 2], size)?;
    storm.wait_for(1000);
    for n in 1..=updates {
        let began = storm.elapsed();
        world.replace()?;
        let (done, failed) = storm.count();
        eprintln!(
            "{order}: {n} of {updates} updates, this one in {:.1} s; {done} requests, {failed} failed",
            (storm.elapsed() - began).as_secs_f64()
        );
    }
    let (done, failed) = storm.count();
    storm.wait_for(requests.saturating_sub(done + failed));
    let took = storm.elapsed();
    let report = storm.stop()?;
    println!(
        "{order}: {} tasks replaced in {updates} updates; {} requests in {:.0} s on {} connections; \
         {} failed = {:.2} per million; slowest {:?}, {} over 1 s",
        3 * updates,
        report.done(),
        took.as_secs_f64(),
        report.connections,
        report.failures.len(),
        report.failed_per_million(),
        report.slowest,
        report.over_a_second
    );
    for (target, n) in &report.answered {
        println!("  {n:>8} from {target}");
    }
    if !report.failures.is_empty() {
        println!("{}", http_load::describe(&report.failures));
    }
    Ok(())
}
