//! Who leads stays, whatever becomes of the others: managers that are cut off in one direction or both, that are frozen, that are
//! short of processor time. And the log tells an operator so, in a few lines.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster, Host,
    cgroup::{BusyLoops, Share},
    leaderships, wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn networks(host: &Host) -> Result<String> {
    host.rnctl(&["network", "ls", "--format", "{{.Name}}"])
}

/// A write by one manager that another one reads.
fn replicated(by: &Host, to: &Host, name: &str) -> Result<()> {
    by.rnctl(&["network", "create", "-d", "overlay", name])?;
    wait::until(&format!("{} has it", to.name), wait::LONG, || {
        let list = networks(to)?;
        ensure!(list.lines().any(|l| l == name), "{list}");
        Ok(())
    })
}

fn unreachable(cluster: &Cluster, host: &Host) -> Result<()> {
    wait::until(&format!("{} is Unreachable", host.name), wait::LONG, || {
        let statuses = cluster.statuses()?;
        ensure!(statuses.contains(&(host.name.clone(), "Unreachable".into())), "{statuses:?}");
        Ok(())
    })
}

#[test]
fn a_manager_that_comes_back_never_takes_the_leadership() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    let leader = cluster.leader()?;
    let (lost, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.ask(other);
    let port = |n: usize| cluster.hosts[n].port.clone();
    let mark = leaderships::mark(&cluster.hosts)?;
    for round in 0..4 {
        cluster.lan.cut(&port(lost))?;
        unreachable(&cluster, &cluster.hosts[lost])?;
        // Not everything that is written waits for it, so that its log is behind in some rounds only.
        if round % 2 == 0 {
            cluster.hosts[other].rnctl(&["network", "create", "-d", "overlay", &format!("cut{round}")])?;
        }
        cluster.lan.heal(&port(lost))?;
        cluster.wait_managers(3)?;
        replicated(&cluster.hosts[other], &cluster.hosts[lost], &format!("back{round}"))?;
    }
    // What it sends does not reach the leader; what the leader sends does not reach it; nor what the third sends.
    for (round, (from, to)) in [(lost, leader), (leader, lost), (other, lost)].into_iter().enumerate() {
        cluster.lan.deafen(&port(from), &port(to))?;
        if from == leader || to == leader {
            unreachable(&cluster, &cluster.hosts[lost])?;
        } else {
            thread::sleep(Duration::from_secs(4));
        }
        cluster.lan.hear()?;
        cluster.wait_managers(3)?;
        replicated(&cluster.hosts[other], &cluster.hosts[lost], &format!("heard{round}"))?;
    }
    ensure!(cluster.leader()? == leader, "the leader was unseated");
    let reigns = leaderships::since(&cluster.hosts, mark)?;
    println!("leaders that began meanwhile: {:?}", reigns.began);
    ensure!(!reigns.began.contains(&cluster.hosts[lost].name), "{reigns:?}");
    cluster.wait_managers(3)?;
    Ok(())
}

#[test]
fn a_manager_that_is_cut_off_or_frozen_is_a_few_lines_in_the_log() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    let leader = cluster.leader()?;
    let (lost, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.ask(other);
    let before = leaderships::lines(&cluster.hosts)?;
    let pid = Pid::from_raw(cluster.hosts[lost].pid().context("it runs")?);
    for frozen in [false, true] {
        if frozen {
            kill(pid, Signal::SIGSTOP)?;
        } else {
            cluster.lan.cut(&cluster.hosts[lost].port)?;
        }
        unreachable(&cluster, &cluster.hosts[lost])?;
        thread::sleep(Duration::from_secs(10));
        if frozen {
            kill(pid, Signal::SIGCONT)?;
        } else {
            cluster.lan.heal(&cluster.hosts[lost].port)?;
        }
        // Reached by the leader itself: what it is asked, it may have passed on.
        cluster.wait_managers(3)?;
        replicated(&cluster.hosts[other], &cluster.hosts[lost], &format!("back{frozen}"))?;
        cluster.wait_ready(3)?;
    }
    let said = fs::read_to_string(cluster.hosts[leader].log())?;
    let of = |words: &str| said.lines().filter(|l| l.contains(words)).count();
    let (gone, back) = (of("a manager cannot be reached"), of("the manager can be reached again"));
    let lines = leaderships::lines(&cluster.hosts)? - before;
    println!("{lines} lines of three managers; the leader's: {gone} times gone, {back} times back");
    ensure!(!said.contains("openraft") && !said.contains("AppendEntries"), "the library's own words");
    ensure!(gone == 2 && back == 2, "one line each time");
    ensure!(lines < 150, "{lines} lines");
    Ok(())
}

/// The smaller sibling of the benchmark `starved`.
#[test]
fn tasks_that_start_at_once_cost_no_leader() -> Result<()> {
    const TASKS: usize = 30;
    let mut cluster = Cluster::managed_with(3, 3, &["--max-concurrent-starts", "2"])?;
    cluster.import()?;
    let shares = Share::each(&mut cluster.hosts)?;
    cluster.wait_managers(3)?;
    cluster.wait_ready(3)?;
    // Far less than a quarter of a core: what small machines take for a quarter, this one may do at once.
    for share in &shares {
        share.limit(2)?;
    }
    let loops = BusyLoops::start(8)?;
    let mark = leaderships::mark(&cluster.hosts)?;
    let patience = 10 * wait::LONG;
    wait::until("the service is created", patience, || {
        let create = cluster.service(&["--name", "web", "--replicas", &TASKS.to_string()]);
        create.map(drop).or_else(|e| cluster.inspect("web", "{{.ID}}").map(drop).map_err(|_| e))
    })?;
    let list = wait::until("all tasks run", patience, || {
        let (running, list) = cluster.running("web")?;
        ensure!(running.len() == TASKS, "{list}");
        Ok(list)
    })?;
    drop((loops, shares));
    let reigns = leaderships::since(&cluster.hosts, mark)?;
    println!("{reigns:?}");
    ensure!(list.lines().count() == TASKS, "no task was replaced:\n{list}");
    ensure!(reigns.began.len() <= 1, "{reigns:?}");
    Ok(())
}
