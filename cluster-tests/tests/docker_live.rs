//! Debian's `docker` client, as it is: what is changed of a container while it is there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, docker::CLIENT, image::IMAGE, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A daemon outside any swarm, with the image.
fn machine() -> Result<Cluster> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    Ok(cluster)
}

fn inspect(host: &Host, container: &str, template: &str) -> Result<String> {
    host.docker(&["inspect", "--format", template, container])
}

/// What has happened up to now, as far as filters want it.
fn events(host: &Host, filters: &[&str], format: &str) -> Result<String> {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let args: Vec<&str> =
        ["events", "--since", "1", "--until", "0s", "--format", format].into_iter().chain(filters).collect();
    host.docker(&args)
}

fn start(host: &Host, name: &str, flags: &[&str], script: &str) -> Result<String> {
    let args = [&["run", "-d", "--name", name, "--network", "host"], flags, &[IMAGE, "sh", "-c", script]];
    host.docker(&args.concat())
}

#[test]
fn a_paused_container_stands_still() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let id = start(
        host,
        "clock",
        &["--stop-timeout", "5"],
        "trap 'exit 7' TERM; while true; do date +%s%N; sleep 0.02; done",
    )?;
    let lines = || Ok::<_, anyhow::Error>(host.docker(&["logs", "clock"])?.lines().count());
    wait::until("it counts", LIMIT, || {
        ensure!(lines()? > 1);
        Ok(())
    })?;
    host.docker(&["pause", "clock"])?;
    ensure!(
        inspect(host, "clock", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}")?
            == "paused true true"
    );
    ensure!(host.docker(&["ps", "--format", "{{.State}} {{.Status}}"])?.ends_with("(Paused)"));
    ensure!(host.docker(&["ps", "-q", "--no-trunc", "--filter", "status=paused"])? == id);
    ensure!(host.docker(&["info", "--format", "{{.ContainersPaused}} {{.ContainersRunning}}"])? == "1 0");
    // What was written before it stood still may be on its way for a moment.
    let mut before = lines()?;
    wait::until("it stands still", LIMIT, || {
        let now = lines()?;
        let still = now == std::mem::replace(&mut before, now);
        ensure!(still);
        Ok(())
    })?;
    host.docker_says(&["pause", "clock"], 1, &["is already paused"])?;
    host.docker_says(&["exec", "clock", "true"], 1, &["is paused, unpause the container before exec"])?;
    host.docker_says(&["attach", "clock"], 1, &["paused"])?;
    let answer = host.http("POST", "/containers/clock/start")?;
    ensure!(answer.status == 409, "{answer:?}");
    host.docker(&["unpause", "clock"])?;
    host.docker_says(&["unpause", "clock"], 1, &["is not paused"])?;
    wait::until("it goes on", LIMIT, || {
        ensure!(lines()? > before);
        Ok(())
    })?;
    ensure!(inspect(host, "clock", "{{.State.Status}} {{.State.Paused}}")? == "running false");
    // It is told to stop, and can do so.
    host.docker(&["pause", "clock"])?;
    host.docker(&["stop", "clock"])?;
    ensure!(inspect(host, "clock", "{{.State.Status}} {{.State.ExitCode}}")? == "exited 7");
    host.docker_says(&["pause", "clock"], 1, &["is not running"])?;
    host.docker(&["start", "clock"])?;
    host.docker(&["pause", "clock"])?;
    host.docker(&["kill", "clock"])?;
    wait::until("it is killed", LIMIT, || {
        ensure!(inspect(host, "clock", "{{.State.Status}} {{.State.ExitCode}}")? == "exited 137");
        Ok(())
    })?;
    host.docker(&["start", "clock"])?;
    host.docker(&["pause", "clock"])?;
    host.docker(&["rm", "-f", "clock"])?;
    // The client's "now" is a whole second.
    wait::until("all of that is told", LIMIT, || {
        let events = events(host, &["event=pause", "event=unpause"], "{{.Action}}")?;
        let count = |action: &str| events.lines().filter(|line| *line == action).count();
        ensure!((count("pause"), count("unpause")) == (4, 4), "{events}");
        Ok(())
    })
}

#[test]
fn a_pause_outlives_the_daemon() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let mut cluster = machine()?;
    start(cluster.manager(), "still", &[], "while true; do sleep 0.05; done")?;
    cluster.manager().docker(&["pause", "still"])?;
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[0].start()?;
    let host = cluster.manager();
    ensure!(inspect(host, "still", "{{.State.Status}}")? == "paused");
    host.docker(&["unpause", "still"])?;
    ensure!(inspect(host, "still", "{{.State.Status}}")? == "running");
    host.docker(&["rm", "-f", "still"]).map(drop)
}

