//! Images from registries and archives, on real daemons.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster, Host, image,
    registry::{Registry, USER},
    wait,
};
use serde_json::json;

/// Hosts that may speak to the test's registries without TLS.
const FLAGS: [&str; 2] = ["--insecure-registry", "10.77.0.0/24"];

fn swarm(n: usize) -> Result<Cluster> {
    Cluster::managed_with(1, n, &FLAGS)
}

fn registry(cluster: &Cluster, dir: &Path, port: u16, auth: bool) -> Result<Registry> {
    let addr = SocketAddr::new(cluster.client_port.v4.into(), port);
    Registry::start(&cluster.client, addr, &dir.join(port.to_string()), auth)
}

/// The test image's root file system, and a layer with one file over it.
fn layers(dir: &Path, name: &str) -> Result<Vec<Vec<u8>>> {
    let base = dir.join("base.tar");
    if !base.exists() {
        image::build(&base, true)?;
    }
    let mut top = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(name.len())?);
    header.set_mode(0o644);
    top.append_data(&mut header, "www/version", name.as_bytes())?;
    Ok(vec![fs::read(base)?, top.into_inner()?])
}

/// A `rnctl` that keeps its credentials in `dir`.
fn with_config(host: &Host, dir: &Path, args: &[&str]) -> Result<(bool, String)> {
    let output = host.rnctl_command(args)?.env("RN_CONFIG", dir).stdin(Stdio::null()).output()?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), text))
}

fn image_of(cluster: &Cluster, service: &str) -> Result<String> {
    cluster.manager().rnctl(&[
        "service",
        "inspect",
        "--format",
        "{{.Spec.TaskTemplate.ContainerSpec.Image}}",
        service,
    ])
}

/// Waits until the newest error of the service's tasks holds these words.
fn wait_error(cluster: &Cluster, service: &str, words: &[&str]) -> Result<()> {
    wait::until(&format!("{service} says why"), wait::LONG, || {
        let list =
            cluster.manager().rnctl(&["service", "ps", "--no-trunc", "--format", "{{.Error}}", service])?;
        for word in words {
            ensure!(list.contains(word), "{word:?} is not in {list}");
        }
        Ok(())
    })
}

