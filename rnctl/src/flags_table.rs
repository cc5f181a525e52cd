//! Every flag of every command, and what becomes of what it is given: nothing is accepted and ignored. A flag without a row here
//! fails the test, so that whoever adds one says which.

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::cli::Cli;

/// What a flag does with its value.
enum Does {
    /// It has none.
    Switch,
    /// Any text can be meant.
    Text,
    /// The command line reads it: a value that it takes, and one that it refuses.
    Reads(&'static str, &'static str),
    /// The command looks at it before it asks the daemon, or the daemon before it does anything: who refuses what cannot be.
    Checked(&'static str),
    /// The flag is Docker's and has no counterpart: it is refused by name.
    Refused,
}

use Does::{Checked, Reads, Refused, Switch, Text};

/// By name, for all commands that have it; the first row that fits counts, and one with a command goes before.
const ROWS: &[(&str, Does)] = &[
    // Where a name means something else.
    ("container run --attach", Reads("STDERR", "out")),
    ("container create --attach", Reads("stdin", "out")),
    ("run --attach", Reads("STDERR", "out")),
    ("create --attach", Reads("stdin", "out")),
    ("stop --signal", Reads("sigint", "SIGNOPE")),
    ("restart --signal", Reads("sigint", "SIGNOPE")),
    ("container stop --signal", Reads("sigint", "SIGNOPE")),
    ("container restart --signal", Reads("sigint", "SIGNOPE")),
    ("container create --memory-swap", Reads("-1", "1x")),
    ("container run --memory-swap", Reads("-1", "1x")),
    ("container update --memory-swap", Reads("-1", "1x")),
    ("create --memory-swap", Reads("-1", "1x")),
    ("run --memory-swap", Reads("-1", "1x")),
    ("update --memory-swap", Reads("-1", "1x")),
    ("container create --memory-swappiness", Reads("100", "101")),
    ("container run --memory-swappiness", Reads("100", "101")),
    ("create --memory-swappiness", Reads("100", "101")),
    ("run --memory-swappiness", Reads("100", "101")),
    ("container create --oom-score-adj", Reads("-1000", "1001")),
    ("container run --oom-score-adj", Reads("-1000", "1001")),
    ("create --oom-score-adj", Reads("-1000", "1001")),
    ("run --oom-score-adj", Reads("-1000", "1001")),
    ("volume create --driver", Checked("docker_api::volume::VolumeCreate::check, by the daemon")),
    ("events --since", Checked("cmd::events")),
    ("network connect --alias", Text),
    ("network connect --link", Refused),
    ("network connect --link-local-ip", Refused),
    ("events --until", Checked("cmd::events")),
    ("secret create --driver", Refused),
    ("stack deploy --detach", Reads("false", "maybe")),
    ("stack rm --detach", Reads("false", "maybe")),
    ("config create --driver", Refused),
    ("service create --mode", Checked("CreateArgs::spec")),
    ("service create --replicas", Reads("2", "-1")),
    ("service create --name", Checked("manager::api::validate::name")),
    ("service create --host", Reads("db:10.0.0.1", "db")),
    ("service create --init", Reads("false", "maybe")),
    ("service create --tty", Reads("true", "maybe")),
    ("service create --read-only", Reads("true", "maybe")),
    ("service update --init", Reads("false", "maybe")),
    ("service update --tty", Reads("true", "maybe")),
    ("service update --read-only", Reads("true", "maybe")),
    ("service update --rollback", Switch),
    // All the others.
    ("--add-host", Reads("db:10.0.0.1", "db")),
    ("--advertise-addr", Checked("rnd::swarm")),
    ("--all", Switch),
    ("--all-tags", Switch),
    ("--archive", Switch),
    ("--args", Checked("parse::shell")),
    ("--attach", Switch),
    ("--attachable", Switch),
    ("--autolock", Reads("true", "maybe")),
    ("--aux-address", Reads("a=10.0.0.1", "a")),
    ("--availability", Reads("drain", "gone")),
    ("--ca-cert", Checked("cmd::swarm::ca, and the managers' CA")),
    ("--ca-key", Checked("cmd::swarm::ca, and the managers' CA")),
    ("--cap-add", Reads("NET_ADMIN", "NOPE")),
    ("--cap-drop", Reads("all", "NOPE")),
    ("--cert-expiry", Reads("2160h", "90d")),
    ("--cgroupns", Reads("host", "other")),
    ("--change", Checked("runtime::image::changes")),
    ("--cidfile", Checked("cmd::container::run")),
    ("--compose-file", Checked("compose_file::load")),
    ("--config", Reads("source=a,target=/a,mode=0400", "target=/a")),
    ("--config-add", Reads("a", "source=a,x=1")),
    ("--config-from", Refused),
    ("--config-only", Refused),
    ("--config-rm", Text),
    ("--context", Checked("context::Contexts::get")),
    ("--constraint", Checked("manager::scheduler::constraint")),
    ("--constraint-add", Checked("manager::scheduler::constraint")),
    ("--constraint-rm", Text),
    ("--container-label", Reads("a=b", "=b")),
    ("--container-label-add", Reads("a", "a b=c")),
    ("--container-label-rm", Text),
    ("--converged", Switch),
    ("--cpu-period", Reads("100000", "x")),
    ("--cpu-quota", Reads("-1", "x")),
    ("--cpu-shares", Reads("512", "x")),
    ("--cpus", Reads("0.5", "half")),
    ("--cpuset-cpus", Checked("the daemon: it has them or says which it has not")),
    ("--cpuset-mems", Checked("the daemon: it has them or says which it has not")),
    ("--data-path-addr", Checked("rnd::swarm")),
    ("--data-path-port", Reads("4789", "x")),
    ("--default-addr-pool", Reads("10.0.0.0/8", "10.0.0.0/33")),
    ("--default-addr-pool-mask-length", Reads("24", "x")),
    ("--description", Text),
    ("--detach", Switch),
    ("--detach-keys", Checked("the command, by its keys")),
    ("--details", Switch),
    ("--device", Reads("/dev/a:/dev/b:rw", "/dev/a:/dev/b:x")),
    ("--digests", Switch),
    ("--dispatcher-heartbeat", Reads("5s", "5")),
    ("--dns", Reads("10.0.0.1", "here")),
    ("--dns-add", Reads("fd00::1", "here")),
    ("--dns-option", Reads("ndots:2", "ndots:2 debug")),
    ("--dns-option-add", Reads("ndots:2", "")),
    ("--dns-option-rm", Text),
    ("--dns-rm", Reads("10.0.0.1", "here")),
    ("--dns-search", Reads("corp.example", "a b")),
    ("--dns-search-add", Reads(".", "")),
    ("--dns-search-rm", Text),
    ("--docker", Checked("cmd::context::What")),
    ("--driver", Checked("proto::model::NetworkDriver")),
    ("--driver-opt", Reads("a=1", "a")),
    ("--endpoint-mode", Reads("dnsrr", "lvs")),
    ("--entrypoint", Checked("parse::shell")),
    ("--env", Checked("parse::keyval")),
    ("--env-add", Checked("parse::keyval")),
    ("--env-file", Checked("parse::keyval")),
    ("--env-rm", Text),
    ("--external-ca", Refused),
    ("--filter", Checked("output::filter")),
    ("--follow", Switch),
    ("--follow-link", Switch),
    ("--force", Switch),
    ("--force-new-cluster", Switch),
    ("--format", Checked("output::template")),
    ("--gateway", Reads("10.0.0.1", "here")),
    ("--gpus", Reads("all", "some")),
    ("--group", Reads("audio", "")),
    ("--group-add", Reads("audio", "")),
    ("--group-rm", Text),
    ("--gw-priority", Reads("-1", "high")),
    ("--health-cmd", Text),
    ("--health-interval", Reads("1m30s", "500us")),
    ("--health-retries", Reads("3", "-1")),
    ("--health-start-interval", Reads("1s", "1")),
    ("--health-start-period", Reads("0s", "-1s")),
    ("--health-timeout", Reads("1.5s", "soon")),
    ("--from", Checked("context::Contexts::get")),
    ("--host", Checked("api::transport::Transport")),
    ("--host-add", Reads("db:fd00::1", "db:")),
    ("--host-rm", Reads("db:10.0.0.1", "db")),
    ("--hostname", Checked("proto::rules")),
    ("--human", Reads("false", "maybe")),
    ("--image", Checked("proto::rules")),
    ("--ingress", Switch),
    ("--init", Switch),
    ("--input", Text),
    ("--interactive", Switch),
    ("--internal", Switch),
    ("--ip", Reads("10.0.0.9", "fd00::9")),
    ("--ip-range", Reads("10.0.0.0/24", "x")),
    ("--ip6", Reads("fd00::9", "10.0.0.9")),
    ("--ipam-driver", Checked("manager::api::validate::network")),
    ("--ipam-opt", Reads("a=b", "=b")),
    ("--ipc", Reads("host", "other")),
    ("--ipv4", Reads("true", "maybe")),
    ("--ipv6", Reads("false", "maybe")),
    ("--label", Reads("a=", "=a")),
    ("--label-add", Reads("a=b=c", "")),
    ("--label-rm", Text),
    ("--last", Reads("3", "x")),
    ("--latest", Switch),
    ("--limit-cpu", Reads("0.5", "-1")),
    ("--limit-memory", Reads("64MB", "lots")),
    ("--limit-pids", Reads("9", "-1")),
    ("--listen-addr", Checked("rnd::swarm")),
    ("--log-driver", Checked("proto::model::LogDriver")),
    ("--log-opt", Reads("max-size=10m", "max-size")),
    ("--max-snapshots", Reads("0", "-1")),
    ("--memory", Reads("1.5g", "1x")),
    ("--memory-reservation", Reads("1.5g", "1x")),
    ("--message", Text),
    (
        "--mount",
        Reads(
            "type=bind,src=/a,dst=/b,bind-recursive=disabled",
            "type=bind,src=/a,dst=/b,bind-recursive=nonsense",
        ),
    ),
    ("--mount-add", Reads("source=v,target=/v", "source=v,target=/v,volume-driver=rexray")),
    ("--mount-rm", Text),
    ("--name", Checked("node::containers::definition")),
    ("--network", Reads("app", "")),
    ("--network-add", Reads("name=app,alias=a", "alias=a")),
    ("--network-alias", Checked("node::containers::definition")),
    ("--network-rm", Checked("the managers: it is looked up")),
    ("--no-healthcheck", Switch),
    ("--no-resolve", Switch),
    ("--no-resolve-image", Switch),
    ("--no-stdin", Switch),
    ("--no-stream", Switch),
    ("--no-task-ids", Switch),
    ("--no-trunc", Switch),
    ("--oom-kill-disable", Switch),
    ("--opt", Reads("com.docker.network.driver.mtu=1400", "=1")),
    ("--output", Text),
    ("--password", Text),
    ("--password-stdin", Switch),
    ("--pid", Reads("container:a", "container:")),
    ("--pids-limit", Reads("9", "x")),
    ("--placement-pref", Reads("spread=node.labels.z", "zone")),
    ("--placement-pref-add", Reads("spread=node.labels.z", "spread=")),
    ("--placement-pref-rm", Text),
    ("--platform", Checked("runtime::image::manifest")),
    ("--pretty", Switch),
    ("--privileged", Switch),
    ("--prune", Switch),
    ("--publish", Reads("8080-8082:80-82/udp", "80/icmp")),
    ("--publish-add", Reads("target=80,published=8080,mode=host", "published=80")),
    ("--publish-rm", Reads("target=80,published=8080,mode=host", "published=80")),
    ("--pull", Reads("never", "sometimes")),
    ("--quiet", Switch),
    ("--raw", Switch),
    ("--read-only", Switch),
    ("--replicas", Reads("3", "some")),
    ("--replicas-max-per-node", Reads("3", "-1")),
    ("--reserve-cpu", Reads("0.001", "1e3")),
    ("--reserve-memory", Reads("32 MiB", "32 XB")),
    ("--resolve-image", Reads("never", "sometimes")),
    ("--restart", Checked("node::containers::policy")),
    ("--restart-condition", Reads("on-failure", "sometimes")),
    ("--restart-delay", Reads("2s", "2")),
    ("--restart-max-attempts", Reads("3", "-1")),
    ("--restart-window", Reads("1h", "1 h")),
    ("--rm", Switch),
    ("--role", Reads("manager", "boss")),
    ("--rollback-delay", Reads("0", "-1s")),
    ("--rollback-failure-action", Reads("pause", "stop")),
    ("--rollback-max-failure-ratio", Reads("0.2", "2")),
    ("--rollback-monitor", Reads("5s", "5")),
    ("--rollback-order", Reads("start-first", "first")),
    ("--rollback-parallelism", Reads("0", "-1")),
    ("--rotate", Switch),
    ("--scope", Checked("cmd::network")),
    ("--secret", Reads("source=a,target=a,uid=7", "source=a,uid=root")),
    ("--secret-add", Reads("a", "source=a,mode=0999")),
    ("--secret-rm", Text),
    ("--security-opt", Checked("the daemon: it has them or says which it has not")),
    ("--shm-size", Reads("64m", "1x")),
    ("--sig-proxy", Reads("false", "maybe")),
    ("--signal", Checked("proto::parse::signal, by the daemon")),
    ("--since", Reads("10m", "yesterday")),
    ("--size", Switch),
    ("--snapshot-interval", Reads("1000", "x")),
    ("--skip-interpolation", Switch),
    ("--stop-grace-period", Reads("0s", "10")),
    ("--stop-signal", Reads("sigint", "SIGNOPE")),
    ("--stop-timeout", Reads("-1", "10s")),
    ("--subnet", Reads("10.0.0.0/24", "10.0.0.0/33")),
    ("--sysctl", Reads("net.core.somaxconn=9", "net.nope=1")),
    ("--sysctl-add", Reads("kernel.sem=1", "vm.swappiness=1")),
    ("--sysctl-rm", Text),
    ("--tail", Reads("all", "some")),
    ("--task-history-limit", Reads("-1", "x")),
    ("--template-driver", Reads("golang", "jinja")),
    ("--time", Reads("-1", "10s")),
    ("--timeout", Reads("30s", "30")),
    ("--timestamps", Switch),
    ("--tmpfs", Reads("/a:size=1m", "a")),
    ("--tls", Switch),
    ("--tlscacert", Checked("context::endpoint::Connection")),
    ("--tlscert", Checked("context::endpoint::Connection")),
    ("--tlskey", Checked("context::endpoint::Connection")),
    ("--tlsverify", Switch),
    ("--token", Checked("rnd::swarm")),
    ("--tty", Switch),
    ("--type", Reads("image", "thing")),
    ("--ulimit", Reads("nofile=1024:2048", "nosuch=1")),
    ("--ulimit-add", Reads("core=-1", "nofile=2:1")),
    ("--ulimit-rm", Text),
    ("--until", Reads("2026-01-31T10:00", "tomorrow")),
    ("--update-delay", Reads("1m30s", "soon")),
    ("--update-failure-action", Reads("rollback", "stop")),
    ("--update-max-failure-ratio", Reads("0.2", "2")),
    ("--update-monitor", Reads("5s", "5")),
    ("--update-order", Reads("start-first", "first")),
    ("--update-parallelism", Reads("0", "-1")),
    ("--user", Checked("runtime::users, by the image's passwd")),
    ("--username", Text),
    ("--userns", Reads("host", "other")),
    ("--uts", Reads("host", "other")),
    ("--verbose", Switch),
    ("--volume", Reads("/a:/b:ro", "a:b")),
    ("--volumes", Switch),
    ("--with-registry-auth", Switch),
    ("--workdir", Checked("proto::rules")),
    // Docker's, of services.
    ("--credential-spec", Refused),
    ("--generic-resource", Refused),
    ("--isolation", Refused),
    ("--max-concurrent", Refused),
    ("--memory-swap", Refused),
    ("--memory-swappiness", Refused),
    ("--oom-score-adj", Refused),
];

fn row(command: &str, flag: &str) -> Option<&'static Does> {
    let full = format!("{command} {flag}");
    let find = |wanted: &str| ROWS.iter().find(|(name, _)| *name == wanted).map(|(_, does)| does);
    find(&full).or_else(|| find(flag))
}

