//! Debian's `docker` client, as it is, with containers and images of one machine of ours.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, docker::CLIENT, image::IMAGE, pty::Terminal, wait};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A daemon outside any swarm, with the image.
fn machine() -> Result<Cluster> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    Ok(cluster)
}

/// `docker run` in the machine's own network, all three streams ours.
fn run(host: &Host, flags: &[&str], script: &str) -> Result<Child> {
    let args = [&["run", "--network", "host"], flags, &[IMAGE, "sh", "-c", script]].concat();
    let mut command = host.docker_command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("docker run")
}

/// `docker` for a terminal, which takes no environment over.
fn terminal_command(host: &Host, args: &[&str]) -> Command {
    let socket = host.socket();
    host.docker_command(&[&["-H", &socket], args].concat())
}

fn inspect(host: &Host, container: &str, template: &str) -> Result<String> {
    host.docker(&["inspect", "--format", template, container])
}

#[test]
fn what_runs_in_the_foreground_is_heard_and_ends_as_it_ends() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let out = run(host, &["--rm"], "printf abc; printf '\\377\\0x' >&2; exit 3")?.wait_with_output()?;
    ensure!(out.stdout == b"abc" && out.stderr == b"\xff\0x" && out.status.code() == Some(3), "{out:?}");
    let out = run(host, &["--rm"], "exit 0")?.wait_with_output()?;
    ensure!(out.status.success() && out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
    // As much as a pipe does not hold, in both directions.
    let mut child = run(host, &["--rm", "-i"], "cat")?;
    let mut stdin = child.stdin.take().unwrap();
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = data.clone();
    let typing = std::thread::spawn(move || stdin.write_all(&sent));
    let out = child.wait_with_output()?;
    typing.join().unwrap()?;
    ensure!(out.status.success() && out.stdout == data, "{} bytes of {}", out.stdout.len(), data.len());
    ensure!(host.docker(&["ps", "-aq"])?.is_empty(), "--rm");

    fn on_host<'a>(command: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--rm", "--network", "host"], command].concat()
    }
    host.docker_says(&on_host(&[IMAGE, "nothing"]), 127, &["executable file not found"])?;
    host.docker_says(&on_host(&[IMAGE, "/etc/passwd"]), 126, &["permission denied"])?;
    host.docker_says(
        &on_host(&["--privileged", IMAGE, "true"]),
        125,
        &["HostConfig.Privileged is not supported"],
    )?;
    host.docker_says(&["run", "--rm", IMAGE, "true"], 125, &["no bridge network", "--network host"])?;
    host.docker_says(
        &["run", "--rm", "--network", "nowhere", IMAGE, "true"],
        125,
        &["network nowhere not found"],
    )?;
    wait::until("what did not start has gone", LIMIT, || {
        let left = host.docker(&["ps", "-aq"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

#[test]
fn a_terminal_is_one() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let args = ["run", "--rm", "-it", "--network", "host", "--name", "term", IMAGE, "sh"];
    let mut terminal = Terminal::start(terminal_command(host, &args), 33, 101)?;
    let size = "busybox stty size; echo done\n";
    wait::until("the terminal has the size of the user's", LIMIT, || {
        terminal.send(size)?;
        let seen = terminal.read_until("done\r\n")?;
        ensure!(seen.contains("33 101"), "{seen}");
        Ok(())
    })?;
    terminal.resize(20, 60)?;
    wait::until("and follows it", LIMIT, || {
        terminal.send(size)?;
        let seen = terminal.read_until("done\r\n")?;
        ensure!(seen.contains("20 60"), "{seen}");
        Ok(())
    })?;
    let args = ["exec", "-it", "term", "sh"];
    let mut second = Terminal::start(terminal_command(host, &args), 40, 90)?;
    second.send("tty; exit 5\n")?;
    second.read_until("/dev/pts/")?;
    ensure!(second.wait()?.code() == Some(5));
    terminal.send("exit 7\n")?;
    ensure!(terminal.wait()?.code() == Some(7));

    // Left by its keys, it goes on, and can be taken up again.
    let args = ["run", "-it", "--network", "host", "--name", "left", IMAGE, "sh"];
    let mut terminal = Terminal::start(terminal_command(host, &args), 24, 80)?;
    terminal.send("echo he''re\n")?;
    terminal.read_until("here")?;
    terminal.send("\x10\x11")?;
    terminal.wait()?;
    ensure!(inspect(host, "left", "{{.State.Status}}")? == "running");
    let mut terminal = Terminal::start(terminal_command(host, &["attach", "left"]), 24, 80)?;
    terminal.send("echo ag''ain; exit 4\n")?;
    terminal.read_until("again")?;
    ensure!(terminal.wait()?.code() == Some(4));
    host.docker(&["rm", "left"]).map(drop)
}

#[test]
fn a_container_lives_as_docker_says() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let id = host.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "host",
        "--label",
        "a=b",
        "-e",
        "X=1",
        "--restart",
        "on-failure:3",
        "-v",
        "data:/data",
        "--tmpfs",
        "/t:size=1m",
        "-m",
        "64m",
        "--stop-timeout",
        "1",
        IMAGE,
        "sh",
        "-c",
        "echo out; echo err >&2; trap 'exit 9' TERM; while true; do sleep 0.1; done",
    ])?;
    ensure!(id.len() == 64, "{id}");
    host.docker_says(
        &["run", "-d", "--name", "web", "--network", "host", IMAGE],
        125,
        &[
            "Conflict. The container name \"",
            "web\" is already in use by container",
            "You have to remove (or rename)",
        ],
    )?;
    let ps = |args: &[&str]| {
        host.docker(&[&["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"], args].concat())
    };
    ensure!(ps(&[])? == format!("web {IMAGE} running"));
    for (filter, there) in [
        ("name=we", true),
        ("label=a=b", true),
        ("label=c", false),
        ("status=exited", false),
        ("volume=data", true),
        ("ancestor=testweb:1", true),
        ("network=host", true),
        ("health=none", true),
    ] {
        ensure!(ps(&["-a", "--filter", filter])?.is_empty() != there, "{filter}");
    }
    host.docker_says(&["ps", "--filter", "colour=red"], 1, &["invalid filter 'colour'"])?;
    for (template, expected) in [
        ("{{.Id}}", id.as_str()),
        ("{{.Name}}", "/web"),
        ("{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}", "running true 0"),
        (
            "{{.Config.Image}} {{.Config.Labels.a}} {{.Config.Tty}} {{index .Config.Cmd 0}}",
            "testweb:1 b false sh",
        ),
        ("{{.HostConfig.NetworkMode}} {{.HostConfig.Memory}}", "host 67108864"),
        (
            "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            "on-failure 3",
        ),
        ("{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}};{{end}}", "tmpfs  /t;volume data /data;"),
        ("{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", "host"),
        ("{{range .Config.Env}}{{.}} {{end}}", "X=1"),
    ] {
        let got = inspect(host, "web", template)?;
        ensure!(got.trim_end() == expected || sorted(&got) == sorted(expected), "{template}: {got}");
    }
    wait::until("its log", LIMIT, || {
        let out = host.try_docker(&["logs", "web"])?;
        ensure!(out.stdout == b"out\n" && out.stderr == b"err\n", "{out:?}");
        Ok(())
    })?;
    let dated = host.docker(&["logs", "-t", "--tail", "1", "web"])?;
    ensure!(dated.is_empty() || dated.ends_with("Z out"), "{dated}");
    ensure!(host.docker(&["top", "web"])?.contains("trap 'exit 9' TERM"));
    ensure!(host.docker(&["top", "web", "-o", "pid,comm"])?.starts_with("PID"));

    ensure!(host.docker(&["exec", "web", "sh", "-c", "echo $X; exit 0"])? == "1");
    host.docker_says(&["exec", "web", "sh", "-c", "exit 6"], 6, &[])?;
    host.docker_says(&["exec", "web", "nothing"], 127, &["executable file not found"])?;
    ensure!(
        host.docker(&[
            "exec",
            "-e",
            "Y=2",
            "-w",
            "/tmp",
            "-u",
            "33",
            "web",
            "sh",
            "-c",
            "echo $Y $(pwd) $(id -u)"
        ])? == "2 /tmp 33"
    );
    let mut cat = host
        .docker_command(&["exec", "-i", "web", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    cat.stdin.take().unwrap().write_all(b"typed")?;
    ensure!(cat.wait_with_output()?.stdout == b"typed");
    host.docker(&["exec", "-d", "web", "touch", "/tmp/detached"])?;
    wait::until("a detached process has run", LIMIT, || {
        host.docker(&["exec", "web", "ls", "/tmp/detached"]).map(drop)
    })?;

    host.docker_says(
        &["rm", "web"],
        1,
        &["cannot remove container", "is running: stop the container before removing or force remove"],
    )?;
    ensure!(host.docker(&["stop", "web"])? == "web");
    ensure!(inspect(host, "web", "{{.State.Status}} {{.State.ExitCode}}")? == "exited 9");
    ensure!(host.http("POST", "/containers/web/stop")?.status == 304, "stopped already");
    host.docker_says(&["exec", "web", "true"], 1, &["is not running"])?;
    host.docker_says(&["kill", "web"], 1, &["Cannot kill container: web", "is not running"])?;
    host.docker(&["start", "web"])?;
    ensure!(host.http("POST", "/containers/web/start")?.status == 304, "started already");
    host.docker(&["restart", "web"])?;
    host.docker(&["kill", "web"])?;
    ensure!(host.docker(&["wait", "web"])? == "137");
    ensure!(ps(&["-a", "--filter", "exited=137"])? == format!("web {IMAGE} exited"));
    ensure!(host.docker(&["rm", "web"])? == "web");
    host.docker_says(&["inspect", "--type", "container", "web"], 1, &["No such container: web"])?;
    host.docker_says(&["rm", "web"], 1, &["No such container: web"])?;
    host.docker_says(&["logs", "web"], 1, &["No such container: web"])?;

    // Made, looked at, never run; and pruned.
    host.docker(&["create", "--name", "made", "--network", "host", IMAGE, "true"])?;
    ensure!(ps(&["-a"])? == format!("made {IMAGE} created"));
    let listed: Value =
        serde_json::from_str(&host.http("GET", "/containers/json?all=1&size=1&limit=5")?.body)?;
    ensure!(listed[0]["SizeRootFs"].as_u64() > Some(100_000) && listed[0]["SizeRw"] == 0, "{listed}");
    ensure!(host.docker(&["container", "prune", "-f"])?.contains("Deleted Containers:"));
    ensure!(ps(&["-a"])?.is_empty());
    Ok(())
}

fn sorted(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = text.split_terminator(';').collect();
    parts.sort_unstable();
    parts
}

#[test]
fn logs_are_followed_to_the_end_and_waits_miss_nothing() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let script = "echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two; exit 8";
    host.docker(&["run", "-d", "--name", "slow", "--network", "host", IMAGE, "sh", "-c", script])?;
    let mut follow = host.docker_command(&["logs", "-f", "slow"]).stdout(Stdio::piped()).spawn()?;
    let wait = host.docker_command(&["wait", "slow"]).stdout(Stdio::piped()).spawn()?;
    let mut first = [0; 4];
    follow.stdout.as_mut().unwrap().read_exact(&mut first)?;
    ensure!(&first == b"one\n");
    host.docker(&["exec", "slow", "touch", "/go"])?;
    ensure!(follow.wait_with_output()?.stdout == b"two\n");
    ensure!(wait.wait_with_output()?.stdout == b"8\n");
    // Started again, attached: nothing is lost, and the code is its own.
    let again = host.docker_command(&["start", "-a", "slow"]).output()?;
    ensure!(again.stdout == b"one\ntwo\n" && again.status.code() == Some(8), "{again:?}");
    let removed = host
        .docker_command(&["run", "--name", "gone", "--network", "host", IMAGE, "sleep", "600"])
        .spawn()?;
    wait::until("it runs", LIMIT, || {
        ensure!(inspect(host, "gone", "{{.State.Running}}")? == "true");
        Ok(())
    })?;
    host.docker(&["rm", "-f", "gone", "slow"])?;
    ensure!(removed.wait_with_output()?.status.code() == Some(137));
    Ok(())
}

#[test]
fn images_come_are_named_and_go() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let archive = host.dir().join("rootfs.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&archive)?);
    tar.append_path_with_name("/bin/busybox", "bin/busybox")?;
    tar.finish()?;
    let file = archive.display().to_string();
    let id = host.docker(&[
        "import",
        "-c",
        "CMD [\"/bin/busybox\", \"echo\", \"hi\"]",
        "-m",
        "mine",
        &file,
        "box:1",
    ])?;
    ensure!(id.starts_with("sha256:"), "{id}");
    ensure!(host.docker(&["run", "--rm", "--network", "host", "box:1"])? == "hi");
    let list =
        |args: &[&str]| host.docker(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat());
    ensure!(list(&["box"])? == "box:1");
    ensure!(list(&["--filter", "reference=test*"])? == IMAGE);
    host.docker(&["tag", "box:1", "other/box:2"])?;
    ensure!(
        host.docker(&[
            "image",
            "inspect",
            "--format",
            "{{.Id}} {{index .Config.Cmd 2}} {{.Os}}",
            "other/box:2"
        ])? == format!("{id} hi linux")
    );
    let history = host.docker(&["history", "--format", "{{.Comment}}", "box:1"])?;
    ensure!(history == "mine", "{history}");
    ensure!(host.docker(&["rmi", "box:1"])? == "Untagged: box:1");
    let gone = host.docker(&["rmi", "other/box:2"])?;
    ensure!(gone.contains("Untagged: other/box:2") && gone.contains(&format!("Deleted: {id}")), "{gone}");
    host.docker_says(&["rmi", "box:1"], 1, &["No such image: box:1"])?;
    host.docker_says(
        &["run", "--pull", "never", "--network", "host", "box:1"],
        125,
        &["No such image: box:1"],
    )?;
    host.docker(&["create", "--name", "user", "--network", "host", IMAGE, "true"])?;
    host.docker(&["start", "-a", "user"])?;
    host.docker_says(&["rmi", IMAGE], 1, &["conflict: unable to remove repository reference", "container"])?;
    host.docker(&["rm", "user"])?;
    ensure!(host.docker(&["image", "prune", "-a", "-f"])?.contains("Total reclaimed space"));
    ensure!(list(&[])?.is_empty());
    Ok(())
}

#[test]
fn volumes_are_made_used_and_removed() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    ensure!(host.docker(&["volume", "create", "--label", "a=b", "data"])? == "data");
    ensure!(host.docker(&["volume", "create", "data"])? == "data", "the same again");
    ensure!(host.docker(&["volume", "create"])?.len() == 64);
    let put = [
        "run",
        "--name",
        "user",
        "--network",
        "host",
        "-v",
        "data:/d",
        IMAGE,
        "sh",
        "-c",
        "echo kept >/d/file",
    ];
    host.docker(&put)?;
    host.docker(&["run", "--rm", "--network", "host", "-v", "other:/d", IMAGE, "true"])?;
    let list =
        |args: &[&str]| host.docker(&[&["volume", "ls", "--format", "{{.Name}} {{.Driver}}"], args].concat());
    ensure!(list(&["-f", "label=a=b"])? == "data local" && list(&["-f", "name=oth"])? == "other local");
    ensure!(list(&["-f", "dangling=false"])? == "data local");
    let path = host.docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", "data"])?;
    ensure!(std::fs::read_to_string(format!("{path}/file"))? == "kept\n", "{path}");
    host.docker_says(&["volume", "rm", "data"], 1, &["remove data: volume is in use - ["])?;
    host.docker_says(&["volume", "inspect", "nothing"], 1, &["o such volume"])?;
    host.docker_says(&["volume", "create", "-d", "nfs", "v2"], 1, &["plugin \"nfs\" not found"])?;
    host.docker_says(
        &["volume", "create", "--opt", "type=tmpfs", "v2"],
        1,
        &["DriverOpts: type is not supported"],
    )?;
    host.docker_says(
        &["volume", "create", "a/b"],
        1,
        &["includes invalid characters for a local volume name"],
    )?;
    ensure!(
        host.docker(&["run", "--rm", "--network", "host", "-v", "data:/d", IMAGE, "cat", "/d/file"])?
            == "kept"
    );
    host.docker(&["rm", "user"])?;
    ensure!(host.docker(&["volume", "rm", "data"])? == "data");
    ensure!(
        host.docker(&["volume", "prune", "-f"])?.contains("Deleted Volumes:"),
        "the one without a name of its own"
    );
    ensure!(list(&[])? == "other local");
    host.docker(&["volume", "prune", "-f", "--filter", "all=true"])?;
    ensure!(list(&[])?.is_empty());
    Ok(())
}
