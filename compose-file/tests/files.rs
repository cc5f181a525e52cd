//! Whole files: what Docker's client prints of them (`fixtures/*.config.yml` are its output), and the bodies that come of them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, path::Path};

use compose_file::{Loaded, Settings, emit, load, translate};
use serde_json::{Value, json};

fn try_load(files: &[&str], variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings = Settings {
        environment: &environment,
        folder: Path::new("/work"),
        interpolates: true,
        read: &|path| match path.to_str() {
            Some("/work/web.env") => Ok(b"A=file\nB=file\nSET=\nHERE\n".to_vec()),
            _ => Err(format!("open {}: no such file or directory", path.display())),
        },
    };
    let named = |(k, text): (usize, &&str)| (format!("{k}.yml"), (*text).to_owned());
    let files: Vec<(String, String)> = files.iter().enumerate().map(named).collect();
    load(&files, &settings).map_err(|e| e.to_string())
}

fn loaded(text: &str) -> Loaded {
    try_load(&[text], &[]).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn plan(text: &str) -> translate::Plan {
    let namespace = translate::Namespace::new("s").unwrap();
    translate::plan(&namespace, &loaded(text).compose).unwrap_or_else(|e| panic!("{e}"))
}

fn service(text: &str) -> Value {
    serde_json::to_value(&plan(text).services["web"]).unwrap()
}

#[test]
fn printed_as_docker_prints_them() {
    let (base, more) = (include_str!("fixtures/base.yml"), include_str!("fixtures/override.yml"));
    assert_eq!(emit::compose(&loaded(base).compose), include_str!("fixtures/base.config.yml"));
    let merged = try_load(&[base, more], &[]).unwrap();
    assert_eq!(emit::compose(&merged.compose), include_str!("fixtures/merged.config.yml"));
    assert_eq!(merged.warnings, ["secret t: secret.external.name is deprecated in favor of secret.name"]);
    // What was printed says the same again.
    let again = loaded(include_str!("fixtures/merged.config.yml"));
    assert_eq!(again.compose, merged.compose);
}

/// The file whose requests were recorded from Docker's client.
const RECORDED: &str = r#"
services:
  web:
    image: img:1
    command: sleep 60
    environment: {A: 1}
    ports: ["8080:80", {target: 53, published: 5353, protocol: udp, mode: host}]
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, "true"], interval: 5s}
    secrets: [sec]
    configs: [cfg]
    networks: {default: , front: {aliases: [www]}}
    deploy:
      replicas: 2
      labels: {l: v}
      update_config: {parallelism: 1, delay: 1s, order: start-first}
      resources: {limits: {memory: 64M}}
      placement: {constraints: [node.role == manager]}
networks:
  front: {attachable: true, driver_opts: {encrypted: ""}}
volumes: {data: }
secrets: {sec: {file: ./sec}}
configs: {cfg: {file: ./cfg}}
"#;

#[test]
fn bodies_are_those_that_docker_sends() {
    let plan = plan(RECORDED);
    let networks: Vec<_> =
        plan.networks.iter().map(|n| (n.name.as_str(), n.driver.as_str(), n.attachable)).collect();
    assert_eq!(networks, [("s_default", "overlay", false), ("s_front", "overlay", true)]);
    assert_eq!(plan.networks[1].options, BTreeMap::from([("encrypted".to_owned(), String::new())]));
    assert_eq!(plan.networks[0].labels["com.docker.stack.namespace"], "s");
    assert_eq!(
        (plan.secrets[0].name.as_str(), plan.secrets[0].path.as_deref()),
        ("s_sec", Some("/work/sec"))
    );
    assert_eq!(plan.configs[0].labels["com.docker.stack.namespace"], "s");
    let mut spec = plan.services["web"].clone();
    let ids = |name: &str| BTreeMap::from([(name.to_owned(), "s1".to_owned())]);
    assert_eq!(
        translate::with_ids(&mut spec.clone(), &BTreeMap::new(), &ids("s_cfg")),
        Err("secret not found: s_sec".into())
    );
    translate::with_ids(&mut spec, &ids("s_sec"), &ids("s_cfg")).unwrap();
    let spec = serde_json::to_value(&spec).unwrap();
    let stack = json!({"com.docker.stack.namespace": "s"});
    assert_eq!(spec["Name"], "s_web");
    assert_eq!(
        spec["Labels"],
        json!({"com.docker.stack.image": "img:1", "com.docker.stack.namespace": "s", "l": "v"})
    );
    let file = |name: &str| json!({"Name": name, "UID": "0", "GID": "0", "Mode": 292});
    assert_eq!(
        spec["TaskTemplate"]["ContainerSpec"],
        json!({"Image": "img:1", "Labels": stack, "Args": ["sleep", "60"], "Env": ["A=1"],
            "Mounts": [{"Type": "volume", "Source": "s_data", "Target": "/data", "VolumeOptions": {"Labels": stack}}],
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_i64},
            "Secrets": [{"File": file("sec"), "SecretID": "s1", "SecretName": "s_sec"}],
            "Configs": [{"File": file("cfg"), "ConfigID": "s1", "ConfigName": "s_cfg"}]})
    );
    assert_eq!(spec["TaskTemplate"]["Resources"], json!({"Limits": {"MemoryBytes": 67_108_864}}));
    assert_eq!(spec["TaskTemplate"]["Placement"], json!({"Constraints": ["node.role == manager"]}));
    assert_eq!(
        spec["TaskTemplate"]["Networks"],
        json!([{"Target": "s_default", "Aliases": ["web"]}, {"Target": "s_front", "Aliases": ["www", "web"]}])
    );
    assert_eq!(spec["Mode"], json!({"Replicated": {"Replicas": 2}}));
    assert_eq!(spec["UpdateConfig"]["Delay"], 1_000_000_000);
    assert_eq!(
        spec["EndpointSpec"],
        json!({"Ports": [{"Protocol": "udp", "TargetPort": 53, "PublishedPort": 5353, "PublishMode": "host"},
            {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}]})
    );
}

