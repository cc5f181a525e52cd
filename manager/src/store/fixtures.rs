//! Objects for tests: small, whole, and the same every time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, net::IpAddr};

use proto::model::*;

use super::command::{Command, ObjectId};
use crate::ca::joined;

/// An id made of `prefix` and a number.
pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, n: usize) -> T {
    format!("{prefix}{n}").parse().unwrap()
}

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: id("cluster", 1),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCa {
            cert_pem: "certificate".into(),
            key_pem: "key".into(),
            worker_token: "SWMTKN-1-a".into(),
            manager_token: "SWMTKN-1-b".into(),
            rotation: None,
        },
        default_addr_pools: vec!["10.0.0.0/8".parse().unwrap()],
        subnet_size: 24,
        ula_prefix: "fd00:1:2::/48".parse().unwrap(),
        data_path_port: 4789,
        network_keys: Vec::new(),
        key_clock: 0,
        removed_nodes: Vec::new(),
        epoch: 0,
        unlock_key: Default::default(),
    }
}

pub(crate) fn node(n: usize) -> Node {
    joined(&id("node", n), Role::Worker, Availability::Active)
}

pub(crate) fn network(n: usize) -> Network {
    let spec = NetworkSpec { name: format!("net{n}"), ..NetworkSpec::default() };
    Network { id: id("network", n), meta: Meta::default(), spec, allocation: None, conditions: Vec::new() }
}

pub(crate) fn ingress(n: usize) -> Network {
    let mut network = network(n);
    network.spec.name = "ingress".into();
    network.spec.ingress = true;
    network
}

/// `10.0.n.0/24` and `fd00:n::/64`.
pub(crate) fn subnets(n: usize) -> NetworkAllocation {
    let subnet = |subnet: String, gateway: String| Subnet {
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        ip_range: None,
    };
    NetworkAllocation {
        vni: Vni(4096 + u32::try_from(n).unwrap()),
        mtu: 1450,
        subnets: vec![
            subnet(format!("10.0.{n}.0/24"), format!("10.0.{n}.1")),
            subnet(format!("fd00:{n}::/64"), format!("fd00:{n}::1")),
        ],
    }
}

pub(crate) fn addr(network: usize, host: usize) -> IpAddr {
    format!("10.0.{network}.{host}").parse().unwrap()
}

pub(crate) fn port(published: u16, mode: PublishMode) -> PortConfig {
    PortConfig { name: String::new(), protocol: Protocol::Tcp, target: 80, published, mode }
}

pub(crate) fn service(n: usize, networks: &[usize], ports: Vec<PortConfig>) -> Service {
    let attachment = |n: &usize| NetworkAttachmentConfig {
        target: format!("network{n}"),
        aliases: Vec::new(),
        driver_opts: BTreeMap::new(),
    };
    let spec = ServiceSpec {
        name: format!("svc{n}"),
        labels: BTreeMap::new(),
        task: TaskSpec { networks: networks.iter().map(attachment).collect(), ..TaskSpec::default() },
        mode: ServiceMode::Replicated(1),
        update: None,
        rollback: None,
        endpoint: EndpointSpec { mode: EndpointMode::Vip, ports },
    };
    Service {
        id: id("service", n),
        meta: Meta::default(),
        spec,
        previous_spec: None,
        spec_version: Revision(0),
        allocation: None,
        conditions: Vec::new(),
        update_status: None,
    }
}

pub(crate) fn task(n: usize, service: usize) -> Task {
    Task {
        id: id("task", n),
        meta: Meta::default(),
        service_id: id("service", service),
        service_name: format!("svc{service}"),
        slot: 1,
        spec: TaskSpec::default(),
        spec_version: Revision(0),
        allocation: None,
        node_id: None,
        desired: TaskState::Running,
        status: TaskStatus::default(),
        conditions: Vec::new(),
        start_after: Timestamp(0),
        running_at: Timestamp(0),
        ended_at: Timestamp(0),
        attached_container: None,
    }
}

/// Service `n`, whose tasks have secret 1 and config 1.
pub(crate) fn using_files(n: usize) -> Service {
    let mut service = service(n, &[], Vec::new());
    service.spec.task.container.secrets = vec![reference("secret", 1)];
    service.spec.task.container.configs = vec![reference("config", 1)];
    service
}

pub(crate) fn secret(n: usize) -> Secret {
    Secret { id: id("secret", n), meta: Meta::default(), spec: file(format!("secret{n}")) }
}

