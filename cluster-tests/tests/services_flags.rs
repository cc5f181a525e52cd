//! What `service create` asks for is what a task gets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, image::IMAGE, probe, wait};

/// Runs a command in the running container of the service on the only host.
fn inside(cluster: &Cluster, service: &str, script: &str) -> Result<String> {
    let host = cluster.manager();
    let container = cluster.container(host, service)?;
    host.exec(&container, &["sh", "-c", script])
}

/// All tasks of the service: how often each state.
fn count(cluster: &Cluster, service: &str, state: &str) -> Result<(usize, String)> {
    let format = "{{.DesiredState}} {{.CurrentState}} {{.Error}}";
    let list = cluster.manager().rnctl(&["service", "ps", "--no-trunc", "--format", format, service])?;
    Ok((list.lines().filter(|l| l.split(' ').nth(1) == Some(state)).count(), list))
}

#[test]
fn the_container_is_as_asked_for() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    let dir = manager.dir().join("shared");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("greeting"), "hello\n")?;
    fs::write(dir.join("env"), "# a comment\nFROM_FILE=yes\nBOTH=file\n")?;
    let bind = format!("type=bind,source={},target=/shared,readonly", dir.display());
    let env_file = dir.join("env").display().to_string();
    cluster.service(&[
        "--name",
        "all",
        "--env",
        "PLAIN=1",
        "--env",
        "BOTH=flag",
        "--env-file",
        &env_file,
        "--mount",
        &bind,
        "--mount",
        "type=volume,source=data,target=/data",
        "--mount",
        "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=0700",
        "--read-only",
        "--user",
        "www",
        "--workdir",
        "/tmp",
        "--hostname",
        "box",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "NET_BIND_SERVICE",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=0",
        "--sysctl",
        "net.core.somaxconn=77",
        "--ulimit",
        "nofile=512:1024",
        "--host",
        "db:10.9.8.7",
        "--dns",
        "10.9.8.6",
        "--dns-search",
        "example.org",
        "--dns-option",
        "ndots:3",
        "--limit-memory",
        "64m",
        "--limit-cpu",
        "0.5",
        "--limit-pids",
        "50",
        "--container-label",
        "color=blue",
    ])?;
    cluster.wait_running("all", 1)?;
    let run = |script: &str| inside(&cluster, "all", script);
    ensure!(run("echo $PLAIN $FROM_FILE $BOTH")? == "1 yes flag");
    ensure!(run("cat /shared/greeting")? == "hello");
    ensure!(run("touch /shared/x 2>/dev/null || echo no")? == "no", "read-only bind");
    ensure!(run("touch /x 2>/dev/null || echo no")? == "no", "read-only root");
    ensure!(run("mount | grep ' /scratch '")?.contains("size=1024k"));
    ensure!(run("id -un; pwd; hostname")? == "www\n/tmp\nbox");
    // NET_BIND_SERVICE is bit 10.
    ensure!(
        run("grep CapBnd /proc/self/status")?.ends_with("0000000000000400"),
        "{}",
        run("grep Cap /proc/self/status")?
    );
    ensure!(run("cat /proc/sys/net/core/somaxconn")? == "77");
    ensure!(run("ulimit -Sn; ulimit -Hn")? == "512\n1024");
    ensure!(run("grep db /etc/hosts")?.starts_with("10.9.8.7"));
    let resolv = run("cat /etc/resolv.conf")?;
    ensure!(resolv.contains("search example.org") && resolv.contains("ndots:3"), "{resolv}");
    let container = cluster.container(manager, "all")?;
    let inspect = |template: &str| manager.rnctl(&["inspect", "--format", template, &container]);
    ensure!(inspect("{{.Config.Labels.color}}")? == "blue");
    let pid = inspect("{{.State.Pid}}")?;
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let read = |controller: &str, v1: &str, v2: &str| -> Result<String> {
        let line = cgroups
            .lines()
            .find(|l| l.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == controller)))
            .or_else(|| cgroups.lines().find(|l| l.starts_with("0::")))
            .context("no cgroup")?;
        let path = line.split(':').nth(2).unwrap_or_default();
        let files = [
            format!("/sys/fs/cgroup/{controller}{path}/{v1}"),
            format!("/sys/fs/cgroup{path}/{v2}"),
            format!("/sys/fs/cgroup/unified{path}/{v2}"),
        ];
        let found = files.iter().find_map(|f| fs::read_to_string(f).ok());
        Ok(found.with_context(|| format!("none of {files:?}"))?.trim().to_owned())
    };
    ensure!(read("memory", "memory.limit_in_bytes", "memory.max")? == "67108864");
    ensure!(read("pids", "pids.max", "pids.max")? == "50");
    Ok(())
}