#[test]
fn the_rest_of_services() {
    let spec = service(
        r#"
services:
  web:
    image: x
    cap_add: [net_admin, CAP_SYS_TIME]
    cap_drop: [NET_ADMIN, chown]
    entrypoint: ["/a", "b c"]
    extra_hosts: ["db:10.0.0.1", "six=[fd00::1]"]
    dns: 1.1.1.1
    dns_search: [a.example]
    logging: {driver: json-file, options: {max-size: 1m}}
    ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}
    sysctls: [net.core.somaxconn=9]
    stop_grace_period: 1m30s
    restart: on-failure:3
    volumes: ["/srv:/srv:ro,rslave", {type: tmpfs, target: /t, tmpfs: {size: 4096}}, "ext:/e", "/anon"]
    networks: [ext, host]
    deploy:
      mode: global
      endpoint_mode: DNSRR
      restart_policy: {condition: any, delay: 0s, window: 1h}
      rollback_config: {parallelism: 0, max_failure_ratio: 0.1}
      placement: {max_replicas_per_node: 2, preferences: [{spread: node.labels.z}]}
      resources: {limits: {cpus: "0.5", pids: 9}, reservations: {memory: 1g}}
networks: {ext: {external: true, name: shared}, host: {external: true}}
volumes: {ext: {external: true}}
"#,
    );
    let container = &spec["TaskTemplate"]["ContainerSpec"];
    for (key, want) in [
        ("CapabilityAdd", json!(["CAP_NET_ADMIN", "CAP_SYS_TIME"])),
        ("CapabilityDrop", json!(["CAP_CHOWN"])),
        ("Command", json!(["/a", "b c"])),
        ("Hosts", json!(["10.0.0.1 db", "fd00::1 six"])),
        ("DNSConfig", json!({"Nameservers": ["1.1.1.1"], "Search": ["a.example"]})),
        (
            "Ulimits",
            json!([{"Name": "nofile", "Hard": 2, "Soft": 1}, {"Name": "nproc", "Hard": 5, "Soft": 5}]),
        ),
        ("Sysctls", json!({"net.core.somaxconn": "9"})),
        ("StopGracePeriod", json!(90_000_000_000_i64)),
        (
            "Mounts",
            json!([
                {"Type": "bind", "Source": "/srv", "Target": "/srv", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096}},
                {"Type": "volume", "Source": "ext", "Target": "/e", "VolumeOptions": {}},
                {"Type": "volume", "Target": "/anon"}
            ]),
        ),
    ] {
        assert_eq!(container[key], want, "{key}");
    }
    let task = &spec["TaskTemplate"];
    assert_eq!(task["LogDriver"], json!({"Name": "json-file", "Options": {"max-size": "1m"}}));
    assert_eq!(
        task["RestartPolicy"],
        json!({"Condition": "any", "Delay": 0, "Window": 3_600_000_000_000_i64})
    );
    assert_eq!(task["Networks"], json!([{"Target": "host"}, {"Target": "shared", "Aliases": ["web"]}]));
    assert_eq!(
        task["Placement"],
        json!({"Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.z"}}], "MaxReplicas": 2})
    );
    assert_eq!(
        task["Resources"],
        json!({"Limits": {"NanoCPUs": 500_000_000, "Pids": 9}, "Reservations": {"MemoryBytes": 1_073_741_824}})
    );
    assert_eq!(spec["Mode"], json!({"Global": {}}));
    assert_eq!(spec["EndpointSpec"], json!({"Mode": "dnsrr"}));
    assert_eq!(
        (&spec["RollbackConfig"]["Parallelism"], &spec["RollbackConfig"]["MaxFailureRatio"]),
        (&json!(0), &json!(0.1))
    );
    let restart = service("services: {web: {image: x, restart: 'on-failure:3'}}");
    assert_eq!(
        restart["TaskTemplate"]["RestartPolicy"],
        json!({"Condition": "on-failure", "MaxAttempts": 3})
    );
}

