//! What it costs the daemon to know when tasks listen: CPU time for 200 tasks, from their creation until all of them run, and in a
//! minute at rest; beside a daemon that does not wait for it (`--listen-timeout 0s`).
//!
//! `cargo bench -p cluster-tests --profile dev --bench readiness [-- TASKS]`

use std::{process::ExitCode, thread, time::Duration};

use anyhow::{Context, Result};
use cluster_tests::{
    Cluster,
    bench::{
        self, cores,
        table::{Aim, Samples, Table, Unit},
    },
    interrupt, wait,
};

const TASKS: usize = 200;
/// At rest: a thousandth of a core is 60 ms of it.
const MINUTE: Duration = Duration::from_secs(60);
/// What is left to do after the last task's start.
const SETTLE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    bench::run("Readiness", run)
}

fn run() -> Result<()> {
    let tasks = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(TASKS);
    let mut table = Table::new();
    let ((waiting, resting), (base_start, base_rest)) = (measure("10s", tasks)?, measure("0s", tasks)?);
    let samples = |value: Duration| {
        let mut samples = Samples::new(Unit::Time);
        samples.push_time(value);
        samples
    };
    let (start, rest) = (format!("CPU until {tasks} tasks run"), "CPU of a minute at rest");
    let beside = "listen-timeout 0s";
    table.beside(&start, &samples(waiting), beside, &samples(base_start), Aim::None);
    table.beside(rest, &samples(resting), beside, &samples(base_rest), Aim::None);
    table.end();
    Ok(())
}

fn measure(limit: &str, tasks: usize) -> Result<(Duration, Duration)> {
    let cluster = Cluster::daemons_with(1, &["--listen-timeout", limit])?;
    cluster.form(1)?;
    cluster.import()?;
    let pid = cluster.manager().pid().context("the daemon runs")?;
    let before = cores::cpu_time(pid)?;
    cluster.service(&["--name", "web", "--replicas", &tasks.to_string(), "--publish", "8080:80"])?;
    wait::until("all tasks run", 10 * wait::LONG, || {
        thread::sleep(Duration::from_secs(1));
        let list = cluster.manager().rnctl(&["service", "ls", "--format", "{{.Replicas}}"])?;
        anyhow::ensure!(list == format!("{tasks}/{tasks}"), "{list}");
        Ok(())
    })?;
    let started = cores::cpu_time(pid)?;
    interrupt::check()?;
    thread::sleep(SETTLE);
    let from = cores::cpu_time(pid)?;
    thread::sleep(MINUTE);
    Ok((started.saturating_sub(before), cores::cpu_time(pid)?.saturating_sub(from)))
}
