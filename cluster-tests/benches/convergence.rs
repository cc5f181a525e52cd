//! How soon every node has it: a new service, and a new task.
//!
//! * `service create` -> first answer: from the start of `rnctl` until an outside client has had an answer through each of three nodes,
//!   on both families. Ten replicas, the image is there, the network is there.
//! * task ready -> programmed: a service is scaled from 0 to 1. The start is when the task's server process began, by its own clock
//!   (so it includes what that process needs until it listens); the ends are seen from inside other tasks and from outside, by
//!   behaviour: `tasks.NAME` has an address, a connection to the VIP reaches it, a connection to the published port of each node does.
//!
//! `cargo bench --workspace --profile dev --bench convergence`

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster,
    bench::{
        self,
        queries::{self, Type},
        table::{Aim, Samples, Table, Unit},
        task::Task,
        watch::{Seen, Watch},
    },
    probe::Http,
    wait,
};

const NODES: usize = 3;
const CREATES: usize = 5;
const STARTS: usize = 20;
const PORT: u16 = 8080;
/// A look that takes longer has failed, and is made again.
const LOOK: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    bench::run("Convergence", run)
}

fn run() -> Result<()> {
    let cluster = Cluster::with_image(NODES)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    let mut table = Table::new();
    creates(&cluster, &mut table)?;
    starts(&cluster, &mut table)?;
    table.end();
    Ok(())
}

/// What the server at this address answers, on a new connection.
fn fetch(addr: SocketAddr, path: &str) -> Result<String> {
    Ok(Http::connect_within(addr, LOOK)?.get(path, false)?.0)
}

fn wait_gone(cluster: &Cluster, service: &str) -> Result<()> {
    let prefix = format!("{service}.");
    wait::until(&format!("no container of {service} is left"), wait::LONG, || {
        for host in &cluster.hosts {
            let names = host.containers()?;
            ensure!(!names.iter().any(|n| n.starts_with(&prefix)), "{}: {names:?}", host.name);
        }
        Ok(())
    })
}

fn creates(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let (mut answers, mut all) = (Samples::new(Unit::Time), Samples::new(Unit::Time));
    for _ in 0..CREATES {
        let watches: Vec<Watch<String>> = cluster
            .everywhere(PORT)
            .into_iter()
            .map(|addr| {
                Watch::start(format!("an answer of {addr}"), cluster.client.path(), wait::LONG, move || {
                    fetch(addr, "/")
                })
            })
            .collect();
        let start = SystemTime::now();
        cluster.service(&[
            "--name",
            "web",
            "--network",
            "app",
            "--replicas",
            "10",
            "--publish",
            &format!("{PORT}:80"),
        ])?;
        let mut last = start;
        for watch in watches {
            last = last.max(watch.join()?.at);
        }
        answers.push_time(last.duration_since(start)?);
        cluster.wait_running("web", 10)?;
        all.push_time(start.elapsed()?);
        cluster.manager().rnctl(&["service", "rm", "web"])?;
        wait_gone(cluster, "web")?;
    }
    let what = "service create, 10 replicas -> answer of 3 nodes, v4, v6";
    table.figure(what, &answers, Aim::Below(2.0));
    table.figure("service create, 10 replicas -> service ps: all Running", &all, Aim::None);
    Ok(())
}

