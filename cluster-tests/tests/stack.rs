//! Stacks: what `rnctl stack` deploys, beside what Debian's `docker stack` deploys of the same file.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, docker::CLIENT};
use serde_json::Value;

/// Two networks, a config, a secret, published ports, update and placement settings.
const FILE: &str = r#"
version: "3.8"
services:
  web:
    image: testweb:1
    command: ["sh", "-c", "while true; do sleep 1; done"]
    environment: {GREETING: "${GREETING:-hi}", EMPTY: ""}
    ports: ["8080:80"]
    networks: {front: {aliases: [www]}, back: }
    configs: [{source: conf, target: /etc/conf, mode: 0440}]
    secrets: [key]
    volumes: ["data:/data", {type: tmpfs, target: /scratch, tmpfs: {size: 1048576}}]
    healthcheck: {test: ["CMD", "true"], interval: 1s}
    stop_grace_period: 1s
    labels: {tier: front}
    deploy:
      replicas: 2
      labels: [a=b]
      update_config: {parallelism: 1, delay: 0s, order: start-first, monitor: 100ms}
      rollback_config: {parallelism: 0, max_failure_ratio: 0.5}
      restart_policy: {condition: any, delay: 1s}
      resources: {limits: {cpus: "0.5", memory: 64M}}
      placement:
        constraints: ["node.platform.os == linux"]
        preferences: [{spread: node.labels.zone}]
  back:
    image: testweb:1
    command: sleep 1000
    networks: [back]
    ports: [{target: 53, published: 5353, protocol: udp, mode: host}]
    stop_grace_period: 1s
    cap_drop: [NET_RAW]
    extra_hosts: ["db:10.0.0.1"]
    deploy: {mode: global, endpoint_mode: dnsrr}
networks:
  front: {attachable: true}
  back: {driver_opts: {com.docker.network.driver.mtu: "1400"}}
volumes: {data: }
configs: {conf: {file: ./conf}}
secrets: {key: {file: ./key}}
"#;

fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    fs::write(dir.join(name), text)?;
    Ok(dir.join(name).display().to_string())
}

fn service(host: &Host, name: &str) -> Result<Value> {
    let text = host.docker(&["service", "inspect", name])?;
    let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(all[0].clone())
}

/// A service's spec without what two stacks differ in: their names and the ids of what they refer to.
fn spec(host: &Host, stack: &str, name: &str) -> Result<Value> {
    fn strip(value: &mut Value, stack: &str) {
        match value {
            Value::String(text) => *text = text.replace(&format!("{stack}_"), "S_"),
            Value::Array(items) => items.iter_mut().for_each(|item| strip(item, stack)),
            Value::Object(fields) => {
                fields.retain(|key, _| !matches!(key.as_str(), "SecretID" | "ConfigID"));
                if let Some(label) = fields.get_mut("com.docker.stack.namespace") {
                    *label = "S".into();
                }
                fields.values_mut().for_each(|value| strip(value, stack));
            }
            _ => {}
        }
    }
    let mut spec = service(host, &format!("{stack}_{name}"))?["Spec"].take();
    for network in spec["TaskTemplate"]["Networks"].as_array_mut().into_iter().flatten() {
        let id = network["Target"].as_str().unwrap_or_default().to_owned();
        network["Target"] = host.docker(&["network", "inspect", "-f", "{{.Name}}", &id])?.into();
    }
    strip(&mut spec, stack);
    Ok(spec)
}