#[test]
fn volumes_outlive_tasks_and_templates_name_them() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    cluster.service(&[
        "--name",
        "db",
        "--replicas",
        "2",
        "--update-monitor",
        "100ms",
        "--hostname",
        "{{.Service.Name}}-{{.Task.Slot}}-{{.Node.Hostname}}",
        "--env",
        "WHERE={{.Node.Hostname}}/{{.Node.Platform.OS}}",
        "--env",
        "WHO={{.Task.Name}}",
        "--mount",
        "type=volume,source=data-{{.Task.Slot}},target=/data",
    ])?;
    cluster.wait_running("db", 2)?;
    let on = |slot: u32, script: &str| -> Result<String> {
        let name = manager
            .containers()?
            .into_iter()
            .find(|n| n.starts_with(&format!("db.{slot}.")))
            .context("slot")?;
        manager.exec(&name, &["sh", "-c", script])
    };
    for slot in [1, 2] {
        ensure!(on(slot, "hostname")? == format!("db-{slot}-host1"));
        ensure!(on(slot, "echo $WHERE")? == "host1/linux");
        ensure!(on(slot, "echo $WHO")?.starts_with(&format!("db.{slot}.")));
        on(slot, &format!("echo {slot} > /data/mine"))?;
    }
    cluster.update(&["--force", "db"])?;
    for slot in [1, 2] {
        ensure!(on(slot, "cat /data/mine")? == slot.to_string(), "each slot has its own volume again");
    }
    let (_, text) = manager.rnctl_fails(&["service", "create", "--env", "X={{.Node.Nmae}}", IMAGE])?;
    ensure!(text.contains(".Node.Nmae") && text.contains(".Node.Hostname"), "{text}");
    let (_, text) = manager.rnctl_fails(&["service", "create", "--hostname", "{{.Task.Slot}}_x", IMAGE])?;
    ensure!(text.contains("invalid hostname"), "checked as it will be: {text}");
    Ok(())
}

#[test]
fn tasks_stop_as_asked_and_restart_as_their_policy_says() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    let shell = |name: &str, more: &[&str], script: &str| {
        let mut args = vec!["service", "create", "-d", "--name", name];
        args.extend_from_slice(more);
        args.extend([IMAGE, "sh", "-c", script]);
        manager.rnctl(&args)
    };
    // Policies.
    shell("never", &["--restart-condition", "none"], "exit 1")?;
    shell("done", &["--restart-condition", "on-failure", "--restart-delay", "50ms"], "exit 0")?;
    shell(
        "thrice",
        &["--restart-condition", "on-failure", "--restart-delay", "50ms", "--restart-max-attempts", "2"],
        "exit 4",
    )?;
    shell("always", &["--restart-delay", "50ms"], "exit 0")?;
    wait::until("each policy has run its course", wait::LONG, || {
        let (failed, list) = count(&cluster, "never", "Failed")?;
        ensure!(failed == 1 && list.lines().count() == 1, "never: {list}");
        ensure!(list.contains("task: non-zero exit (1)"), "{list}");
        let (complete, list) = count(&cluster, "done", "Complete")?;
        ensure!(complete == 1 && list.lines().count() == 1, "done: {list}");
        let (failed, list) = count(&cluster, "thrice", "Failed")?;
        ensure!(failed == 3 && list.lines().count() == 3, "a start and two restarts: {list}");
        // The history's default limit, the live one counted.
        let (complete, list) = count(&cluster, "always", "Complete")?;
        ensure!(complete >= 4 && list.lines().count() == 5, "always: {list}");
        Ok(())
    })?;
    manager.rnctl(&["service", "rm", "always"])?;

    // The stop signal, and the grace period of who ignores it.
    shell(
        "polite",
        &["--stop-signal", "USR1", "--restart-condition", "none"],
        "trap 'echo bye; exit 0' USR1; echo up; while true; do sleep 0.05; done",
    )?;
    shell(
        "deaf",
        &["--stop-grace-period", "300ms"],
        "trap '' TERM; echo up; while true; do sleep 0.05; done",
    )?;
    for name in ["polite", "deaf"] {
        wait::until(&format!("{name} is up"), wait::SHORT, || {
            let logs = manager.rnctl(&["service", "logs", name])?;
            ensure!(logs.contains("up"), "{logs}");
            Ok(())
        })?;
        manager.rnctl(&["service", "scale", "-d", &format!("{name}=0")])?;
    }
    wait::until("both have stopped", wait::SHORT, || {
        let left = manager.containers()?;
        ensure!(!left.iter().any(|n| n.starts_with("polite.") || n.starts_with("deaf.")), "{left:?}");
        Ok(())
    })
}

