#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::model::{ContainerId, ContainerSpec, Mount, Resources, Ulimit};

use super::*;

fn config(spec: ContainerSpec) -> ContainerConfig {
    ContainerConfig {
        id: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
            .parse::<ContainerId>()
            .unwrap(),
        name: "web.1".to_owned(),
        task: None,
        spec,
        limits: Resources { nano_cpus: 1_500_000_000, memory_bytes: 64 << 20, pids: 100 },
        netns: Some("/run/rn/netns/t1".into()),
        addrs: vec![],
        search: vec![],
        files: vec![],
    }
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        env: vec!["A=image".to_owned(), "B=image".to_owned()],
        working_dir: "/srv".to_owned(),
        ..ImageConfig::default()
    }
}

fn compose_with(config: &ContainerConfig, uid: u32) -> Result<Bundle> {
    let user = User { uid, gid: 7, groups: vec![8], home: "/home/x".to_owned() };
    compose(&Inputs {
        config,
        image: &image(),
        user: &user,
        dir: Path::new("/data/containers/c"),
        run_dir: Path::new("/run/rn/containers/c"),
        volumes: Path::new("/data/volumes"),
        cgroup: "/rn/d/c",
        unified_cgroups: true,
        init: None,
        machine: &Machine {
            hostname: "node1".to_owned(),
            hosts: "127.0.0.1\tlocalhost\n10.0.0.1\tnode1\n".to_owned(),
            resolv_conf: "nameserver 192.0.2.53\n".to_owned(),
        },
    })
}

