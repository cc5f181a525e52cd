//! Services and nodes as objects: made, found, filtered, scaled, their output read.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, image::IMAGE, wait};

#[test]
fn services_are_made_shown_and_removed_again_and_again() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    ensure!(manager.rnctl(&["service", "ls", "-q"])?.is_empty());
    // Neither the name nor the port is held by what is gone.
    for n in 0..10 {
        let id = cluster.service(&["--name", "web", "--publish", "8080:80"])?;
        ensure!(id.len() == 25, "{id}");
        manager
            .says(&["service", "create", "-d", "--name", "web", IMAGE], &["service web already exists"])?;
        // DNS would not tell the two apart.
        let upper = ["service", "create", "-d", "--name", "WEB", IMAGE];
        manager.says(&upper, &["service web already exists", "more than case"])?;
        manager.says(
            &["service", "create", "-d", "--name", "other", "--publish", "8080:81", IMAGE],
            &["port 8080/tcp is already in use by service \"web\""],
        )?;
        if n % 3 == 0 {
            cluster.wait_running("web", 1)?;
            cluster.wait_answers(8080)?;
        }
        let shown = manager.rnctl(&["service", "inspect", "--format", "{{.ID}} {{.Spec.Name}}", "web"])?;
        ensure!(shown == format!("{id} web"), "{shown}");
        ensure!(manager.rnctl(&["service", "rm", "web"])? == "web");
        manager.says(&["service", "inspect", "web"], &["web"])?;
    }
    ensure!(manager.rnctl(&["service", "ls", "-q"])?.is_empty());
    Ok(())
}

/// Names and ids are matched by their beginning, as Docker's filters do.
#[test]
fn filters_find_what_they_name() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let web = cluster.service(&["--name", "web", "--replicas", "2", "--label", "tier=front"])?;
    cluster.service(&["--name", "web-admin", "--label", "tier=back"])?;
    cluster.service(&["--name", "agent", "--mode", "global"])?;
    for (service, n) in [("web", 2), ("web-admin", 1), ("agent", 2)] {
        cluster.wait_running(service, n)?;
    }
    let ask = |what: &[&str], filters: &[&str], format: &str| -> Result<BTreeSet<String>> {
        let mut args = what.to_vec();
        filters.iter().for_each(|f| args.extend(["--filter", f]));
        args.extend(["--format", format]);
        Ok(manager.rnctl(&args)?.lines().map(|l| l.trim().to_owned()).collect())
    };
    let (ls, name) = (["service", "ls"], "{{.Name}}");
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    for (filters, want) in [
        (&["name=web"][..], &["web", "web-admin"][..]),
        (&["name=eb"], &[]),
        (&["name=web", "name=agent"], &["web", "web-admin", "agent"]),
        (&["label=tier"], &["web", "web-admin"]),
        (&["label=tier=front"], &["web"]),
        (&["mode=global"], &["agent"]),
        (&["mode=replicated", "label=tier=back"], &["web-admin"]),
    ] {
        ensure!(
            ask(&ls, filters, name)? == set(want),
            "service ls {filters:?}: {:?}",
            ask(&ls, filters, name)?
        );
    }
    ensure!(ask(&ls, &[&format!("id={}", &web[..8])], name)? == set(&["web"]));
    manager.says(&["service", "ls", "--filter", "colour=red"], &["invalid filter", "colour"])?;

    let nodes = |filters: &[&str]| ask(&["node", "ls"], filters, "{{.Hostname}}");
    ensure!(nodes(&["name=host2"])? == set(&["host2"]) && nodes(&["name=host"])? == set(&["host1", "host2"]));
    ensure!(nodes(&["role=manager"])? == set(&["host1"]) && nodes(&["role=worker"])? == set(&["host2"]));
    ensure!(nodes(&["membership=accepted"])?.len() == 2 && nodes(&["membership=pending"])?.is_empty());

    let tasks = |filters: &[&str]| ask(&["service", "ps", "web"], filters, "{{.Name}}");
    ensure!(tasks(&[])? == set(&["web.1", "web.2"]));
    ensure!(tasks(&["name=web.1"])? == set(&["web.1"]));
    let on = |node: &str| Ok::<_, anyhow::Error>(tasks(&[&format!("node={node}")])?.len());
    ensure!(on("host1")? + on("host2")? == 2 && on("host1")? == 1, "one on each");
    ensure!(tasks(&["desired-state=running"])?.len() == 2 && tasks(&["desired-state=shutdown"])?.is_empty());
    let there = ask(&["node", "ps", "host2"], &["name=web."], "{{.Name}}")?;
    ensure!(there.len() == 1 && there.iter().all(|n| n.starts_with("web.")), "{there:?}");
    Ok(())
}

