//! `make demo`: three hosts, one service, every node answers. Types the commands that a user would and shows what they
//! print; each host is a network namespace on one Ethernet segment, with a real daemon in it.

use std::{
    fs,
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cluster_tests::{Cluster, Host, image, probe, wait};
use serde::{Deserialize, Serialize};

const STATE: &str = "/run/rn-demo.json";
const IMAGE: &str = "hello:1";

/// What `--down` needs to know.
#[derive(Serialize, Deserialize)]
struct Left {
    dir: PathBuf,
    namespaces: Vec<String>,
    daemons: Vec<u32>,
}

fn main() -> Result<()> {
    let mode = std::env::args().nth(1);
    match mode.as_deref() {
        None => demo(false),
        Some("--keep") => demo(true),
        Some("--down") => down(),
        Some(other) => {
            bail!("unknown option {other:?}: --keep leaves the hosts up, --down removes what was left")
        }
    }
}

fn title(text: &str) {
    if std::io::stdout().is_terminal() {
        println!("\n\x1b[1m# {text}\x1b[0m");
    } else {
        println!("\n# {text}");
    }
}

/// Shows a command as typed on a host, runs it with its output going straight to ours.
fn typed(host: &Host, args: &[&str]) -> Result<()> {
    let shown: Vec<String> = args
        .iter()
        .map(|a| if a.contains([' ', '{']) { format!("'{a}'") } else { (*a).to_owned() })
        .collect();
    println!("{}$ rnctl {}", host.name, shown.join(" "));
    std::io::stdout().flush()?;
    let status = host.rnctl_command(args)?.stdout(Stdio::inherit()).stderr(Stdio::inherit()).status()?;
    ensure!(status.success(), "rnctl {} failed with {status}", args.join(" "));
    Ok(())
}

fn demo(keep: bool) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the demo makes namespaces and containers: run it as root");
    ensure!(!Path::new(STATE).exists(), "a demo is still up: make demo-down");
    let start = Instant::now();

    title("Three hosts, each with its own rnd");
    let cluster = Cluster::daemons(3)?;
    let hosts = &cluster.hosts;
    for host in hosts {
        println!("{}  {}  {}", host.name, host.v4(), host.v6());
    }
    println!("client {} {} (a machine outside the cluster)", cluster.client_port.v4, cluster.client_port.v6);

    title("Host 1 starts a swarm, the others join");
    typed(&hosts[0], &["swarm", "init", "--advertise-addr", &hosts[0].v4().to_string()])?;
    let token = hosts[0].rnctl(&["swarm", "join-token", "-q", "worker"])?;
    for host in &hosts[1..] {
        let (addr, manager) = (host.v4().to_string(), format!("{}:2377", hosts[0].v4()));
        typed(host, &["swarm", "join", "--token", &token, "--advertise-addr", &addr, &manager])?;
    }
    cluster.wait_ready(3)?;
    typed(&hosts[0], &["node", "ls"])?;

    title("An image, made from Debian's busybox, on every host");
    let archive = hosts[0].dir().join("hello.tar");
    image::build(&archive, false)?;
    for host in hosts {
        typed(host, &["import", &archive.display().to_string(), IMAGE])?;
    }

    title("One network, one service, three tasks, one published port");
    typed(&hosts[0], &["network", "create", "-d", "overlay", "app"])?;
    let server = ["/bin/httpd", "-f", "-p", "[::]:80", "-h", "/www"];
    let mut create = vec![
        "service",
        "create",
        "--name",
        "web",
        "--network",
        "app",
        "--replicas",
        "3",
        "--publish",
        "8080:80",
        IMAGE,
    ];
    create.extend_from_slice(&server);
    typed(&hosts[0], &create)?;
    typed(&hosts[0], &["service", "ls"])?;
    typed(&hosts[0], &["service", "ps", "web"])?;

    title("Every node answers, IPv4 and IPv6; the task sees the client's own address");
    for addr in cluster.everywhere(8080) {
        answers(&cluster, addr)?;
    }

    title("Inside a task: the service's name is one address, tasks.web are three");
    let (host, container) = hosts
        .iter()
        .find_map(|h| cluster.container(h, "web").ok().map(|c| (h, c)))
        .context("no running task of web")?;
    typed(host, &["exec", &container, "nslookup", "web"])?;
    typed(host, &["exec", &container, "nslookup", "tasks.web"])?;
    typed(host, &["exec", &container, "wget", "-q", "-O", "-", "http://web/"])?;

    title("Ten tasks");
    typed(&hosts[0], &["service", "scale", "web=10"])?;
    typed(&hosts[0], &["service", "ps", "web"])?;
    let tally = spread(&cluster, SocketAddr::new(hosts[1].v4(), 8080), 60)?;
    println!("60 requests to host2 were answered by {tally} different tasks");

    title("The manager's daemon is killed; traffic does not notice");
    println!("host1$ kill -9 $(pidof rnd)   # with a request every 10 ms to every node");
    let mut cluster = cluster;
    kill_under_load(&mut cluster)?;
    let hosts = &cluster.hosts;

    if keep {
        return leave_up(cluster);
    }
    title("And away");
    typed(&hosts[0], &["service", "rm", "web"])?;
    typed(&hosts[0], &["network", "rm", "app"])?;
    for host in hosts.iter().rev() {
        typed(host, &["swarm", "leave", "--force"])?;
    }
    drop(cluster);
    println!(
        "\nThe demo took {:.1} s; everything it made is gone. KEEP=1 leaves it up to play with.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn answers(cluster: &Cluster, addr: SocketAddr) -> Result<()> {
    let body = wait::until(&format!("{addr} answers"), wait::SHORT, || {
        probe::get_from(&cluster.client.path(), addr, "/")
    })?;
    println!("client$ curl http://{addr}/\n{}", body.trim_end());
    let want = cluster.client_addr(addr.ip()).to_string();
    ensure!(body.contains(&want), "the task should have seen {want}");
    Ok(())
}

fn spread(cluster: &Cluster, addr: SocketAddr, n: usize) -> Result<usize> {
    let mut tasks = std::collections::BTreeSet::new();
    for _ in 0..n {
        let body = probe::get_from(&cluster.client.path(), addr, "/")?;
        tasks.insert(body.split_whitespace().nth(1).unwrap_or_default().to_owned());
    }
    Ok(tasks.len())
}

fn kill_under_load(cluster: &mut Cluster) -> Result<()> {
    let targets = cluster.everywhere(8080);
    let ns = cluster.client.path();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = stop.clone();
    let worker = std::thread::spawn(move || -> Result<(u32, Vec<String>)> {
        let (mut done, mut failed) = (0, Vec::new());
        for addr in targets.iter().cycle() {
            if flag.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            match probe::get_from(&ns, *addr, "/") {
                Ok(_) => done += 1,
                Err(e) => failed.push(format!("{addr}: {e:#}")),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok((done, failed))
    });
    let manager = &mut cluster.hosts[0];
    manager.stop(nix::sys::signal::Signal::SIGKILL)?;
    std::thread::sleep(Duration::from_secs(1));
    manager.start()?;
    cluster.wait_running("web", 10)?;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (done, failed) = worker.join().unwrap_or_else(|p| std::panic::resume_unwind(p))?;
    println!("{done} requests answered, {} failed", failed.len());
    ensure!(failed.is_empty(), "first failure: {}", failed[0]);
    Ok(())
}

fn leave_up(cluster: Cluster) -> Result<()> {
    let left = Left {
        dir: cluster.hosts[0].dir().parent().context("directory")?.to_owned(),
        namespaces: cluster
            .hosts
            .iter()
            .map(|h| h.ns.name())
            .chain([cluster.client.name(), cluster.lan.name()])
            .map(str::to_owned)
            .collect(),
        daemons: cluster.hosts.iter().filter_map(|h| u32::try_from(h.pid()?).ok()).collect(),
    };
    fs::write(STATE, serde_json::to_vec_pretty(&left)?)?;
    title("Left up. Try");
    let rnctl = cluster_tests::host::binary("rnctl")?;
    for host in &cluster.hosts {
        println!(
            "  alias {}='nsenter --net={} {} -H {}'",
            host.name,
            host.ns.path().display(),
            rnctl.display(),
            host.socket()
        );
    }
    println!("  host1 service ps web; host1 service scale web=5; host1 service logs web");
    println!(
        "  nsenter --net={} curl http://{}:8080/",
        cluster.client.path().display(),
        cluster.hosts[1].v4()
    );
    println!("and then: make demo-down");
    std::mem::forget(cluster);
    Ok(())
}

fn down() -> Result<()> {
    let Ok(text) = fs::read(STATE) else {
        println!("no demo is up");
        return Ok(());
    };
    let left: Left = serde_json::from_slice(&text)?;
    for pid in &left.daemons {
        // A pid may have been used again since: only a daemon that names our directory is ended.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&left.dir.display().to_string()) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(*pid)?);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        }
    }
    cluster_tests::host::sweep(&left.dir);
    for name in &left.namespaces {
        Command::new("ip").args(["netns", "del", name]).status()?;
    }
    match fs::remove_dir_all(&left.dir) {
        // Somebody has cleaned up already.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.with_context(|| format!("{}", left.dir.display()))?,
    }
    fs::remove_file(STATE)?;
    println!("the demo's hosts are gone");
    Ok(())
}
