//! Secrets and configs by Debian's `docker` client, as it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, docker::CLIENT, image::IMAGE, wait};
use serde_json::Value;

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))
}

#[test]
fn secrets_and_configs_are_made_used_changed_and_removed() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(2)?;
    let (host, worker) = (&cluster.hosts[0], &cluster.hosts[1]);
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("key"), "hush\n")?;
    fs::write(path("conf"), "hello {{.Service.Name}}\n")?;

    let secret = host.docker(&["secret", "create", "-l", "tier=front", "key", &path("key")])?;
    let config = host.docker(&[
        "config",
        "create",
        "--template-driver",
        "golang",
        "-l",
        "tier=front",
        "app.conf",
        &path("conf"),
    ])?;
    ensure!(secret.len() == 25 && config.len() == 25, "{secret} {config}");
    ensure!(host.docker(&["secret", "ls", "--format", "{{.ID}} {{.Name}}"])? == format!("{secret} key"));
    ensure!(host.docker(&["config", "ls", "-q", "--filter", "name=app"])? == config);
    ensure!(host.docker(&["config", "ls", "-q", "--filter", "label=tier=back"])?.is_empty());
    let shown = &json(&host.docker(&["secret", "inspect", "key"])?)?[0];
    ensure!(
        shown["ID"] == secret.as_str()
            && shown["Spec"] == serde_json::json!({"Name": "key", "Labels": {"tier": "front"}}),
        "{shown:#}"
    );
    let shown = &json(&host.docker(&["config", "inspect", "app.conf"])?)?[0];
    ensure!(
        shown["Spec"]["Data"] == "aGVsbG8ge3suU2VydmljZS5OYW1lfX0K"
            && shown["Spec"]["Templating"]["Name"] == "golang",
        "{shown:#}"
    );
    let pretty = host.docker(&["config", "inspect", "--pretty", "app.conf"])?;
    ensure!(pretty.contains("hello {{.Service.Name}}"), "{pretty}");

    let error = "Error response from daemon";
    host.docker_says(&["secret", "create", "key", &path("key")], 1, &[error, "secret key already exists"])?;
    // The client itself refuses empty files.
    let empty = host.http_json("POST", "/secrets/create", r#"{"Name":"none","Data":""}"#)?;
    ensure!(
        empty.status == 400
            && empty.message()?.contains("secret data must be larger than 0 and less than 512000 bytes"),
        "{empty:?}"
    );
    host.docker_says(&["config", "create", "a b", &path("key")], 1, &[error, "invalid name"])?;
    host.docker_says(&["secret", "create", "-d", "vault", "v"], 1, &["\"vault\" is a plugin"])?;
    host.docker_says(&["secret", "inspect", "nosuch"], 1, &["nosuch"])?;
    host.docker_says(&["config", "rm", "nosuch"], 1, &["nosuch"])?;
    worker.docker_says(&["secret", "ls"], 1, &["This node is not a swarm manager"])?;

    host.docker(&[
        "service",
        "create",
        "--name",
        "web",
        "--secret",
        "source=key,uid=33,mode=0440",
        "--config",
        "source=app.conf,target=/etc/app.conf",
        "--constraint",
        "node.hostname==host2",
        "--no-resolve-image",
        IMAGE,
        "sleep",
        "1000",
    ])?;
    let container = cluster.container(worker, "web")?;
    let read = |path: &str| worker.docker(&["exec", &container, "cat", path]);
    ensure!(read("/run/secrets/key")? == "hush" && read("/etc/app.conf")? == "hello web");
    host.docker_says(
        &["secret", "rm", "key"],
        1,
        &[error, "secret 'key' is in use by the following service: web"],
    )?;
    host.docker_says(
        &["config", "rm", "app.conf"],
        1,
        &[error, "config 'app.conf' is in use by the following service: web"],
    )?;

    // What the command has no words for: labels change, content does not.
    let version = host.docker(&["secret", "inspect", "--format", "{{.Version.Index}}", "key"])?;
    let relabelled = r#"{"Name":"key","Labels":{"tier":"back"}}"#;
    let update =
        |query: &str, body: &str| host.http_json("POST", &format!("/secrets/{secret}/update{query}"), body);
    ensure!(update("", relabelled)?.status == 400);
    ensure!(update("?version=1", relabelled)?.message()?.contains("update out of sequence"));
    let other = update(&format!("?version={version}"), r#"{"Name":"key","Labels":{},"Data":"YQ=="}"#)?;
    ensure!(
        other.status == 400 && other.message()?.contains("only updates to Labels are allowed"),
        "{other:?}"
    );
    ensure!(update(&format!("?version={version}"), relabelled)?.status == 200);
    ensure!(host.docker(&["secret", "ls", "-q", "--filter", "label=tier=back"])? == secret);

    host.docker(&["service", "rm", "web"])?;
    ensure!(host.docker(&["secret", "rm", "key"])? == "key");
    ensure!(host.docker(&["config", "rm", &config])? == config);
    wait::until("all that happened is told", wait::SHORT, || {
        let events = host.docker(&[
            "events",
            "--since",
            "0",
            "--until",
            "0s",
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
        ])?;
        for line in ["secret create key", "secret update key", "secret remove key", "config remove app.conf"]
        {
            ensure!(events.lines().any(|l| l == line), "{events}");
        }
        Ok(())
    })
}