pub(crate) fn config(n: usize) -> Config {
    Config { id: id("config", n), meta: Meta::default(), spec: file(format!("config{n}")) }
}

fn file(name: String) -> FileSpec {
    let labels = BTreeMap::from([("a".into(), "b".into())]);
    FileSpec { name, labels, data: Payload(b"content".to_vec()), templating: Some(Templating::Golang) }
}

/// What a service's spec says to have an object as a file.
pub(crate) fn reference<T: std::str::FromStr<Err: std::fmt::Debug>>(
    kind: &str,
    n: usize,
) -> FileReference<T> {
    let name = format!("{kind}{n}");
    FileReference { id: Some(id(kind, n)), target: name.clone(), name, uid: 7, gid: 8, mode: 0o400 }
}

pub(crate) fn attached(network: usize, host: usize) -> TaskAllocation {
    let attachment = Attachment {
        network: id("network", network),
        addrs: vec![SubnetAddr { addr: addr(network, host), prefix: 24 }],
        aliases: vec!["alias".into()],
    };
    TaskAllocation { attachments: vec![attachment], ingress_addrs: Vec::new(), ports: Vec::new() }
}

/// The place of container `n` on node 1, with an address on a network.
pub(crate) fn place(n: usize, network: usize, host: usize) -> Task {
    let (container, name) = (id("container", n), format!("c{n}"));
    let mut task = Task::attached(container, name, TaskSpec::default(), attached(network, host));
    (task.id, task.service_id, task.node_id) = (id("task", n), id("own", n), Some(id("node", 1)));
    task
}

