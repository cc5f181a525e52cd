#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use crate::{model::*, pb};

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("tier".into(), "front".into())])
}

fn condition() -> Condition {
    Condition { kind: "allocation".into(), message: "pool exhausted".into(), since: Timestamp(7) }
}

fn meta() -> Meta {
    Meta { created_at: Timestamp(1), created_in: Revision(2), updated_at: Timestamp(3), version: Revision(4) }
}

fn port() -> PortConfig {
    PortConfig {
        name: "http".into(),
        protocol: Protocol::Udp,
        target: 80,
        published: 8080,
        mode: PublishMode::Host,
    }
}

fn file<Id: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> FileReference<Id> {
    let id = Some(format!("{name}1").parse().unwrap());
    FileReference { id, name: name.into(), target: "/x".into(), uid: 1, gid: 2, mode: 0o440 }
}

/// Every field differs from its default, so that a forgotten one shows.
fn task_spec() -> TaskSpec {
    TaskSpec {
        container: ContainerSpec {
            image: "web:1".into(),
            command: vec!["/bin/web".into()],
            args: vec!["-v".into()],
            env: vec!["A=b".into()],
            dir: "/srv".into(),
            user: "www".into(),
            groups: vec!["adm".into()],
            hostname: "h".into(),
            labels: labels(),
            mounts: vec![Mount {
                kind: "bind".into(),
                source: "/a".into(),
                target: "/b".into(),
                read_only: true,
                options: labels(),
                driver: "local".into(),
                driver_options: labels(),
                labels: labels(),
            }],
            stop_signal: "SIGINT".into(),
            stop_grace_period: Some(Millis(0)),
            tty: true,
            read_only: true,
            init: Some(false),
            cap_add: vec!["NET_ADMIN".into()],
            cap_drop: vec!["CHOWN".into()],
            hosts: vec!["10.0.0.1 x".into()],
            dns: DnsConfig {
                nameservers: vec!["fd00::1".parse().unwrap()],
                search: vec!["a.b".into()],
                options: vec!["ndots:1".into()],
            },
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".into(), "true".into()],
                interval: Millis(1),
                timeout: Millis(2),
                retries: 3,
                start_period: Millis(4),
                start_interval: Millis(5),
            }),
            sysctls: labels(),
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 1, hard: -1 }],
            pull_auth: Some(RegistryAuth {
                server: "reg.example:5000".into(),
                username: "me".into(),
                password: "secret".into(),
            }),
            open_stdin: true,
            stdin_once: true,
            log_driver: Some(LogDriver { name: "json-file".into(), options: labels() }),
            secrets: vec![file("secret")],
            configs: vec![file("config")],
        },
        limits: Resources { nano_cpus: 1, memory_bytes: 2, pids: 3 },
        reservations: Resources { nano_cpus: 4, memory_bytes: 5, pids: 0 },
        restart: Some(RestartPolicy {
            condition: RestartCondition::None,
            delay: Millis(1),
            max_attempts: 2,
            window: Millis(3),
        }),
        placement: Placement {
            constraints: vec!["node.role==worker".into()],
            preferences: vec!["spread=node.labels.z".into()],
            max_replicas: 2,
        },
        networks: vec![NetworkAttachmentConfig {
            target: "app".into(),
            aliases: vec!["w".into()],
            driver_opts: labels(),
        }],
        force_update: 9,
    }
}

