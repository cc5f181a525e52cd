//! Secrets and configs on real daemons: tasks read them, and nobody and no disk else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, wait};
use nix::sys::signal::Signal;

/// Words that stand nowhere else.
const FIRST: &str = "hush-6f1d9c0a-first";
const SECOND: &str = "hush-6f1d9c0a-second";

/// Refuses a file below `dir` that holds any of the words.
fn nowhere(dir: &Path, words: &[&str]) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            nowhere(&path, words)?;
        } else if kind.is_file() {
            // A namespace's file cannot be read.
            let bytes = fs::read(&path).unwrap_or_default();
            for word in words {
                let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
                ensure!(!found, "{} holds {word}", path.display());
            }
        }
    }
    Ok(())
}

fn on_no_disk(cluster: &Cluster) -> Result<()> {
    for host in &cluster.hosts {
        nowhere(&host.data_root(), &[FIRST, SECOND])?;
        nowhere(&host.exec_root(), &[FIRST, SECOND])?;
        let log = fs::read_to_string(host.log())?;
        ensure!(!log.contains(FIRST) && !log.contains(SECOND), "the log of {} tells it", host.name);
    }
    Ok(())
}

fn create(host: &Host, dir: &Path, kind: &str, flags: &[&str], name: &str, content: &str) -> Result<String> {
    let file = dir.join(name);
    fs::write(&file, content)?;
    let file = file.display().to_string();
    let args = [&[kind, "create"], flags, &[name, &file]].concat();
    host.rnctl(&args)
}

#[test]
fn tasks_read_their_secrets_and_configs_and_nobody_else_does() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    let dir = tempfile::tempdir()?;
    let (manager, worker) = (&cluster.hosts[0], &cluster.hosts[1]);
    let id = create(manager, dir.path(), "secret", &["-l", "tier=front"], "key", FIRST)?;
    let text = r#"{{.Service.Name}} on {{.Node.Hostname}}, {{env "PORT"}}, {{secret "key"}}"#;
    create(manager, dir.path(), "config", &["--template-driver", "golang"], "app.conf", text)?;
    let shown = manager.rnctl(&["secret", "inspect", "key"])?;
    ensure!(shown.contains(&id) && !shown.contains("Data"), "{shown}");
    ensure!(manager.rnctl(&["secret", "ls", "-q", "--filter", "label=tier=front"])? == id);
    ensure!(manager.rnctl(&["config", "ls", "--format", "{{.Name}}"])? == "app.conf");
    manager.says(&["secret", "create", "key", "/etc/hostname"], &["secret key already exists"])?;
    manager
        .says(&["secret", "create", "none", "/dev/null"], &["larger than 0 and less than 512000 bytes"])?;
    manager.says(
        &["service", "create", "-d", "--name", "lost", "--secret", "nope", "testweb:1"],
        &["secret not found: nope"],
    )?;

    let constraint = format!("node.hostname=={}", worker.name);
    let flags = ["--name", "web", "-e", "PORT=80", "--constraint", &constraint];
    let secret = "source=key,uid=33,gid=7,mode=0440";
    let config = "source=app.conf,target=/etc/app/app.conf";
    cluster.service(&[&flags[..], &["--secret", secret, "--config", config]].concat())?;
    cluster.wait_running("web", 1)?;
    let container = cluster.container(worker, "web")?;
    let read = |path: &str| worker.exec(&container, &["cat", path]);
    ensure!(read("/run/secrets/key")? == FIRST);
    ensure!(read("/etc/app/app.conf")? == format!("web on {}, 80, {FIRST}", worker.name));
    let looks =
        worker.exec(&container, &["stat", "-c", "%a %u %g", "/run/secrets/key", "/etc/app/app.conf"])?;
    ensure!(looks == "440 33 7\n444 0 0", "{looks}");
    let write = worker.exec(&container, &["sh", "-c", "echo x >/run/secrets/key || echo refused"])?;
    ensure!(write.ends_with("refused"), "{write}");
    let mounts = worker.exec(&container, &["grep", "/run/secrets/key", "/proc/mounts"])?;
    ensure!(mounts.starts_with("tmpfs ") && mounts.contains("ro,"), "{mounts}");
    on_no_disk(&cluster)?;

    manager.says(&["secret", "rm", "key"], &["secret 'key' is in use by the following service: web"])?;
    manager.says(
        &["config", "rm", "app.conf"],
        &["config 'app.conf' is in use by the following service: web"],
    )?;
    worker.says(&["secret", "ls"], &["manager"])?;

    // The task goes on through a restart of its daemon, and nobody has to tell it its secrets again.
    cluster.hosts[0].stop(Signal::SIGTERM)?;
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    cluster.hosts[1].start()?;
    let worker = &cluster.hosts[1];
    ensure!(worker.exec(&container, &["cat", "/run/secrets/key"])? == FIRST);
    on_no_disk(&cluster)?;
    cluster.hosts[0].start()?;
    cluster.wait_ready(2)?;

    let (manager, worker) = (&cluster.hosts[0], &cluster.hosts[1]);
    create(manager, dir.path(), "secret", &[], "key-2", SECOND)?;
    let other = ["--secret-rm", "key", "--secret-add", "source=key-2,target=key"];
    cluster.update(&[&other[..], &["--config-rm", "app.conf", "web"]].concat())?;
    wait::until("the new task has the new secret", wait::LONG, || {
        let container = cluster.container(worker, "web")?;
        ensure!(worker.exec(&container, &["cat", "/run/secrets/key"])? == SECOND);
        ensure!(worker.exec(&container, &["sh", "-c", "[ -e /etc/app/app.conf ] || echo gone"])? == "gone");
        Ok(())
    })?;
    manager.rnctl(&["secret", "rm", "key"])?;
    manager.rnctl(&["config", "rm", "app.conf"])?;
    manager.says(&["service", "rollback", "-d", "web"], &["secret not found: key"])?;
    on_no_disk(&cluster)
}

#[test]
fn a_worker_that_reboots_without_a_manager_waits_for_its_secrets() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    let dir = tempfile::tempdir()?;
    create(&cluster.hosts[0], dir.path(), "secret", &[], "key", FIRST)?;
    let constraint = format!("node.hostname=={}", cluster.hosts[1].name);
    cluster.service(&["--name", "web", "--constraint", &constraint, "--secret", "key"])?;
    cluster.wait_running("web", 1)?;
    cluster.hosts[0].stop(Signal::SIGKILL)?;
    cluster.hosts[1].reboot()?;
    on_no_disk(&cluster)?;
    ensure!(cluster.container(&cluster.hosts[1], "web").is_err(), "it has no secret yet");
    cluster.hosts[0].start()?;
    let worker = &cluster.hosts[1];
    wait::until("it runs with its secret", wait::LONG, || {
        let container = cluster.container(worker, "web")?;
        ensure!(worker.exec(&container, &["cat", "/run/secrets/key"])? == FIRST);
        Ok(())
    })
}