#[test]
fn variables_come_from_files_and_from_the_client() {
    let text = "services: {web: {image: '${IMG:-x}:$TAG', env_file: web.env, environment: {B: own, C: , SET: '', D: }}}";
    let read = try_load(&[text], &[("TAG", "7"), ("C", "client"), ("SET", "client"), ("HERE", "h")]).unwrap();
    let web = &read.compose.services["web"];
    assert_eq!(web.image, "x:7");
    let variables: Vec<_> =
        web.environment.iter().map(|(k, v)| format!("{k}={}", v.as_deref().unwrap_or("-"))).collect();
    assert_eq!(variables, ["A=file", "B=own", "C=client", "D=-", "HERE=h", "SET=client"]);
    assert_eq!(
        try_load(&["services: {web: {image: x, env_file: no.env}}"], &[]).unwrap_err(),
        "0.yml: services.web.env_file open /work/no.env: no such file or directory"
    );
}

#[test]
fn what_is_wrong_is_said_with_the_file() {
    let good = "version: \"3.8\"\nservices: {web: {image: x}}";
    for (files, want) in [
        (vec![good, "version: \"3.7\""], "1.yml: version mismatched between two composefiles : 3.8 and 3.7"),
        (
            vec![good, "version: \"3.8\"\nservices: {web: {image: 5}}"],
            "1.yml: services.web.image must be a string",
        ),
        (
            vec!["services: {web: {extends: a}}"],
            "0.yml: compose file contains unsupported options:\n\nextends: ",
        ),
        (
            vec!["services: {web: {image: '${'}}"],
            "0.yml: invalid interpolation format for services.web.image",
        ),
        (vec!["secrets: {s: {}}"], "0.yml: secrets.s needs a file"),
        (
            vec!["services: {web: {deploy: {replicas: -1}}}"],
            "0.yml: services.web.deploy.replicas invalid value",
        ),
        (
            vec!["volumes: {v: {external: true, driver: x}}"],
            "0.yml: conflicting parameters \"external\" and \"driver\"",
        ),
        (
            vec!["networks: {n: {name: a, external: {name: b}}}"],
            "0.yml: network n: network.external.name and network.name conflict",
        ),
        (
            vec!["services: {web: {volumes: [{type: bind, target: /x}]}}"],
            "0.yml: services.web.volumes.0 invalid mount config",
        ),
        (vec!["services: {web: {volumes: ['/a:/b:/c:d:e']}}"], "0.yml: services.web.volumes 0: invalid spec"),
        (vec!["services: {web: {command: 'a \"b'}}"], "0.yml: services.web.command a quote in"),
    ] {
        let error = try_load(&files, &[]).unwrap_err();
        assert!(error.starts_with(want), "{error}");
    }
    let refused = |text: &str| {
        let namespace = translate::Namespace::new("s").unwrap();
        translate::plan(&namespace, &loaded(text).compose).unwrap_err().to_string()
    };
    assert_eq!(refused("services: {web: {networks: [x]}}"), "service web: undefined network \"x\"");
    assert_eq!(refused("services: {web: {volumes: ['xx:/x']}}"), "service web: undefined volume \"xx\"");
    assert_eq!(refused("services: {web: {secrets: [x]}}"), "service web: undefined secret \"x\"");
    assert_eq!(refused("services: {web: {deploy: {mode: x}}}"), "service web: unknown mode: x");
    assert!(
        refused("services: {web: {deploy: {mode: global, replicas: 2}}}")
            .contains("replicas can only be used")
    );
    assert!(translate::Namespace::new(" '\" ").is_err());
}

#[test]
fn what_is_left_out_is_said() {
    let read = loaded("services: {web: {image: x, build: ., container_name: c, ports: ['127.0.0.1:80:80']}}");
    assert_eq!(read.left_out.warnings().len(), 2);
    assert_eq!(read.warnings, ["ignoring IP-address (127.0.0.1:80:80) service will listen on all addresses"]);
}
