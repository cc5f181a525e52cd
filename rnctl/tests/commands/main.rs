//! The program as a user runs it, against a daemon that answers from memory.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)]

mod docker;
mod fake;
mod machine;

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use fake::{Fake, NODE, SERVICE};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime};

struct Bench {
    fake: Fake,
    socket: PathBuf,
    dir: TempDir,
    _runtime: Runtime,
}

/// What a run left.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn rnctl(host: &str, args: &[&str], stdin: Option<&[u8]>) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rnctl"))
        .args(["-H", host])
        .args(args)
        .env_remove("RN_HOST")
        // Not the settings of whoever runs the tests.
        .env("RN_CONFIG", "/nonexistent")
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(bytes) = stdin {
        child.stdin.take().unwrap().write_all(bytes).unwrap();
    }
    child.wait_with_output().unwrap().into()
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("rn.sock");
        let fake = Fake::default();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
        runtime.spawn(fake::serve(listener, fake.clone()));
        Self { fake, socket, dir, _runtime: runtime }
    }

    fn run(&self, args: &[&str]) -> Ran {
        rnctl(&format!("unix://{}", self.socket.display()), args, None)
    }

    fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        rnctl(&format!("unix://{}", self.socket.display()), args, Some(stdin))
    }

    /// Runs a command that must succeed; its output.
    fn out(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.out
    }

    fn web(&self) {
        self.out(&[
            "service",
            "create",
            "-d",
            "--name",
            "web",
            "--replicas",
            "3",
            "-p",
            "8080:80",
            "hello:1",
            "httpd",
            "-f",
        ]);
    }
}

#[test]
fn create_prints_the_id_follows_the_tasks_and_says_why_one_waits() {
    let bench = Bench::new();
    bench.fake.state().slow = 5;
    let out = bench.out(&[
        "service",
        "create",
        "--name",
        "web",
        "--replicas",
        "3",
        "--update-monitor",
        "100ms",
        "hello:1",
    ]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], SERVICE);
    assert_eq!(lines[1], "overall progress: 2 out of 3 tasks");
    assert!(lines.contains(&"1/3: running"), "{out}");
    assert!(lines.contains(&"3/3: no suitable node (1 node is drained)"), "{out}");
    assert!(lines.contains(&"overall progress: 3 out of 3 tasks"), "{out}");
    assert_eq!(lines.last(), Some(&format!("verify: Service {SERVICE} converged").as_str()));
}

#[test]
fn quiet_and_detached_creation_print_the_id_only() {
    let bench = Bench::new();
    assert_eq!(bench.out(&["service", "create", "-d", "hello:1"]), format!("{SERVICE}\n"));
    let quiet = bench.out(&["service", "create", "-q", "--update-monitor", "0s", "hello:1"]);
    assert_eq!(quiet, format!("{SERVICE}\n"));
}

#[test]
fn the_command_of_a_service_keeps_its_own_options() {
    let bench = Bench::new();
    bench.out(&[
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "hello:1",
        "/bin/httpd",
        "-f",
        "-p",
        "[::]:80",
        "--help",
    ]);
    let spec = bench.fake.state().services[SERVICE].spec.clone().unwrap();
    assert_eq!(spec.task.unwrap().container.unwrap().args, ["/bin/httpd", "-f", "-p", "[::]:80", "--help"]);
    assert_eq!(spec.endpoint.unwrap().ports[0].published_port, 8080);
}

/// What a program prints on a terminal.
fn on_a_terminal(bench: &Bench, args: &[&str]) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rnctl"))
        .args(["-H", &format!("unix://{}", bench.socket.display())])
        .args(args)
        .env("RN_CONFIG", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(pty.slave)
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    // At the end of a terminal whose other side is closed there is an error, not nothing.
    let _ = std::fs::File::from(pty.master).read_to_end(&mut shown);
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}

#[test]
fn nobody_drives_a_users_terminal_by_what_things_are_called() {
    let bench = Bench::new();
    let ran = bench.run(&["service", "create", "--name", "taken\x1b[2J\r", "hello:1"]);
    assert!(ran.err.contains("service taken\\u{1b}[2J\\r already exists"), "{ran:?}");
    bench.run(&["service", "create", "-d", "--name", "web\x1b]0;owned\x07", "hello:1"]);
    for args in [&["service", "ls"][..], &["service", "ls", "--format", "{{.Name}}"]] {
        let shown = on_a_terminal(&bench, args);
        assert!(shown.contains("web\\u{1b}]0;owned\\u{7}"), "{shown:?}");
        assert!(!shown.contains(['\x1b', '\x07']), "{shown:?}");
    }
    // Programs get what there is.
    let ran = bench.run(&["service", "ls", "--format", "{{.Name}}"]);
    assert_eq!(ran.out, "web\x1b]0;owned\x07\n");
}