fn bundle(spec: ContainerSpec) -> Bundle {
    compose_with(&config(spec), 0).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn in_the_machines_network_a_container_goes_by_its_name() {
    let own = bundle(ContainerSpec::default());
    let host = compose_with(&ContainerConfig { netns: None, ..config(ContainerSpec::default()) }, 0).unwrap();
    let has_netns = |b: &Bundle| {
        let list = b.config["linux"]["namespaces"].as_array().unwrap();
        list.iter().any(|n| n["type"] == "network")
    };
    assert!(has_netns(&own) && !has_netns(&host));
    assert_eq!((own.hostname.as_str(), host.hostname.as_str()), ("0123456789ab", "node1"));
    assert_eq!(own.config["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(host.config["linux"]["sysctl"], json!({}), "they would be the machine's");
    let file = |name: &str| &host.files.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(file("hosts"), "127.0.0.1\tlocalhost\n10.0.0.1\tnode1\n");
    assert_eq!(file("resolv.conf"), "nameserver 192.0.2.53\n");
}

#[test]
fn the_command_is_put_together_as_docker_does() {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    for (command, args, want) in [
        (&[][..], &[][..], &["/entry", "serve"][..]),
        (&[], &["x"], &["/entry", "x"]),
        (&["sh"], &[], &["sh"]),
        (&["sh"], &["-c", "y"], &["sh", "-c", "y"]),
    ] {
        let made =
            bundle(ContainerSpec { command: list(command), args: list(args), ..ContainerSpec::default() });
        assert_eq!(made.command, want);
        assert_eq!(strings(&made.config["process"]["args"]), want);
    }
}

#[test]
fn environment_is_layered() {
    let env = ["A=spec", "B", "C=spec", "HOME=/root"].map(str::to_owned).to_vec();
    let made = bundle(ContainerSpec { env, hostname: "h".to_owned(), ..ContainerSpec::default() });
    assert_eq!(
        strings(&made.config["process"]["env"]),
        [DEFAULT_PATH, "HOSTNAME=h", "A=spec", "C=spec", "HOME=/root"]
    );
    let made = bundle(ContainerSpec::default());
    assert!(strings(&made.config["process"]["env"]).contains(&"HOSTNAME=0123456789ab"), "the short id");
    assert!(strings(&made.config["process"]["env"]).contains(&"HOME=/home/x"));
}

#[test]
fn limits_confine_and_a_plain_user_holds_no_capability() {
    let spec = ContainerSpec {
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 1024, hard: -1 }],
        user: "app".to_owned(),
        ..ContainerSpec::default()
    };
    let made = compose_with(&config(spec), 1000).unwrap();
    let linux = &made.config["linux"];
    assert_eq!(linux["resources"]["memory"]["limit"], 64 << 20);
    assert_eq!(linux["resources"]["cpu"]["quota"], 150_000);
    assert_eq!(linux["resources"]["pids"]["limit"], 100);
    assert_eq!(
        made.config["process"]["rlimits"][0],
        json!({ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": u64::MAX })
    );
    let caps = &made.config["process"]["capabilities"];
    assert_eq!((strings(&caps["bounding"]).len(), strings(&caps["effective"]).len()), (14, 0));
    assert!(
        made.config["process"].get("noNewPrivileges").is_none(),
        "its absence is what lets set-user-id programs work"
    );
}

#[test]
fn mounts_are_ordered_checked_and_resolved() {
    let mount = |kind: &str, source: &str, target: &str| Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        ..Mount::default()
    };
    let spec = ContainerSpec {
        mounts: vec![
            mount("tmpfs", "", "/a/b"),
            mount("volume", "data", "/a"),
            mount("bind", "/host", "/c/"),
        ],
        ..ContainerSpec::default()
    };
    let made = bundle(spec);
    let targets: Vec<_> = made.config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    assert!(
        targets.ends_with(&["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/a", "/c/", "/a/b"]),
        "{targets:?}"
    );
    assert_eq!(made.binds, [PathBuf::from("/host")]);
    assert_eq!(made.volumes, [CopyUp { from: "/a".into(), to: "/data/volumes/data/_data".into() }]);
    for wrong in [
        mount("bind", "relative", "/x"),
        mount("bind", "/ok", "x"),
        mount("bind", "/ok", "/"),
        mount("bind", "/ok", "/a/../../b"),
        mount("volume", "../up", "/x"),
        mount("nfs", "x", "/x"),
    ] {
        let spec = ContainerSpec { mounts: vec![wrong.clone()], ..ContainerSpec::default() };
        assert!(compose_with(&config(spec), 0).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    for (spec, reason) in [
        (ContainerSpec { init: Some(true), ..ContainerSpec::default() }, "init"),
        (ContainerSpec { dir: "relative".to_owned(), ..ContainerSpec::default() }, "absolute"),
        (ContainerSpec { cap_add: vec!["NOPE".to_owned()], ..ContainerSpec::default() }, "capability"),
        (ContainerSpec { stop_signal: "SIGNOPE".to_owned(), ..ContainerSpec::default() }, "signal"),
        (
            ContainerSpec {
                ulimits: vec![Ulimit { name: "x".to_owned(), soft: 1, hard: 1 }],
                ..ContainerSpec::default()
            },
            "ulimit",
        ),
    ] {
        let error = compose_with(&config(spec), 0).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn secrets_are_files_of_their_own_that_nobody_writes() {
    let file = |target: &str| crate::ContainerFile {
        target: target.to_owned(),
        uid: 1,
        gid: 2,
        mode: 0o400,
        data: proto::model::Payload(b"x".to_vec()),
    };
    let files = vec![file("/run/secrets/key"), file("/etc/app.conf")];
    let spec = ContainerSpec {
        mounts: vec![Mount { kind: "tmpfs".to_owned(), target: "/run".to_owned(), ..Mount::default() }],
        ..ContainerSpec::default()
    };
    let made = compose_with(&ContainerConfig { files, ..config(spec) }, 0).unwrap();
    let mounts = made.config["mounts"].as_array().unwrap();
    let last: Vec<_> = mounts[mounts.len() - 3..]
        .iter()
        .map(|m| (m["source"].as_str().unwrap(), m["destination"].as_str().unwrap()))
        .collect();
    let dir = "/run/rn/containers/c/files";
    assert_eq!(
        last,
        [
            ("tmpfs", "/run"),
            (&*format!("{dir}/0"), "/run/secrets/key"),
            (&*format!("{dir}/1"), "/etc/app.conf"),
        ]
    );
    assert!(strings(&mounts[mounts.len() - 1]["options"]).contains(&"ro"));
    assert!(!made.config.to_string().contains("\"x\""), "what is in them is elsewhere");
}
