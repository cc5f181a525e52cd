//! Debian's `docker` client, as it is: files in and out of containers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Read, Write},
    process::Stdio,
};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, docker::CLIENT, image::IMAGE};

/// A daemon outside any swarm, with the image.
fn machine() -> Result<Cluster> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    Ok(cluster)
}

fn start(host: &Host, name: &str, flags: &[&str]) -> Result<String> {
    let script = "while true; do sleep 0.1; done";
    let args = [&["run", "-d", "--name", name, "--network", "host"], flags, &[IMAGE, "sh", "-c", script]];
    host.docker(&args.concat())
}

/// The names of a tar.
fn names(archive: impl Read) -> Result<Vec<String>> {
    let mut tar = tar::Archive::new(archive);
    tar.entries()?.map(|entry| Ok(entry?.path()?.display().to_string())).collect()
}

/// Copies in and out, whatever state the container is in.
fn copies(host: &Host, container: &str, runs: bool) -> Result<()> {
    let dir = host.dir().join(format!("cp-{container}-{runs}"));
    fs::create_dir_all(dir.join("in/sub"))?;
    fs::write(dir.join("in/one"), "one")?;
    fs::write(dir.join("in/sub/two"), "two")?;
    std::os::unix::fs::symlink("one", dir.join("in/link"))?;
    let local = |name: &str| dir.join(name).display().to_string();
    let inside = |path: &str| format!("{container}:{path}");
    let base = format!("new-{runs}");
    let new = format!("/tmp/{base}");
    let (two, link) = (format!("{new}/sub/two"), format!("{new}/link"));
    // A directory by a new name, into one that is there, and its content.
    host.docker(&["cp", &local("in"), &inside(&new)])?;
    host.docker(&["cp", &local("in"), &inside("/tmp")])?;
    host.docker(&["cp", &format!("{}/.", local("in")), &inside("/srv-here")])?;
    host.docker(&["cp", &local("in/one"), &inside("/tmp/renamed")])?;
    for (path, to) in [
        (new.as_str(), "a"),
        ("/tmp/in", "b"),
        ("/srv-here/.", "c"),
        (two.as_str(), "d"),
        (link.as_str(), "e"),
    ] {
        if to == "c" {
            fs::create_dir_all(dir.join("c"))?;
        }
        host.docker(&["cp", &inside(path), &local(to)])?;
    }
    for path in ["a", "b", "c"] {
        ensure!(fs::read_to_string(dir.join(path).join("sub/two"))? == "two", "{path}");
        ensure!(fs::read_link(dir.join(path).join("link"))?.to_str() == Some("one"), "{path}");
    }
    ensure!(fs::read_to_string(dir.join("d"))? == "two" && dir.join("e").is_symlink());
    host.docker(&["cp", "-L", &inside(&link), &local("f")])?;
    ensure!(fs::read_to_string(dir.join("f"))? == "one");
    // To and from a stream.
    let tar = host.docker_command(&["cp", &inside(&new), "-"]).output()?.stdout;
    let mut seen = names(tar.as_slice())?;
    seen.sort();
    let expected = ["/", "/link", "/one", "/sub/", "/sub/two"].map(|name| format!("{base}{name}"));
    ensure!(seen == expected, "{seen:?}");
    let mut child = host.docker_command(&["cp", "-", &inside("/var")]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().unwrap().write_all(&tar)?;
    ensure!(child.wait()?.success());
    host.docker(&["cp", &inside(&format!("/var/{base}/one")), &local("g")])?;
    // What does not fit, and what is not there.
    host.docker_says(&["cp", &local("in/one"), &inside("/none/here")], 1, &["none"])?;
    host.docker_says(&["cp", &inside("/none"), &local("h")], 1, &["/none"])?;
    host.docker_says(&["cp", &local("in"), &inside("/tmp/renamed")], 1, &["annot"])?;
    // A link of the container's leads nowhere but in it.
    std::os::unix::fs::symlink("/../../../../etc", dir.join("out"))?;
    host.docker(&["cp", &local("out"), &inside("/tmp/out")])?;
    host.docker(&["cp", &local("in/one"), &inside("/tmp/out/planted")])?;
    ensure!(!std::path::Path::new("/etc/planted").exists(), "written to the machine");
    host.docker(&["cp", &inside("/etc/planted"), &local("i")])?;
    Ok(())
}

#[test]
fn files_go_in_and_out_whether_it_runs_or_not() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    start(host, "up", &["-v", "data:/data", "--stop-timeout", "0"])?;
    copies(host, "up", true)?;
    ensure!(host.docker(&["exec", "up", "cat", "/tmp/new-true/sub/two"])? == "two");
    let file = host.dir().join("volume");
    fs::write(&file, "kept")?;
    let file = file.display().to_string();
    host.docker(&["cp", &file, "up:/data/running"])?;
    host.docker(&["stop", "up"])?;
    copies(host, "up", false)?;
    // Its volumes are there as if it ran.
    host.docker(&["cp", &file, "up:/data/stopped"])?;
    host.docker(&["cp", "up:/data/running", &format!("{file}-back")])?;
    host.docker(&["start", "up"])?;
    ensure!(
        host.docker(&["exec", "up", "sh", "-c", "cat /data/running /data/stopped /var/new-true/one"])?
            == "keptkeptone"
    );
    // Before its first start.
    host.docker(&["create", "--name", "fresh", "--network", "host", IMAGE, "cat", "/tmp/new-false/one"])?;
    copies(host, "fresh", false)?;
    host.docker_says(&["rmi", IMAGE], 1, &["conflict"])?;
    ensure!(host.docker(&["start", "-a", "fresh"])? == "one");
    host.docker(&["rm", "-f", "up", "fresh"])?;
    // Nothing is to be written where nothing may be.
    start(host, "closed", &["--read-only", "-v", "data:/data:ro", "--stop-timeout", "0"])?;
    for _ in 0..2 {
        host.docker_says(&["cp", &file, "closed:/tmp/x"], 1, &["container rootfs is marked read-only"])?;
        host.docker_says(&["cp", &file, "closed:/data/x"], 1, &["read-only"])?;
        host.docker(&["stop", "closed"])?;
    }
    host.docker(&["rm", "closed"]).map(drop)
}