fn tasks(host: &Host, stack: &str) -> Result<BTreeSet<String>> {
    let text = host.rnctl(&["stack", "ps", "-q", "--filter", "desired-state=running", stack])?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[test]
fn a_stack_is_deployed_changed_listed_and_removed() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let host = cluster.manager();
    let dir = tempfile::tempdir()?;
    write(dir.path(), "conf", "answer = 42\n")?;
    write(dir.path(), "key", "hush\n")?;
    let file = write(dir.path(), "compose.yml", FILE)?;
    let deploy = |flags: &[&str], files: &[&str]| {
        let files = files.iter().flat_map(|file| ["-c", file]);
        let args: Vec<&str> =
            ["stack", "deploy", "--resolve-image", "never"].into_iter().chain(files).collect();
        host.rnctl(&[&args, flags, &["app"]].concat())
    };

    let said = deploy(&["--detach=false", "-q"], &[&file])?;
    for line in [
        "Creating network app_back",
        "Creating network app_front",
        "Creating secret app_key",
        "Creating config app_conf",
        "Creating service app_back",
        "Creating service app_web",
    ] {
        ensure!(said.lines().any(|l| l == line), "{said}");
    }
    // It has waited: everything runs.
    let services = host.rnctl(&[
        "stack",
        "services",
        "--format",
        "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}",
        "app",
    ])?;
    ensure!(
        services.trim() == "app_back global 2/2 testweb:1\napp_web replicated 2/2 testweb:1",
        "{services}"
    );
    let (web, other) = cluster.running("app_web").map(|(nodes, _)| (nodes[0].clone(), nodes.len()))?;
    ensure!(other == 2, "{web:?}");
    let on = cluster.host(&web.1)?;
    let container = cluster.container(on, "app_web")?;
    ensure!(on.exec(&container, &["cat", "/run/secrets/key", "/etc/conf"])?.contains("hush\nanswer = 42"));
    ensure!(on.exec(&container, &["sh", "-c", "echo $GREETING"])?.trim() == "hi");

    let table = host.rnctl(&["stack", "ls"])?;
    ensure!(table.lines().next().is_some_and(|l| l.split_whitespace().eq(["NAME", "SERVICES"])), "{table}");
    ensure!(table.lines().nth(1).is_some_and(|l| l.split_whitespace().eq(["app", "2"])), "{table}");
    let table = host.rnctl(&["stack", "ps", "app"])?;
    ensure!(
        table.starts_with("ID ") && table.contains("CURRENT STATE") && table.contains("app_web.2"),
        "{table}"
    );
    let table = host.rnctl(&["stack", "services", "app"])?;
    ensure!(table.contains("REPLICAS") && table.contains("*:8080->80/tcp"), "{table}");

    // The same again touches no task.
    let before = tasks(host, "app")?;
    ensure!(before.len() == 4, "{before:?}");
    let said = deploy(&[], &[&file])?;
    ensure!(said.contains("Updating service app_web (id: "), "{said}");
    host.rnctl(&["wait", "--converged"])?;
    ensure!(tasks(host, "app")? == before, "tasks were replaced");

    // A second file over it: one service changes, the other stays.
    let over = write(
        dir.path(),
        "over.yml",
        "version: \"3.8\"\nservices:\n  web: {environment: {GREETING: hello}, deploy: {replicas: 3}}\n",
    )?;
    deploy(&["--detach=false", "-q"], &[&file, &over])?;
    let after = tasks(host, "app")?;
    ensure!(after.len() == 5 && before.intersection(&after).count() == 2, "{before:?} {after:?}");
    ensure!(service(host, "app_web")?["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"][1] == "GREETING=hello");

    // What is not in the file any more goes only when that is asked for.
    let less = write(
        dir.path(),
        "less.yml",
        "version: \"3.8\"\nservices: {back: {image: testweb:1, command: sleep 1000, networks: [back], deploy: {mode: global}}}\nnetworks: {back: }\n",
    )?;
    deploy(&[], &[&less])?;
    ensure!(host.rnctl(&["stack", "services", "-q", "app"])?.lines().count() == 2);
    let said = deploy(&["--prune"], &[&less])?;
    ensure!(said.contains("Removing service app_web"), "{said}");
    ensure!(host.rnctl(&["stack", "services", "-q", "app"])?.lines().count() == 1);

    // What a secret holds cannot be changed; what was done before that is said.
    write(dir.path(), "key", "other\n")?;
    let (code, error) =
        host.rnctl_fails(&["stack", "deploy", "-c", &file, "--resolve-image", "never", "app"])?;
    ensure!(code == 1 && error.contains("failed to update secret app_key"), "{error}");

    let said = host.rnctl(&["stack", "rm", "--detach=false", "app"])?;
    let removed: Vec<&str> = said.lines().collect();
    ensure!(
        removed
            == [
                "Removing service app_back",
                "Removing secret app_key",
                "Removing config app_conf",
                "Removing network app_back",
                "Removing network app_front",
            ],
        "{said}"
    );
    ensure!(host.rnctl(&["stack", "ls"])?.lines().count() == 1);
    ensure!(
        host.rnctl(&["secret", "ls", "-q"])?.is_empty() && host.rnctl(&["config", "ls", "-q"])?.is_empty()
    );
    let gone = host.try_rnctl(&["stack", "rm", "app"])?;
    ensure!(
        gone.status.success()
            && String::from_utf8_lossy(&gone.stderr).contains("Nothing found in stack: app"),
        "{gone:?}"
    );
    let (code, error) = host.rnctl_fails(&["stack", "ps", "app"])?;
    ensure!(code == 1 && error.contains("nothing found in stack: app"), "{error}");
    Ok(())
}

