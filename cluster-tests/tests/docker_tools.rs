//! Other people's tools at our socket, as packaged: discovery by Prometheus, projects of docker-compose.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, docker::CLIENT, image::IMAGE, wait};
use serde_json::Value;
use skip::Need;

const PROMETHEUS: Need<'static> = Need::Tool { program: "prometheus", package: "prometheus" };
const COMPOSE: Need<'static> = Need::Tool { program: "docker-compose", package: "docker-compose" };

/// A Prometheus that looks for targets at a host's socket, in that host's namespace.
struct Prometheus(Child);

impl Prometheus {
    fn start(host: &Host) -> Result<Self> {
        let socket = host.socket();
        let sd =
            |kind: &str, more: &str| format!("{kind}: [{{host: \"{socket}\", refresh_interval: 1s{more}}}]");
        let swarm = |role: &str| sd("dockerswarm_sd_configs", &format!(", role: {role}"));
        let jobs = [
            ("tasks", swarm("tasks")),
            ("services", swarm("services")),
            ("nodes", swarm("nodes")),
            ("containers", sd("docker_sd_configs", "")),
        ];
        let mut text = "scrape_configs:\n".to_owned();
        for (name, config) in jobs {
            text += &format!("- job_name: {name}\n  {config}\n");
        }
        let file = host.dir().join("prometheus.yml");
        fs::write(&file, text)?;
        let child = host
            .ns
            .command("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", host.dir().join("tsdb").display()))
            .arg("--web.listen-address=127.0.0.1:9090")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("prometheus")?;
        Ok(Self(child))
    }

    /// What it found for a job: of each target the value of a label.
    fn found(&self, host: &Host, job: &str, label: &str) -> Result<BTreeSet<String>> {
        // HTTP/1.0 has no chunks.
        let text = host.ns.enter(|| -> Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", 9090))?;
            stream.write_all(b"GET /api/v1/targets HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })??;
        let (_, body) = text.split_once("\r\n\r\n").with_context(|| text.clone())?;
        let answer: Value = serde_json::from_str(body).with_context(|| text.clone())?;
        let targets = answer["data"]["activeTargets"].as_array().context("targets")?;
        let labels = targets.iter().map(|t| &t["discoveredLabels"]).filter(|l| l["job"] == job);
        Ok(labels.filter_map(|l| l[label].as_str().map(str::to_owned)).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn prometheus_discovers_nodes_services_tasks_and_containers() -> Result<()> {
    if skip::unless(&[PROMETHEUS]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(2)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "--attachable", "app"])?;
    cluster.service(&["--name", "web", "--network", "app", "--publish", "8080:80", "--replicas", "2"])?;
    cluster.wait_running("web", 2)?;
    host.rnctl(&["run", "-d", "--name", "solo", "--network", "app", IMAGE, "sleep", "1000"])?;
    let prometheus = Prometheus::start(host)?;
    let names = |expected: &[&str]| expected.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
    wait::until("everything is discovered", wait::LONG, || {
        for (job, label, expected) in [
            ("nodes", "__meta_dockerswarm_node_hostname", names(&["host1", "host2"])),
            ("services", "__meta_dockerswarm_service_name", names(&["web"])),
            ("tasks", "__meta_dockerswarm_node_hostname", names(&["host1", "host2"])),
            ("tasks", "__meta_dockerswarm_task_state", names(&["running"])),
        ] {
            let found = prometheus.found(host, job, label)?;
            ensure!(found == expected, "{job}: {label} is {found:?}");
        }
        let containers = prometheus.found(host, "containers", "__meta_docker_container_name")?;
        ensure!(containers.contains("/solo") && containers.len() == 2, "{containers:?}");
        Ok(())
    })?;
    // A target's address is one where its task answers.
    let caller = "solo";
    let addresses = prometheus.found(host, "containers", "__address__")?;
    let answers =
        |target: &&String| host.exec(caller, &["wget", "-qO-", &format!("http://{target}/")]).is_ok();
    ensure!(addresses.iter().filter(answers).count() == 1, "{addresses:?}");
    cluster.service(&["--name", "more", "--network", "app"])?;
    wait::until("what is new is discovered", wait::LONG, || {
        let found = prometheus.found(host, "services", "__meta_dockerswarm_service_name")?;
        ensure!(found == names(&["more", "web"]), "{found:?}");
        Ok(())
    })
}

const PROJECT: &str = r#"
version: "3.8"
services:
  web:
    image: testweb:1
    command: ["sh", "-c", "echo web is up; exec httpd -f -p 80 -h /www"]
    networks: [app]
    environment: { COLOUR: blue }
  api:
    image: testweb:1
    command: ["sh", "-c", "echo api is up; exec sleep 1000"]
    depends_on: [web]
    networks: { app: { aliases: [backend] } }
    volumes: ["data:/data"]
  job:
    image: testweb:1
    command: ["sh", "-c", "wget -qO- http://web/cgi-bin/index.cgi; exec sleep 1000"]
    depends_on: [web]
    networks: [app]
volumes: { data: {} }
networks:
  app: { driver: overlay, attachable: true }
"#;

fn compose(host: &Host, args: &[&str]) -> Result<String> {
    let mut command: Command = host.ns.command("docker-compose");
    command.env("DOCKER_HOST", host.socket()).env("HOME", host.dir()).stdin(Stdio::null());
    let output = command
        .args(["--ansi", "never", "-p", "shop", "-f"])
        .arg(host.dir().join("shop.yml"))
        .args(args)
        .output()
        .context("docker-compose")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker-compose {}: {text}{errors}", args.join(" "));
    Ok(text)
}

#[test]
fn a_project_of_docker_compose_lives_on_an_overlay() -> Result<()> {
    if skip::unless(&[COMPOSE, CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    fs::write(host.dir().join("shop.yml"), PROJECT)?;
    compose(host, &["up", "-d"])?;
    let shown = compose(host, &["ps"])?;
    ensure!(shown.matches(" Up ").count() == 3, "{shown}");
    wait::until("the output comes", wait::LONG, || {
        let logs = compose(host, &["logs", "--no-color"])?;
        for words in ["web is up", "api is up", "sees client "] {
            ensure!(logs.contains(words), "{words}: {logs}");
        }
        Ok(())
    })?;
    // Nothing has changed: everything stays.
    let before = compose(host, &["ps", "-q"])?;
    compose(host, &["up", "-d"])?;
    ensure!(compose(host, &["ps", "-q"])? == before, "containers were made anew");
    compose(host, &["up", "-d", "--scale", "api=3"])?;
    ensure!(compose(host, &["ps", "-q", "api"])?.lines().count() == 3, "three of api");
    let names = compose(host, &["exec", "-T", "web", "nslookup", "-type=a", "backend"])?;
    ensure!(names.matches("10.0.").count() >= 3, "{names}");
    ensure!(compose(host, &["exec", "-T", "web", "env"])?.contains("COLOUR=blue"), "its environment");
    compose(host, &["restart", "web"])?;
    compose(host, &["pause", "job"])?;
    ensure!(compose(host, &["ps"])?.contains("Paused"), "paused");
    compose(host, &["unpause", "job"])?;
    ensure!(compose(host, &["top", "web"])?.contains("httpd"), "top");
    compose(host, &["down", "-v"])?;
    for (args, gone) in
        [(&["ps", "-aq"][..], "shop"), (&["network", "ls"], "shop_app"), (&["volume", "ls"], "shop_data")]
    {
        let rest = host.docker(args)?;
        ensure!(!rest.contains(gone), "{args:?}: {rest}");
    }
    Ok(())
}