#[test]
fn what_was_prepared_outlives_the_daemon() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let mut cluster = machine()?;
    let file = cluster.manager().dir().join("file");
    fs::write(&file, "kept")?;
    let file = file.display().to_string();
    for name in ["kept", "gone"] {
        cluster.manager().docker(&[
            "create",
            "--name",
            name,
            "--network",
            "host",
            IMAGE,
            "cat",
            "/tmp/file",
        ])?;
        cluster.manager().docker(&["cp", &file, &format!("{name}:/tmp/file")])?;
    }
    cluster.manager().docker(&["rm", "gone"])?;
    cluster.hosts[0].stop(nix::sys::signal::Signal::SIGKILL)?;
    cluster.hosts[0].start()?;
    let host = cluster.manager();
    ensure!(host.docker(&["start", "-a", "kept"])? == "kept");
    host.docker(&["rm", "kept"])?;
    let left = fs::read_dir(host.data_root().join("containers"))?.count();
    ensure!(left == 0, "{left} directories are left");
    Ok(())
}

#[test]
fn changes_are_told_and_exported() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = machine()?;
    let host = cluster.manager();
    start(host, "changer", &["-v", "data:/data", "--stop-timeout", "0"])?;
    ensure!(host.docker(&["diff", "changer"])?.is_empty() || host.docker(&["diff", "changer"])? == "A /data");
    host.docker(&[
        "exec",
        "changer",
        "/bin/busybox",
        "sh",
        "-c",
        "echo x > /etc/new; echo y >> /etc/passwd; busybox rm /etc/group; busybox mkdir -p /made/deep; echo v > /data/v",
    ])?;
    let diff = host.docker(&["diff", "changer"])?;
    let mut lines: Vec<&str> = diff.lines().filter(|line| *line != "A /data").collect();
    lines.sort_unstable();
    let expected = ["A /etc/new", "A /made", "A /made/deep", "C /etc", "C /etc/passwd", "D /etc/group"];
    ensure!(lines == expected, "{diff}");
    for _ in 0..2 {
        let exported = host.docker_command(&["export", "changer"]).output()?.stdout;
        let all = names(exported.as_slice())?;
        for (name, there) in [
            ("etc/new", true),
            ("bin/busybox", true),
            ("etc/group", false),
            ("data/v", false),
            ("made/deep/", true),
            ("proc/1/", false),
        ] {
            ensure!(all.iter().any(|n| n == name) == there, "{name}: {all:?}");
        }
        host.docker(&["stop", "changer"])?;
    }
    // What goes out can come in.
    let file = host.dir().join("exported.tar").display().to_string();
    host.docker(&["export", "-o", &file, "changer"])?;
    host.docker(&["import", &file, "again:1"])?;
    ensure!(
        host.docker(&["run", "--rm", "--network", "host", "again:1", "/bin/busybox", "cat", "/etc/new"])?
            == "x"
    );
    host.docker(&["rm", "changer"]).map(drop)
}
