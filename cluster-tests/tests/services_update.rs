//! Services are changed while they run: every flag of `service update`, and what happens when an update fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, net::SocketAddr};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, image::IMAGE, probe, wait};

/// Running tasks: name with id.
fn tasks(cluster: &Cluster, service: &str) -> Result<BTreeSet<String>> {
    Ok(cluster.running(service)?.0.into_iter().map(|(name, _)| name).collect())
}

/// Runs a command in one running task of the service.
fn in_task(cluster: &Cluster, service: &str, args: &[&str]) -> Result<String> {
    let (running, detail) = cluster.running(service)?;
    ensure!(!running.is_empty(), "no task of {service} runs:\n{detail}");
    let (name, node) = &running[0];
    cluster.host(node)?.exec(name, args)
}

fn answers(cluster: &Cluster, host: &Host, port: u16) -> Result<String> {
    probe::get_from(&cluster.client.path(), SocketAddr::new(host.v4(), port), "/")
}

const QUICK: [&str; 4] = ["--update-monitor", "300ms", "--rollback-monitor", "300ms"];

#[test]
fn every_pair_of_flags_changes_what_it_names_and_nothing_else() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    for network in ["app", "back"] {
        manager.rnctl(&["network", "create", "-d", "overlay", network])?;
    }
    let mut args = vec!["--name", "web", "--replicas", "2", "--network", "app", "--publish", "8080:80"];
    args.extend(QUICK);
    cluster.service(&args)?;
    cluster.wait_running("web", 2)?;

    // Labels of the service concern no task.
    let before = tasks(&cluster, "web")?;
    let printed = cluster.update(&["--label-add", "tier=front", "--label-add", "gone=soon", "web"])?;
    ensure!(printed.starts_with("web\n") && printed.contains("converged"), "{printed}");
    cluster.update(&["--label-rm", "gone", "web"])?;
    ensure!(cluster.inspect("web", "{{json .Spec.Labels}}")? == r#"{"tier":"front"}"#);
    ensure!(tasks(&cluster, "web")? == before, "no task was replaced");
    ensure!(!cluster.inspect("web", "{{json .}}")?.contains("UpdateStatus"), "nothing was updated");

    // Nor does their number.
    cluster.update(&["--replicas", "3", "web"])?;
    ensure!(tasks(&cluster, "web")?.is_superset(&before), "the two that were there stay");
    cluster.update(&["--replicas", "2", "web"])?;
    cluster.wait_running("web", 2)?;

    // Environment, with the container's labels.
    let before = tasks(&cluster, "web")?;
    cluster.update(&["--env-add", "A=1", "--env-add", "B=2", "--container-label-add", "c=d", "web"])?;
    ensure!(tasks(&cluster, "web")?.is_disjoint(&before), "both were replaced");
    ensure!(in_task(&cluster, "web", &["sh", "-c", "echo $A$B"])? == "12");
    ensure!(cluster.inspect("web", "{{.UpdateStatus.State}}")? == "completed");
    ensure!(cluster.inspect("web", "{{.UpdateStatus.Message}}")? == "update completed");
    cluster.update(&["--env-rm", "A", "--env-add", "B=3", "--container-label-rm", "c", "web"])?;
    ensure!(in_task(&cluster, "web", &["sh", "-c", "echo $A$B"])? == "3");

    // A constraint moves only what is in the wrong place.
    let (running, detail) = cluster.running("web")?;
    let stays = running.iter().find(|(_, node)| node == "host1").unwrap_or_else(|| panic!("{detail}"));
    cluster.update(&["--constraint-add", "node.hostname==host1", "web"])?;
    let (now, detail) = cluster.running("web")?;
    ensure!(now.iter().all(|(_, node)| node == "host1") && now.contains(stays), "{detail}");
    cluster.update(&["--constraint-rm", "node.hostname==host1", "web"])?;
    ensure!(cluster.running("web")?.0 == now, "what is in a good place stays");

    // Ports of the mesh, live: no task is touched.
    cluster.update(&["--publish-add", "8081:80", "web"])?;
    cluster.wait_answers(8081)?;
    cluster.wait_answers(8080)?;
    cluster.update(&["--publish-rm", "8080:80", "web"])?;
    wait::until("8080 is closed", wait::SHORT, || {
        let open = answers(&cluster, manager, 8080);
        ensure!(open.is_err(), "it answers {open:?}");
        Ok(())
    })?;
    answers(&cluster, manager, 8081)?;
    ensure!(cluster.running("web")?.0 == now, "no task was replaced for a port");

    // Networks.
    cluster.update(&["--network-add", "name=back,alias=shop", "web"])?;
    ensure!(in_task(&cluster, "web", &["nslookup", "shop.back"])?.contains("Address"));
    ensure!(in_task(&cluster, "web", &["ls", "/sys/class/net"])?.contains("eth2"));
    cluster.update(&["--network-rm", "app", "web"])?;
    ensure!(!in_task(&cluster, "web", &["ls", "/sys/class/net"])?.contains("eth2"));
    answers(&cluster, manager, 8081)?;

    // Mounts, limits, arguments.
    cluster.update(&["--mount-add", "type=tmpfs,target=/scratch,tmpfs-size=1m", "web"])?;
    ensure!(in_task(&cluster, "web", &["mount"])?.contains(" /scratch type tmpfs"));
    cluster.update(&["--mount-rm", "/scratch", "--limit-memory", "64m", "--limit-pids", "40", "web"])?;
    ensure!(!in_task(&cluster, "web", &["mount"])?.contains(" /scratch "));
    ensure!(cluster.inspect("web", "{{.Spec.TaskTemplate.Resources.Limits.MemoryBytes}}")? == "67108864");
    let ports = ["--publish-rm", "8081:80", "--publish-add", "8082:81"];
    cluster.update(&[&["--args", "/bin/rn-testd 81"][..], &ports, &["web"]].concat())?;
    cluster.wait_answers(8082)?;

    // The image, and back again: twice is there and back.
    cluster.import_as("testweb:2", &[])?;
    cluster.update(&["--image", "testweb:2", "web"])?;
    let image = |cluster: &Cluster| cluster.inspect("web", "{{.Spec.TaskTemplate.ContainerSpec.Image}}");
    ensure!(image(&cluster)? == "testweb:2");
    cluster.update(&["--rollback", "web"])?;
    ensure!(image(&cluster)? == IMAGE);
    ensure!(cluster.inspect("web", "{{.UpdateStatus.State}}")? == "rollback_completed");
    manager.rnctl(&["service", "rollback", "-q", "web"])?;
    ensure!(image(&cluster)? == "testweb:2");
    let pretty = manager.rnctl(&["service", "inspect", "--pretty", "web"])?;
    for words in ["UpdateStatus:", "State:", "rollback_completed", "Message:", "rollback completed"] {
        ensure!(pretty.contains(words), "{words}: {pretty}");
    }

    // By force.
    let before = tasks(&cluster, "web")?;
    cluster.update(&["--force", "web"])?;
    ensure!(tasks(&cluster, "web")?.is_disjoint(&before), "all were replaced");
    let (code, text) = manager.rnctl_fails(&["service", "update", "--rollback", "--force", "web"])?;
    ensure!(code != 0 && text.contains("may not be combined"), "{text}");
    Ok(())
}

