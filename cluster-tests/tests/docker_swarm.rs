//! Debian's `docker` client, as it is, on a swarm of ours.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{io::Read, process::Stdio};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, docker::CLIENT, image::IMAGE, wait};
use serde_json::Value;

/// What the client prints as JSON.
fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))
}

#[test]
fn a_swarm_is_made_looked_at_changed_and_left() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::daemons(3)?;
    let (one, two, three) = (&cluster.hosts[0], &cluster.hosts[1], &cluster.hosts[2]);
    one.docker_says(&["node", "ls"], 1, &["Error response from daemon: This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."])?;
    one.docker_says(
        &["swarm", "leave"],
        1,
        &["Error response from daemon: This node is not part of a swarm"],
    )?;
    let said = one.docker(&["swarm", "init", "--advertise-addr", &one.v4().to_string()])?;
    ensure!(
        said.starts_with("Swarm initialized: current node (")
            && said.contains("docker swarm join --token SWMTKN-1-"),
        "{said}"
    );
    one.docker_says(&["swarm", "init"], 1, &["This node is already part of a swarm"])?;

    let token = one.docker(&["swarm", "join-token", "-q", "worker"])?;
    ensure!(said.contains(&token), "{token}");
    let manager = format!("{}:2377", one.v4());
    two.docker_says(
        &["swarm", "join", "--token", "SWMTKN-1-x", &manager],
        1,
        &["Error response from daemon", "token"],
    )?;
    let joined = two.docker(&[
        "swarm",
        "join",
        "--token",
        &token,
        "--advertise-addr",
        &two.v4().to_string(),
        &manager,
    ])?;
    ensure!(joined == "This node joined a swarm as a worker.", "{joined}");
    two.docker_says(
        &["node", "ls"],
        1,
        &["This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."],
    )?;
    let again = one.docker(&["swarm", "join-token", "--rotate", "-q", "worker"])?;
    ensure!(again != token && again.starts_with("SWMTKN-1-"), "{again}");
    three.docker_says(&["swarm", "join", "--token", &token, &manager], 1, &["token"])?;
    three.docker(&[
        "swarm",
        "join",
        "--token",
        &again,
        "--advertise-addr",
        &three.v4().to_string(),
        &manager,
    ])?;

    wait::until("three nodes are ready", wait::LONG, || {
        let list = one.docker(&[
            "node",
            "ls",
            "--format",
            "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}} {{.TLSStatus}}",
        ])?;
        for line in [
            "host1 Ready Active Leader true Ready",
            "host2 Ready Active  false Ready",
            "host3 Ready Active  false Ready",
        ] {
            ensure!(list.lines().any(|l| l == line), "{list}");
        }
        Ok(())
    })?;
    let info = one.docker(&["info"])?;
    for line in [
        "Swarm: active",
        "Is Manager: true",
        "Managers: 1",
        "Nodes: 3",
        "Data Path Port: 4789",
        "Task History Retention Limit: 5",
        "Node Address: 10.77.",
    ] {
        ensure!(info.contains(line), "info lacks {line:?}: {info}");
    }
    let version = one.docker(&[
        "version",
        "--format",
        "{{.Server.Version}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}",
    ])?;
    ensure!(version.ends_with(" 1.24 linux"), "{version}");

    // Nodes.
    let own = json(&one.docker(&["node", "inspect", "self"])?)?;
    ensure!(
        own[0]["Description"]["Hostname"] == "host1" && own[0]["ManagerStatus"]["Leader"] == true,
        "{own:#}"
    );
    let pretty = one.docker(&["node", "inspect", "--pretty", "host2"])?;
    ensure!(
        pretty.contains("Hostname:") && pretty.contains("host2") && pretty.contains("Availability:"),
        "{pretty}"
    );
    ensure!(
        one.docker(&["node", "update", "--availability", "drain", "--label-add", "zone=a", "host2"])?
            == "host2"
    );
    let two_now = json(&one.docker(&["node", "inspect", "host2"])?)?;
    ensure!(
        two_now[0]["Spec"]["Availability"] == "drain" && two_now[0]["Spec"]["Labels"]["zone"] == "a",
        "{two_now:#}"
    );
    ensure!(
        one.docker(&["node", "ls", "--filter", "node.label=zone=a", "--format", "{{.Hostname}}"])? == "host2"
    );
    ensure!(one.docker(&["node", "ls", "--filter", "role=manager", "--format", "{{.Hostname}}"])? == "host1");
    one.docker(&["node", "promote", "host3"])?;
    wait::until("host3 is a manager", wait::LONG, || {
        let status =
            one.docker(&["node", "ls", "--filter", "name=host3", "--format", "{{.ManagerStatus}}"])?;
        ensure!(status == "Reachable", "{status}");
        Ok(())
    })?;
    // A manager that does not lead answers too.
    wait::until("host3 answers", wait::LONG, || {
        ensure!(three.docker(&["node", "ls", "-q"])?.lines().count() == 3);
        Ok(())
    })?;
    one.docker(&["node", "demote", "host3"])?;
    wait::until("host3 is none any more", wait::LONG, || {
        ensure!(one.docker(&["node", "inspect", "--format", "{{.ManagerStatus}}", "host3"])? == "<nil>");
        Ok(())
    })?;
    one.docker_says(&["node", "rm", "host3"], 1, &["Error response from daemon", "is not down"])?;
    one.docker_says(&["node", "inspect", "nosuch"], 1, &["nosuch"])?;

    // Settings.
    let said =
        one.docker(&["swarm", "update", "--task-history-limit", "3", "--dispatcher-heartbeat", "7s"])?;
    ensure!(said == "Swarm updated.", "{said}");
    let info = json(&one.docker(&["info", "--format", "{{json .Swarm.Cluster.Spec}}"])?)?;
    ensure!(
        info["Orchestration"]["TaskHistoryRetentionLimit"] == 3
            && info["Dispatcher"]["HeartbeatPeriod"] == 7_000_000_000_i64,
        "{info:#}"
    );
    let said = one.docker(&["swarm", "update", "--autolock"])?;
    ensure!(said.contains("SWMKEY-1-"), "{said}");
    let key = one.docker(&["swarm", "unlock-key", "-q"])?;
    ensure!(said.contains(&key), "{key}");
    one.docker(&["swarm", "update", "--autolock=false"])?;
    ensure!(one.docker(&["swarm", "ca"])?.starts_with("-----BEGIN CERTIFICATE-----"));

    // Leaving.
    ensure!(two.docker(&["swarm", "leave"])? == "Node left the swarm.");
    wait::until("host2 is down", wait::LONG, || {
        ensure!(one.docker(&["node", "ls", "--filter", "name=host2", "--format", "{{.Status}}"])? == "Down");
        Ok(())
    })?;
    ensure!(one.docker(&["node", "rm", "host2"])? == "host2");
    one.docker_says(
        &["swarm", "leave"],
        1,
        &["You are attempting to leave the swarm on a node that is participating as a manager"],
    )?;
    one.docker(&["swarm", "leave", "--force"])?;
    ensure!(one.docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"])? == "inactive");
    Ok(())
}

