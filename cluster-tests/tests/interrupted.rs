//! Commands whose user loses patience: what they have begun comes to its end, or never began.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{io::Write, net::TcpListener, path::Path, process::Stdio, time::Duration};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, wait};

fn state(host: &Host) -> Result<String> {
    host.rnctl(&["info", "--format", "{{.Swarm.LocalNodeState}}"])
}

/// Runs `rnctl` and kills it after `delay`; whether it had ended by then.
fn interrupted(host: &Host, args: &[&str], delay: Duration) -> Result<bool> {
    let mut child = host.rnctl_command(args)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(delay); // how far it comes is the point
    let ended = child.try_wait()?.is_some();
    child.kill()?;
    child.wait()?;
    Ok(ended)
}

/// What it has begun has come to its end: `active` or `inactive`. `info` answers all the while.
fn settled(host: &Host) -> Result<String> {
    wait::until("the change comes to its end", wait::LONG, || {
        // A request that arrived a moment ago may just be about to begin.
        let seen = [state(host)?, state(host)?, state(host)?];
        ensure!(seen[0] != "pending" && seen.iter().all(|s| *s == seen[0]), "{seen:?}");
        Ok(seen[0].clone())
    })
}

/// Wholly out: no port, no file, and no state.
fn is_out(host: &Host) -> Result<()> {
    ensure!(state(host)? == "inactive");
    for addr in ["[::]:2377", "0.0.0.0:7946"] {
        let free = match addr.ends_with("2377") {
            true => host.ns.enter(|| TcpListener::bind(addr).map(drop))?,
            false => host.ns.enter(|| std::net::UdpSocket::bind(addr).map(drop))?,
        };
        ensure!(free.is_ok(), "{addr} of {}: {free:?}", host.name);
    }
    ensure!(!host.data_root().join("swarm").exists(), "files of a swarm are left");
    Ok(())
}

/// Delays around those at which things happen.
fn delays(n: u32, whole: Duration) -> impl Iterator<Item = Duration> {
    (0..n).map(move |k| whole * k / n)
}

#[test]
fn an_interrupted_init_is_whole_or_nothing() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = &cluster.hosts[0];
    let addr = host.v4().to_string();
    let args = ["swarm", "init", "--advertise-addr", &addr];
    let (mut whole, mut nothing) = (0, 0);
    for delay in delays(20, Duration::from_millis(1000)) {
        interrupted(host, &args, delay)?;
        if settled(host)? == "active" {
            whole += 1;
            let nodes = host.rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
            ensure!(nodes == "host1 Leader", "after {delay:?}: {nodes}");
            host.says(&["swarm", "init"], &["already part of a swarm"])?;
        } else {
            nothing += 1;
            is_out(host)?;
            host.rnctl(&args)?;
        }
        host.rnctl(&["swarm", "leave", "--force"])?;
        is_out(host)?;
    }
    println!("init: {whole} whole, {nothing} never begun");
    ensure!(whole > 0);
    Ok(())
}

#[test]
fn an_interrupted_join_or_leave_is_whole_or_nothing() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let (manager, host) = (&cluster.hosts[0], &cluster.hosts[1]);
    manager.rnctl(&["swarm", "init", "--advertise-addr", &manager.v4().to_string()])?;
    let (own, addr) = (host.v4().to_string(), format!("{}:2377", manager.v4()));
    let listed = |status: &str| -> Result<usize> {
        let list =
            manager.rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"])?;
        let of_host = list.lines().filter(|l| !l.starts_with("host1 "));
        Ok(of_host.filter(|l| status.is_empty() || l.contains(status)).count())
    };
    for role in ["worker", "manager"] {
        let token = manager.rnctl(&["swarm", "join-token", "-q", role])?;
        let join = ["swarm", "join", "--token", &token, "--advertise-addr", &own, &addr];
        let leave = ["swarm", "leave", "--force"];
        let (mut whole, mut nothing, mut members) = (0, 0, listed("")?);
        for (k, delay) in delays(20, Duration::from_millis(1000)).enumerate() {
            interrupted(host, &join, delay)?;
            // Every other time the very next command is the opposite one.
            if k % 2 == 0 {
                if settled(host)? == "active" {
                    whole += 1;
                    members += 1;
                    wait::until("the managers see it", wait::LONG, || {
                        ensure!(listed(" Ready")? == 1);
                        Ok(())
                    })?;
                    host.says(&join, &["already part of a swarm"])?;
                } else {
                    nothing += 1;
                    is_out(host)?;
                    host.rnctl(&join)?;
                    members += 1;
                }
                interrupted(host, &leave, delay)?;
                settled(host)?;
                let out = host.try_rnctl(&leave)?;
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                ensure!(out.status.success() || said.contains("not part of a swarm"), "{said}");
            } else {
                let out = host.try_rnctl(&leave)?;
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                ensure!(out.status.success() || said.contains("not part of a swarm"), "{said}");
                if settled(host)? == "active" {
                    // It was begun only now.
                    host.rnctl(&leave)?;
                }
                members = listed("")?;
            }
            is_out(host)?;
            wait::until("no node is thought to be there that is not", wait::LONG, || {
                let list = manager.rnctl(&["node", "ls"])?;
                ensure!(listed(" Ready")? == 0 && listed("")? == members, "{list}");
                ensure!(listed(" Down")? == members, "every one was a member: {list}");
                ensure!(listed("Reachable")? == 0, "{list}");
                Ok(())
            })?;
        }
        println!("join as a {role}: {whole} whole, {nothing} never begun");
        // The manager still decides alone.
        manager.rnctl(&["network", "create", "-d", "overlay", role])?;
    }
    Ok(())
}

