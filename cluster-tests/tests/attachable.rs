//! Containers that users run by hand, on attachable networks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster, Host,
    image::{self, IMAGE},
    wait,
};
use nix::sys::signal::Signal;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

fn inspect(host: &Host, container: &str, template: &str) -> Result<String> {
    host.rnctl(&["container", "inspect", "--format", template, container])
}

fn running(host: &Host, container: &str) -> Result<bool> {
    Ok(inspect(host, container, "{{.State.Running}}")? == "true")
}

fn networks(host: &Host) -> Result<Vec<String>> {
    let list = host.rnctl(&["network", "ls", "--format", "{{.Name}}"])?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// An attachable network, and a container on it on each of `on`, named `c1`, `c2`, ….
fn attached(n: usize, on: &[usize]) -> Result<Cluster> {
    let cluster = Cluster::with_image(n)?;
    cluster.manager().rnctl(&["network", "create", "-d", "overlay", "--attachable", "ovnet"])?;
    for (k, host) in on.iter().enumerate() {
        let name = format!("c{}", k + 1);
        cluster.hosts[*host].rnctl(&[
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            "ovnet",
            IMAGE,
            "sleep",
            "600",
        ])?;
    }
    Ok(cluster)
}

fn resolves(host: &Host, container: &str, name: &str) -> Result<()> {
    wait::until(&format!("{container} finds {name}"), LIMIT, || {
        host.exec(container, &["ping", "-c", "1", "-W", "1", name]).map(drop)
    })
}

#[test]
fn a_container_attaches_to_an_attachable_network() -> Result<()> {
    let cluster = attached(2, &[])?;
    let [one, two] = [&cluster.hosts[0], &cluster.hosts[1]];
    let attachable = || one.rnctl(&["network", "inspect", "--format", "{{json .Attachable}}", "ovnet"]);
    ensure!(attachable()? == "true");
    ensure!(
        !networks(two)?.contains(&"ovnet".to_owned()),
        "nothing of it on a worker that has no use for it"
    );
    one.rnctl(&["run", "-d", "--network", "ovnet", "--name", "c1", IMAGE, "sleep", "600"])?;
    two.rnctl(&["run", "-d", "--network", "ovnet", "--name", "c2", IMAGE, "sleep", "600"])?;
    ensure!(attachable()? == "true");
    ensure!(networks(two)?.contains(&"ovnet".to_owned()));
    resolves(one, "c1", "c2")?;
    resolves(two, "c2", "c1")?;
    // Services and such containers know each other.
    cluster.service(&["--name", "web", "--network", "ovnet", "--replicas", "2"])?;
    cluster.wait_running("web", 2)?;
    resolves(two, "c2", "tasks.web")?;
    resolves(one, &cluster.container(one, "web")?, "c2")?;
    ensure!(
        one.rnctl(&["node", "ps", "-q", "host1", "host2"])?.lines().count() == 2,
        "they are no tasks to a user"
    );

    one.says(&["network", "rm", "ovnet"], &["ovnet", "in use"])?;
    one.rnctl(&["service", "rm", "web"])?;
    one.says(&["network", "rm", "ovnet"], &["ovnet", "container c", "rnctl rm"])?;
    one.rnctl(&["rm", "-f", "c1"])?;
    two.rnctl(&["stop", "-t", "1", "c2"])?;
    wait::until("the network goes from the worker", LIMIT, || {
        ensure!(!networks(two)?.contains(&"ovnet".to_owned()));
        Ok(())
    })?;
    one.rnctl(&["network", "rm", "ovnet"])?;
    two.rnctl(&["rm", "c2"])?;
    ensure!(two.rnctl(&["ps", "-a", "-q"])?.is_empty());
    // Others are refused, with a reason.
    one.rnctl(&["network", "create", "-d", "overlay", "closed"])?;
    let run = ["run", "-d", "--name", "c3", "--network"];
    for (network, words) in [
        ("closed", &["closed", "not manually attachable", "--attachable"][..]),
        ("ingress", &["ingress", "routing mesh"]),
        ("nowhere", &["nowhere", "not found"]),
    ] {
        let (code, text) = one.rnctl_fails(&[&run[..], &[network, IMAGE, "sleep", "600"]].concat())?;
        ensure!(code == 125 && words.iter().all(|w| text.contains(w)), "{code} {text}");
        one.rnctl(&["rm", "c3"])?;
    }
    Ok(())
}

#[test]
fn leaving_the_swarm_takes_its_networks_from_a_container() -> Result<()> {
    let cluster = attached(1, &[0])?;
    let host = cluster.manager();
    ensure!(inspect(host, "c1", "{{json .NetworkSettings.Networks.ovnet}}")? != "null");
    host.rnctl(&["swarm", "leave", "--force"])?;
    let left = inspect(host, "c1", "{{json .NetworkSettings.Networks}}")?;
    ensure!(!left.contains("ovnet"), "{left}");
    ensure!(!networks(host)?.contains(&"ovnet".to_owned()));
    ensure!(running(host, "c1")?, "it goes on");
    host.rnctl(&["stop", "-t", "1", "c1"])?;
    ensure!(!running(host, "c1")?);
    host.says(&["start", "c1"], &["no network"])?;
    host.rnctl(&["rm", "c1"])?;
    ensure!(host.rnctl(&["ps", "-a", "-q"])?.is_empty());
    Ok(())
}

#[test]
fn an_address_that_is_taken_leaks_nothing() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let create = ["network", "create", "-d", "overlay", "--attachable", "--subnet", "10.10.9.0/24", "ovnet"];
    host.rnctl(&create)?;
    let run = |name| {
        ["run", "-d", "--network", "ovnet", "--name", name, "--ip", "10.10.9.33", IMAGE, "sleep", "600"]
    };
    host.rnctl(&run("c1"))?;
    let (code, text) = host.rnctl_fails(&run("c2"))?;
    ensure!(code == 125 && text.contains("10.10.9.33") && text.contains("container c1"), "{code} {text}");
    let shown = inspect(host, "c1", "{{.NetworkSettings.Networks.ovnet.IPAddress}}")?;
    ensure!(shown.parse::<IpAddr>()? == "10.10.9.33".parse::<IpAddr>()?, "{shown}");
    host.rnctl(&["rm", "-f", "c1"])?;
    // No attachment is left of either.
    host.rnctl(&["network", "rm", "ovnet"])?;
    host.rnctl(&["rm", "c2"]).map(drop)
}

