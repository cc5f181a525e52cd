//! Health checks: who is not healthy serves nobody, and is replaced.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use cluster_tests::{
    Cluster,
    http_load::{self, Clients, HttpLoad},
    probe, wait,
};

/// Every task of the service in `service ps`: state and error.
fn states(cluster: &Cluster, service: &str) -> Result<String> {
    let format = "{{.Name}} {{.DesiredState}}/{{.CurrentState}} {{.Error}}";
    cluster.manager().rnctl(&["service", "ps", "--no-trunc", "--format", format, service])
}

#[test]
fn a_task_serves_once_it_is_healthy_and_an_update_waits_for_that() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "caller", "--network", "app", "--constraint", "node.hostname==host1"])?;
    cluster.wait_running("caller", 1)?;
    let check = ["--health-cmd", "[ -e /tmp/ok ]", "--health-interval", "100ms", "--health-retries", "1000"];
    let mut args = vec!["--name", "web", "--network", "app", "--publish", "8080:80"];
    args.extend(["--constraint", "node.hostname==host2", "--update-monitor", "300ms"]);
    args.extend(check);
    cluster.service(&args)?;
    let web = wait::until("its container runs", wait::SHORT, || cluster.container(&cluster.hosts[1], "web"))?;
    let caller = cluster.container(manager, "caller")?;
    wait::until("it is starting", wait::SHORT, || {
        let now = states(&cluster, "web")?;
        ensure!(now.contains("Running/Starting"), "{now}");
        Ok(())
    })?;
    let found = |name: &str| manager.exec(&caller, &["nslookup", name]).map(|t| t.matches("Address").count());
    ensure!(found("tasks.web")? == 1, "only the server's address: nobody is found who is not healthy");
    let addr = SocketAddr::new(manager.v4(), 8080);
    ensure!(probe::get_from(&cluster.client.path(), addr, "/").is_err(), "nor served");
    let list = manager.rnctl(&["service", "ls", "--filter", "name=web", "--format", "{{.Replicas}}"])?;
    ensure!(list == "0/1", "nor counted: {list}");

    cluster.hosts[1].exec(&web, &["touch", "/tmp/ok"])?;
    cluster.wait_running("web", 1)?;
    probe::get_from(&cluster.client.path(), addr, "/")?;
    ensure!(found("tasks.web")? == 3, "the server's, and one of each family");

    // The new one is not healthy by itself: the update waits, and the old one, start-first, goes on.
    let before = cluster.running("web")?.0;
    manager.rnctl(&["service", "update", "-d", "--update-order", "start-first", "--force", "web"])?;
    let new = wait::until("the new one is there", wait::SHORT, || {
        let names = cluster.hosts[1].containers()?;
        let new = names.into_iter().find(|n| n.starts_with("web.") && *n != web);
        new.ok_or_else(|| anyhow::anyhow!("only the old one"))
    })?;
    wait::until("the new one is starting", wait::SHORT, || {
        ensure!(states(&cluster, "web")?.contains("Running/Starting"));
        Ok(())
    })?;
    ensure!(cluster.inspect("web", "{{.UpdateStatus.State}}")? == "updating");
    ensure!(cluster.running("web")?.0 == before);
    probe::get_from(&cluster.client.path(), addr, "/")?;
    cluster.hosts[1].exec(&new, &["touch", "/tmp/ok"])?;
    cluster.wait_update("web", "completed")?;
    ensure!(cluster.running("web")?.0 != before);

    // A daemon that restarts does not take its healthy tasks for new ones.
    let mut cluster = cluster;
    let load = HttpLoad::start(vec![Clients {
        ns: cluster.client.path(),
        targets: cluster.everywhere(8080),
        keep_alive: 4,
        think: Duration::from_millis(10),
        new_per_second: 50,
    }]);
    load.wait_for(100);
    cluster.hosts[1].stop(nix::sys::signal::Signal::SIGKILL)?;
    load.wait_for(200);
    cluster.hosts[1].start()?;
    load.wait_for(500);
    let report = load.stop()?;
    ensure!(report.failures.is_empty(), "{}", http_load::describe(&report.failures));
    Ok(())
}

#[test]
fn an_unhealthy_task_is_drained_killed_and_replaced() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let check = "wget -q -O /dev/null http://127.0.0.1/health";
    let mut args =
        vec!["--name", "web", "--replicas", "2", "--publish", "8080:80", "--env", "SICK=/tmp/sick"];
    args.extend(["--health-cmd", check, "--health-interval", "200ms", "--health-retries", "2"]);
    args.extend(["--restart-delay", "500ms"]);
    cluster.service(&args)?;
    cluster.wait_running("web", 2)?;
    cluster.wait_answers(8080)?;
    let load = HttpLoad::start(vec![Clients {
        ns: cluster.client.path(),
        targets: cluster.everywhere(8080),
        keep_alive: 8,
        think: Duration::from_millis(10),
        new_per_second: 100,
    }]);
    load.wait_for(100);
    let (before, _) = cluster.running("web")?;
    let (victim, node) = &before[0];
    cluster.host(node)?.exec(victim, &["touch", "/tmp/sick"])?;
    wait::until("the sick one is replaced", wait::LONG, || {
        let (now, list) = cluster.running("web")?;
        ensure!(now.len() == 2 && !now.contains(&before[0]), "{list}");
        Ok(())
    })?;
    load.wait_for(200);
    let report = load.stop()?;
    let list = states(&cluster, "web")?;
    ensure!(list.contains("unhealthy container") && list.contains("Failed"), "{list}");
    ensure!(list.contains("500"), "what the check said: {list}");
    // It was drained before it was stopped.
    ensure!(report.failures.is_empty(), "{}", http_load::describe(&report.failures));

    // One that never gets healthy fails, and an update to it pauses.
    let (code, text) = cluster.manager().rnctl_fails(&[
        "service",
        "update",
        "--health-cmd",
        "exit 7",
        "--update-monitor",
        "300ms",
        "web",
    ])?;
    ensure!(code == 1 && text.contains("paused") && text.contains("unhealthy container"), "{text}");
    Ok(())
}

#[test]
fn the_images_check_counts_unless_it_is_switched_off() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    cluster.import_as("sickweb:1", &["HEALTHCHECK --interval=100ms --retries=2 CMD exit 1"])?;
    let create = |name: &str, more: &[&str]| {
        let mut args = vec!["service", "create", "-d", "--name", name, "--restart-condition", "none"];
        args.extend_from_slice(more);
        args.extend(["sickweb:1", "/bin/rn-testd"]);
        manager.rnctl(&args)
    };
    create("image", &[])?;
    create("off", &["--no-healthcheck"])?;
    create("own", &["--health-cmd", "exit 0"])?;
    wait::until("the image's check fails its task", wait::SHORT, || {
        let list = states(&cluster, "image")?;
        ensure!(list.contains("unhealthy container"), "{list}");
        Ok(())
    })?;
    cluster.wait_running("off", 1)?;
    cluster.wait_running("own", 1)?;
    // A check that hangs is killed and counts as failed.
    create(
        "hangs",
        &["--health-cmd", "sleep 1000", "--health-timeout", "200ms", "--health-interval", "50ms"],
    )?;
    wait::until("a check that hangs fails", wait::SHORT, || {
        let list = states(&cluster, "hangs")?;
        ensure!(list.contains("exceeded its timeout"), "{list}");
        Ok(())
    })
}
