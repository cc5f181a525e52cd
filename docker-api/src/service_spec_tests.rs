#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proto::model::{
    EndpointMode, FailureAction, Mount, PortConfig, Protocol, PublishMode, RestartCondition, UpdateOrder,
};

use super::*;
use crate::json::read;

fn spec(body: &str) -> Result<model::ServiceSpec, ApiError> {
    read::<ServiceSpec>(body.as_bytes())?.try_into()
}

#[test]
fn what_the_client_sends_for_an_image_alone_is_the_default() {
    // As `docker service create img` sends it.
    let body = r#"{"Labels":{},"TaskTemplate":{"ContainerSpec":{"Image":"img:latest","Init":false,"DNSConfig":{}},
        "Resources":{"Limits":{},"Reservations":{}},"Placement":{},"ForceUpdate":0},"Mode":{"Replicated":{}},
        "EndpointSpec":{"Mode":"vip"}}"#;
    let made = spec(body).unwrap();
    let container = model::ContainerSpec {
        image: "img:latest".into(),
        init: Some(false),
        ..model::ContainerSpec::default()
    };
    assert_eq!(made.task, model::TaskSpec { container, ..model::TaskSpec::default() });
    assert_eq!((made.mode, made.update, made.rollback), (ServiceMode::Replicated(1), None, None));
}