#[test]
fn names_and_aliases_resolve_between_attached_containers() -> Result<()> {
    let cluster = attached(2, &[])?;
    let [one, two] = [&cluster.hosts[0], &cluster.hosts[1]];
    let first = [
        "run",
        "-d",
        "--net",
        "ovnet",
        "--name",
        "first",
        "--net-alias",
        "first-alias",
        "-h",
        "herself",
        IMAGE,
        "sleep",
        "600",
    ];
    let id = one.rnctl(&first)?;
    two.rnctl(&["run", "-d", "--net", "ovnet", "--name", "second", IMAGE, "sleep", "600"])?;
    for name in ["first", "first-alias", "herself", &id[..12], "first.ovnet"] {
        resolves(two, "second", name)?;
    }
    resolves(one, "first", "second")?;
    ensure!(two.exec("second", &["ping", "-c", "1", "-W", "1", "second-alias"]).is_err());
    // Nothing of it is left when it has gone.
    one.rnctl(&["rm", "-f", "first"])?;
    wait::until("its names go with it", LIMIT, || {
        ensure!(two.exec("second", &["nslookup", "first-alias"]).is_err());
        Ok(())
    })
}

#[test]
fn attached_containers_outlive_the_daemon_and_start_with_it() -> Result<()> {
    let mut cluster = attached(2, &[0, 1])?;
    resolves(&cluster.hosts[1], "c2", "c1")?;
    let run =
        ["run", "-d", "--restart", "always", "--network", "ovnet", "--name", "again", IMAGE, "sleep", "600"];
    cluster.hosts[1].rnctl(&run)?;
    let pid = inspect(&cluster.hosts[1], "c2", "{{.State.Pid}}")?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        cluster.hosts[1].stop(signal)?;
        cluster.hosts[1].start()?;
        let host = &cluster.hosts[1];
        wait::until("the daemon has them again", LIMIT, || {
            ensure!(inspect(host, "c2", "{{json .NetworkSettings.Networks}}")?.contains("ovnet"));
            Ok(())
        })?;
        ensure!(inspect(host, "c2", "{{.State.Pid}}")? == pid, "the same process");
        resolves(host, "c2", "c1")?;
        resolves(&cluster.hosts[0], "c1", "c2")?;
        resolves(&cluster.hosts[0], "c1", "again")?;
    }
    // A machine that restarts: what is to run always does, with what it had written.
    let host = &cluster.hosts[1];
    host.exec("again", &["touch", "/kept"])?;
    cluster.hosts[1].reboot()?;
    let host = &cluster.hosts[1];
    wait::until("it runs again", LIMIT, || {
        ensure!(running(host, "again")?);
        Ok(())
    })?;
    host.exec("again", &["ls", "/kept"]).context("what it had written")?;
    resolves(&cluster.hosts[0], "c1", "again")?;
    ensure!(!running(host, "c2")?, "it was not to start by itself");
    host.rnctl(&["start", "c2"])?;
    resolves(&cluster.hosts[0], "c1", "c2")
}

#[test]
fn a_container_attaches_by_the_networks_id() -> Result<()> {
    let cluster = attached(1, &[])?;
    let host = cluster.manager();
    let id = host.rnctl(&["network", "inspect", "--format", "{{.Id}}", "ovnet"])?;
    let container = host.rnctl(&["run", "-d", "--net", &id, IMAGE, "sleep", "600"])?;
    let on = || host.rnctl(&["network", "inspect", "--format", "{{json .Containers}}", "ovnet"]);
    wait::until("the network shows it", LIMIT, || {
        ensure!(on()?.contains(&container));
        Ok(())
    })?;
    host.rnctl(&["rm", "-f", &container])?;
    wait::until("and no longer", LIMIT, || {
        ensure!(!on()?.contains(&container));
        Ok(())
    })?;
    host.rnctl(&["network", "rm", &id]).map(drop)
}