#[test]
fn networks_are_made_looked_at_and_removed() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let id = host.docker(&[
        "network",
        "create",
        "-d",
        "overlay",
        "--attachable",
        "--subnet",
        "10.9.0.0/24",
        "--gateway",
        "10.9.0.1",
        "--label",
        "a=b",
        "app",
    ])?;
    ensure!(id.len() == 25, "{id}");
    let list = host.docker(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"])?;
    for line in ["app overlay swarm", "ingress overlay swarm", "host host local", "none null local"] {
        ensure!(list.lines().any(|l| l == line), "{list}");
    }
    ensure!(
        host.docker(&[
            "network",
            "ls",
            "--filter",
            "label=a=b",
            "--filter",
            "driver=overlay",
            "-q",
            "--no-trunc"
        ])? == id
    );
    let shown = &json(&host.docker(&["network", "inspect", "app"])?)?[0];
    ensure!(
        shown["Id"] == id.as_str()
            && shown["Attachable"] == true
            && shown["Labels"]["a"] == "b"
            && shown["Scope"] == "swarm",
        "{shown:#}"
    );
    ensure!(shown["IPAM"]["Config"][0]["Subnet"] == "10.9.0.0/24", "{shown:#}");
    host.docker_says(
        &["network", "create", "-d", "overlay", "app"],
        1,
        &["Error response from daemon", "network with name app already exists"],
    )?;
    host.docker_says(
        &["network", "create", "-d", "overlay", "--opt", "encrypted", "sec"],
        1,
        &["encrypted overlays are not available"],
    )?;
    host.docker_says(
        &["network", "create", "br"],
        1,
        &["\"bridge\" are not available in this version of rn"],
    )?;
    host.docker_says(&["network", "create", "-d", "weave", "w"], 1, &["plugin not found"])?;
    host.docker_says(
        &["network", "rm", "host"],
        1,
        &["host is a pre-defined network and cannot be removed"],
    )?;
    host.docker_says(&["network", "inspect", "nosuch"], 1, &["nosuch"])?;

    host.docker(&["service", "create", "-d", "--name", "web", "--network", "app", IMAGE, "/bin/rn-testd"])?;
    cluster.wait_running("web", 1)?;
    let verbose = &json(&host.docker(&["network", "inspect", "-v", "app"])?)?[0];
    ensure!(
        verbose["Services"]["web"]["Tasks"][0]["EndpointIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.9.0.")),
        "{verbose:#}"
    );
    ensure!(
        verbose["Containers"].as_object().is_some_and(|c| c.len() == 1)
            && verbose["Peers"].as_array().is_some_and(|p| p.len() == 1),
        "{verbose:#}"
    );
    let vip =
        host.docker(&["service", "inspect", "--format", "{{(index .Endpoint.VirtualIPs 0).Addr}}", "web"])?;
    ensure!(vip.starts_with("10.9.0.") && vip.ends_with("/24"), "{vip}");
    host.docker_says(&["network", "rm", "app"], 1, &["in use by service web"])?;
    host.docker(&["network", "create", "-d", "overlay", "idle"])?;
    let pruned = host.docker(&["network", "prune", "-f"])?;
    ensure!(pruned.contains("idle") && !pruned.contains("app"), "{pruned}");
    host.docker(&["service", "rm", "web"])?;
    ensure!(host.docker(&["network", "rm", "app"])? == "app");
    Ok(())
}

