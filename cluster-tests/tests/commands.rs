//! Commands of `rnctl` about a machine's containers, images and volumes, as a user types them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, image::IMAGE, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// A daemon outside any swarm, with the image, and a container that runs.
fn machine() -> Result<Cluster> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    host.rnctl(&["run", "-d", "--name", "web", "--network", "host", IMAGE, "sleep", "600"])?;
    Ok(cluster)
}

fn piped(host: &Host, args: &[&str], input: &[u8]) -> Result<Output> {
    let mut command = host.rnctl_command(args)?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(input)?;
    Ok(child.wait_with_output()?)
}

#[test]
fn files_are_copied_in_and_out() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir_all(dir.path().join("conf/sub"))?;
    fs::write(dir.path().join("conf/a"), "one")?;
    fs::write(dir.path().join("conf/sub/b"), "two")?;
    // A directory into one that is there, under a new name, and its content alone.
    host.rnctl(&["cp", &at("conf"), "web:/tmp"])?;
    host.rnctl(&["cp", &at("conf"), "web:/tmp/new"])?;
    host.rnctl(&["exec", "web", "busybox", "mkdir", "/tmp/flat"])?;
    host.rnctl(&["cp", &format!("{}/.", at("conf")), "web:/tmp/flat"])?;
    for (path, want) in [
        ("/tmp/conf/a", "one"),
        ("/tmp/new/sub/b", "two"),
        ("/tmp/flat/a", "one"),
        ("/tmp/flat/sub/b", "two"),
    ] {
        ensure!(host.exec("web", &["cat", path])? == want, "{path}");
    }
    // And back.
    host.rnctl(&["cp", "web:/tmp/conf", &at("back")])?;
    ensure!(fs::read_to_string(at("back/sub/b"))? == "two");
    host.rnctl(&["cp", "web:/tmp/conf/a", &at("conf/a2")])?;
    host.rnctl(&["cp", "-q", "web:/tmp/conf/sub/b", &at("conf/a")])?;
    ensure!(fs::read_to_string(at("conf/a2"))? == "one" && fs::read_to_string(at("conf/a"))? == "two");
    // As archives.
    let out = piped(host, &["cp", "web:/tmp/conf/a", "-"], b"")?;
    ensure!(out.status.success() && out.stdout.len() >= 1024, "{out:?}");
    host.rnctl(&["exec", "web", "busybox", "rm", "/tmp/conf/a"])?;
    let put = piped(host, &["cp", "-", "web:/tmp/conf"], &out.stdout)?;
    ensure!(put.status.success(), "{put:?}");
    ensure!(host.exec("web", &["cat", "/tmp/conf/a"])? == "one");
    for (args, words) in [
        (["cp", "web:/nope", &at("x")], "nope"),
        (["cp", &at("nope"), "web:/tmp"], "No such file"),
        (["cp", "nobody:/a", &at("x")], "nobody"),
        (["cp", &at("a"), &at("b")], "must specify at least one container source"),
        (["cp", &at("conf"), "web:/tmp/flat/a"], "cannot copy directory"),
        (["cp", &at("conf/a"), "web:/tmp/none/"], "no such directory"),
    ] {
        host.says(&args, &[words])?;
    }
    // What it has changed of its image.
    let changed = host.rnctl(&["diff", "web"])?;
    ensure!(changed.lines().any(|line| line == "A /tmp/flat/a"), "{changed}");
    let tar = at("web.tar");
    host.rnctl(&["export", "-o", &tar, "web"])?;
    host.rnctl(&["import", &tar, "again:1"])?;
    let run = ["run", "--rm", "--network", "host", "again:1", "cat", "/tmp/flat/a"];
    ensure!(host.rnctl(&run)? == "one");
    Ok(())
}