#[test]
fn a_failing_update_pauses_and_the_user_decides() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let mut args =
        vec!["--name", "web", "--replicas", "3", "--publish", "8080:80", "--restart-delay", "200ms"];
    // So that the first one has failed before the second one's turn.
    args.extend(["--update-delay", "1s"]);
    args.extend(QUICK);
    cluster.service(&args)?;
    cluster.wait_running("web", 3)?;
    cluster.wait_answers(8080)?;
    let before = tasks(&cluster, "web")?;
    let output = manager.try_rnctl(&["service", "update", "--env-add", "FAIL=0.1", "web"])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{:?} {text}", output.status);
    ensure!(
        text.contains("service update paused: update paused due to failure or early termination of task")
            && text.contains("non-zero exit (3)"),
        "{text}"
    );
    ensure!(cluster.inspect("web", "{{.UpdateStatus.State}}")? == "paused");
    ensure!(tasks(&cluster, "web")?.intersection(&before).count() == 2, "two go on serving");
    answers(&cluster, manager, 8080)?;

    // Said once more, it goes on, and fails once more.
    let (code, text) = manager.rnctl_fails(&["service", "update", "web"])?;
    ensure!(code == 1 && text.contains("service update paused"), "{text}");

    let printed = manager.rnctl(&["service", "rollback", "web"])?;
    ensure!(printed.contains("rolling back update: 3 out of 3 tasks"), "{printed}");
    cluster.wait_update("web", "rollback_completed")?;
    cluster.wait_running("web", 3)?;
    ensure!(tasks(&cluster, "web")?.intersection(&before).count() >= 1, "what was right is not touched");

    // A share of failures is borne: the update goes on, and the restarts too.
    manager.rnctl(&[
        "service",
        "update",
        "-d",
        "--update-max-failure-ratio",
        "1",
        "--env-add",
        "FAIL=0.1",
        "web",
    ])?;
    cluster.wait_update("web", "completed")?;
    Ok(())
}

