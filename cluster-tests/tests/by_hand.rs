//! Containers that users run by hand obey their users, not the rules of tasks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, image::IMAGE, wait};

const LIMIT: Duration = Duration::from_secs(60);
const ON_HOST: [&str; 2] = ["--network", "host"];

fn inspect(host: &Host, container: &str, template: &str) -> Result<String> {
    host.rnctl(&["container", "inspect", "--format", template, container])
}

fn status(host: &Host, container: &str) -> Result<String> {
    let filter = format!("name={container}");
    host.rnctl(&["ps", "-a", "--filter", &filter, "--format", "{{.Status}}"])
}

/// Waits until `ps` shows a status that contains this.
fn shows(host: &Host, container: &str, words: &str) -> Result<()> {
    wait::until(&format!("{container} is shown as {words}"), LIMIT, || {
        let now = status(host, container)?;
        ensure!(now.contains(words), "{now}");
        Ok(())
    })
}

#[test]
fn health_is_shown_and_nothing_more() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    cluster.import_as("sick:1", &["HEALTHCHECK --interval=100ms --retries=2 CMD echo so sick; exit 1"])?;
    cluster.import_as("slow:1", &["HEALTHCHECK --interval=1h CMD exit 1"])?;
    let host = cluster.manager();
    let run =
        |flags: &[&str], command: &[&str]| host.rnctl(&[&["run"], &ON_HOST[..], flags, command].concat());
    // Nobody waits for the first check, and its end is its own.
    ensure!(run(&["--rm"], &["slow:1", "echo", "hi"])? == "hi");
    let (code, text) =
        host.rnctl_fails(&["run", "--rm", "--network", "host", "slow:1", "sh", "-c", "exit 5"])?;
    ensure!(code == 5 && text.is_empty(), "{code} {text:?}");
    run(&["-d", "--name", "slow"], &["slow:1", "sleep", "600"])?;
    ensure!(status(host, "slow")?.ends_with("(health: starting)"));
    ensure!(inspect(host, "slow", "{{.State.Health.Status}} {{len .State.Health.Log}}")? == "starting 0");

    run(&["-d", "--name", "sick"], &["sick:1", "sleep", "600"])?;
    let pid = inspect(host, "sick", "{{.State.Pid}}")?;
    shows(host, "sick", "(unhealthy)")?;
    wait::until("checks go on, and the last five are remembered", LIMIT, || {
        let streak: u32 = inspect(host, "sick", "{{.State.Health.FailingStreak}}")?.parse()?;
        ensure!(streak > 6, "{streak}");
        Ok(())
    })?;
    let log: serde_json::Value = serde_json::from_str(&inspect(host, "sick", "{{json .State.Health.Log}}")?)?;
    let log = log.as_array().unwrap();
    ensure!(
        log.len() == 5 && log.iter().all(|c| c["ExitCode"] == 1 && c["Output"] == "so sick\n"),
        "{log:?}"
    );
    ensure!(log.iter().all(|c| c["Start"].as_str() <= c["End"].as_str() && c["Start"].as_str() > Some("20")));
    ensure!(
        inspect(host, "sick", "{{.State.Pid}} {{.State.Status}}")? == format!("{pid} running"),
        "it is left alone"
    );

    let own = ["--health-cmd", "[ -e /ok ]", "--health-interval", "100ms", "--health-retries", "1000"];
    run(&[&["-d", "--name", "own"], &own[..]].concat(), &["sick:1", "sleep", "600"])?;
    host.exec("own", &["touch", "/ok"])?;
    shows(host, "own", "(healthy)")?;
    run(&["-d", "--name", "off", "--no-healthcheck"], &["sick:1", "sleep", "600"])?;
    ensure!(!status(host, "off")?.contains('('));
    ensure!(inspect(host, "off", "{{json .State}}")?.matches("Health").count() == 0);
    for (health, name) in [("starting", "slow"), ("unhealthy", "sick"), ("healthy", "own"), ("none", "off")] {
        let filter = format!("health={health}");
        ensure!(host.rnctl(&["ps", "--filter", &filter, "--format", "{{.Names}}"])? == name, "{health}");
    }
    let mut cluster = cluster;
    // The next daemon looks for itself.
    cluster.hosts[0].stop(nix::sys::signal::Signal::SIGKILL)?;
    cluster.hosts[0].start()?;
    let host = cluster.manager();
    shows(host, "sick", "(unhealthy)")?;
    ensure!(inspect(host, "sick", "{{.State.Pid}}")? == pid);
    host.rnctl(&["rm", "-f", "slow", "sick", "own", "off"]).map(drop)
}