#[test]
fn while_a_node_joins_everybody_is_answered_and_a_second_request_is_named() -> Result<()> {
    let mut cluster = Cluster::daemons_with(2, &["--metrics-addr", "127.0.0.1:9323"])?;
    let (manager, host) = (&cluster.hosts[0], &cluster.hosts[1]);
    manager.rnctl(&["swarm", "init", "--advertise-addr", &manager.v4().to_string()])?;
    let token = manager.rnctl(&["swarm", "join-token", "-q", "worker"])?;
    // Takes connections, and never says a word: a join that hangs, for as long as a connection may take.
    let silent = host.ns.enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let addr = silent.local_addr()?.to_string();
    let join = ["swarm", "join", "--token", &token, "--advertise-addr", "eth0", &addr];
    wait::until("all is tried while the join hangs", wait::LONG, || {
        let mut joining = host.rnctl_command(&join)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let meanwhile = (|| {
            wait::until("the join is under way", wait::SHORT, || {
                ensure!(state(host)? == "pending");
                Ok(())
            })?;
            let info = host.rnctl(&["info"])?;
            ensure!(info.contains("just joining a swarm"), "{info}");
            host.rnctl(&["ps"])?;
            host.rnctl(&["network", "ls"])?;
            let metrics =
                cluster_tests::probe::get_from(&host.ns.path(), "127.0.0.1:9323".parse()?, "/metrics")?;
            ensure!(metrics.contains("rn_build"), "{metrics}");
            for second in [&join[..], &["swarm", "init"], &["node", "ls"]] {
                host.says(second, &["this node is just joining a swarm"])?;
            }
            // It does not stop with its command.
            joining.kill()?;
            ensure!(state(host)? == "pending");
            Ok(())
        })();
        joining.kill()?;
        joining.wait()?;
        meanwhile
    })?;
    // Who leaves is not told to come again: it waits for the join to end, one way or the other.
    host.says(&["swarm", "leave"], &["not part of a swarm"])?;
    is_out(host)?;
    cluster.join(&cluster.hosts[1], "worker")?;
    cluster.hosts[1].stop(nix::sys::signal::Signal::SIGTERM)
}

/// Whether a file of this name lies anywhere below `dir`.
fn lies_below(dir: &Path, name: &str) -> bool {
    let mut entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| {
        // What goes while one looks is not there.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        entry.file_name() == name || (is_dir && lies_below(&entry.path(), name))
    })
}

/// Cut off between two files, the archive looks like a whole one: that its sender has gone is what tells.
#[test]
fn an_import_that_is_cut_off_makes_no_image() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = &cluster.hosts[0];
    let mut archive = tar::Builder::new(Vec::new());
    for n in 1..=50 {
        let mut header = tar::Header::new_gnu();
        header.set_size(4096);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("file-{n}-of-fifty"), &[7; 4096][..])?;
    }
    let bytes = archive.into_inner()?;
    // Without the two blocks of zeros at the end.
    let (files, _) = bytes.split_at(bytes.len() - 1024);
    let mut import = host.rnctl_command(&["import", "-", "cut:1"])?;
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(files)?;
    let (data, last) = (host.data_root(), "file-50-of-fifty");
    wait::until("the daemon has all of it", wait::LONG, || {
        ensure!(lies_below(&data, last));
        Ok(())
    })?;
    import.kill()?;
    import.wait()?;
    wait::until("what has arrived goes again", wait::LONG, || {
        ensure!(!lies_below(&data, last), "it lies there still");
        Ok(())
    })?;
    let images = host.rnctl(&["images", "-q"])?;
    ensure!(images.is_empty(), "{images}");
    Ok(())
}
