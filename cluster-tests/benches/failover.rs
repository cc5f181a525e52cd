//! How long a swarm of three managers, with default settings, takes from the loss of its leader (kill -9) to the next accepted write,
//! as a user of another manager sees it. Prints each round, the median and the worst.
//!
//! `cargo bench --workspace --profile dev --bench failover -- 20`

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cluster_tests::Cluster;
use nix::sys::signal::Signal;

const ROUNDS: usize = 20;
/// An attempt that waits longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(ROUNDS);
    let mut cluster = Cluster::managed(3, 3)?;
    let mut took = Vec::new();
    for round in 0..rounds {
        let leader = cluster.leader()?;
        let other = (leader + 1 + round % 2) % 3;
        cluster.ask(other);
        cluster.hosts[leader].stop(Signal::SIGKILL)?;
        let start = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let name = format!("r{round}a{attempts}");
            let output = cluster.manager().try_rnctl(&["network", "create", "-d", "overlay", &name])?;
            if output.status.success() {
                break;
            }
            ensure!(start.elapsed() < LIMIT, "no write within {LIMIT:?}");
        }
        let elapsed = start.elapsed();
        println!("round {:>2}: {:>5} ms, {attempts} attempts", round + 1, elapsed.as_millis());
        took.push(elapsed);
        cluster.hosts[leader].start()?;
        cluster.wait_managers(3)?;
    }
    took.sort();
    let worst = took.last().context("no round")?;
    println!(
        "leader lost -> next write, {rounds} times: median {} ms, worst {} ms",
        took[took.len() / 2].as_millis(),
        worst.as_millis()
    );
    Ok(())
}