/// What a command needs beside the flag: its other required flags and its arguments.
fn needs(path: &str, command: &Command, flag: &str) -> Vec<String> {
    if path.is_empty() {
        return vec!["info".into()];
    }
    // Waits for everything, or for containers.
    if path == "wait" {
        return if flag == "converged" { Vec::new() } else { vec!["--converged".into()] };
    }
    let mut words = Vec::new();
    for arg in command.get_arguments().filter(|a| a.is_required_set()) {
        let is_pair = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.contains('=')));
        let usual = if is_pair { "x=1" } else { "x" };
        let value = arg.get_possible_values().first().map_or(usual.to_owned(), |v| v.get_name().to_owned());
        match arg.get_long() {
            Some(long) if long == flag => {}
            Some(long) => words.push(format!("--{long}={value}")),
            None => {
                let n = arg.get_num_args().map_or(1, |n| n.min_values().max(1));
                words.extend(std::iter::repeat_n(value, n));
            }
        }
    }
    words
}

fn parses(path: &str, flag: &[String], needs: &[String]) -> Result<(), String> {
    let words = std::iter::once("rnctl").chain(path.split_whitespace()).map(str::to_owned);
    let line: Vec<String> = words.chain(flag.iter().cloned()).chain(needs.iter().cloned()).collect();
    Cli::command().try_get_matches_from(&line).map(drop).map_err(|e| format!("{line:?}: {e}"))
}