#[test]
fn run_exits_as_its_container_does() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let run = |more: &[&str]| host.rnctl_fails(&[&["run", "--rm", "--network", "host"], more].concat());
    ensure!(
        host.rnctl(&[
            "run",
            "--rm",
            "--network",
            "host",
            "-e",
            "WORD=hello",
            IMAGE,
            "sh",
            "-c",
            "echo $WORD"
        ])? == "hello"
    );
    let (code, text) = run(&[IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(code == 7 && text.contains("err"), "{code} {text}");
    ensure!(run(&[IMAGE, "/no/such/program"])?.0 == 127);
    ensure!(run(&["nosuchimage:1"])?.0 == 125);
    // As often as its policy says, and no more.
    let fails = ["run", "-d", "--name", "fails", "--restart", "on-failure:2", "--network", "host", IMAGE];
    host.rnctl(&[&fails[..], &["sh", "-c", "echo tried; exit 3"]].concat())?;
    ensure!(host.rnctl(&["wait", "fails"])? == "3");
    // Waiting is for its first end, as with Docker; it goes on until its policy has had enough.
    wait::until("it has been tried three times", LIMIT, || {
        ensure!(host.rnctl(&["logs", "fails"])?.lines().count() == 3);
        ensure!(inspect(host, "fails", "{{.State.Status}} {{.RestartCount}}")? == "exited 2");
        Ok(())
    })?;
    host.rnctl(&["rm", "fails"])?;
    wait::until("nothing stays", LIMIT, || {
        ensure!(host.rnctl(&["ps", "-a", "-q"])?.is_empty());
        Ok(())
    })?;
    // What stays can be started again, with what it wrote and said.
    let id = host.rnctl(&[
        "create",
        "--name",
        "twice",
        "--network",
        "host",
        IMAGE,
        "sh",
        "-c",
        "echo line >>/log; wc -l </log",
    ])?;
    for times in 1..=2 {
        host.rnctl(&["start", "twice"])?;
        ensure!(host.rnctl(&["wait", "twice"])? == "0");
        ensure!(host.rnctl(&["logs", "twice"])?.lines().count() == times);
    }
    ensure!(host.rnctl(&["logs", "twice"])?.lines().map(str::trim).eq(["1", "2"]));
    ensure!(host.rnctl(&["rm", &id[..10]])? == id[..10]);
    Ok(())
}

/// The same command from many sides at once; what each printed, or why it failed.
fn at_once(host: &Host, n: usize, args: &[&str]) -> Vec<Result<String>> {
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..n).map(|_| scope.spawn(|| host.rnctl(args))).collect();
        asking.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn of_many_that_ask_at_once_one_gets_the_name() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = &cluster.hosts[0];
    for round in 0..5 {
        let name = format!("one{round}");
        let made = at_once(host, 8, &["create", "--network", "host", "--name", &name, IMAGE, "true"]);
        let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        ensure!(made.len() == 1, "{made:?}");
        for why in refused.into_iter().filter_map(Result::err) {
            ensure!(format!("{why:#}").contains("is already in use by container"), "{why:#}");
        }
        let list = host.rnctl(&["ps", "-a", "--format", "{{.Names}}"])?;
        ensure!(list.lines().filter(|line| **line == name).count() == 1, "{list}");
    }
    Ok(())
}

/// The test image with some thousand files more.
fn import_with_many_files(host: &Host) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let base = dir.path().join("base.tar");
    image::build(&base, true)?;
    let mut whole = std::fs::read(&base)?;
    // Without its end.
    while whole.ends_with(&[0; 512]) {
        whole.truncate(whole.len() - 512);
    }
    let mut more = tar::Builder::new(Vec::new());
    for n in 0..4000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        more.append_data(&mut header, format!("many/{n}"), std::io::empty())?;
    }
    whole.extend(more.into_inner()?);
    let path = dir.path().join("many.tar");
    std::fs::write(&path, whole)?;
    host.rnctl(&["import", &path.display().to_string(), "many:1"]).map(drop)
}

#[test]
fn a_new_volume_is_filled_once_and_whole_before_anybody_uses_it() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = &cluster.hosts[0];
    import_with_many_files(host)?;
    for round in 0..3 {
        let mount = format!("type=volume,source=shared{round},target=/many");
        let count = ["sh", "-c", "ls /many | wc -l"];
        let args = ["run", "--rm", "--network", "host", "--mount", &mount, "many:1"];
        for seen in at_once(host, 6, &[&args[..], &count].concat()) {
            ensure!(seen?.trim() == "4000", "a part of the image's files");
        }
    }
    Ok(())
}