#[test]
fn names_and_limits_change_while_it_runs() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    start(host, "old", &["-m", "64m"], "while true; do sleep 0.1; done")?;
    host.docker(&["create", "--name", "other", "--network", "host", IMAGE, "true"])?;
    host.docker(&["rename", "old", "new"])?;
    ensure!(inspect(host, "new", "{{.Name}}")? == "/new");
    host.docker_says(&["inspect", "--type", "container", "old"], 1, &["No such container: old"])?;
    host.docker_says(
        &["rename", "new", "other"],
        1,
        &["Conflict. The container name", "is already in use by container"],
    )?;
    host.docker_says(&["rename", "new", "_x"], 1, &["Invalid container name"])?;
    host.docker(&["rename", "other", "old"])?;
    ensure!(host.docker(&["start", "-a", "old"])?.is_empty());
    wait::until("that is told", LIMIT, || {
        let names = "{{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}";
        let renamed = events(host, &["event=rename"], names)?;
        ensure!(renamed.contains("/old new"), "{renamed}");
        Ok(())
    })?;

    host.docker(&[
        "update",
        "-m",
        "96m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--restart",
        "on-failure:4",
        "new",
    ])?;
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    ensure!(inspect(host, "new", limits)? == "100663296 500000000 50 on-failure");
    let stats: Value =
        serde_json::from_str(&host.http("GET", "/containers/new/stats?stream=false&one-shot=true")?.body)?;
    ensure!(stats["memory_stats"]["limit"] == 100_663_296, "{stats}");
    ensure!(
        stats["pids_stats"]["limit"] == 50 && stats["pids_stats"]["current"].as_u64() > Some(0),
        "{stats}"
    );
    host.docker_says(&["update", "--cpu-shares", "5", "new"], 1, &["CpuShares is not supported"])?;
    host.docker_says(&["update", "-m", "1", "new"], 1, &["4 MiB"])?;
    ensure!(inspect(host, "new", limits)? == "100663296 500000000 50 on-failure", "as it was");
    host.docker(&["rm", "-f", "new", "old"]).map(drop)
}

#[test]
fn what_a_container_uses_is_told() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    start(host, "busy", &["-m", "64m"], "while :; do :; done")?;
    host.docker(&["create", "--name", "idle", "--network", "host", IMAGE, "true"])?;
    let shown = host.docker(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}",
        "busy",
    ])?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    ensure!(words[0] == "busy" && words[4] == "64MiB" && words[5].parse::<u32>()? > 0, "{shown}");
    ensure!(words[1].trim_end_matches('%').parse::<f64>()? > 5.0, "{shown}");
    // A line a second, each with the one before.
    let mut stream = host
        .docker_command(&["stats", "--format", "{{.Name}}", "busy"])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut seen = [0; 64];
    ensure!(std::io::Read::read(stream.stdout.as_mut().unwrap(), &mut seen)? > 0);
    stream.kill()?;
    stream.wait()?;
    let empty: Value = serde_json::from_str(&host.http("GET", "/containers/idle/stats?stream=false")?.body)?;
    ensure!(empty["read"] == "0001-01-01T00:00:00Z" && empty["name"] == "/idle", "{empty}");
    ensure!(host.http("GET", "/containers/busy/stats?stream=1&one-shot=1")?.status == 400);
    ensure!(host.http("GET", "/containers/none/stats")?.status == 404);
    host.docker(&["rm", "-f", "busy", "idle"]).map(drop)
}

#[test]
fn a_restart_does_not_remove_what_goes_when_it_ends() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    let id = start(host, "again", &["--rm", "--stop-timeout", "0"], "while true; do sleep 0.1; done")?;
    let before = inspect(host, "again", "{{.State.Pid}}")?;
    host.docker(&["restart", "again"])?;
    ensure!(inspect(host, "again", "{{.Id}} {{.State.Status}}")? == format!("{id} running"));
    ensure!(inspect(host, "again", "{{.State.Pid}}")? != before);
    // One that stands still too.
    host.docker(&["pause", "again"])?;
    host.docker(&["restart", "again"])?;
    ensure!(inspect(host, "again", "{{.State.Status}}")? == "running");
    host.docker(&["stop", "again"])?;
    wait::until("it goes when it is stopped", LIMIT, || {
        ensure!(host.docker(&["ps", "-aq"])?.is_empty());
        Ok(())
    })?;
    // One that does not run is started.
    host.docker(&["create", "--name", "made", "--network", "host", IMAGE, "sleep", "600"])?;
    host.docker(&["restart", "made"])?;
    ensure!(inspect(host, "made", "{{.State.Status}}")? == "running");
    host.docker(&["rm", "-f", "made"]).map(drop)
}

