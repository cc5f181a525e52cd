//! Certificates, roots and keys over time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{io::Write, process::Stdio, time::Duration};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, probe::Load, wait};
use nix::sys::signal::Signal;

fn unlock(host: &Host, key: &str) -> Result<(bool, String)> {
    let mut command = host.rnctl_command(&["swarm", "unlock"])?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().unwrap().write_all(format!("{key}\n").as_bytes())?;
    let output = child.wait_with_output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The node's certificate as it lies on the disk.
fn certificate(host: &Host) -> Result<String> {
    Ok(std::fs::read_to_string(host.data_root().join("swarm/certificates/swarm-node.crt"))?)
}

#[test]
fn certificates_are_renewed_without_a_restart_and_expired_ones_heal() -> Result<()> {
    let mut cluster = Cluster::managed_with(2, 3, &["--min-cert-expiry", "1s"])?;
    cluster
        .manager()
        .says(&["swarm", "update", "--cert-expiry", "500ms"], &["minimum certificate expiry"])?;
    cluster.manager().rnctl(&["swarm", "update", "--cert-expiry", "8s"])?;
    // Whoever has one of 90 days gets one of 8 s with the next root; from then on by itself.
    cluster.manager().rnctl(&["swarm", "ca", "--rotate", "-q"])?;
    let before = cluster.hosts.iter().map(certificate).collect::<Result<Vec<_>>>()?;
    wait::until("all certificates are renewed twice", wait::LONG, || {
        for (host, before) in cluster.hosts.iter().zip(&before) {
            ensure!(certificate(host)? != *before, "{} still has its first one", host.name);
        }
        Ok(())
    })?;
    cluster.wait_managers(2)?;
    cluster.wait_ready(3)?;

    // A worker that was off for longer than its certificate lives, then everyone.
    for gone in [vec![2], vec![0, 1, 2]] {
        for k in &gone {
            cluster.hosts[*k].stop(Signal::SIGTERM)?;
        }
        std::thread::sleep(Duration::from_secs(9)); // its certificate runs out meanwhile
        for k in &gone {
            cluster.hosts[*k].launch()?;
        }
        cluster.wait_managers(2)?;
        cluster.wait_ready(3)?;
    }
    Ok(())
}

#[test]
fn the_root_is_replaced_while_everything_goes_on() -> Result<()> {
    let cluster = Cluster::managed(3, 4)?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "4", "--publish", "8080:80"])?;
    cluster.wait_running("web", 4)?;
    cluster.wait_answers(8080)?;
    let manager = cluster.manager();
    let first = manager.rnctl(&["swarm", "ca"])?;
    ensure!(first.starts_with("-----BEGIN CERTIFICATE-----"), "{first}");
    manager.says(
        &["swarm", "ca", "--cert-expiry", "5h"],
        &["`--cert-expiry` flag requires the `--rotate` flag"],
    )?;
    manager
        .says(&["swarm", "ca", "--rotate", "--external-ca", "protocol=cfssl,url=x"], &["not supported"])?;
    let tokens = |role: &str| manager.rnctl(&["swarm", "join-token", "-q", role]);
    let before = [tokens("worker")?, tokens("manager")?];
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 8, Duration::from_millis(10));
    for _ in 0..2 {
        let old = manager.rnctl(&["swarm", "ca"])?;
        let new = manager.rnctl(&["swarm", "ca", "--rotate"])?;
        ensure!(new.starts_with("-----BEGIN CERTIFICATE-----") && new != old, "{new}");
        ensure!(manager.rnctl(&["swarm", "ca"])? == new);
        for host in &cluster.hosts {
            wait::until("each node trusts the new root alone", wait::LONG, || {
                let kept =
                    std::fs::read_to_string(host.data_root().join("swarm/certificates/swarm-root-ca.crt"))?;
                // Behind the line that says its length and checksum, which readers of PEM skip.
                let pem = kept.find("-----BEGIN").and_then(|at| kept.get(at..));
                ensure!(pem.map(str::trim) == Some(new.trim()), "{}", host.name);
                Ok(())
            })?;
        }
        manager.rnctl(&["network", "create", "-d", "overlay", &format!("n{}", new.len() + old.len())])?;
        manager.rnctl(&["network", "rm", &format!("n{}", new.len() + old.len())])?;
    }
    let after = [tokens("worker")?, tokens("manager")?];
    ensure!(before.iter().zip(&after).all(|(b, a)| b != a), "both tokens change with the root");
    cluster.wait_managers(3)?;
    cluster.wait_ready(4)?;
    let report = load.stop();
    ensure!(report.failures.is_empty(), "{:#?}", &report.failures[..report.failures.len().min(5)]);
    let (running, list) = cluster.running("web")?;
    ensure!(running.len() == 4 && list.lines().count() == 4, "no task was replaced:\n{list}");
    // Who joins now joins by the new root, and the old token is of no use.
    let addr = format!("{}:2377", manager.v4());
    cluster.hosts[3].rnctl(&["swarm", "leave"])?;
    cluster.hosts[3].says(&["swarm", "join", "--token", &before[0], &addr], &["CA"])?;
    cluster.join(&cluster.hosts[3], "worker")?;
    Ok(())
}