#[test]
fn what_the_client_sends_with_many_flags_finds_its_place() {
    let body = r#"{"Name":"web","Labels":{"l":"v"},"TaskTemplate":{"ContainerSpec":{"Image":"img:1","Args":["sleep","60"],"Env":["A=1"],
        "Mounts":[{"Type":"volume","Source":"v","Target":"/v"}],"StopGracePeriod":3000000000,"Healthcheck":{"Test":["CMD-SHELL","true"]},
        "Privileges":{"CredentialSpec":null,"SELinuxContext":null,"NoNewPrivileges":false},"Hosts":["10.0.0.9 db"]},
        "Resources":{"Limits":{"MemoryBytes":67108864}},"RestartPolicy":{"Condition":"any","Delay":5000000000,"MaxAttempts":0},
        "Placement":{"Constraints":["node.role==worker"],"Preferences":[{"Spread":{"SpreadDescriptor":"node.labels.z"}}],
        "Platforms":[{"Architecture":"amd64","OS":"linux"}]},"Networks":[{"Target":"n1"}],"LogDriver":{"Name":"json-file"}},
        "Mode":{"Replicated":{"Replicas":3}},
        "UpdateConfig":{"Parallelism":1,"Delay":1000000000,"FailureAction":"pause","Monitor":5000000000,"Order":"start-first"},
        "EndpointSpec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"},
        {"Protocol":"udp","TargetPort":53,"PublishedPort":53,"PublishMode":"host"}]}}"#;
    let made = spec(body).unwrap();
    assert_eq!(made.mode, ServiceMode::Replicated(3));
    assert_eq!(made.task.container.stop_grace_period, Some(Millis::secs(3)));
    assert_eq!(made.task.container.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "true"]);
    assert_eq!(made.task.limits.memory_bytes, 64 << 20);
    assert_eq!(made.task.placement.preferences, ["spread=node.labels.z"]);
    assert_eq!(made.update.as_ref().unwrap().order, UpdateOrder::StartFirst);
    assert_eq!(made.endpoint.ports[1].mode, PublishMode::Host);
    assert_eq!(made.task.networks[0].target, "n1");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let container =
        |field: &str| format!(r#"{{"TaskTemplate":{{"ContainerSpec":{{"Image":"x",{field}}}}}}}"#);
    let task = |field: &str| format!(r#"{{"TaskTemplate":{{"ContainerSpec":{{}},{field}}}}}"#);
    let service = |field: &str| format!(r#"{{"TaskTemplate":{{"ContainerSpec":{{}}}},{field}}}"#);
    for (body, words) in [
        ("{}".to_owned(), "ContainerSpec must be provided"),
        (container(r#""Secrets":[{"SecretName":"x"}]"#), "File must be given"),
        (container(r#""Configs":[{"ConfigName":"x","File":{"UID":"root"}}]"#), "UID"),
        (container(r#""Configs":[{"ConfigName":"x","Runtime":{"a":1}}]"#), "Runtime"),
        (container(r#""Privileges":{"NoNewPrivileges":true}"#), "Privileges"),
        (container(r#""Isolation":"hyperv""#), "Isolation"),
        (container(r#""OomScoreAdj":5"#), "OomScoreAdj"),
        (container(r#""StopGracePeriod":-1"#), "StopGracePeriod"),
        (container(r#""HealthCheck":{"Interval":5}"#), "Healthcheck.Interval"),
        (container(r#""Healthcheck":{"Retries":-5}"#), "Retries"),
        (container(r#""DNSConfig":{"Nameservers":["dns"]}"#), "dns"),
        (task(r#""PluginSpec":{"Name":"x"}"#), "plugins"),
        (task(r#""Runtime":"attachment""#), "network attachments"),
        (task(r#""Runtime":"wasm""#), "wasm"),
        (task(r#""Resources":{"Limits":{"NanoCPUs":-1}}"#), "NanoCPUs"),
        (task(r#""Resources":{"Reservations":{"GenericResources":[{}]}}"#), "GenericResources"),
        (task(r#""Resources":{"MemorySwappiness":7}"#), "MemorySwappiness"),
        (task(r#""RestartPolicy":{"Condition":"sometimes"}"#), "sometimes"),
        (service(r#""Mode":{"ReplicatedJob":{}}"#), "jobs"),
        (service(r#""Mode":{"Global":{},"Replicated":{}}"#), "only one service mode"),
        (service(r#""UpdateConfig":{"Order":"any"}"#), "order any"),
        (service(r#""EndpointSpec":{"Mode":"magic"}"#), "magic"),
        (service(r#""EndpointSpec":{"Ports":[{"TargetPort":70000}]}"#), "TargetPort: 70000"),
        (service(r#""EndpointSpec":{"Ports":[{"Protocol":"icmp","TargetPort":7}]}"#), "icmp"),
    ] {
        let error = spec(&body).unwrap_err();
        assert!(error.message.contains(words), "{body}: {error}");
        assert_eq!(crate::error::status(&error), 400, "{body}");
    }
}

#[test]
fn defaults_are_said_where_they_are_asked_for() {
    let made = with_defaults(spec(r#"{"TaskTemplate":{"ContainerSpec":{"Image":"x"}}}"#).unwrap());
    let json = serde_json::to_value(ServiceSpec::from(&made)).unwrap();
    assert_eq!(json["TaskTemplate"]["RestartPolicy"]["Delay"], 5_000_000_000_i64);
    assert_eq!(json["UpdateConfig"]["Parallelism"], 1);
    assert_eq!(json["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"], 10_000_000_000_i64);
    assert_eq!(invented_name(0), "brave_babbage0");
}

prop_compose! {
    fn update()(parallelism in 0u64..9, delay in 0u64..99_999, monitor in 1u64..99_999, ratio in 0u8..100, pick in 0usize..3, first: bool)
        -> model::UpdateConfig {
        model::UpdateConfig {
            parallelism,
            delay: Millis(delay),
            failure_action: [FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback][pick],
            monitor: Millis(monitor),
            max_failure_ratio: f64::from(ratio) / 100.0,
            order: if first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst },
        }
    }
}

prop_compose! {
    fn container()(words in prop::collection::vec("[a-z]{0,4}", 0..4), grace in prop::option::of(0u64..99_999), init in prop::option::of(any::<bool>()),
        tty: bool, health in prop::option::of(1u64..9999), label in "[a-z]{1,5}") -> model::ContainerSpec {
        model::ContainerSpec {
            image: "web:1".into(),
            command: words.clone(),
            args: words.clone(),
            env: words,
            hostname: "h".into(),
            labels: BTreeMap::from([(label.clone(), String::new())]),
            mounts: vec![Mount { kind: "tmpfs".into(), target: "/t".into(), ..Mount::default() }],
            stop_grace_period: grace.map(Millis),
            tty,
            init,
            healthcheck: health.map(|n| model::Healthcheck { interval: Millis(n), retries: 3, ..model::Healthcheck::default() }),
            sysctls: BTreeMap::from([("net.a".to_owned(), label)]),
            secrets: vec![model::FileReference { id: Some("a1".parse().unwrap()), name: "s".into(), target: "s".into(), uid: 1, gid: 2, mode: 0o444 }],
            configs: vec![model::FileReference { id: None, name: "c".into(), target: "/c".into(), uid: 0, gid: 0, mode: 0o400 }],
            ulimits: vec![model::Ulimit { name: "nofile".into(), soft: -1, hard: 7 }],
            ..model::ContainerSpec::default()
        }
    }
}

prop_compose! {
    fn service()(container in container(), update in prop::option::of(update()), rollback in prop::option::of(update()),
        replicas in prop::option::of(0u64..9), attempts in 0u64..9, port in 1u16.., udp: bool, force in 0u64..9, pick in 0usize..3)
        -> model::ServiceSpec {
        model::ServiceSpec {
            name: "web".into(),
            labels: container.labels.clone(),
            task: model::TaskSpec {
                container,
                limits: model::Resources { nano_cpus: 1, memory_bytes: 2, pids: 3 },
                reservations: model::Resources { nano_cpus: 0, memory_bytes: 5, pids: 0 },
                restart: Some(model::RestartPolicy {
                    condition: [RestartCondition::None, RestartCondition::OnFailure, RestartCondition::Any][pick],
                    delay: Millis(0),
                    max_attempts: attempts,
                    window: Millis(attempts),
                }),
                placement: model::Placement {
                    constraints: vec!["node.role==worker".into()],
                    preferences: vec!["spread=node.labels.a".into()],
                    max_replicas: attempts,
                },
                networks: vec![model::NetworkAttachmentConfig { target: "n".into(), aliases: vec!["a".into()], driver_opts: BTreeMap::new() }],
                force_update: force,
            },
            mode: replicas.map_or(ServiceMode::Global, ServiceMode::Replicated),
            update,
            rollback,
            endpoint: model::EndpointSpec {
                mode: if udp { EndpointMode::Vip } else { EndpointMode::DnsRr },
                ports: vec![PortConfig {
                    name: String::new(),
                    protocol: if udp { Protocol::Udp } else { Protocol::Sctp },
                    target: port,
                    published: port,
                    mode: if udp { PublishMode::Ingress } else { PublishMode::Host },
                }],
            },
        }
    }
}

proptest! {
    /// `docker service update` sends back what it has read: nothing may change on the way.
    #[test]
    fn a_spec_survives_a_client(spec in service()) {
        let sent = serde_json::to_vec(&ServiceSpec::from(&spec)).unwrap();
        let back = model::ServiceSpec::try_from(read::<ServiceSpec>(&sent).unwrap()).unwrap();
        prop_assert_eq!(back, spec);
    }

    /// Whatever stands in place of a field, there is an answer.
    #[test]
    fn wrong_types_are_refused_and_nothing_panics(field in "(Name|Labels|TaskTemplate|Mode|UpdateConfig|Networks|EndpointSpec)", value in "(7|-1|\"x\"|\\[\\]|\\[7\\]|\\{\"a\":1\\}|true|null|1e99)") {
        let _ = spec(&format!("{{\"{field}\":{value}}}"));
    }
}

#[test]
fn a_preference_without_effect_is_warned_of() {
    let preference = |over: &str| {
        let body = format!(
            r#"{{"TaskTemplate":{{"ContainerSpec":{{"Image":"x"}},"Placement":{{"Preferences":[{{"Spread":{{"SpreadDescriptor":"{over}"}}}}]}}}}}}"#
        );
        warnings(&spec(&body).unwrap())
    };
    assert!(preference("node.labels.zone").is_empty() && preference("engine.labels.zone").is_empty());
    assert!(preference("com.example.zone")[0].contains("com.example.zone"));
}