fn starts(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let replicas = NODES.to_string();
    cluster.service(&["--name", "looks", "--network", "app", "--replicas", &replicas])?;
    cluster.service(&[
        "--name",
        "web",
        "--network",
        "app",
        "--replicas",
        "0",
        "--publish",
        &format!("{PORT}:80"),
    ])?;
    cluster.wait_running("looks", NODES)?;
    let tasks: Vec<Task> =
        cluster.hosts.iter().map(|host| Task::of(cluster, host, "looks", "app")).collect::<Result<_>>()?;
    let vip = wait::until("web has a virtual address", wait::SHORT, || tasks[0].resolve("web", true))?;

    let [mut names, mut virt, mut mesh, mut all] = [(); 4].map(|()| Samples::new(Unit::Time));
    let mut stalled = Vec::new();
    for _ in 0..STARTS {
        let looking = Looking::start(cluster, &tasks, vip);
        cluster.manager().rnctl(&["service", "scale", "-d", "web=1"])?;
        let seen = looking.join()?;
        names.push(seen.names);
        virt.push(seen.vip);
        mesh.push(seen.mesh);
        all.push(seen.names.max(seen.vip).max(seen.mesh));
        stalled.extend(seen.stalled);
        cluster.manager().rnctl(&["service", "scale", "-d", "web=0"])?;
        wait_gone(cluster, "web")?;
        wait::until("the old task's name is gone everywhere", wait::SHORT, || {
            tasks.iter().try_for_each(|t| {
                ensure!(t.resolve("tasks.web", true).is_err(), "{} resolves tasks.web", t.name);
                Ok(())
            })
        })?;
    }
    table.figure("task's process starts -> in DNS of every node", &names, Aim::None);
    table.figure("task's process starts -> reached by VIP from every node", &virt, Aim::None);
    table.figure("task's process starts -> reached by mesh through every node", &mesh, Aim::None);
    table.figure("task ready -> in DNS and kernel of every node: all of these", &all, Aim::Below(0.1));
    table.note(&format!("looks neither answered nor refused meanwhile: {}", stalled.len()));
    stalled.iter().take(5).for_each(|look| table.note(look));
    Ok(())
}

/// Seconds from the start of the task's process to the last node's sight of it.
struct Programmed {
    names: f64,
    vip: f64,
    mesh: f64,
    stalled: Vec<String>,
}

/// Looks for the one task of `web`, from everywhere.
struct Looking {
    names: Vec<Watch<IpAddr>>,
    vip: Vec<Watch<String>>,
    mesh: Vec<Watch<String>>,
}

impl Looking {
    fn start(cluster: &Cluster, tasks: &[Task], vip: IpAddr) -> Self {
        let reach = |what: String, ns: PathBuf, addr: SocketAddr| {
            Watch::start(what, ns, wait::LONG, move || fetch(addr, "/since"))
        };
        let inside = |task: &Task| {
            let what = format!("tasks.web from {}", task.name);
            Watch::start(what, task.netns.clone(), wait::LONG, || {
                let addrs = queries::addresses(Task::RESOLVER, "tasks.web", Type::A)?;
                addrs.first().copied().context("no address yet")
            })
        };
        let by_vip = |task: &Task| {
            reach(format!("web from {}", task.name), task.netns.clone(), SocketAddr::new(vip, 80))
        };
        let by_mesh = |addr| reach(format!("an answer of {addr}"), cluster.client.path(), addr);
        Self {
            names: tasks.iter().map(inside).collect(),
            vip: tasks.iter().map(by_vip).collect(),
            mesh: cluster.everywhere(PORT).into_iter().map(by_mesh).collect(),
        }
    }

    fn join(self) -> Result<Programmed> {
        let (names, vip, mesh) = (last(self.names)?, last(self.vip)?, last(self.mesh)?);
        let began = UNIX_EPOCH + Duration::from_micros(vip.value.trim().parse()?);
        let after = |moment: SystemTime| match moment.duration_since(began) {
            Ok(after) => after.as_secs_f64(),
            Err(before) => -before.duration().as_secs_f64(),
        };
        let stalled = [names.stalled, vip.stalled, mesh.stalled].concat();
        Ok(Programmed { names: after(names.at), vip: after(vip.at), mesh: after(mesh.at), stalled })
    }
}

/// The last sight of all, with the stalled looks of each.
fn last<T: Send + 'static>(watches: Vec<Watch<T>>) -> Result<Seen<T>> {
    let mut all = watches.into_iter().map(Watch::join).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|seen| seen.at);
    let stalled = all.iter_mut().flat_map(|seen| std::mem::take(&mut seen.stalled)).collect();
    let last = all.pop().context("nobody looked")?;
    Ok(Seen { stalled, ..last })
}