#[test]
fn a_service_survives_the_wire() {
    let update = UpdateConfig {
        parallelism: 0,
        delay: Millis(1),
        failure_action: FailureAction::Rollback,
        monitor: Millis(2),
        max_failure_ratio: 0.5,
        order: UpdateOrder::StartFirst,
    };
    let spec = ServiceSpec {
        name: "web".into(),
        labels: labels(),
        task: task_spec(),
        mode: ServiceMode::Replicated(0),
        update: Some(update.clone()),
        rollback: Some(update),
        endpoint: EndpointSpec { mode: EndpointMode::DnsRr, ports: vec![port()] },
    };
    let service = Service {
        id: ServiceId::random(),
        meta: meta(),
        previous_spec: Some(ServiceSpec { mode: ServiceMode::Global, ..spec.clone() }),
        spec,
        spec_version: Revision(11),
        allocation: Some(ServiceAllocation {
            ports: vec![port()],
            vips: vec![Vip {
                network: NetworkId::random(),
                addrs: vec!["10.0.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            }],
            of_version: Revision(11),
        }),
        conditions: vec![condition()],
        update_status: Some(UpdateStatus {
            state: UpdateState::RollbackPaused,
            started_at: Timestamp(5),
            completed_at: Timestamp(6),
            message: "why".into(),
            slots: 3,
        }),
    };
    assert_eq!(Service::try_from(pb::Service::from(&service)), Ok(service));
}

#[test]
fn a_task_survives_the_wire() {
    let task = Task {
        id: TaskId::random(),
        meta: meta(),
        service_id: ServiceId::random(),
        service_name: "web".into(),
        slot: 3,
        spec: task_spec(),
        spec_version: Revision(5),
        allocation: Some(TaskAllocation {
            attachments: vec![Attachment {
                network: NetworkId::random(),
                addrs: vec!["10.0.1.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap()],
                aliases: vec!["w".into()],
            }],
            ingress_addrs: vec!["10.0.0.5".parse().unwrap()],
            ports: vec![port()],
        }),
        node_id: Some(NodeId::random()),
        desired: TaskState::Remove,
        status: TaskStatus {
            state: TaskState::Failed,
            at: Timestamp(4),
            message: "m".into(),
            err: "e".into(),
            container_id: "c".into(),
            pid: 12,
            exit_code: Some(0),
            ports: vec![port()],
        },
        conditions: vec![condition()],
        start_after: Timestamp(99),
        running_at: Timestamp(100),
        ended_at: Timestamp(101),
        attached_container: Some("c1".parse().unwrap()),
    };
    assert_eq!(Task::try_from(pb::Task::from(&task)), Ok(task));
}

#[test]
fn nodes_networks_and_the_cluster_survive_the_wire() {
    let node = Node {
        id: NodeId::random(),
        meta: meta(),
        spec: NodeSpec {
            name: "n".into(),
            labels: labels(),
            role: Role::Manager,
            availability: Availability::Drain,
        },
        description: Some(NodeDescription {
            hostname: "h".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 1,
            memory_bytes: 2,
            engine_version: "1".into(),
            engine_labels: labels(),
            advertise_addr: Some("10.0.0.1".parse().unwrap()),
            data_path_addr: Some("fd00::1".parse().unwrap()),
            underlay_mtu: 1500,
            missing_features: vec!["x".into()],
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            message: "m".into(),
            addr: Some("10.0.0.1".parse().unwrap()),
        },
        manager_status: Some(ManagerStatus {
            raft_id: 4,
            addr: Some("[fd00::1]:2377".parse().unwrap()),
            leader: true,
            reachability: Reachability::Reachable,
        }),
        role: Role::Manager,
        ingress_addrs: vec!["10.0.0.2".parse().unwrap()],
        raft_id: 4,
        raft_addr: Some("10.0.0.1:2377".parse().unwrap()),
        conditions: vec![condition()],
        spec_version: Revision(5),
    };
    assert_eq!(Node::try_from(pb::Node::from(&node)), Ok(node));

    let network = Network {
        id: NetworkId::random(),
        meta: meta(),
        spec: NetworkSpec {
            name: "app".into(),
            labels: labels(),
            driver: NetworkDriver::Overlay(OverlayOptions {
                mtu: Some(1400),
                vnis: vec![Vni(300), Vni(301)],
                encrypted: true,
            }),
            internal: true,
            attachable: true,
            ingress: true,
            ipv6: false,
            ipam_options: labels(),
            ipam: vec![IpamConfig {
                subnet: Some("10.1.0.0/24".parse().unwrap()),
                ip_range: Some("10.1.0.128/25".parse().unwrap()),
                gateway: Some("10.1.0.1".parse().unwrap()),
                aux_addresses: BTreeMap::from([("r".into(), "10.1.0.2".parse().unwrap())]),
            }],
            ..NetworkSpec::default()
        },
        allocation: Some(NetworkAllocation {
            vni: Vni(4097),
            mtu: 1450,
            subnets: vec![Subnet {
                subnet: "10.1.0.0/24".parse().unwrap(),
                gateway: "10.1.0.1".parse().unwrap(),
                ip_range: Some("10.1.0.128/25".parse().unwrap()),
            }],
        }),
        conditions: vec![condition()],
    };
    assert_eq!(Network::try_from(pb::Network::from(&network)), Ok(network));

    let cluster = Cluster {
        id: ClusterId::random(),
        meta: meta(),
        spec: ClusterSpec { labels: labels(), autolock: true, ..ClusterSpec::default() },
        root_ca: RootCa {
            cert_pem: "c".into(),
            key_pem: "k".into(),
            worker_token: "w".into(),
            manager_token: "m".into(),
            rotation: Some(Box::new(RootRotation {
                cert_pem: "d".into(),
                key_pem: "e".into(),
                cross_pem: "f".into(),
                moved: [NodeId::random()].into(),
            })),
        },
        default_addr_pools: vec!["10.0.0.0/8".parse().unwrap()],
        subnet_size: 24,
        ula_prefix: "fd12:3456:789a::/48".parse().unwrap(),
        data_path_port: 4789,
        network_keys: vec![NetworkKey { subsystem: KeySubsystem::Data, lamport: 3, key: vec![1; 16] }],
        key_clock: 3,
        removed_nodes: vec![NodeId::random()],
        epoch: 3,
        unlock_key: UnlockKey("SWMKEY-1-k".into()),
    };
    assert_eq!(Cluster::try_from(pb::Cluster::from(&cluster)), Ok(cluster));
}

#[test]
fn a_malformed_message_names_its_field() {
    let bad = pb::PortConfig { published_port: 70_000, ..Default::default() };
    assert_eq!(
        PortConfig::try_from(bad).unwrap_err().to_string(),
        "malformed published_port: 70000 is above 65535"
    );
    assert!(Task::try_from(pb::Task::default()).unwrap_err().to_string().starts_with("malformed task id"));
}
