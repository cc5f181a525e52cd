//! Managers that are short of processor time: three hosts whose daemons are held to a quarter of a core each, then to a hundredth,
//! eight busy loops beside them, and many tasks created at once. Who leads meanwhile, for how long nobody does, how long it takes
//! until all tasks run, and whether any was replaced.
//!
//! `cargo bench -p cluster-tests --profile dev --bench starved -- 90`

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cluster_tests::{
    Cluster, bench,
    cgroup::{BusyLoops, Share},
    leaderships, wait,
};

const TASKS: usize = 90;
const LOOPS: usize = 8;
/// Percent of a core for each daemon.
const SHARES: [u64; 2] = [25, 1];
/// Then it is given up.
const LIMIT: Duration = Duration::from_secs(1200);

fn main() -> ExitCode {
    bench::run("Starved managers", run)
}

fn run() -> Result<()> {
    let tasks = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(TASKS);
    SHARES.into_iter().try_for_each(|share| starve(tasks, share))
}

fn starve(tasks: usize, percent: u64) -> Result<()> {
    println!("  {percent} % of a core for each daemon");
    let mut cluster = Cluster::managed(3, 3)?;
    cluster.import()?;
    let shares = Share::each(&mut cluster.hosts)?;
    cluster.wait_managers(3)?;
    cluster.wait_ready(3)?;
    for share in &shares {
        share.limit(percent)?;
    }
    let loops = BusyLoops::start(LOOPS)?;
    let (mark, lines) = (leaderships::mark(&cluster.hosts)?, leaderships::lines(&cluster.hosts)?);
    let began = Instant::now();
    // A client of a starved daemon may give up before the daemon does.
    wait::until("the service is created", LIMIT, || {
        let all = ["--name", "web", "--replicas", &tasks.to_string()];
        cluster
            .service(&all)
            .map(drop)
            .or_else(|e| cluster.inspect("web", "{{.ID}}").map(drop).map_err(|_| e))
    })?;
    println!("  created after {:.1?}", began.elapsed());
    let all = wait::until("all tasks run", LIMIT, || {
        let (running, list) = cluster.running("web")?;
        ensure!(running.len() >= tasks, "{} of {tasks} run", running.len());
        Ok(list)
    });
    let took = began.elapsed();
    drop(loops);
    drop(shares);
    let reigns = leaderships::since(&cluster.hosts, mark)?;
    println!("  {tasks} tasks run: {}, after {took:.1?}", if all.is_ok() { "yes" } else { "no" });
    println!("  leaders that began meanwhile: {}", reigns.began.len());
    println!("  longest time without a leader: {:.1?}", reigns.without);
    let list = match all {
        Ok(list) => list,
        Err(error) => {
            println!("  {error:#}");
            cluster.running("web").map(|(_, list)| list).unwrap_or_default()
        }
    };
    println!("  tasks that were replaced: {}", list.lines().count().saturating_sub(tasks));
    println!("  log lines of the three daemons: {}", leaderships::lines(&cluster.hosts)? - lines);
    let nodes = cluster.manager().rnctl(&[
        "node",
        "ls",
        "--format",
        "{{.Hostname}} {{.Status}} {{.ManagerStatus}}",
    ])?;
    println!("  {}", nodes.replace('\n', "; "));
    Ok(())
}