#[test]
fn a_container_without_a_network_has_its_loopback_interface() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let mut cluster = machine()?;
    let host = cluster.manager();
    let out = host.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "ip -o link; ping -c 1 127.0.0.1",
    ])?;
    ensure!(out.contains("lo:") && !out.contains("eth0") && out.contains("1 packets received"), "{out}");
    let args =
        ["run", "-d", "--name", "alone", "--network", "none", "--restart", "always", IMAGE, "sleep", "600"];
    host.docker(&args)?;
    ensure!(
        inspect(
            host,
            "alone",
            "{{.HostConfig.NetworkMode}} {{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}"
        )? == "none none"
    );
    ensure!(host.docker(&["ps", "-q", "--no-trunc", "--filter", "network=none"])?.len() == 64);
    host.docker_says(&["run", "--network", "none", "-p", "80", IMAGE], 125, &["without a network"])?;
    // It goes on without the daemon, comes back after a reboot, and leaves nothing.
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[0].start()?;
    let host = cluster.manager();
    ensure!(host.docker(&["exec", "alone", "ip", "-o", "link"])?.lines().count() == 1);
    host.docker(&["restart", "-t", "0", "alone"])?;
    ensure!(host.docker(&["exec", "alone", "ip", "-o", "link"])?.lines().count() == 1);
    host.docker(&["rm", "-f", "alone"])?;
    let left = std::fs::read_dir(host.exec_root().join("isolated"))?.count();
    ensure!(left == 0, "{left} namespaces are left");
    Ok(())
}

#[test]
fn further_processes_and_ports_are_told_of() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    start(host, "main", &["--expose", "8000", "--expose", "53/udp"], "while true; do sleep 0.1; done")?;
    ensure!(inspect(host, "main", "{{json .Config.ExposedPorts}}")? == r#"{"53/udp":{},"8000/tcp":{}}"#);
    let created =
        host.http_json("POST", "/containers/main/exec", r#"{"Cmd":["sleep","600"],"AttachStdout":true}"#)?;
    let id = serde_json::from_str::<Value>(&created.body)?["Id"].as_str().unwrap().to_owned();
    let started = host.http_json("POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#)?;
    ensure!(started.status == 200, "{started:?}");
    wait::until("it has a number", LIMIT, || {
        let seen: Value = serde_json::from_str(&host.http("GET", &format!("/exec/{id}/json"))?.body)?;
        let pid = seen["Pid"].as_i64().filter(|pid| *pid > 0);
        let pid = i32::try_from(pid.ok_or_else(|| anyhow::anyhow!("{seen}"))?)?;
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
        ensure!(words.contains("sleep"), "{words}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL)?;
        Ok(())
    })?;
    wait::until("its life is told", LIMIT, || {
        let told = events(
            host,
            &["event=exec_create", "event=exec_start", "event=exec_die"],
            "{{.Action}} {{.Actor.Attributes.execID}} {{.Actor.Attributes.exitCode}}",
        )?;
        for (line, words) in told.lines().zip(["exec_create: sleep 600", "exec_start: sleep 600", "exec_die"])
        {
            ensure!(line.starts_with(words) && line.contains(&id), "{told}");
        }
        ensure!(told.lines().count() == 3 && told.ends_with("137"), "{told}");
        Ok(())
    })?;
    for (filter, there) in [
        ("name=^/?ma.n$", true),
        ("name=^main", true),
        ("name=ain", true),
        ("name=^ain", false),
        ("name=m.*z", false),
        ("ancestor=testweb:1", true),
        ("ancestor=none:1", false),
        ("is-task=false", true),
        ("exited=0", false),
    ] {
        ensure!(host.docker(&["ps", "-q", "--filter", filter])?.is_empty() != there, "{filter}");
    }
    host.docker(&["tag", IMAGE, "second:name"])?;
    ensure!(!host.docker(&["ps", "-q", "--filter", "ancestor=second:name"])?.is_empty(), "by its image");
    host.docker(&["rm", "-f", "main"]).map(drop)
}

#[test]
fn what_is_on_the_disk_is_told() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    start(
        host,
        "writer",
        &["-v", "data:/data"],
        "echo written > /tmp/x; echo kept > /data/y; while true; do sleep 0.1; done",
    )?;
    wait::until("it has written", LIMIT, || host.docker(&["exec", "writer", "cat", "/data/y"]).map(drop))?;
    let shown =
        host.docker(&["system", "df", "--format", "{{.Type}}:{{.TotalCount}}:{{.Active}}:{{.Size}}"])?;
    let lines: Vec<&str> = shown.lines().collect();
    ensure!(lines[0].starts_with("Images:1:1:") && !lines[0].ends_with(":0B"), "{shown}");
    ensure!(lines[1].starts_with("Containers:1:1:") && !lines[1].ends_with(":0B"), "{shown}");
    ensure!(lines[2] == "Local Volumes:1:1:5B" && lines[3] == "Build Cache:0:0:0B", "{shown}");
    let verbose = host.docker(&["system", "df", "-v"])?;
    ensure!(verbose.contains("writer") && verbose.contains("data"), "{verbose}");
    let some: Value =
        serde_json::from_str(&host.http("GET", "/v1.43/system/df?type=volume&type=image")?.body)?;
    ensure!(some["Volumes"][0]["UsageData"]["RefCount"] == 1 && some.get("Containers").is_none(), "{some}");
    ensure!(
        some["Images"][0]["Containers"] == 1 && some["LayersSize"] == some["Images"][0]["Size"],
        "{some}"
    );
    ensure!(host.http("GET", "/system/df?type=x")?.status == 400);
    host.docker(&["rm", "-f", "writer"]).map(drop)
}