#[test]
fn states_times_and_exit_codes_are_dockers() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    let fails = |args: &[&str]| host.rnctl_fails(&[&["run"], &ON_HOST[..], args].concat());
    for (code, args) in [
        (125, &["nosuchimage:1"][..]),
        (125, &["--rm", "--restart", "always", IMAGE]),
        (126, &["--rm", IMAGE, "/etc/passwd"]),
        (126, &["--rm", IMAGE, "/etc"]),
        (127, &["--rm", IMAGE, "nosuchprogram"]),
        (127, &["--rm", IMAGE, "/no/such/program"]),
        (7, &["--rm", IMAGE, "sh", "-c", "exit 7"]),
    ] {
        let (found, text) = fails(args)?;
        ensure!(found == code, "{args:?}: {found}, {text}");
    }
    host.rnctl(&["create", "--name", "made", "--network", "host", IMAGE, "sleep", "600"])?;
    ensure!(status(host, "made")? == "Created");
    let never = "0001-01-01T00:00:00Z";
    ensure!(
        inspect(host, "made", "{{.State.StartedAt}} {{.State.FinishedAt}}")? == format!("{never} {never}")
    );
    host.rnctl(&["start", "made"])?;
    ensure!(status(host, "made")?.starts_with("Up "));
    let started = inspect(host, "made", "{{.State.StartedAt}}")?;
    ensure!(started.as_str() > never);
    host.rnctl(&["kill", "made"])?;
    ensure!(host.rnctl(&["wait", "made"])? == "137");
    ensure!(status(host, "made")?.starts_with("Exited (137) "));
    let ended = inspect(host, "made", "{{.State.StartedAt}} {{.State.FinishedAt}} {{json .State.Error}}")?;
    ensure!(ended.starts_with(&started) && ended.ends_with(" \"\"") && !ended.contains("0001-"), "{ended}");

    host.rnctl(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "--network",
        "host",
        IMAGE,
        "false",
    ])?;
    shows(host, "again", "Restarting (1) ")?;
    ensure!(host.rnctl(&["ps", "--filter", "status=restarting", "--format", "{{.Names}}"])? == "again");
    wait::until("restarts are counted", LIMIT, || {
        let count: u32 = inspect(host, "again", "{{.RestartCount}}")?.parse()?;
        ensure!(count >= 2, "{count}");
        Ok(())
    })?;
    host.rnctl(&["stop", "again"])?;
    // It may have been about to run again.
    shows(host, "again", "Exited (")?;
    host.rnctl(&["rm", "made", "again"]).map(drop)
}

