//! Options are done, or refused where they are typed: for services and for containers by hand alike.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, image::IMAGE, lan, wait};

#[test]
fn what_cannot_be_is_refused_where_it_is_typed() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "--attachable", "app"])?;
    // The same rules for both.
    for (flags, words) in [
        (
            vec!["--mount", "source=d,target=/d,volume-driver=rexray"],
            vec!["volume driver \"rexray\"", "local driver"],
        ),
        (vec!["--mount", "source=d,target=/d,volume-opt=type=nfs"], vec!["volume-opt=device", "mount(8)"]),
        (vec!["--mount", "source=d,target=/d,volume-subpath=x"], vec!["volume-subpath", "whole volume"]),
        (
            vec!["--mount", "type=bind,source=/,target=/d,bind-recursive=nonsense"],
            vec!["nonsense", "disabled"],
        ),
        (vec!["--mount", "type=bind,source=/,target=/d,bind-propagation=rshared"], vec!["rshared", "rslave"]),
        (vec!["--mount", "type=tmpfs,target=/d,tmpfs-size=lots"], vec!["lots", "number"]),
        (vec!["--mount", "type=tmpfs,target=/d,tmpfs-mode=rwx"], vec!["rwx", "octal"]),
        (
            vec!["--mount", "source=a,target=/d", "--mount", "source=b,target=/d/"],
            vec!["duplicate mount point"],
        ),
        (vec!["--ulimit", "nosuch=1"], vec!["nosuch", "nofile"]),
        (vec!["--cap-add", "NOPE"], vec!["NOPE", "NET_ADMIN"]),
        (vec!["--cap-drop", "NOPE"], vec!["NOPE", "NET_ADMIN"]),
        (vec!["--sysctl", "net.nope=1"], vec!["net.nope", "core"]),
        (vec!["--sysctl", "vm.swappiness=1"], vec!["vm.swappiness", "whole machine"]),
        (vec!["--stop-signal", "SIGNOPE"], vec!["SIGNOPE", "SIGTERM"]),
        (vec!["--dns-search", "a b"], vec!["a b", "one domain at a time"]),
        (vec!["--dns-option", "ndots:1 debug"], vec!["ndots:1 debug", "one option at a time"]),
        (vec!["--hostname", "a_b"], vec!["a_b", "letters"]),
        (vec!["--workdir", "here"], vec!["here", "absolute"]),
        (
            vec!["--network", "host", "--sysctl", "net.core.somaxconn=9"],
            vec!["net.core.somaxconn", "network host"],
        ),
        (vec!["--entrypoint", ""], vec!["no command specified", "image"]),
        (vec!["--health-interval", "500us"], vec!["500us", "1ms"]),
        (vec!["--label", "=x"], vec!["empty name", "KEY=VALUE"]),
    ] {
        let network: &[&str] = if flags.contains(&"--network") { &[] } else { &["--network", "app"] };
        for command in [&["service", "create", "-d", "--name", "xx"][..], &["run", "-d", "--name", "xx"]] {
            host.says(&[command, network, &flags, &[IMAGE]].concat(), &words)?;
        }
    }
    for (args, words) in [
        (vec!["service", "create", "--no-resolve-image", "UPPER:1"], vec!["UPPER", "lowercase"]),
        (vec!["run", "--network", "app", "--pull", "never", "UPPER:1"], vec!["UPPER", "lowercase"]),
        (vec!["run", "--network", "app", "--memory", "1m", IMAGE], vec!["memory", "4 MiB"]),
        (vec!["run", "--network", "app", "--network-alias", "a b", IMAGE], vec!["a b", "DNS"]),
        (
            vec!["node", "update", "--label-rm", "nope", "host1"],
            vec!["nope", "doesn't exist", "node inspect"],
        ),
        (vec!["node", "ls", "--filter", "role=boss"], vec!["role=boss", "manager"]),
        (vec!["network", "create", "-d", "overlay", "--opt", "colour=red", "y"], vec!["colour", "not known"]),
        (vec!["network", "create", "-d", "overlay", "--ipam-opt", "a=b", "y"], vec!["\"a\"", "--ipam-opt"]),
        (vec!["service", "create", "--network", "name=app,driver-opt=a=b", IMAGE], vec!["driver-opt"]),
        (vec!["swarm", "update", "--max-snapshots", "3"], vec!["old snapshots"]),
        (vec!["wait", "--timeout", "5s", "x"], vec!["--timeout", "cannot be used"]),
    ] {
        host.says(&args, &words)?;
    }
    ensure!(host.rnctl(&["service", "ls", "-q"])?.is_empty(), "nothing was half made");
    ensure!(host.rnctl(&["ps", "-aq"])?.is_empty());
    ensure!(host.rnctl(&["network", "ls", "-q", "--filter", "name=y"])?.is_empty());
    Ok(())
}

