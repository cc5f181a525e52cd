//! How long a service takes from one task to fifty, until every node has applied it, and a lost node's tasks until they run elsewhere.
//!
//! `cargo bench --workspace --profile dev --bench scale`

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, bench, wait};

const ROUNDS: usize = 5;
const LOSSES: usize = 3;
const TASKS: usize = 50;

fn main() -> ExitCode {
    bench::run("Scale", run)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    if let [.., worst] = times[..] {
        let median = times[times.len() / 2];
        println!("  {what:<58} median {median:>8.2?}  worst {worst:>8.2?}  ({} times)", times.len());
    }
}

fn run() -> Result<()> {
    let cluster = Cluster::with_image(3)?;
    let manager = cluster.manager();
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--publish", "8080:80"])?;
    let scale = |n: usize| -> Result<Duration> {
        let began = Instant::now();
        manager.rnctl(&["service", "scale", "-d", &format!("web={n}")])?;
        manager.rnctl(&["wait", "--converged", "--quiet", "--timeout", "120s"])?;
        Ok(began.elapsed())
    };
    scale(1)?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        up.push(scale(TASKS)?);
        ensure!(cluster.running("web")?.0.len() == TASKS);
        down.push(scale(1)?);
    }
    report(&format!("1 -> {TASKS} tasks on 3 nodes, until converged"), up);
    report(&format!("{TASKS} -> 1"), down);

    scale(6)?;
    let mut replaced = Vec::new();
    for _ in 0..LOSSES {
        let lost = &cluster.hosts[2];
        cluster.lan.cut(&lost.port)?;
        let began = Instant::now();
        wait::until("six tasks run on the others", 3 * wait::LONG, || {
            let (running, list) = cluster.running("web")?;
            ensure!(running.iter().filter(|(_, node)| node != "host3").count() == 6, "{list}");
            Ok(())
        })?;
        replaced.push(began.elapsed());
        cluster.lan.heal(&lost.port)?;
        cluster.wait_ready(3)?;
        // Back to two on each node, for the next time.
        manager.rnctl(&["service", "update", "-d", "--force", "web"])?;
        cluster.wait_update("web", "completed")?;
        manager.rnctl(&["wait", "--converged", "--quiet", "--timeout", "120s"])?;
    }
    report("node lost -> its tasks replaced (heartbeats of 5 s)", replaced);
    Ok(())
}
