//! Logs: lines are lines however long, times are the user's, files have their limits, and who follows a service sees all of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, image::IMAGE, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Somebody who follows a log: what he has read so far.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(host: &Host, args: &[&str]) -> Result<Self> {
        let mut command = host.rnctl_command(args)?;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take().context("out")?, child.stderr.take().context("err")?);
        let lines = Arc::<Mutex<Vec<String>>>::default();
        for (stream, mark) in
            [(Box::new(stdout) as Box<dyn std::io::Read + Send>, ""), (Box::new(stderr), "!")]
        {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(format!("{mark}{line}"));
                }
            });
        }
        Ok(Self { child, lines })
    }

    fn seen(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Creates a service of this image and command.
fn create(host: &Host, args: &[&str]) -> Result<String> {
    host.rnctl(&[&["service", "create", "-d"], args].concat())
}

#[test]
fn a_long_line_is_one_line() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let script = "echo first; head -c 100000 /dev/zero | busybox tr '\\0' x; echo; echo last; sleep 600";
    host.rnctl(&["run", "-d", "--name", "long", "--network", "host", IMAGE, "sh", "-c", script])?;
    create(host, &["--name", "wide", "--network", "host", IMAGE, "sh", "-c", script])?;
    let long = "x".repeat(100_000);
    for (what, prefixed) in [(&["logs"][..], false), (&["service", "logs"], true)] {
        let name = if prefixed { "wide" } else { "long" };
        let read = |flags: &[&str]| host.rnctl(&[what, flags, &[name]].concat());
        wait::until("all is written", LIMIT, || {
            ensure!(read(&[])?.ends_with("last"));
            Ok(())
        })?;
        let bare = |text: &str| -> Vec<String> {
            let cut = |line: &str| line.split_once(" | ").map_or(line, |(_, rest)| rest).to_owned();
            text.lines().map(cut).collect()
        };
        ensure!(bare(&read(&[])?) == ["first", &long, "last"], "{name}: in pieces");
        for all in [["--tail", "-1"], ["-n", "-1"], ["--tail", "all"]] {
            ensure!(bare(&read(&all)?).len() == 3, "{all:?}");
        }
        ensure!(bare(&read(&["--tail", "2"])?) == [&long, "last"]);
        ensure!(bare(&read(&["--tail", "1"])?) == ["last"] && read(&["--tail", "0"])?.is_empty());
        let stamped = read(&["-t"])?;
        ensure!(
            stamped.lines().all(|l| l.starts_with("20") && l.matches('Z').count() == 1),
            "one time a line"
        );
    }
    host.says(&["logs", "--tail", "few", "long"], &["few"])
}

#[test]
fn times_are_the_users() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    let script = "echo one; read x; echo two";
    host.rnctl(&["run", "-d", "-i", "--name", "timed", "--network", "host", IMAGE, "sh", "-c", script])?;
    let stamps = || -> Result<Vec<String>> {
        let text = host.rnctl(&["logs", "-t", "timed"])?;
        Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(at, _)| at.to_owned()).collect())
    };
    wait::until("the first line", LIMIT, || {
        ensure!(stamps()?.len() == 1);
        Ok(())
    })?;
    let mut command = host.rnctl_command(&["attach", "timed"])?;
    let mut attached = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    std::io::Write::write_all(attached.stdin.as_mut().context("no input")?, b"go\n")?;
    attached.wait()?;
    let [first, second] = <[String; 2]>::try_from(stamps()?).unwrap();
    let read = |flags: &[&str], zone: &str| -> Result<String> {
        let mut command = host.rnctl_command(&[&["logs"], flags, &["timed"]].concat())?;
        let out = command.env("TZ", zone).output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?.replace('\n', " "))
    };
    // What `-t` prints can be used, to the nanosecond.
    ensure!(read(&["--since", &second], "UTC")? == "two ");
    ensure!(read(&["--until", &first], "UTC")? == "one ");
    ensure!(read(&["--since", &first, "--until", &second], "UTC")? == "one two ");
    // Without its zone it is the user's time, whatever the daemon's.
    let bare = second.trim_end_matches('Z');
    ensure!(read(&["--since", bare], "UTC")? == "two ");
    ensure!(read(&["--since", bare], "EAST-9")? == "one two ", "nine hours ago");
    ensure!(read(&["--since", bare], "WEST9")?.is_empty(), "in nine hours");
    let minute = &bare[..16];
    ensure!(
        read(&["--since", minute], "EAST-9")? == "one two "
            && read(&["--until", minute], "EAST-9")?.is_empty()
    );
    ensure!(
        read(&["--since", "1h30m"], "UTC")? == "one two " && read(&["--until", "1h30m"], "UTC")?.is_empty()
    );
    ensure!(read(&["--since", "1.5"], "UTC")? == "one two ", "seconds since 1970");
    ensure!(read(&["-f", "--until", &first], "UTC")? == "one ", "nothing more can come: it ends");
    host.says(&["logs", "--since", "yesterday", "timed"], &["yesterday"])
}