#[test]
fn one_that_did_not_start_has_dockers_exit_code_and_says_why() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("program");
    let volume = format!("{}:/v", dir.path().display());
    let state = |name: &str| inspect(host, name, "{{.State.ExitCode}} {{.State.Error}}");
    for (name, shell, code, args) in [
        ("cannot", 126, 126, &[IMAGE, "/etc/passwd"][..]),
        ("lacks", 127, 127, &["-v", &volume, IMAGE, "/v/program"]),
        ("user", 125, 128, &["-u", "nobody-knows", IMAGE, "true"]),
    ] {
        let (found, text) = host.rnctl_fails(&[&["run", "--name", name], &ON_HOST[..], args].concat())?;
        ensure!(found == shell, "{name}: {found} {text}");
        let shown = state(name)?;
        ensure!(shown.starts_with(&format!("{code} ")) && shown.len() > 4, "{name}: {shown}");
        ensure!(status(host, name)? == "Created", "{name}");
        ensure!(host.rnctl(&["wait", name])? == code.to_string(), "{name}");
    }
    // Its next end is its own.
    fs::write(&program, "#!/bin/sh\nexit 5\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    host.rnctl(&["start", "lacks"])?;
    ensure!(host.rnctl(&["wait", "lacks"])? == "5");
    ensure!(state("lacks")?.trim() == "5");
    // And then it does not start again.
    fs::remove_file(&program)?;
    let (code, text) = host.rnctl_fails(&["start", "lacks"])?;
    ensure!(code == 1 && text.contains("no such file"), "{code} {text}");
    let shown = state("lacks")?;
    ensure!(shown.starts_with("127 ") && shown.contains("no such file"), "{shown}");

    // Nor by itself.
    let flags = ["run", "-d", "--name", "sawn", "--restart", "always"];
    host.rnctl(&[&flags[..], &ON_HOST, &[IMAGE, "sh", "-c", "busybox rm /bin/sh"]].concat())?;
    wait::until("its failing restart is shown", LIMIT, || {
        let shown = state("sawn")?;
        ensure!(shown.starts_with("127 ") && shown.contains("executable file not found"), "{shown}");
        Ok(())
    })?;
    host.rnctl(&["rm", "-f", "cannot", "lacks", "user", "sawn"]).map(drop)
}

#[test]
fn a_container_whose_shim_was_killed_tells_when_it_ran() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    host.rnctl(&["run", "-d", "--name", "lost", "--network", "host", IMAGE, "sleep", "600"])?;
    let started = inspect(host, "lost", "{{.State.StartedAt}}")?;
    let pid: i32 = inspect(host, "lost", "{{.State.Pid}}")?.parse()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), nix::sys::signal::Signal::SIGKILL)?;
    shows(host, "lost", "Exited (137) ")?;
    let state = inspect(host, "lost", "{{.State.StartedAt}} {{.State.Error}}")?;
    ensure!(state.starts_with(&started) && state.contains("shim"), "{state}");
    host.rnctl(&["rm", "lost"]).map(drop)
}

#[test]
fn a_stop_waits_as_long_as_its_user_says() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    let run = |name: &str, timeout: &str, asked: &str| {
        let script = format!("trap '{asked}' TERM; >/up; while :; do sleep 0.1; done");
        let flags = ["run", "-d", "--name", name, "--stop-timeout", timeout];
        host.rnctl(&[&flags[..], &ON_HOST, &[IMAGE, "sh", "-c", &script]].concat())?;
        there(host, name, "/up")
    };
    // Its own time would not do for what it has to do first; or it is the container's own that has no limit.
    let slow = ">/asked; until [ -e /go ]; do sleep 0.1; done; exit 3";
    for (name, own, flags) in [("order", "0", &["-t", "-1"][..]), ("own", "-1", &[])] {
        run(name, own, slow)?;
        let mut stop = host.rnctl_command(&[&["stop"], flags, &[name]].concat())?.spawn()?;
        there(host, name, "/asked")?;
        ensure!(stop.try_wait()?.is_none(), "it has not ended yet");
        host.exec(name, &["touch", "/go"])?;
        ensure!(stop.wait()?.success() && inspect(host, name, "{{.State.ExitCode}}")? == "3", "{name}");
    }
    // Who has less patience need not wait for who has more.
    run("deaf", "0", ">/asked")?;
    let mut stop = host.rnctl_command(&["stop", "-t", "-1", "deaf"])?.spawn()?;
    there(host, "deaf", "/asked")?;
    ensure!(stop.try_wait()?.is_none());
    host.rnctl(&["stop", "-t", "0", "deaf"])?;
    ensure!(stop.wait()?.success() && inspect(host, "deaf", "{{.State.ExitCode}}")? == "137");
    host.rnctl(&["rm", "order", "own", "deaf"]).map(drop)
}

/// Waits until the container has written this file.
fn there(host: &Host, container: &str, path: &str) -> Result<()> {
    wait::until(&format!("{container} writes {path}"), LIMIT, || {
        host.exec(container, &["cat", path]).map(drop)
    })
}