#[test]
fn volumes_are_what_their_options_say() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "--attachable", "app"])?;
    let dir = host.dir().join("elsewhere");
    fs::create_dir_all(dir.join("below"))?;
    fs::write(dir.join("greeting"), "hello\n")?;
    let bound = format!(
        "source=bound,target=/bound,volume-driver=local,volume-label=a=b,volume-opt=type=none,\"volume-opt=o=bind,ro\",volume-opt=device={}",
        dir.display()
    );
    let memory = "source=memory,target=/memory,volume-opt=type=tmpfs,\"volume-opt=o=size=2m,mode=0700\",volume-opt=device=tmpfs";
    let tmpfs = "type=tmpfs,target=/scratch,tmpfs-size=3MB";
    let flags = ["--network", "app", "--mount", &bound, "--mount", memory, "--mount", tmpfs];
    cluster.service(&[&["--name", "web"][..], &flags].concat())?;
    cluster.wait_running("web", 1)?;
    host.rnctl(&[&["run", "-d", "--name", "hand"][..], &flags, &[IMAGE, "sleep", "600"]].concat())?;
    for container in [cluster.container(host, "web")?, "hand".to_owned()] {
        let run = |script: &str| host.exec(&container, &["sh", "-c", script]);
        ensure!(
            run("cat /bound/greeting")? == "hello",
            "{container}: it is the directory, not a plain volume"
        );
        ensure!(run("touch /bound/x 2>/dev/null || echo no")? == "no", "{container}: mounted read-only");
        let mounts = run("grep -E ' /(memory|scratch) ' /proc/mounts")?;
        ensure!(mounts.contains("size=2048k") && mounts.contains("size=3072k"), "{container}: {mounts}");
        run("echo x > /memory/x")?;
    }
    let volumes = host.data_root().join("volumes");
    let own = |name: &str| fs::read_dir(volumes.join(name).join("_data")).map(Iterator::count).ok();
    ensure!(
        own("memory").unwrap_or(0) == 0 && own("bound").unwrap_or(0) == 0,
        "nothing went into a plain folder"
    );
    let mounts = cluster.inspect("web", "{{json .Spec.TaskTemplate.ContainerSpec.Mounts}}")?;
    ensure!(
        mounts.contains(r#""Labels":{"a":"b"}"#) && mounts.contains(r#""o":"size=2m,mode=0700""#),
        "{mounts}"
    );
    // What cannot be mounted says so, without what may be secret.
    let nowhere =
        "source=n,target=/n,volume-opt=type=nosuchfs,volume-opt=o=password=secret,volume-opt=device=x";
    let (_, text) =
        host.rnctl_fails(&["run", "-d", "--network", "app", "--mount", nowhere, IMAGE, "true"])?;
    ensure!(text.contains("nosuchfs") && !text.contains("secret"), "{text}");
    Ok(())
}

/// A directory of its own mount in the daemon's mount namespace, which others take part in.
struct Shared<'a> {
    pid: i32,
    dir: &'a Path,
}

impl<'a> Shared<'a> {
    fn new(pid: i32, dir: &'a Path) -> Result<Self> {
        let shared = Self { pid, dir };
        shared.run(&["mount", "--bind"], &[dir, dir])?;
        shared.run(&["mount", "--make-shared"], &[dir])?;
        Ok(shared)
    }

    fn run(&self, command: &[&str], paths: &[&Path]) -> Result<()> {
        let mut enter = Command::new("nsenter");
        enter.args(["--mount", "--target", &self.pid.to_string()]).args(command).args(paths);
        lan::run(&mut enter).map(drop)
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["umount", "--recursive"], &[self.dir]);
    }
}