#[test]
fn files_have_the_size_that_was_asked_for() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let options = ["--log-driver", "json-file", "--log-opt", "max-size=20k", "--log-opt", "max-file=2"];
    let script = "seq 1 20000; sleep 600";
    let command = [IMAGE, "sh", "-c", script];
    host.rnctl(&[&["run", "-d", "--name", "small", "--network", "host"], &options[..], &command].concat())?;
    create(host, &[&["--name", "bounded", "--network", "host"], &options[..], &command].concat())?;
    cluster.wait_running("bounded", 1)?;
    for name in ["small".to_owned(), cluster.container(host, "bounded")?] {
        wait::until("all is written", LIMIT, || {
            ensure!(host.rnctl(&["logs", "--tail", "1", &name])? == "20000");
            Ok(())
        })?;
        let path = host.rnctl(&["container", "inspect", "--format", "{{.LogPath}}", &name])?;
        let dir = std::path::Path::new(&path).parent().context("no directory")?;
        let mut sizes = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("log.json") {
                sizes.push(entry.metadata()?.len());
            }
        }
        // A file is full once a piece has gone beyond its limit.
        ensure!(sizes.len() == 2 && sizes.iter().all(|size| *size < 20_000 + 2 * 65_536), "{sizes:?}");
        let lines = host.rnctl(&["logs", &name])?;
        ensure!(lines.ends_with("\n20000") && lines.lines().count() < 10_000);
    }
    let log = host.rnctl(&["container", "inspect", "--format", "{{json .HostConfig.LogConfig}}", "small"])?;
    ensure!(log.contains("json-file") && log.contains("\"max-size\":\"20k\""), "{log}");
    host.rnctl(&["service", "update", "-d", "--log-opt", "max-file=5", "bounded"])?;
    let log = cluster.inspect("bounded", "{{json .Spec.TaskTemplate.LogDriver}}")?;
    ensure!(log.contains("\"max-file\":\"5\"") && log.contains("20k"), "{log}");
    for (flags, word) in [
        (["--log-driver", "syslog"], "syslog"),
        (["--log-opt", "tag=x"], "tag"),
        (["--log-opt", "max-size=many"], "many"),
        (["--log-opt", "max-file=0"], "max-file"),
    ] {
        host.says(&[&["run", "--network", "host"], &flags[..], &[IMAGE, "true"]].concat(), &[word])?;
        host.says(&[&["service", "create", "--name", "no"], &flags[..], &[IMAGE]].concat(), &[word])?;
    }
    host.rnctl(&["rm", "-f", "small"]).map(drop)
}

#[test]
fn who_follows_a_service_sees_the_tasks_to_come() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let script = "echo from $(hostname) of $GENERATION; sleep 600";
    let mut args = vec!["--name", "talk", "--hostname", "{{.Task.Name}}", "--env", "GENERATION=one"];
    // At first there is no node for it.
    args.extend(["--constraint", "node.labels.talks==yes", "--restart-delay", "100ms"]);
    args.extend(["--stop-grace-period", "100ms", IMAGE, "sh", "-c", script]);
    create(manager, &args)?;
    let follower = Follower::start(manager, &["service", "logs", "-f", "talk"])?;
    let comes = |what: &str, slot: &str, generation: &str| {
        wait::until(what, LIMIT, || {
            let seen = follower.seen();
            let wanted =
                |l: &String| l.contains(&format!("talk.{slot}.")) && l.ends_with(&format!("of {generation}"));
            ensure!(seen.iter().any(wanted), "{seen:?}");
            Ok(())
        })
    };
    manager.rnctl(&["node", "update", "--label-add", "talks=yes", "host2"])?;
    comes("the task that was pending", "1", "one")?;
    manager.rnctl(&["node", "update", "--label-add", "talks=yes", "host1"])?;
    manager.rnctl(&["service", "scale", "-d", "talk=4"])?;
    for slot in ["2", "3", "4"] {
        comes("a task of a larger service", slot, "one")?;
    }
    manager.rnctl(&[
        "service",
        "update",
        "-d",
        "--env-add",
        "GENERATION=two",
        "--update-parallelism",
        "0",
        "talk",
    ])?;
    for slot in ["1", "2", "3", "4"] {
        comes("a task of an update", slot, "two")?;
    }
    let seen = follower.seen();
    ensure!(seen.len() == 8, "each line once, and no complaints: {seen:#?}");
    ensure!(
        seen.iter().any(|l| l.contains("@host1")) && seen.iter().any(|l| l.contains("@host2")),
        "{seen:#?}"
    );
    Ok(())
}