#[test]
fn scaling_takes_replicated_services_and_whole_numbers() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    cluster.service(&["--name", "web"])?;
    cluster.service(&["--name", "api"])?;
    cluster.service(&["--name", "agent", "--mode", "global"])?;
    let said = manager.rnctl(&["service", "scale", "-d", "web=3", "api=2"])?;
    ensure!(said == "web scaled to 3\napi scaled to 2", "{said}");
    cluster.wait_running("web", 3)?;
    cluster.wait_running("api", 2)?;
    manager.says(&["service", "scale", "agent=2"], &["agent", "scale can only be used with replicated"])?;
    for bad in ["web=x", "web=-1", "web=1.5", "web", "=3"] {
        let (_, text) = manager.rnctl_fails(&["service", "scale", bad])?;
        ensure!(text.contains(bad) || text.contains("nvalid"), "{bad}: {text}");
    }
    // One that is not there does not keep the others from being scaled.
    manager.says(&["service", "scale", "-d", "nosuch=1", "web=1"], &["nosuch"])?;
    cluster.wait_running("web", 1)?;
    manager.rnctl(&["service", "scale", "-d", "web=0"])?;
    cluster.wait_running("web", 0)
}

#[test]
fn logs_are_whole_and_can_be_cut_to_size() -> Result<()> {
    const LINES: usize = 2000;
    let cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let script =
        format!("for n in $(seq {LINES}); do echo line $n; echo to err $n >&2; done; exec sleep 1000");
    let create = ["service", "create", "-d", "--name", "says", "--replicas", "2", IMAGE, "sh", "-c", &script];
    manager.rnctl(&create)?;
    cluster.wait_running("says", 2)?;
    wait::until("both streams of both tasks are whole", wait::LONG, || {
        let logs = manager.rnctl_command(&["service", "logs", "--raw", "says"])?.output()?;
        let count = |bytes: &[u8], word: &str| String::from_utf8_lossy(bytes).matches(word).count();
        let (out, err) = (count(&logs.stdout, "line "), count(&logs.stderr, "to err "));
        ensure!((out, err) == (2 * LINES, 2 * LINES), "{out} {err}");
        Ok(())
    })?;
    let tasks = manager.rnctl(&["service", "ps", "-q", "--no-trunc", "says"])?;
    let task = tasks.lines().next().unwrap();
    let lines = |args: &[&str]| -> Result<Vec<String>> {
        let mut all = vec!["service", "logs"];
        all.extend_from_slice(args);
        let output = manager.rnctl_command(&all)?.output()?;
        ensure!(output.status.success(), "{all:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    };
    let of_task = lines(&["--raw", task])?;
    let want: Vec<String> = (1..=LINES).map(|n| format!("line {n}")).collect();
    ensure!(of_task == want, "one task's lines, in order: {} of them", of_task.len());
    // Of both streams together.
    let tail = manager.rnctl_command(&["service", "logs", "--raw", "--tail", "6", task])?.output()?;
    let tail = [tail.stdout, tail.stderr].concat();
    let tail = String::from_utf8_lossy(&tail);
    ensure!(tail.lines().count() == 6 && tail.contains(&LINES.to_string()), "{tail:?}");
    ensure!(
        lines(&["--since", "1h", "says"])?.len() == 2 * LINES
            && lines(&["--since", "0s", "says"])?.is_empty()
    );
    let stamped = lines(&["--timestamps", "--tail", "4", "says"])?;
    ensure!(
        stamped.iter().all(|l| l.contains("T") && l.contains("says.") && l.contains("@host")),
        "{stamped:?}"
    );

    // Following goes on to lines that come later.
    let later = [
        "service",
        "create",
        "-d",
        "--name",
        "later",
        IMAGE,
        "sh",
        "-c",
        "sleep 1; echo now; exec sleep 1000",
    ];
    manager.rnctl(&later)?;
    cluster.wait_running("later", 1)?;
    let mut following = manager.rnctl_command(&["service", "logs", "-f", "--raw", "later"])?;
    let mut following = following.stdout(std::process::Stdio::piped()).spawn()?;
    let mut first = String::new();
    let read = std::io::BufRead::read_line(
        &mut std::io::BufReader::new(following.stdout.take().unwrap()),
        &mut first,
    );
    following.kill()?;
    following.wait()?;
    ensure!(read? > 0 && first == "now\n", "{first:?}");
    Ok(())
}
