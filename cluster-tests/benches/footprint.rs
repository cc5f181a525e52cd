//! Resident memory of each process, idle and with 30 tasks on each node.
//!
//! Rss counts every resident page, the program's own text among them (this is a build with little optimisation, whose text is
//! several times a release build's); Pss divides shared pages; anonymous is heap and stacks alone.
//!
//! `cargo bench --workspace --profile dev --bench footprint`

use std::{process::ExitCode, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster, Host,
    bench::{
        self,
        memory::{self, Memory},
        table::{Aim, Samples, Table, Unit},
    },
    interrupt,
};

const TASKS: usize = 30;
/// Samples of each figure, and the time between two.
const SAMPLES: usize = 5;
const BETWEEN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    bench::run("Footprint", run)
}

fn run() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    let mut table = Table::new();
    // Aims are for a daemon at work; an idle one has to be below them all the more.
    let aim = Aim::Below(60e6);
    let nodes = [("rnd, manager and worker", 0, aim), ("rnd, worker", 1, aim)];
    for (what, host, aim) in nodes {
        daemon(&mut table, &format!("{what}, idle"), &cluster.hosts[host], aim)?;
    }

    let all = (2 * TASKS).to_string();
    cluster.service(&["--name", "web", "--network", "app", "--replicas", &all, "--publish", "8080:80"])?;
    cluster.wait_running("web", 2 * TASKS)?;
    cluster.wait_answers(8080)?;
    for (what, host, aim) in nodes {
        daemon(&mut table, &format!("{what}, {TASKS} tasks"), &cluster.hosts[host], aim)?;
    }
    let shims = memory::processes("rn-shim", cluster.hosts[1].dir())?;
    ensure!(shims.len() == TASKS, "{} shims of {TASKS} tasks on the worker", shims.len());
    let seen = shims.iter().map(|pid| memory::of(*pid)).collect::<Result<Vec<_>>>()?;
    rows(&mut table, "rn-shim", &seen, Aim::Below(4e6));
    table.end();
    Ok(())
}

fn daemon(table: &mut Table, what: &str, host: &Host, aim: Aim) -> Result<()> {
    let pid = host.pid().context("the daemon runs")?;
    let mut seen = Vec::new();
    for _ in 0..SAMPLES {
        interrupt::check()?;
        thread::sleep(BETWEEN);
        seen.push(memory::of(pid)?);
    }
    rows(table, what, &seen, aim);
    Ok(())
}

fn rows(table: &mut Table, what: &str, seen: &[Memory], aim: Aim) {
    let pick = |of: fn(&Memory) -> u64| {
        let mut samples = Samples::new(Unit::Bytes);
        seen.iter().for_each(|m| samples.push(of(m) as f64));
        samples
    };
    table.figure(&format!("{what}: Rss"), &pick(|m| m.rss), aim);
    table.figure(&format!("{what}: Pss"), &pick(|m| m.pss), Aim::None);
    table.figure(&format!("{what}: anonymous"), &pick(|m| m.anonymous), Aim::None);
}