#[test]
fn a_service_runs_what_its_registry_has() -> Result<()> {
    let cluster = swarm(2)?;
    let dir = tempfile::tempdir()?;
    let mut registry = registry(&cluster, dir.path(), 5000, false)?;
    let config = json!({"Cmd": ["/bin/rn-testd"], "Env": ["PATH=/bin"]});
    let one = registry.push("team/web", "1", &layers(dir.path(), "one")?, &config)?;
    let name = registry.name("team/web:1");
    let manager = cluster.manager();
    manager.rnctl(&[
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--replicas",
        "2",
        "--replicas-max-per-node",
        "1",
        "-p",
        "8080:80",
        &name,
    ])?;
    let pinned = format!("{name}@{}", one.digest);
    ensure!(
        image_of(&cluster, "web")? == pinned,
        "the digest is in the spec: {}",
        image_of(&cluster, "web")?
    );
    cluster.wait_running("web", 2)?;
    cluster.wait_answers(8080)?;
    ensure!(
        manager.rnctl(&["service", "ls", "--format", "{{.Image}}"])? == name,
        "without the digest in lists"
    );

    // The tag means another image now; the service goes on with the one that it was created with, until it is told.
    let two = registry.push("team/web", "1", &layers(dir.path(), "two")?, &config)?;
    ensure!(one.digest != two.digest);
    manager.rnctl(&["service", "update", "-d", "--force", "web"])?;
    ensure!(image_of(&cluster, "web")? == pinned, "a forced update changes no image");
    manager.rnctl(&["service", "update", "-d", "--image", &name, "--update-parallelism", "0", "web"])?;
    ensure!(image_of(&cluster, "web")? == format!("{name}@{}", two.digest));
    wait::until("all tasks run the new image", wait::LONG, || {
        for host in &cluster.hosts {
            let container = cluster.container(host, "web")?;
            ensure!(host.exec(&container, &["cat", "/www/version"])? == "two");
        }
        Ok(())
    })?;
    // Both images share the base; each is known by its digest.
    let host = &cluster.hosts[1];
    let list =
        host.rnctl(&["image", "ls", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"])?;
    for digest in [&one.digest, &two.digest] {
        ensure!(list.contains(&format!("{}/team/web <none> {digest}", registry.addr)), "{list}");
    }
    let layers_here = fs::read_dir(host.data_root().join("images/layers"))?.count();
    ensure!(layers_here == 3, "a base and two tops, not {layers_here}");

    // What is there needs no registry; what is not says so.
    registry.down()?;
    manager.rnctl(&["service", "update", "-d", "--force", "web"])?;
    cluster.wait_running("web", 2)?;
    let gone = registry.name("team/web:9");
    let output = manager.try_rnctl(&["service", "create", "-d", "--name", "gone", &gone])?;
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success()
            && warning.contains(&format!(
                "image {gone} could not be accessed on a registry to record\nits digest."
            )),
        "{warning}"
    );
    ensure!(image_of(&cluster, "gone")? == gone);
    wait_error(
        &cluster,
        "gone",
        &[&format!("No such image: {gone}"), "cannot be reached", "refused", "rnctl load"],
    )?;

    // It is back: the task that is tried again gets the image.
    registry.up(&cluster.client)?;
    registry.push("team/web", "9", &layers(dir.path(), "nine")?, &config)?;
    cluster.wait_running("gone", 1)?;
    // A tag that nobody pushed.
    let none = registry.name("team/web:none");
    manager.rnctl(&["service", "create", "-d", "--name", "none", &none])?;
    wait_error(&cluster, "none", &[&format!("No such image: {none}"), "manifest unknown"])
}

#[test]
fn a_registry_with_passwords() -> Result<()> {
    let cluster = swarm(2)?;
    let dir = tempfile::tempdir()?;
    let registry = registry(&cluster, dir.path(), 5001, true)?;
    let config = json!({"Cmd": ["/bin/rn-testd"]});
    registry.push("secret/web", "1", &layers(dir.path(), "one")?, &config)?;
    let (name, addr, keys) =
        (registry.name("secret/web:1"), registry.addr.to_string(), dir.path().join("keys"));
    let manager = cluster.manager();
    let run = |args: &[&str]| with_config(manager, &keys, args);

    let (ok, text) = run(&["pull", &name])?;
    ensure!(
        !ok && text.contains("pull access denied") && text.contains(&format!("rnctl login {addr}")),
        "{text}"
    );
    let (ok, text) = run(&["login", "-u", USER.0, "-p", "wrong", &addr])?;
    ensure!(!ok && text.contains("401 Unauthorized") && !keys.join("config.json").exists(), "{text}");
    let (ok, text) = run(&["login", "-u", USER.0, "-p", USER.1, &addr])?;
    ensure!(ok && text.contains("Login Succeeded"), "{text}");

    // Without --with-registry-auth nodes have no password.
    let (ok, text) = run(&["service", "create", "-d", "--name", "web", "--mode", "global", &name])?;
    ensure!(ok && text.contains("could not be accessed on a registry"), "{text}");
    wait_error(&cluster, "web", &["pull access denied", "--with-registry-auth"])?;
    let (ok, text) = run(&["service", "update", "-d", "--with-registry-auth", "--image", &name, "web"])?;
    ensure!(ok, "{text}");
    cluster.wait_running("web", 2)?;
    for host in &cluster.hosts {
        let container = cluster.container(host, "web")?;
        ensure!(host.exec(&container, &["cat", "/www/version"])? == "one");
    }
    ensure!(image_of(&cluster, "web")?.contains("@sha256:"));
    // Nobody is shown the password, and it is nowhere on a disk in clear.
    let shown = manager.rnctl(&["inspect", "web"])?;
    ensure!(!shown.contains(USER.1) && !shown.contains(USER.0), "{shown}");
    let raft = fs::read_dir(manager.data_root().join("swarm")).context("swarm")?;
    ensure!(raft.count() > 0);
    for file in files(&manager.data_root().join("swarm"))? {
        let holds = fs::read(&file)?.windows(USER.1.len()).any(|w| w == USER.1.as_bytes());
        let private =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions()) & 0o077 == 0;
        ensure!(!holds || private, "{} shows the password", file.display());
    }

    // A pull by hand, as Docker prints it.
    let (ok, text) = run(&["pull", &name])?;
    for word in ["1: Pulling from secret/web", "Already exists", "Digest: sha256:", "Status: ", &name] {
        ensure!(ok && text.contains(word), "{word:?} in {text}");
    }
    let (ok, text) = run(&["logout", &addr])?;
    ensure!(ok && text.contains(&format!("Removing login credentials for {addr}")), "{text}");
    let (ok, text) = run(&["pull", &name])?;
    ensure!(!ok && text.contains("pull access denied"), "{text}");
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

#[test]
fn events_tell_what_happens() -> Result<()> {
    let cluster = swarm(1)?;
    let manager = cluster.manager();
    cluster.import()?;
    manager.rnctl(&["tag", image::IMAGE, "again:2"])?;
    manager.rnctl(&["rmi", "again:2"])?;
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "web"])?;
    cluster.wait_running("web", 1)?;
    manager.rnctl(&["service", "scale", "-d", "web=2"])?;
    cluster.wait_running("web", 2)?;
    manager.rnctl(&["service", "rm", "web"])?;
    manager.rnctl(&["network", "rm", "app"])?;
    wait::until("all containers are gone", wait::LONG, || {
        ensure!(manager.rnctl(&["ps", "-aq"])?.is_empty());
        Ok(())
    })?;
    let events = |args: &[&str]| {
        let mut all = vec!["events", "--since", "10m", "--until", "0s"];
        all.extend_from_slice(args);
        manager.rnctl(&all)
    };
    let format = "{{.scope}} {{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let all = events(&["--format", format])?;
    let image = image::IMAGE;
    for expected in [
        &format!("local image import {image}"),
        "local image tag again:2",
        "local image untag again:2",
        "swarm network create app",
        "swarm network remove app",
        "swarm service create web",
        "swarm service update web",
        "swarm service remove web",
        "local container create web.1.",
        "local container start web.1.",
        "local container die web.2.",
        "local container destroy web.1.",
    ] {
        ensure!(all.lines().any(|line| line.starts_with(expected)), "{expected:?} is not in:\n{all}");
    }
    for once in ["swarm service create web", "swarm service update web", "swarm network create app"] {
        ensure!(all.lines().filter(|line| *line == once).count() == 1, "{once} comes once:\n{all}");
    }
    let update = events(&["-f", "type=service", "-f", "event=update"])?;
    ensure!(
        update.lines().count() == 1 && update.ends_with("(name=web, replicas.new=2, replicas.old=1)"),
        "{update}"
    );
    Ok(())
}