/// One of every command, by a name that never changes.
pub(crate) fn one_of_each() -> Vec<(&'static str, Command)> {
    let status = TaskStatus {
        state: TaskState::Running,
        at: Timestamp(7),
        message: "started".into(),
        container_id: "abc".into(),
        pid: 42,
        exit_code: Some(0),
        ports: vec![port(8080, PublishMode::Host)],
        ..TaskStatus::default()
    };
    let mut full = service(1, &[1], vec![port(0, PublishMode::Ingress), port(8080, PublishMode::Host)]);
    full.spec.update = Some(UpdateConfig::default());
    full.spec.task.restart = Some(RestartPolicy::default());
    full.spec.task.container.healthcheck = Some(Healthcheck::default());
    full.spec.task.container.env = vec!["A=b".into()];
    let vip = Vip { network: id("network", 1), addrs: vec![addr(1, 2), "fd00:1::2".parse().unwrap()] };
    let description = NodeDescription {
        hostname: "host".into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        nano_cpus: 2_000_000_000,
        memory_bytes: 1 << 30,
        engine_version: "0.1.0".into(),
        engine_labels: BTreeMap::from([("disk".into(), "ssd".into())]),
        advertise_addr: Some("192.0.2.1".parse().unwrap()),
        data_path_addr: Some("2001:db8::1".parse().unwrap()),
        underlay_mtu: 1500,
        missing_features: vec!["xfrm".into()],
    };
    let seen = NodeStatus {
        state: NodeState::Ready,
        message: String::new(),
        addr: Some("192.0.2.1".parse().unwrap()),
    };
    let condition = |kind: &str| Condition { kind: kind.into(), message: "why".into(), since: Timestamp(3) };
    let key = NetworkKey { subsystem: KeySubsystem::Gossip, lamport: 1, key: vec![1; 16] };
    vec![
        ("init_cluster", Command::InitCluster(Box::new(cluster()))),
        ("set_cluster_spec", Command::SetClusterSpec { expect: Revision(1), spec: ClusterSpec::default() }),
        ("set_join_tokens", Command::SetJoinTokens { worker: Some("SWMTKN-1-c".into()), manager: None }),
        (
            "begin_root_rotation",
            Command::BeginRootRotation(Box::new(RootRotation {
                cert_pem: "certificate".into(),
                key_pem: "key".into(),
                cross_pem: "cross".into(),
                moved: [id("node", 1)].into(),
            })),
        ),
        ("move_to_root", Command::MoveToRoot { id: id("node", 1), root: "0a0b".into() }),
        (
            "finish_root_rotation",
            Command::FinishRootRotation {
                root: "0a0b".into(),
                worker: "SWMTKN-1-c".into(),
                manager: "SWMTKN-1-d".into(),
            },
        ),
        ("set_unlock_key", Command::SetUnlockKey(UnlockKey("SWMKEY-1-k".into()))),
        ("begin_epoch", Command::BeginEpoch(1_800_000_000)),
        ("set_network_keys", Command::SetNetworkKeys { keys: vec![key], clock: 3 }),
        ("create_node", Command::CreateNode(Box::new(node(1)))),
        (
            "set_node_spec",
            Command::SetNodeSpec { id: id("node", 1), expect: Revision(2), spec: NodeSpec::default() },
        ),
        ("remove_node", Command::RemoveNode(id("node", 1))),
        (
            "set_node_raft",
            Command::SetNodeRaft {
                id: id("node", 1),
                raft_id: 9,
                raft_addr: Some("192.0.2.1:2377".parse().unwrap()),
            },
        ),
        ("set_node_role", Command::SetNodeRole { id: id("node", 1), role: Role::Manager }),
        (
            "report_node",
            Command::ReportNode {
                id: id("node", 1),
                status: Some(seen),
                description: Some(Box::new(description)),
            },
        ),
        ("allocate_node", Command::AllocateNode { id: id("node", 1), ingress_addrs: vec![addr(0, 2)] }),
        ("create_network", Command::CreateNetwork(Box::new(network(1)))),
        ("remove_network", Command::RemoveNetwork(id("network", 1))),
        ("allocate_network", Command::AllocateNetwork { id: id("network", 1), allocation: subnets(1) }),
        ("create_service", Command::CreateService(Box::new(full.clone()))),
        (
            "set_service_spec",
            Command::SetServiceSpec {
                id: id("service", 1),
                expect: Revision(4),
                spec: Box::new(ServiceSpec { mode: ServiceMode::Global, ..full.spec }),
            },
        ),
        (
            "rollback_service",
            Command::RollbackService {
                id: id("service", 1),
                expect: Revision(4),
                automatic: true,
                message: "why".into(),
            },
        ),
        (
            "set_update_status",
            Command::SetUpdateStatus {
                id: id("service", 1),
                of_version: Revision(4),
                status: UpdateStatus {
                    state: UpdateState::Paused,
                    started_at: Timestamp(1),
                    completed_at: Timestamp(2),
                    message: "why".into(),
                    slots: 3,
                },
            },
        ),
        ("remove_service", Command::RemoveService(id("service", 1))),
        (
            "allocate_service",
            Command::AllocateService {
                id: id("service", 1),
                allocation: ServiceAllocation {
                    ports: vec![port(30000, PublishMode::Ingress)],
                    vips: vec![vip],
                    of_version: Revision(4),
                },
            },
        ),
        ("attach", Command::Attach(Box::new(place(1, 1, 2)))),
        ("create_task", Command::CreateTask(Box::new(task(1, 1)))),
        (
            "set_task_desired",
            Command::SetTaskDesired {
                id: id("task", 1),
                desired: TaskState::Shutdown,
                start_after: Timestamp(5),
            },
        ),
        ("remove_task", Command::RemoveTask(id("task", 1))),
        ("allocate_task", Command::AllocateTask { id: id("task", 1), allocation: attached(1, 3) }),
        ("place_task", Command::PlaceTask { id: id("task", 1), node: id("node", 1) }),
        ("report_task", Command::ReportTask { id: id("task", 1), status }),
        ("create_secret", Command::CreateSecret(Box::new(secret(1)))),
        (
            "set_secret_labels",
            Command::SetSecretLabels {
                id: id("secret", 1),
                expect: Revision(4),
                labels: BTreeMap::from([("c".into(), "d".into())]),
            },
        ),
        ("remove_secret", Command::RemoveSecret(id("secret", 1))),
        ("create_config", Command::CreateConfig(Box::new(config(1)))),
        (
            "set_config_labels",
            Command::SetConfigLabels {
                id: id("config", 1),
                expect: Revision(4),
                labels: BTreeMap::from([("c".into(), "d".into())]),
            },
        ),
        ("remove_config", Command::RemoveConfig(id("config", 1))),
        ("create_service_with_files", Command::CreateService(Box::new(using_files(1)))),
        (
            "condition_of_node",
            Command::SetCondition { object: ObjectId::Node(id("node", 1)), condition: condition("network") },
        ),
        (
            "condition_of_network",
            Command::SetCondition {
                object: ObjectId::Network(id("network", 1)),
                condition: condition("allocation"),
            },
        ),
        (
            "condition_of_service",
            Command::SetCondition {
                object: ObjectId::Service(id("service", 1)),
                condition: condition("allocation"),
            },
        ),
        (
            "condition_of_task",
            Command::SetCondition {
                object: ObjectId::Task(id("task", 1)),
                condition: condition("placement"),
            },
        ),
    ]
}
