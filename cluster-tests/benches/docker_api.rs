//! Docker's API on our socket beside Debian's `dockerd`, and what commands cost.
//!
//! Requests go over the socket without a client program, each on a connection of its own; commands are whole processes, `docker`
//! the same at both daemons. Both daemons have the same image, and as many containers.
//!
//! `cargo bench --workspace --profile dev --bench docker_api`

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Result, ensure};
use cluster_tests::{
    Cluster, Host,
    bench::{
        self,
        dockerd::Dockerd,
        memory,
        table::{Aim, Samples, Table, Unit},
    },
    host::{binary, timed},
    image::{self, IMAGE},
    interrupt,
};

/// Containers that `ps` lists.
const CONTAINERS: usize = 100;
/// Services that are asked for, one after the other.
const SERVICES: usize = 1000;
/// How often each request is made, and each command run.
const REQUESTS: usize = 50;
const RUNS: usize = 15;

fn main() -> ExitCode {
    bench::run("Docker's API", run)
}

fn run() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let ours = cluster.manager();
    let docker = Dockerd::start()?;
    let archive = tempfile::Builder::new().suffix(".tar").tempfile()?;
    image::build(archive.path(), true)?;
    docker.docker(&["import", &archive.path().display().to_string(), IMAGE])?;
    docker.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
    let mut table = Table::new();

    let run = |network| ["run", "--rm", "--network", network, IMAGE, "true"];
    commands(&mut table, ours, &docker, "run --rm --network none true", &run("none"), Aim::Below(0.06))?;
    commands(&mut table, ours, &docker, "run --rm --network host true", &run("host"), Aim::Below(0.06))?;
    let held = |n: usize| format!("held{n}");
    for n in 0..CONTAINERS {
        interrupt::check()?;
        let name = held(n);
        let args = ["run", "-d", "--name", &name, "--network", "none", IMAGE, "sleep", "10000"];
        ours.docker(&args)?;
        docker.docker(&args)?;
    }
    commands(&mut table, ours, &docker, "exec true", &["exec", "held0", "true"], Aim::None)?;
    commands(&mut table, ours, &docker, &format!("ps, {CONTAINERS} containers"), &["ps"], Aim::None)?;
    for (what, path) in [
        ("GET /version".to_owned(), "/version".to_owned()),
        (format!("GET /containers/json, {CONTAINERS} containers"), "/containers/json".to_owned()),
        ("GET /containers/held0/json".to_owned(), "/containers/held0/json".to_owned()),
    ] {
        let (mut a, mut b) = (Samples::new(Unit::Time), Samples::new(Unit::Time));
        for _ in 0..REQUESTS {
            interrupt::check()?;
            a.push_time(timed(|| get(ours.connect()?, &path))?.0);
            b.push_time(timed(|| get(docker.connect()?, &path))?.0);
        }
        table.beside(&what, &a, "dockerd", &b, Aim::AtMost(0.5));
    }

    let spec = format!(
        r#"{{"TaskTemplate":{{"ContainerSpec":{{"Image":"{IMAGE}"}}}},"Mode":{{"Replicated":{{"Replicas":0}}}}}}"#
    );
    for n in 0..SERVICES {
        interrupt::check()?;
        let named = spec.replacen('{', &format!(r#"{{"Name":"s{n}","#), 1);
        post(ours.connect()?, "/services/create", &named)?;
        post(docker.connect()?, "/services/create", &named)?;
    }
    let inspect_all = |connect: &dyn Fn() -> Result<UnixStream>| {
        timed(|| (0..SERVICES).try_for_each(|n| get(connect()?, &format!("/services/s{n}"))))
    };
    let (mut a, mut b) = (Samples::new(Unit::Time), Samples::new(Unit::Time));
    for _ in 0..3 {
        interrupt::check()?;
        a.push_time(inspect_all(&|| ours.connect())?.0);
        b.push_time(inspect_all(&|| docker.connect())?.0);
    }
    table.beside(&format!("{SERVICES} x GET /services/NAME"), &a, "dockerd", &b, Aim::AtMost(0.5));

    let (mut a, mut b) = (Samples::new(Unit::Bytes), Samples::new(Unit::Bytes));
    let pid = ours.pid().ok_or_else(|| anyhow::anyhow!("the daemon is gone"))?;
    a.push(memory::of(pid)?.pss as f64);
    b.push(memory::of(docker.pid()?)?.pss as f64);
    table.beside("memory of the daemon then (Pss)", &a, "dockerd alone", &b, Aim::AtMost(0.5));

    let program = binary("rnctl")?;
    let mut size = Samples::new(Unit::Bytes);
    size.push(fs::metadata(&program)?.len() as f64);
    table.figure("size of rnctl, as built here", &size, Aim::None);
    let (mut a, mut b) = (Samples::new(Unit::Time), Samples::new(Unit::Time));
    for _ in 0..RUNS {
        a.push_time(timed(|| quiet(Command::new(&program).arg("--version")))?.0);
        b.push_time(timed(|| quiet(Command::new("docker").arg("--version")))?.0);
    }
    table.beside("rnctl --version", &a, "docker --version", &b, Aim::Below(0.01));
    table.end();
    Ok(())
}

/// The same command: rnctl at ours, `docker` at ours, `docker` at dockerd, in turn.
fn commands(
    table: &mut Table,
    ours: &Host,
    docker: &Dockerd,
    what: &str,
    args: &[&str],
    aim: Aim,
) -> Result<()> {
    let mut times = [Samples::new(Unit::Time), Samples::new(Unit::Time), Samples::new(Unit::Time)];
    for _ in 0..RUNS {
        interrupt::check()?;
        times[0].push_time(timed(|| quiet(&mut ours.rnctl_command(args)?))?.0);
        times[1].push_time(timed(|| quiet(&mut ours.docker_command(args)))?.0);
        times[2].push_time(timed(|| quiet(&mut docker.command(args)))?.0);
    }
    let [rnctl, client, theirs] = &times;
    table.beside(&format!("rnctl {what}"), rnctl, "docker, dockerd", theirs, aim);
    table.beside(&format!("docker {what}, at rnd"), client, "docker, dockerd", theirs, Aim::AtMost(0.5));
    Ok(())
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn get(stream: UnixStream, path: &str) -> Result<()> {
    exchange(stream, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "200")
}

fn post(stream: UnixStream, path: &str, body: &str) -> Result<()> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(stream, &(head + body), "201")
}

fn exchange(mut stream: UnixStream, request: &str, status: &str) -> Result<()> {
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.split(' ').nth(1) == Some(status), "{request}: {answer}");
    Ok(())
}