#[test]
fn metrics_are_served() -> Result<()> {
    let cluster = Cluster::daemons_with(1, &["--metrics-addr", "127.0.0.1:9323"])?;
    let host = cluster.manager();
    let addr: SocketAddr = "127.0.0.1:9323".parse()?;
    let scrape = || cluster_tests::probe::get_from(&host.ns.path(), addr, "/metrics");
    let before = scrape()?;
    ensure!(before.contains("rn_build_info{") && before.contains("rn_images 0"), "{before}");
    ensure!(!before.contains("rn_raft_term"), "there is no raft yet: {before}");
    host.rnctl(&["swarm", "init", "--advertise-addr", &host.v4().to_string()])?;
    cluster.import()?;
    cluster.service(&["--name", "web", "--replicas", "2"])?;
    cluster.wait_running("web", 2)?;
    wait::until("the metrics follow", wait::SHORT, || {
        let text = scrape()?;
        for line in [
            "rn_raft_leader 1",
            "rn_raft_members 1",
            "rn_swarm_nodes{state=\"ready\"} 1",
            "rn_swarm_services 1",
            "rn_swarm_tasks{state=\"running\"} 2",
            "rn_swarm_tasks{state=\"failed\"} 0",
            "rn_containers{state=\"running\"} 2",
            "rn_agent_tasks 2",
            "rn_agent_synced 1",
            "rn_reconciler_failed_units 0",
            "rn_gossip_nodes{state=\"alive\"} 1",
            "rn_images 1",
            "# EOF",
        ] {
            ensure!(text.lines().any(|l| l == line), "{line:?} is not in:\n{text}");
        }
        Ok(())
    })
}

#[test]
fn a_registry_without_tls_is_named_as_one() -> Result<()> {
    let (cluster, dir) = (Cluster::daemons(1)?, tempfile::tempdir()?);
    let registry = registry(&cluster, dir.path(), 5000, false)?;
    let image = format!("{}/web:1", registry.addr);
    let (code, said) = cluster.hosts[0].rnctl_fails(&["pull", &image])?;
    let way_out = format!("rnd --insecure-registry {}", registry.addr);
    ensure!(code == 1 && said.contains("answers without TLS") && said.contains(&way_out), "{code} {said}");
    Ok(())
}
