//! The resolver next to packaged servers with the same names, in the same run, in turn, each on one core.
//!
//! The load asks for A and AAAA of service names and of `tasks.NAME` in a closed loop and checks every answer; it has a core of its
//! own. rn is asked as a task asks: from inside the task's namespace, at 127.0.0.11, through the redirect there. The packaged servers
//! listen on loopback of a namespace without any rules.
//!
//! `cargo bench --workspace --profile dev --bench names`

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use cluster_tests::{
    Cluster,
    bench::{
        self, cores,
        nameserver::{self, NameServer},
        paths::{in_turn, path_of},
        queries::{self, Question, Type},
        table::{Aim, Samples, Table, Unit},
        task::Task,
    },
    lan::enter,
    wait,
};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
/// Services beside the one with tasks.
const SERVICES: usize = 20;
const TASKS: usize = 3;

fn main() -> ExitCode {
    bench::run("Names", run)
}

fn run() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--replicas", &TASKS.to_string()])?;
    for n in 0..SERVICES {
        cluster.service(&["--name", &format!("s{n}"), "--network", "app", "--replicas", "0"])?;
    }
    cluster.wait_running("web", TASKS)?;
    let task = Task::of(&cluster, host, "web", "app")?;

    // What the packaged servers are to know is what the resolver says.
    let mut names: Vec<(String, Vec<IpAddr>)> = Vec::new();
    let (mut questions, mut all) = (Vec::new(), vec![("web".to_owned(), 1), ("tasks.web".to_owned(), TASKS)]);
    all.extend((0..SERVICES).map(|n| (format!("s{n}"), 1)));
    for (name, records) in all {
        let mut addrs = Vec::new();
        for kind in [Type::A, Type::Aaaa] {
            let question = Question::new(&name, kind, u16::try_from(records)?);
            wait::until(&format!("{name} resolves"), wait::SHORT, || {
                enter(&task.netns, || queries::ask(Task::RESOLVER, &question))?
            })?;
            addrs.extend(enter(&task.netns, || queries::addresses(Task::RESOLVER, &name, kind))??);
            questions.push(question);
        }
        names.push((name, addrs));
    }
    let names: Vec<(&str, Vec<IpAddr>)> = names.iter().map(|(n, a)| (n.as_str(), a.clone())).collect();
    let dnsmasq = NameServer::dnsmasq(&names, host.dir(), &questions[0])?;
    let unbound = NameServer::unbound(&names, host.dir(), &questions[0])?;
    let rnd = host.pid().context("the daemon runs")?;
    cores::pin(rnd, cores::SERVER)?;

    let mut table = Table::new();
    for sockets in [1, 32] {
        let measure = |ns: &Path, addr: SocketAddr, pid: i32| -> Result<[f64; 4]> {
            let before = cores::cpu_time(pid)?;
            let seen = queries::load(ns, addr, &questions, sockets, ROUND)?;
            let busy = (cores::cpu_time(pid)? - before).as_secs_f64() / (seen.rate * ROUND.as_secs_f64());
            Ok([seen.rate, seen.p99, busy, seen.lost as f64])
        };
        let [ours, dnsmasq, unbound] = in_turn(
            [Unit::Rate, Unit::Time, Unit::Time, Unit::Rate],
            ROUNDS,
            [
                path_of("rn", || measure(&task.netns, Task::RESOLVER, rnd)),
                path_of("dnsmasq", || measure(&dnsmasq.ns.path(), nameserver::ADDR, dnsmasq.pid()?)),
                path_of("unbound", || measure(&unbound.ns.path(), nameserver::ADDR, unbound.pid()?)),
            ],
        )?;
        // One query at a time measures the way there and back; many measure the server.
        let aim = if sockets > 1 { Aim::Share(1.0) } else { Aim::None };
        let what = |figure: &str| format!("DNS, {sockets} at a time: {figure}");
        let mut rows = |figure: &str, n: usize, aim: Aim| {
            let pick = |samples: &[Samples; 4]| samples[n].clone();
            table.beside(&what(figure), &pick(&ours), "dnsmasq", &pick(&dnsmasq), aim);
            table.beside(&what(figure), &pick(&ours), "unbound", &pick(&unbound), Aim::None);
        };
        rows("queries", 0, aim);
        rows("p99", 1, Aim::None);
        rows("CPU time of the server per query", 2, Aim::None);
        table.figure(&what("queries without an answer"), &ours[3], Aim::None);
    }
    table.end();
    Ok(())
}