#[test]
fn a_failing_update_rolls_itself_back() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let mut args =
        vec!["--name", "web", "--replicas", "3", "--publish", "8080:80", "--restart-delay", "200ms"];
    args.extend(["--update-failure-action", "rollback", "--update-order", "start-first"]);
    args.extend(["--update-delay", "1s"]);
    args.extend(["--rollback-parallelism", "0"]);
    args.extend(QUICK);
    cluster.service(&args)?;
    cluster.wait_running("web", 3)?;
    let before = tasks(&cluster, "web")?;
    // Docker's client ends well when a rollback has.
    let printed = cluster.update(&["--env-add", "FAIL=0.1", "--env-add", "X=y", "web"])?;
    ensure!(
        printed.contains("rollback: update rolled back due to failure or early termination of task"),
        "{printed}"
    );
    cluster.wait_update("web", "rollback_completed")?;
    cluster.wait_running("web", 3)?;
    ensure!(cluster.inspect("web", "{{json .Spec.TaskTemplate.ContainerSpec.Env}}")? == "null");
    ensure!(tasks(&cluster, "web")?.intersection(&before).count() >= 2, "start-first: the old ones went on");
    let (_, text) = manager.rnctl_fails(&["service", "rollback", "web"])?;
    ensure!(text.contains("does not have a previous spec"), "the failed spec is forgotten: {text}");
    Ok(())
}

#[test]
fn parallelism_delay_and_order_are_kept() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let mut args = vec!["--name", "web", "--replicas", "4", "--update-order", "start-first"];
    args.extend(["--update-parallelism", "2", "--update-delay", "1s"]);
    args.extend(QUICK);
    cluster.service(&args)?;
    cluster.wait_running("web", 4)?;
    let before = tasks(&cluster, "web")?;
    manager.rnctl(&["service", "update", "-d", "--force", "web"])?;
    let (mut fewest, mut most_new, mut paused_at_two) = (usize::MAX, 0, false);
    wait::until("the update is done", wait::LONG, || {
        // Told to run, whatever they do: old ones that serve, and new ones beside them.
        let (running, list) = cluster.running("web")?;
        let old = running.iter().filter(|(name, _)| before.contains(name)).count();
        let new_wanted = list.lines().filter(|l| l.split('|').nth(2) == Some("Running")).count() - old;
        fewest = fewest.min(running.len());
        if old > 0 {
            most_new = most_new.max(new_wanted);
        }
        paused_at_two |= running.len() == 4 && old == 2;
        ensure!(old == 0 && running.len() == 4, "{list}");
        Ok(())
    })?;
    ensure!(fewest == 4, "never fewer than four ran, start-first: {fewest}");
    ensure!(most_new <= 4 && paused_at_two, "two, a pause, two more");
    cluster.wait_update("web", "completed")?;
    Ok(())
}