#[test]
fn errors_have_their_way_out_and_their_exit_codes() {
    let bench = Bench::new();
    let ran = bench.run(&["service", "create", "--name", "taken", "hello:1"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.err,
        "Error response from daemon: name conflicts with an existing object: service taken already exists\nchoose another name\n"
    );

    let ran = bench.run(&["service", "create", "--nmae", "web", "hello:1"]);
    assert_eq!(ran.code, Some(125));
    assert!(
        ran.err.contains("--nmae") && ran.err.ends_with("See 'rnctl service create --help'.\n"),
        "{ran:?}"
    );

    // Commands and arguments are not flags.
    for wrong in [&["frob"][..], &["service", "frob"], &["service", "create"], &["service", "scale", "web=x"]]
    {
        let ran = bench.run(wrong);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("--help'."), "{ran:?}");
    }

    // What is wrong with the words is said even where no daemon runs.
    let ran = rnctl("unix:///nowhere.sock", &["service", "create", "--nmae", "web", "hello:1"], None);
    assert_eq!(ran.code, Some(125));

    let ran = bench.run(&["service", "create", "--isolation", "s", "hello:1"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("--isolation is not supported"), "{ran:?}");

    let ran = bench.run(&["service", "create", "-p", "127.0.0.1:80:80", "hello:1"]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.err.contains("host address"), "{ran:?}");

    let ran = bench.run(&["service", "ps", "none"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(1), "Error response from daemon: service none not found\n")
    );
}

#[test]
fn no_daemon() {
    let dir = TempDir::new().unwrap();
    let host = format!("unix://{}/none.sock", dir.path().display());
    let ran = rnctl(&host, &["node", "ls"], None);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with(&format!("Cannot connect to the rn daemon at {host}. Is rnd running?\n")),
        "{ran:?}"
    );
    assert!(ran.err.contains("systemctl start rnd"), "{ran:?}");
    // What the client knows by itself is told all the same.
    let ran = rnctl(&host, &["version"], None);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.starts_with("Client:\n Version:"), "{ran:?}");
    let ran = rnctl("tcp://127.0.0.1:1", &["service", "ls"], None);
    assert!(ran.err.contains("unix socket only"), "{ran:?}");
}

#[test]
fn lists() {
    let bench = Bench::new();
    bench.web();
    assert_eq!(
        bench.out(&["service", "ls"]),
        "ID             NAME      MODE         REPLICAS   IMAGE     PORTS\n\
         svc000000000   web       replicated   3/3        hello:1   *:8080->80/tcp\n"
    );
    assert_eq!(bench.out(&["service", "ls", "-q"]), format!("{SERVICE}\n"));
    assert_eq!(bench.out(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]), "host1 Ready\n");
    assert_eq!(
        bench.out(&["node", "ls"]),
        "ID                            HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION\n\
         node000000000000000000001 *   host1      Ready     Active         Leader           0.1.0\n"
    );
    let ps = bench.out(&[
        "service",
        "ps",
        "--format",
        "{{.Name}}|{{.Node}}|{{.DesiredState}}|{{.CurrentState}}",
        "web",
    ]);
    assert!(ps.starts_with("web.1|host1|Running|Running "), "{ps}");
    assert_eq!(ps.lines().count(), 3);
    assert_eq!(bench.out(&["ps", "--format", "{{.Names}}"]), "web.1.task\n");
}