#[test]
fn a_root_can_be_brought_along() -> Result<()> {
    let cluster = Cluster::managed(1, 2)?;
    let dir = tempfile::tempdir()?;
    let (cert, key) = (dir.path().join("ca.crt"), dir.path().join("ca.key"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "3650",
        ])
        .args(["-subj", "/O=Our house/CN=our root", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let manager = cluster.manager();
    manager.says(&["swarm", "ca", "--rotate", "--ca-cert", &cert], &["external CA"])?;
    let shown = manager.rnctl(&["swarm", "ca", "--rotate", "--ca-cert", &cert, "--ca-key", &key])?;
    ensure!(shown.trim() == std::fs::read_to_string(&cert)?.trim(), "{shown}");
    manager.says(
        &["swarm", "ca", "--rotate", "--ca-cert", &cert, "--ca-key", &key],
        &["has the key of the current one"],
    )?;
    cluster.wait_ready(2)?;
    Ok(())
}

#[test]
fn a_locked_manager_waits_for_its_key() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    cluster.manager().says(&["swarm", "unlock-key"], &["no unlock key is set"])?;
    let said = cluster.manager().rnctl(&["swarm", "update", "--autolock"])?;
    let key = cluster.manager().rnctl(&["swarm", "unlock-key", "-q"])?;
    ensure!(said.contains("Swarm updated.") && said.contains(&key) && key.starts_with("SWMKEY-1-"), "{said}");
    // Both secrets on its disk.
    let is_locked = |host: &Host, locked: bool| -> Result<()> {
        for file in ["certificates/swarm-node.key", "raft/key"] {
            let key = std::fs::read(host.data_root().join("swarm").join(file))?;
            ensure!(key.windows(9).any(|w| w == b"RN-LOCKED") == locked, "{}: {file}", host.name);
        }
        Ok(())
    };
    wait::until("all managers are locked", wait::LONG, || {
        cluster.hosts.iter().try_for_each(|host| is_locked(host, true))
    })?;
    cluster.hosts[2].stop(Signal::SIGKILL)?;
    cluster.hosts[2].start()?;
    let locked = "Swarm is encrypted and needs to be unlocked before it can be used. \
                  Please use \"rnctl swarm unlock\" to unlock it.";
    for args in [&["node", "ls"][..], &["service", "ls"], &["swarm", "init"], &["swarm", "leave"]] {
        cluster.hosts[2].says(args, &[locked])?;
    }
    let state = cluster.hosts[2].rnctl(&["info", "--format", "{{.Swarm.LocalNodeState}}"])?;
    ensure!(state == "locked", "{state}");
    let (ok, text) = unlock(&cluster.hosts[2], "SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")?;
    ensure!(!ok && text.contains("invalid key provided"), "{text}");
    let (ok, text) = unlock(&cluster.hosts[2], &key)?;
    ensure!(ok, "{text}");
    cluster.wait_managers(3)?;
    let (ok, text) = unlock(&cluster.hosts[2], &key)?;
    ensure!(!ok && text.contains("swarm is not locked"), "{text}");

    // A new key: who was down meanwhile still needs the old one.
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    let said = cluster.manager().rnctl(&["swarm", "unlock-key", "--rotate"])?;
    let next = cluster.manager().rnctl(&["swarm", "unlock-key", "-q"])?;
    ensure!(
        said.contains("Successfully rotated manager unlock key.") && said.contains(&next) && next != key,
        "{said}"
    );
    cluster.hosts[1].start()?;
    ensure!(!unlock(&cluster.hosts[1], &next)?.0);
    let (ok, text) = unlock(&cluster.hosts[1], &key)?;
    ensure!(ok, "{text}");
    cluster.wait_managers(3)?;
    wait::until("both have the new key", wait::LONG, || {
        for k in [1, 2] {
            cluster.hosts[k].stop(Signal::SIGKILL)?;
            cluster.hosts[k].start()?;
            let (ok, text) = unlock(&cluster.hosts[k], &next)?;
            if !ok {
                ensure!(unlock(&cluster.hosts[k], &key)?.0, "neither key fits: {text}");
            }
            // It was stopped as it changed its lock, perhaps: what opens one of its secrets opens them all.
            wait::until("it is a manager again", wait::LONG, || {
                cluster.hosts[k].rnctl(&["node", "ls"]).map(drop)
            })?;
            cluster.wait_managers(3)?;
            ensure!(ok, "{text}");
        }
        Ok(())
    })?;

    ensure!(cluster.manager().rnctl(&["swarm", "update", "--autolock=false"])? == "Swarm updated.");
    wait::until("no manager is locked", wait::LONG, || {
        cluster.hosts.iter().try_for_each(|host| is_locked(host, false))
    })?;
    cluster.hosts[2].stop(Signal::SIGKILL)?;
    cluster.hosts[2].start()?;
    cluster.wait_managers(3)?;
    Ok(())
}

#[test]
fn network_keys_rotate_and_no_node_falls_silent() -> Result<()> {
    let cluster = Cluster::managed_with(1, 3, &["--network-key-rotation", "1s"])?;
    cluster.import()?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.wait_running("web", 3)?;
    cluster.wait_answers(8080)?;
    let load = Load::start(cluster.client.path(), cluster.everywhere(8080), 8, Duration::from_millis(10));
    // Ten times and more: each ring of three is replaced several times over.
    let rotated = || -> Result<usize> {
        let log = std::fs::read_to_string(cluster.hosts[2].log())?;
        Ok(log.matches("gossip keys").count())
    };
    let before = rotated()?;
    wait::until("ten rotations have reached a worker", wait::LONG, || {
        let seen = rotated()? - before;
        ensure!(seen >= 10, "{seen}");
        Ok(())
    })?;
    let report = load.stop();
    println!("{} requests, {} failed", report.done, report.failures.len());
    ensure!(report.failures.is_empty(), "{:#?}", &report.failures[..report.failures.len().min(5)]);
    // Changes still travel: a task that starts now is resolved by the others.
    cluster.manager().rnctl(&["service", "scale", "-d", "web=5"])?;
    cluster.wait_running("web", 5)?;
    let task = cluster.container(&cluster.hosts[2], "web")?;
    wait::until("all five are resolved", wait::SHORT, || {
        let found = cluster.hosts[2].exec(&task, &["nslookup", "-type=a", "tasks.web"])?;
        let n = found.lines().filter(|l| l.starts_with("Address") && l.contains("10.0.")).count();
        ensure!(n == 5, "{found}");
        Ok(())
    })?;
    Ok(())
}