#[test]
fn services_converge_before_ones_eyes_and_answer() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(2)?;
    let host = cluster.manager();
    let said = host.docker(&[
        "service",
        "create",
        "--name",
        "web",
        "--replicas",
        "2",
        "-p",
        "8080:80",
        "--env",
        "A=1",
        "--label",
        "l=v",
        "--limit-memory",
        "64m",
        "--mount",
        "type=tmpfs,dst=/scratch",
        "--update-delay",
        "0s",
        "--restart-delay",
        "1s",
        "--stop-grace-period",
        "1s",
        IMAGE,
        "/bin/rn-testd",
    ])?;
    ensure!(said.contains("verify: Service ") && said.contains("converged"), "{said}");
    cluster.wait_answers(8080)?;
    let list = host.docker(&["service", "ls"])?;
    ensure!(list.contains("replicated") && list.contains("2/2") && list.contains("*:8080->80/tcp"), "{list}");
    let tasks = host.docker(&[
        "service",
        "ps",
        "web",
        "--format",
        "{{.Name}} {{.Node}} {{.DesiredState}} {{.CurrentState}}",
    ])?;
    ensure!(tasks.lines().count() == 2 && tasks.lines().all(|l| l.contains(" Running Running ")), "{tasks}");
    let shown = &json(&host.docker(&["service", "inspect", "web"])?)?[0];
    ensure!(
        shown["Endpoint"]["Ports"][0]["PublishedPort"] == 8080 && shown["Spec"]["Labels"]["l"] == "v",
        "{shown:#}"
    );
    let pretty = host.docker(&["service", "inspect", "--pretty", "web"])?;
    ensure!(
        pretty.contains("Replicas:") && pretty.contains("UpdateConfig:") && pretty.contains("Parallelism:"),
        "{pretty}"
    );
    let task = host.docker(&["service", "ps", "-q", "--no-trunc", "web"])?;
    let task = task.lines().next().context("no task")?;
    let inspected = &json(&host.docker(&["inspect", "--type", "task", task])?)?[0];
    ensure!(inspected["NetworksAttachments"][0]["Network"]["Spec"]["Name"] == "ingress", "{inspected:#}");

    let scaled = host.docker(&["service", "scale", "web=3"])?;
    ensure!(scaled.contains("web scaled to 3") && scaled.contains("converged"), "{scaled}");
    let updated = host.docker(&["service", "update", "--env-add", "B=2", "web"])?;
    ensure!(updated.contains("converged"), "{updated}");
    let env = host.docker(&[
        "service",
        "inspect",
        "--format",
        "{{.Spec.TaskTemplate.ContainerSpec.Env}} {{.UpdateStatus.State}}",
        "web",
    ])?;
    // Older clients put the variables in no order.
    ensure!(env.contains("A=1") && env.contains("B=2") && env.ends_with("] completed"), "{env}");
    let back = host.docker(&["service", "rollback", "web"])?;
    ensure!(back.contains("converged"), "{back}");
    let env =
        host.docker(&["service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "web"])?;
    ensure!(env == "[A=1]", "{env}");

    let logs = host.docker(&["service", "logs", "web"])?;
    ensure!(
        logs.lines().any(|l| l.starts_with("web.1.") && l.contains("@host") && l.contains("serves port 80")),
        "{logs}"
    );
    let raw = host.docker(&["service", "logs", "--raw", "--timestamps", "--tail", "1", task])?;
    // The update has replaced it since: its log is there all the same.
    ensure!(raw.starts_with("20") && raw.lines().count() == 1, "{raw}");
    let mut follow =
        host.docker_command(&["service", "logs", "-f", "--raw", "web"]).stdout(Stdio::piped()).spawn()?;
    let mut first = [0; 8];
    follow.stdout.as_mut().context("no output")?.read_exact(&mut first)?;
    follow.kill()?;
    follow.wait()?;

    // Refusals.
    host.docker_says(
        &["service", "create", "--name", "web", IMAGE],
        1,
        &["Error response from daemon", "service web already exists"],
    )?;
    host.docker_says(&["service", "create", "-p", "8080:80", IMAGE], 1, &["port '8080' is already in use"])
        .or_else(|_| host.docker_says(&["service", "create", "-p", "8080:80", IMAGE], 1, &["8080"]))?;
    host.docker_says(&["service", "inspect", "nosuch"], 1, &["no such service: nosuch"])?;
    host.docker_says(&["service", "logs", "nosuch"], 1, &["no such task or service: nosuch"])?;
    host.docker_says(
        &["service", "create", "--mode", "replicated-job", IMAGE],
        1,
        &["jobs are not available"],
    )?;
    // A version before the last change of the spec.
    let spec = host.docker(&["service", "inspect", "--format", "{{json .Spec}}", "web"])?;
    let stale = host.http_json("POST", "/services/web/update?version=1", &spec)?;
    ensure!(stale.message()?.contains("update out of sequence"), "{stale:?}");
    ensure!(host.http_json("POST", "/services/web/update", &spec)?.status == 400, "a version is needed");

    ensure!(host.docker(&["service", "rm", "web"])? == "web");
    host.docker_says(&["service", "ps", "web"], 1, &["no such service: web"])?;
    wait::until("all that happened is told", wait::SHORT, || {
        let events = host.docker(&[
            "events",
            "--since",
            "0",
            "--until",
            "0s",
            "--filter",
            "type=service",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ])?;
        for line in ["create web", "update web", "remove web"] {
            ensure!(events.lines().any(|l| l == line), "{events}");
        }
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_global_service_waits_for_nodes_that_fit_and_says_why() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::with_image(2)?;
    let host = cluster.manager();
    let said = host.docker(&[
        "service",
        "create",
        "--mode",
        "global",
        "--name",
        "each",
        "--network",
        "host",
        "--no-resolve-image",
        IMAGE,
        "sleep",
        "1000",
    ])?;
    ensure!(said.contains("converged"), "{said}");
    ensure!(host.docker(&["node", "ps", "self", "--format", "{{.Name}}"])?.starts_with("each."));
    host.docker(&[
        "service",
        "create",
        "-d",
        "--name",
        "nowhere",
        "--constraint",
        "node.labels.zone==mars",
        "--no-resolve-image",
        IMAGE,
    ])?;
    wait::until("the reason is shown", wait::LONG, || {
        let error = host.docker(&["service", "ps", "--no-trunc", "--format", "{{.Error}}", "nowhere"])?;
        ensure!(error.contains("no suitable node"), "{error}");
        Ok(())
    })?;
    Ok(())
}