#[test]
fn what_the_machine_mounts_later_is_seen_where_that_was_asked_for() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let dir = host.dir().join("tree");
    for sub in ["before", "later"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    let shared = Shared::new(host.pid().context("no daemon")?, &dir)?;
    let tmpfs = |sub: &str| shared.run(&["mount", "-t", "tmpfs", "tmpfs"], &[&dir.join(sub)]);
    tmpfs("before")?;
    for (name, more) in [
        ("private", ""),
        ("slave", ",bind-propagation=rslave"),
        ("alone", ",bind-recursive=disabled"),
        ("locked", ",readonly"),
        ("halfway", ",readonly,bind-recursive=writable"),
    ] {
        let mount = format!("type=bind,source={},target=/d{more}", dir.display());
        host.rnctl(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "host",
            "--mount",
            &mount,
            IMAGE,
            "sleep",
            "600",
        ])?;
    }
    tmpfs("later")?;
    for (name, below) in [
        ("private", "/d/before"),
        ("slave", "/d/before /d/later"),
        ("alone", ""),
        ("locked", "/d/before"),
        ("halfway", "/d/before"),
    ] {
        let seen = host.exec(name, &["sh", "-c", "grep -o ' /d/[a-z]*' /proc/mounts | sort"])?;
        let seen = seen.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(seen == below, "{name}: {seen}");
    }
    let writes =
        |name: &str| host.exec(name, &["sh", "-c", "touch /d/before/x 2>/dev/null && echo yes || echo no"]);
    ensure!(writes("private")? == "yes" && writes("halfway")? == "yes");
    ensure!(writes("locked")? == "no", "read-only is read-only all the way down");
    Ok(())
}

#[test]
fn empty_is_not_absent() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "--attachable", "app"])?;
    // An image with an entrypoint, a command and a variable of its own.
    cluster
        .import_as("own:1", &["ENTRYPOINT [\"/bin/echo\", \"entry\"]", "CMD [\"cmd\"]", "ENV GONE=image"])?;
    let run = |flags: &[&str], command: &[&str]| {
        host.rnctl(&[&["run", "--rm", "--network", "app"][..], flags, &["own:1"], command].concat())
    };
    ensure!(run(&[], &[])? == "entry cmd");
    ensure!(run(&[], &["x"])? == "entry x");
    ensure!(run(&["--entrypoint", ""], &["/bin/echo", "x"])? == "x", "the image's is off");
    ensure!(run(&["--entrypoint", "/bin/echo"], &[])?.is_empty(), "and its command with it");
    let gone = ["sh", "-c", "echo ${GONE-unset}"];
    ensure!(run(&["--entrypoint", ""], &gone)? == "image");
    ensure!(run(&["--entrypoint", "", "-e", "GONE="], &gone)?.is_empty(), "empty");
    ensure!(run(&["--entrypoint", "", "-e", "GONE"], &gone)? == "unset", "no such variable here: it goes");

    let logs = |service: &str, want: &str| {
        wait::until(&format!("{service} says {want}"), wait::LONG, || {
            let logs = host.rnctl(&["service", "logs", "--raw", service])?;
            ensure!(logs.lines().any(|line| line == want), "{logs}");
            Ok(())
        })
    };
    let once = ["service", "create", "-d", "--restart-condition", "none", "--name"];
    host.rnctl(&[&once[..], &["plain", "own:1"]].concat())?;
    logs("plain", "entry cmd")?;
    host.rnctl(&[&once[..], &["off", "--entrypoint", "", "own:1", "/bin/echo", "off"]].concat())?;
    logs("off", "off")?;
    host.rnctl(&["service", "update", "-d", "--entrypoint", "", "--args", "/bin/echo later", "plain"])?;
    logs("plain", "later")?;
    host.says(&["service", "update", "--args", "", "off"], &["no command specified"])?;
    Ok(())
}

#[test]
fn templates_are_gos() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let env = [
        "LABEL={{index .Service.Labels \"com.x\"}}",
        "SLOT={{.Task.Slot}}",
        "LITERAL={{\"{{\"}}.Task.Slot}}",
        "BOTH={{if .Service.Labels}}{{join \"-\" .Service.Name .Node.Hostname}}{{end}}",
    ];
    let env: Vec<&str> = env.iter().flat_map(|e| ["--env", *e]).collect();
    let create = ["service", "create", "-d", "--label", "com.x=y", "--mode"];
    // Neither has a network, so that nothing else brings the service's labels to the node.
    for mode in ["replicated", "global"] {
        host.rnctl(&[&create[..], &[mode, "--name", mode], &env, &[IMAGE, "sleep", "600"]].concat())?;
        cluster.wait_running(mode, 1)?;
    }
    let node = host.rnctl(&["node", "inspect", "--format", "{{.ID}}", "self"])?;
    for (service, slot) in [("replicated", "1"), ("global", node.as_str())] {
        let container = cluster.container(host, service)?;
        let said = host.exec(&container, &["sh", "-c", "echo \"$LABEL $SLOT $LITERAL $BOTH\""])?;
        ensure!(said == format!("y {slot} {{{{.Task.Slot}}}} {service}-host1"), "{service}: {said}");
    }
    host.says(
        &["service", "create", "--env", "X={{.Service.Nmae}}", IMAGE],
        &["Nmae", ".Service.Name", ".Service.Labels"],
    )?;
    Ok(())
}