fn check(path: &str, command: &Command, arg: &Arg, found: &mut Vec<String>) {
    let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long)) else { return };
    let (flag, needs) = (format!("--{long}"), needs(path, command, long));
    let Some(does) = row(path, &flag) else {
        found.push(format!("{path} {flag} has no row"));
        return;
    };
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let with = |value: &str| parses(path, &[format!("{flag}={value}")], &needs);
    match does {
        Switch if !is_switch => found.push(format!("{path} {flag} takes a value")),
        Switch | Refused if is_switch => found.extend(parses(path, &[flag.clone()], &needs).err()),
        _ if is_switch => found.push(format!("{path} {flag} takes no value")),
        Reads(good, bad) => {
            found.extend(with(good).err());
            if with(bad).is_ok() {
                found.push(format!("{path} {flag}={bad} is taken"));
            }
        }
        Checked("") => found.push(format!("{path} {flag}: who checks it?")),
        Text | Checked(_) | Refused | Switch => {}
    }
}

fn walk(path: &str, command: &Command, found: &mut Vec<String>, seen: &mut Vec<String>) {
    for arg in command.get_arguments() {
        check(path, command, arg, found);
        seen.extend(arg.get_long().map(|long| format!("--{long}")));
    }
    for sub in command.get_subcommands() {
        walk(format!("{path} {}", sub.get_name()).trim_start(), sub, found, seen);
    }
}

#[test]
fn each_flag_is_done_or_refused() {
    let mut command = Cli::command();
    command.build();
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    walk("", &command, &mut found, &mut seen);
    for (name, _) in ROWS {
        let flag = name.rsplit(' ').next().unwrap_or_default();
        if !seen.iter().any(|s| s == flag) {
            found.push(format!("{name} is no flag any more"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
