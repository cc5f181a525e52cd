#![allow(clippy::unwrap_used)]

use clap::Parser;
use proto::{model, pb};

use super::*;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    args: CreateArgs,
}

fn args(line: &str) -> CreateArgs {
    Line::try_parse_from(std::iter::once("run").chain(line.split(' ')))
        .map_err(|e| e.to_string())
        .unwrap()
        .args
}

/// What the daemon understands.
fn definition(line: &str) -> pb::ContainerDefinition {
    let args = args(line);
    let attached = args.attached();
    let body = serde_json::to_value(args.config(attached).unwrap()).unwrap();
    docker_api::container_create::read(body, "web").unwrap().definition
}

#[test]
fn the_daemon_understands_what_was_typed() {
    let made = definition(
        "--network app --network name=more,alias=m,ip6=fd00::9 --network-alias al --ip 10.0.0.9 -p 8080-8081:80-81/udp -p 80 \
         --add-host db:fd00::1 --dns 1.1.1.1 --entrypoint /e --stop-timeout -1 -i -e A=1 -v v:/v:ro --mount type=bind,src=/a,dst=/b \
         --tmpfs /t:size=1m --cpus 0.5 -m 64m --pids-limit -1 --ulimit nofile=1:2 --restart on-failure:3 --rm --health-cmd true \
         --log-opt max-size=1m --sysctl net.core.somaxconn=9 --cap-add NET_ADMIN --init --read-only -l a=b img one two",
    );
    let spec = model::ContainerSpec::try_from(made.spec.unwrap()).unwrap();
    assert_eq!((spec.image.as_str(), spec.args), ("img", vec!["one".to_owned(), "two".to_owned()]));
    assert_eq!((spec.command, spec.env), (vec!["/e".to_owned()], vec!["A=1".to_owned()]));
    assert_eq!(
        (spec.open_stdin, spec.stdin_once, spec.stop_grace_period),
        (true, true, Some(Millis::UNLIMITED))
    );
    assert_eq!(spec.hosts, ["fd00::1 db"]);
    assert_eq!(spec.mounts.iter().map(|m| m.target.as_str()).collect::<Vec<_>>(), ["/v", "/b", "/t"]);
    assert!(spec.mounts.first().is_some_and(|m| m.read_only) && spec.read_only && spec.init == Some(true));
    assert!(spec.healthcheck.is_some() && spec.log_driver.is_some() && spec.ulimits.len() == 1);
    let networks: Vec<_> = made.networks.iter().map(|n| (n.network.as_str(), n.aliases.len())).collect();
    assert_eq!(networks, [("app", 1), ("more", 1)]);
    let ports: Vec<_> = made.ports.iter().map(|p| (p.published_port, p.target_port)).collect();
    assert_eq!(ports, [(0, 80), (8080, 80), (8081, 81)]);
    assert_eq!((made.restart.as_str(), made.auto_remove), ("on-failure:3", true));
    let limits = made.limits.unwrap();
    assert_eq!((limits.nano_cpus, limits.memory_bytes, limits.pids), (500_000_000, 64 << 20, 0));
}

#[test]
fn what_is_attached_to() {
    let streams = |line: &str| {
        let Attached { stdin, stdout, stderr } = args(line).attached();
        (stdin, stdout, stderr)
    };
    assert_eq!(streams("img"), (false, true, true));
    assert_eq!(streams("-it img"), (true, true, true));
    assert_eq!(streams("-a STDERR -a stdin -i img"), (true, false, true));
    let detached = args("-i img").config(Attached::NONE).unwrap();
    assert!(detached.open_stdin && !detached.stdin_once);
}

#[test]
fn what_does_not_go_together_is_refused() {
    for line in ["--ip 10.0.0.1 img", "--network a --network a img", "-x"] {
        let refused = Line::try_parse_from(["run"].into_iter().chain(line.split(' ')))
            .map_or(true, |line| line.args.config(Attached::NONE).is_err());
        assert!(refused, "{line}");
    }
}

#[test]
fn what_only_dockerd_has_is_sent_to_whoever_is_there() {
    let config =
        args("--privileged --device /dev/a --pid host --gpus all --memory-swap -1 --cpuset-cpus 0-3 img")
            .config(Attached::NONE)
            .unwrap();
    let sent = serde_json::to_value(&config).unwrap();
    let host = &sent["HostConfig"];
    assert_eq!((&host["Privileged"], &host["PidMode"]), (&json!(true), &json!("host")));
    assert_eq!((&host["MemorySwap"], &host["CpusetCpus"]), (&json!(-1), &json!("0-3")));
    assert_eq!(host["DeviceRequests"][0]["Capabilities"], json!([["gpu"]]));
    assert_eq!(host["Devices"][0]["PathInContainer"], "/dev/a");
}