#[test]
fn specs_are_those_of_dockers_client() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let dir = tempfile::tempdir()?;
    write(dir.path(), "conf", "answer = 42\n")?;
    write(dir.path(), "key", "hush\n")?;
    let file = write(dir.path(), "compose.yml", FILE)?;
    // One after the other: they publish the same ports on the one node.
    let flags = ["-c", &file, "--resolve-image", "never"];
    host.docker(&[&["stack", "deploy"], &flags[..], &["theirs"]].concat())?;
    let theirs = [spec(host, "theirs", "web")?, spec(host, "theirs", "back")?];
    // Either client takes the other's stack for its own.
    let listed = host.rnctl(&["stack", "ls", "--format", "{{.Name}} {{.Services}}"])?;
    ensure!(listed.trim() == "theirs 2", "{listed}");
    host.rnctl(&["stack", "rm", "theirs"])?;
    host.rnctl(&[&["stack", "deploy"], &flags[..], &["ours"]].concat())?;
    let ours = [spec(host, "ours", "web")?, spec(host, "ours", "back")?];
    for (theirs, ours) in theirs.iter().zip(&ours) {
        ensure!(theirs == ours, "theirs: {theirs:#}\nours: {ours:#}");
    }
    let network = |stack: &str, name: &str| {
        let name = format!("{stack}_{name}");
        host.docker(&["network", "inspect", "-f", "{{.Driver}} {{.Attachable}} {{.Labels}}", &name])
    };
    ensure!(network("ours", "front")? == "overlay true map[com.docker.stack.namespace:ours]");
    ensure!(network("ours", "back")? == "overlay false map[com.docker.stack.namespace:ours]");
    host.docker(&["stack", "deploy", "-c", &file, "--resolve-image", "never", "ours"])?;
    let again = [spec(host, "ours", "web")?, spec(host, "ours", "back")?];
    ensure!(again == ours, "{again:#?}");
    host.docker(&["stack", "rm", "ours"]).map(drop)
}

#[test]
fn files_that_cannot_be_deployed_are_refused_before_anything_is_done() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = cluster.manager();
    let dir = tempfile::tempdir()?;
    let good = write(
        dir.path(),
        "good.yml",
        "services: {web: {image: x, build: ., secrets: [s]}}\nsecrets: {s: {file: ./none}}",
    )?;
    let says = |name: &str, text: &str, words: &str| -> Result<()> {
        let file = write(dir.path(), name, text)?;
        let (code, error) = host.rnctl_fails(&["stack", "deploy", "-c", &file, "s"])?;
        ensure!(code == 1 && error.contains(words), "{error}");
        ensure!(error.contains(name) || words.starts_with("invalid image"), "{error}");
        Ok(())
    };
    says(
        "type.yml",
        "services: {web: {image: x, ports: [true]}}",
        "services.web.ports.0 must be a number, string or mapping",
    )?;
    says("extends.yml", "services: {web: {extends: y}}", "Support for `extends` is not implemented yet.")?;
    says("yaml.yml", "services: [", "yaml: line ")?;
    says("none.yml", "services: {web: {}}", "invalid image reference for service web: no image specified")?;
    let (code, error) = host.rnctl_fails(&["stack", "deploy", "-c", &good, "s"])?;
    ensure!(code == 1 && error.contains("Ignoring unsupported options: build"), "{error}");
    ensure!(error.contains("secret s_s: cannot read"), "{error}");
    let (code, error) = host.rnctl_fails(&["stack", "deploy", "-c", &good, " "])?;
    ensure!(code == 1 && error.contains("invalid stack name"), "{error}");
    write(dir.path(), "none", "x")?;
    let (code, error) = host.rnctl_fails(&["stack", "deploy", "-c", &good, "s"])?;
    ensure!(code == 1 && error.contains("this node is not a swarm manager"), "{error}");
    let config = host.rnctl(&["stack", "config", "-c", &good])?;
    ensure!(config.contains("image: x\n") && config.contains("context: ."), "{config}");
    Ok(())
}