#[test]
fn what_is_to_run_once_is_waited_for_to_its_end() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    let job = |name: &'static str, script: &'static str| {
        let create = ["service", "create", "--name", name, "--replicas", "2", "--restart-condition", "none"];
        [&create[..], &[IMAGE, "sh", "-c", script]].concat()
    };
    let said = manager.rnctl(&job("good", "sleep 0.3; exit 0"))?;
    ensure!(said.contains("2/2: complete") && said.contains("2 of 2 tasks are complete"), "{said}");
    let (code, said) = manager.rnctl_fails(&job("bad", "sleep 0.3; exit 3"))?;
    ensure!(code == 1 && said.contains("task: non-zero exit (3)"), "{code} {said}");
    ensure!(said.contains("service bad") && said.contains("rnctl service logs bad"), "{said}");
    // Nothing more is to come of either.
    manager.rnctl(&["wait", "--converged", "--timeout", "20s"])?;
    Ok(())
}

#[test]
fn an_init_reaps_what_the_program_leaves() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    cluster.service(&["--name", "init", "--init"])?;
    cluster.wait_running("init", 1)?;
    let first = inside(&cluster, "init", "cat /proc/1/comm")?;
    ensure!(first.contains("init"), "the first process is {first}");
    inside(&cluster, "init", "(sleep 0.1 &) ; sleep 0.3")?;
    let zombies = inside(&cluster, "init", "cat /proc/[0-9]*/stat | grep ' Z ' || true")?;
    ensure!(zombies.is_empty(), "{zombies}");
    Ok(())
}

#[test]
fn round_robin_by_name_has_no_virtual_address() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&[
        "--name",
        "rr",
        "--network",
        "app",
        "--replicas",
        "2",
        "--endpoint-mode",
        "dnsrr",
        "--publish",
        "mode=host,target=80,published=9000",
    ])?;
    cluster.wait_running("rr", 2)?;
    ensure!(!cluster.inspect("rr", "{{json .Endpoint}}")?.contains("VirtualIPs"));
    let container = cluster.container(manager, "rr")?;
    let of = |name: &str| -> Result<Vec<String>> {
        let text = manager.exec(&container, &["nslookup", name])?;
        let mut addrs: Vec<String> = text
            .lines()
            .skip_while(|l| !l.starts_with("Name:"))
            .filter_map(|l| l.strip_prefix("Address").and_then(|r| r.split(": ").nth(1)).map(str::to_owned))
            .collect();
        addrs.sort();
        Ok(addrs)
    };
    let (name, tasks) = (of("rr")?, of("tasks.rr")?);
    ensure!(name.len() == 4 && name == tasks, "both families of both tasks: {name:?} {tasks:?}");
    for host in &cluster.hosts {
        probe::get_from(&cluster.client.path(), SocketAddr::new(host.v4(), 9000), "/")?;
    }
    // Live, to a virtual address and back.
    cluster.update(&["--endpoint-mode", "vip", "--update-monitor", "100ms", "rr"])?;
    let container = cluster.container(manager, "rr")?;
    wait::until("the name has its virtual addresses", wait::SHORT, || {
        let text = manager.exec(&container, &["nslookup", "rr"])?;
        ensure!(text.matches("Address").count() == 3, "the server's and two: {text}");
        Ok(())
    })?;
    let (_, text) = manager.rnctl_fails(&[
        "service",
        "update",
        "--endpoint-mode",
        "dnsrr",
        "--publish-add",
        "8080:80",
        "rr",
    ])?;
    ensure!(text.contains("dnsrr"), "{text}");
    Ok(())
}