#[test]
fn containers_are_looked_at_and_changed_while_they_run() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    let inspect = |template: &str| host.rnctl(&["container", "inspect", "-f", template, "web"]);
    host.rnctl(&["rename", "web", "other"])?;
    host.rnctl(&["rename", "other", "web"])?;
    host.rnctl(&["pause", "web"])?;
    ensure!(inspect("{{.State.Status}}")? == "paused");
    host.says(&["attach", "web"], &["paused"])?;
    host.rnctl(&["unpause", "web"])?;
    host.rnctl(&["update", "--memory", "128m", "--restart", "on-failure:2", "web"])?;
    let changed = inspect("{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}")?;
    ensure!(changed == "134217728 on-failure", "{changed}");
    host.says(&["update", "web"], &["you must provide one or more flags"])?;
    let top = host.rnctl(&["top", "web", "-o", "pid,args"])?;
    ensure!(top.starts_with("PID ") && top.contains("sleep 600"), "{top}");
    let stats = host.rnctl(&["stats", "--no-stream"])?;
    ensure!(stats.starts_with("CONTAINER ID   NAME ") && stats.contains("/ 128MiB"), "{stats}");
    let shown = host.rnctl(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web"])?;
    let (name, pids) = shown.split_once(' ').context("no number")?;
    ensure!(name == "web" && pids.parse::<u32>()? > 0, "{shown}");
    host.says(&["stats", "nobody"], &["nobody"])?;
    ensure!(host.rnctl(&["port", "web"])?.is_empty());
    host.says(&["port", "web", "80"], &["no public port '80/tcp' published for web"])?;
    let sized = host.rnctl(&["ps", "-s", "--format", "{{.Size}}"])?;
    ensure!(sized.contains("(virtual "), "{sized}");
    // With its id in a file, which is there only once.
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("id").display().to_string();
    let create = ["create", "--cidfile", &file, "--network", "host", IMAGE, "true"];
    let id = host.rnctl(&create)?;
    ensure!(fs::read_to_string(&file)? == id);
    host.says(&create, &["container ID file found"])?;
    // One stream alone.
    let script = "echo out; echo err >&2";
    let args = ["run", "--rm", "-a", "stderr", "--network", "host", IMAGE, "sh", "-c", script];
    let out = piped(host, &args, b"")?;
    ensure!(out.status.success() && out.stdout.is_empty() && out.stderr == b"err\n", "{out:?}");
    let (code, text) = host.rnctl_fails(&["run", "--gpus", "all", "--network", "host", IMAGE, "true"])?;
    ensure!(code == 125 && text.contains("DeviceRequests"), "{code} {text}");
    host.rnctl(&["stop", "-t", "0", "web"])?;
    let gone = host.rnctl(&["container", "prune", "-f"])?;
    ensure!(gone.starts_with("Deleted Containers:\n") && gone.contains("Total reclaimed space: "), "{gone}");
    wait::until("nothing is left", LIMIT, || {
        ensure!(host.rnctl(&["ps", "-aq"])?.is_empty());
        Ok(())
    })
}

#[test]
fn volumes_and_images_have_their_commands() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    ensure!(host.rnctl(&["volume", "create", "--label", "a=b", "data"])? == "data");
    host.rnctl(&["volume", "create", "spare"])?;
    let run = ["run", "--rm", "--network", "host", "-v", "data:/d", IMAGE, "sh", "-c", ": >/d/x"];
    host.rnctl(&run)?;
    let list = host.rnctl(&["volume", "ls"])?;
    ensure!(list == "DRIVER    VOLUME NAME\nlocal     data\nlocal     spare", "{list}");
    ensure!(host.rnctl(&["volume", "ls", "-q", "--filter", "label=a=b"])? == "data");
    let place = host.rnctl(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"])?;
    ensure!(place.ends_with("/data/_data"), "{place}");
    ensure!(host.rnctl(&["inspect", "-f", "{{.Name}}", "spare"])? == "spare");
    ensure!(host.rnctl(&["volume", "rm", "data"])? == "data");
    host.says(&["volume", "rm", "data"], &["data"])?;
    let gone = host.rnctl(&["volume", "prune", "-a", "-f"])?;
    ensure!(gone.starts_with("Deleted Volumes:\nspare\n"), "{gone}");
    let history = host.rnctl(&["history", IMAGE])?;
    ensure!(history.starts_with("IMAGE ") && history.lines().count() >= 2, "{history}");
    ensure!(host.rnctl(&["image", "inspect", "-f", "{{.Os}}", IMAGE])? == "linux");
    let dir = tempfile::tempdir()?;
    let tar = dir.path().join("saved.tar").display().to_string();
    host.rnctl(&["tag", IMAGE, "saved:1"])?;
    host.rnctl(&["save", "-o", &tar, "saved:1"])?;
    host.rnctl(&["rmi", "saved:1"])?;
    let loaded = host.rnctl(&["load", "-i", &tar])?;
    ensure!(loaded == "Loaded image: saved:1", "{loaded}");
    Ok(())
}