#[test]
fn networks_of_the_cluster_and_of_the_machine_are_one_list() {
    let bench = Bench::new();
    let names = ["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"];
    assert_eq!(bench.out(&names), "app overlay swarm\nnone null local\nrn_gwbridge bridge local\n");
    bench.fake.state().worker = true;
    assert_eq!(bench.out(&names), "none null local\nrn_gwbridge bridge local\n");
    let ran = bench.run(&["service", "ls"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "Error response from daemon: this node is not a manager\nrun it on a manager\n");
}

#[test]
fn scale_tries_again_when_somebody_else_was_faster() {
    let bench = Bench::new();
    bench.web();
    bench.fake.state().races = 2;
    assert_eq!(bench.out(&["service", "scale", "-d", "web=10"]), "web scaled to 10\n");
    let ps = bench.out(&["service", "ps", "-q", "web"]);
    assert_eq!(ps.lines().count(), 10);
}

#[test]
fn update_and_rollback() {
    let bench = Bench::new();
    bench.web();
    let image = || {
        let spec = bench.fake.state().services[SERVICE].spec.clone().unwrap();
        (spec.task.unwrap().container.unwrap().image, spec.endpoint.unwrap().ports.len())
    };
    bench.out(&["service", "update", "-d", "--image", "hello:2", "--publish-rm", "80", "web"]);
    assert_eq!(image(), ("hello:2".into(), 0));
    bench.out(&["service", "rollback", "-d", "web"]);
    assert_eq!(image(), ("hello:1".into(), 1));
}

#[test]
fn several_removals_report_each() {
    let bench = Bench::new();
    let ran = bench.run(&["network", "rm", "none1", "app", "none2"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "app\n"));
    assert_eq!(ran.err.lines().count(), 2, "{ran:?}");
    assert_eq!(bench.out(&["network", "rm", "-f", "none1"]), "");
    let ran = bench.run_with(&["network", "prune"], b"n\n");
    assert_eq!((ran.code, ran.out.contains("Deleted")), (Some(0), false), "{ran:?}");
    assert_eq!(bench.out(&["network", "prune", "-f"]), "Deleted Networks:\napp\n\n");
}

#[test]
fn swarm_commands_print_what_to_do_next() {
    let bench = Bench::new();
    let out = bench.out(&["swarm", "init", "--advertise-addr", "10.0.0.1"]);
    assert!(
        out.starts_with(&format!("Swarm initialized: current node ({NODE}) is now a manager.\n\n")),
        "{out}"
    );
    assert!(out.contains("\n    rnctl swarm join --token SWMTKN-1-worker 10.0.0.1:2377\n"), "{out}");
    assert_eq!(bench.out(&["swarm", "join-token", "-q", "worker"]), "SWMTKN-1-worker\n");
    let hint = bench.out(&["swarm", "join-token", "manager"]);
    assert!(hint.contains("rnctl swarm join --token SWMTKN-1-manager 10.0.0.1:2377"), "{hint}");
    let out = bench.out(&["swarm", "join", "--token", "t", "10.0.0.1"]);
    assert_eq!(out, "This node joined a swarm as a worker.\n");
    assert_eq!(bench.fake.state().joined.clone().unwrap().remote_addrs, ["10.0.0.1:2377"]);
}

#[test]
fn import_from_a_file_and_from_standard_input() {
    let bench = Bench::new();
    let file = bench.dir.path().join("rootfs.tar");
    std::fs::write(&file, vec![7; 1_000_000]).unwrap();
    let out = bench.out(&["import", "-c", "CMD [\"/bin/sh\"]", &file.display().to_string(), "hello:1"]);
    assert_eq!(out, "sha256:0123456789abcdef\n");
    let imported = bench.fake.state().imported.take();
    assert_eq!(imported, Some(("hello:1".into(), vec!["CMD [\"/bin/sh\"]".into()], 1_000_000)));
    let ran = bench.run_with(&["import", "-", "hello:2"], b"tar");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(bench.fake.state().imported.take(), Some(("hello:2".into(), vec![], 3)));
    let ran = bench.run(&["import", "/none.tar", "x"]);
    assert!(ran.code == Some(1) && ran.err.starts_with("cannot read /none.tar"), "{ran:?}");
}

#[test]
fn exec_passes_input_output_and_the_exit_code() {
    let bench = Bench::new();
    let ran = bench
        .run_with(&["exec", "-i", "-e", "A=1", "-w", "/tmp", "web.1.task", "sh", "-c", "cat"], b"hello\n");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(7), "hello\n", "done\n"));
    let start = bench.fake.state().exec.clone().unwrap();
    assert_eq!(
        (start.container.as_str(), start.cmd, start.env),
        ("web.1.task", ["sh", "-c", "cat"].map(str::to_owned).to_vec(), vec!["A=1".to_owned()])
    );
}

#[test]
fn logs_say_who_spoke() {
    let bench = Bench::new();
    bench.web();
    let ran = bench.run(&["service", "logs", "web"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "web.1.task00000000@host1    | hello\n");
    assert_eq!(ran.err, "web.1.task00000000@host1    | trouble\n");
    assert_eq!(
        bench.run(&["service", "logs", "--raw", "-t", "web"]).out,
        "1970-01-01T00:00:00.000000001Z hello\n"
    );
}

#[test]
fn inspect_finds_whatever_has_the_name() {
    let bench = Bench::new();
    bench.web();
    let json: serde_json::Value = serde_json::from_str(&bench.out(&["inspect", "web"])).unwrap();
    assert_eq!(json[0]["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
    assert_eq!(json[0]["Version"]["Index"], 7);
    assert_eq!(bench.out(&["inspect", "-f", "{{.Spec.Name}}", "web"]), "web\n");
    assert_eq!(bench.out(&["inspect", "-f", "{{.Driver}}", "rn_gwbridge"]), "bridge\n");
    let ran = bench.run(&["inspect", "web", "nothing"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("No such object: nothing") && ran.out.contains(SERVICE), "{ran:?}");
    let pretty = bench.out(&["service", "inspect", "--pretty", "web"]);
    assert!(pretty.contains("Name:                   web\n"), "{pretty}");
}

#[test]
fn info_warns_on_standard_error() {
    let bench = Bench::new();
    let ran = bench.run(&["info"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "WARNING: no IPv6 forwarding\n"));
    assert!(ran.out.contains(" Swarm: active\n  NodeID: node000000000000000000001\n"), "{ran:?}");
    assert_eq!(bench.out(&["info", "-f", "{{.Swarm.LocalNodeState}}"]), "active\n");
}

#[test]
fn wait_ends_once_nothing_is_missing_or_names_what_is() {
    let bench = Bench::new();
    bench.fake.state().unsettled = 3;
    let ran = bench.run(&["wait", "--converged"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out, "node host2: mesh: no VXLAN\nverify: 3 nodes have applied every change\n");
    bench.fake.state().unsettled = 1000;
    let ran = bench.run(&["wait", "--converged", "-q", "--timeout", "300ms"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert_eq!(ran.err, "not converged after 300.0ms:\nnode host2: mesh: no VXLAN\n");
    assert_eq!(bench.run(&["wait"]).code, Some(1));
}
