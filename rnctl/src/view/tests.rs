//! Objects of the model, and what is printed of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use docker_api::{node::DockerNode, swarm::ClusterInfo};
use proto::model::{
    Attachment, Availability, Condition, ContainerSpec, EndpointSpec, ManagerStatus, Meta, Millis, Network,
    NetworkAllocation, NetworkAttachmentConfig, NetworkId, NetworkSpec, Node, NodeDescription, NodeId,
    NodeSpec, NodeState, NodeStatus, PortConfig, Reachability, Revision, Role, Service, ServiceAllocation,
    ServiceMode, ServiceSpec, Subnet, Task, TaskAllocation, TaskId, TaskSpec, TaskState, TaskStatus,
    Timestamp, Vip, Vni,
};
use serde_json::json;

use super::*;
use crate::output::listing::ListFlags;

/// As `inspect` prints it.
fn printed(row: Row) -> Value {
    Value::Object(omitted::printed(&row))
}

const NOW: Timestamp = Timestamp(1_795_550_400_000);

fn meta(version: u64) -> Meta {
    Meta { created_at: NOW, created_in: Revision(version), updated_at: NOW, version: Revision(version) }
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    format!("{text:0<25}").parse().unwrap()
}

fn app() -> Network {
    Network {
        id: id("net"),
        meta: meta(3),
        spec: NetworkSpec { name: "app".into(), ..NetworkSpec::default() },
        allocation: Some(NetworkAllocation {
            vni: Vni(4097),
            mtu: 1450,
            subnets: vec![
                Subnet {
                    subnet: "10.0.1.0/24".parse().unwrap(),
                    gateway: "10.0.1.1".parse().unwrap(),
                    ip_range: None,
                },
                Subnet {
                    subnet: "fd00:1::/64".parse().unwrap(),
                    gateway: "fd00:1::1".parse().unwrap(),
                    ip_range: None,
                },
            ],
        }),
        conditions: vec![],
    }
}

fn networks() -> BTreeMap<NetworkId, Network> {
    [(app().id, app())].into()
}

fn web() -> Service {
    let port = PortConfig { target: 80, published: 8080, ..PortConfig::default() };
    Service {
        id: id("svc"),
        meta: meta(9),
        spec: ServiceSpec {
            name: "web".into(),
            labels: BTreeMap::new(),
            task: TaskSpec {
                container: ContainerSpec {
                    image: "hello:1@sha256:abc".into(),
                    args: vec!["/bin/httpd".into()],
                    stop_grace_period: Some(Millis::secs(3)),
                    ..ContainerSpec::default()
                },
                networks: vec![NetworkAttachmentConfig {
                    target: app().id.to_string(),
                    aliases: vec![],
                    driver_opts: BTreeMap::new(),
                }],
                ..TaskSpec::default()
            },
            mode: ServiceMode::Replicated(3),
            update: None,
            rollback: None,
            endpoint: EndpointSpec { ports: vec![port.clone()], ..EndpointSpec::default() },
        },
        previous_spec: None,
        spec_version: Revision(9),
        allocation: Some(ServiceAllocation {
            ports: vec![port],
            vips: vec![Vip {
                network: app().id,
                addrs: vec!["10.0.1.2".parse().unwrap(), "fd00:1::2".parse().unwrap()],
            }],
            of_version: Revision(9),
        }),
        conditions: vec![],
        update_status: None,
    }
}

fn task(name: &str, slot: u64, created: u64, desired: TaskState, state: TaskState) -> Task {
    Task {
        id: id::<TaskId>(name),
        meta: Meta {
            created_at: Timestamp(NOW.0 - created),
            created_in: Revision(NOW.0 - created),
            ..meta(1)
        },
        service_id: web().id,
        service_name: "web".into(),
        slot,
        spec: web().spec.task,
        spec_version: Revision(9),
        allocation: None,
        node_id: Some(id("node")),
        desired,
        status: TaskStatus { state, at: Timestamp(NOW.0 - created), ..TaskStatus::default() },
        conditions: vec![],
        start_after: Timestamp(0),
        running_at: Timestamp(0),
        ended_at: Timestamp(0),
        attached_container: None,
    }
}

fn node() -> Node {
    Node {
        id: id("node"),
        meta: meta(2),
        spec: NodeSpec { availability: Availability::Drain, role: Role::Manager, ..NodeSpec::default() },
        description: Some(NodeDescription {
            hostname: "host1".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 2_000_000_000,
            memory_bytes: 1 << 30,
            engine_version: "0.1.0".into(),
            engine_labels: BTreeMap::new(),
            advertise_addr: None,
            data_path_addr: None,
            underlay_mtu: 1500,
            missing_features: vec![],
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            message: String::new(),
            addr: Some("10.9.0.1".parse().unwrap()),
        },
        manager_status: Some(ManagerStatus {
            raft_id: 1,
            addr: Some("10.9.0.1:2377".parse().unwrap()),
            leader: true,
            reachability: Reachability::Reachable,
        }),
        role: Role::Manager,
        ingress_addrs: vec!["10.0.0.2".parse().unwrap()],
        raft_id: 1,
        raft_addr: None,
        conditions: vec![],
        spec_version: Default::default(),
    }
}

fn ps(tasks: &mut [Task], no_trunc: bool) -> String {
    let nodes: BTreeMap<NodeId, Node> = [(node().id, node())].into();
    let style = task::Style { nodes: &nodes, no_resolve: false, no_trunc, now: NOW };
    task::sort(tasks);
    task::LISTING.render(&task::rows(tasks, &style), &ListFlags::default()).unwrap()
}

#[test]
fn history_stands_under_the_task_that_replaced_it() {
    let mut failed = task("c", 1, 65_000, TaskState::Shutdown, TaskState::Failed);
    failed.status.err = "task: non-zero exit (137): out of memory".into();
    let mut pending = task("e", 2, 3_000, TaskState::Running, TaskState::Pending);
    pending.node_id = None;
    pending.conditions =
        vec![Condition { kind: "placement".into(), message: "no suitable node".into(), since: NOW }];
    let mut bound = task("a", 10, 5_000, TaskState::Running, TaskState::Running);
    bound.status.ports = vec![PortConfig { target: 80, published: 80, ..PortConfig::default() }];
    let mut tasks = [
        bound,
        failed,
        pending,
        task("d", 1, 5_000, TaskState::Running, TaskState::Running),
        task("b", 1, 7_200_000, TaskState::Shutdown, TaskState::Shutdown),
    ];
    let text = ps(&mut tasks, false);
    let want = "\
ID             NAME        IMAGE     NODE      DESIRED STATE   CURRENT STATE               ERROR                              PORTS
d00000000000   web.1       hello:1   host1     Running         Running 5 seconds ago
c00000000000    \\_ web.1   hello:1   host1     Shutdown        Failed about a minute ago   \"task: non-zero exit (137): ou…\"
b00000000000    \\_ web.1   hello:1   host1     Shutdown        Shutdown 2 hours ago
e00000000000   web.2       hello:1             Running         Pending 3 seconds ago       \"no suitable node\"
a00000000000   web.10      hello:1   host1     Running         Running 5 seconds ago                                          *:80->80/tcp
";
    assert_eq!(text, want);
    let whole = ps(&mut tasks, true);
    assert!(whole.contains("\"task: non-zero exit (137): out of memory\""), "{whole}");
    assert!(whole.contains("hello:1@sha256:abc") && whole.contains("d000000000000000000000000"), "{whole}");
}

#[test]
fn service_in_dockers_shape() {
    let want = json!({
        "ID": "svc0000000000000000000000",
        "Version": {"Index": 9},
        "CreatedAt": "2026-11-24T20:00:00Z",
        "UpdatedAt": "2026-11-24T20:00:00Z",
        "Spec": {
            "Name": "web",
            "Labels": {},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "hello:1@sha256:abc",
                    "Args": ["/bin/httpd"],
                    "StopGracePeriod": 3_000_000_000u64,
                },
                "Resources": {},
                "Placement": {},
                "Networks": [{"Target": "net0000000000000000000000"}],
                "ForceUpdate": 0,
                "Runtime": "container",
            },
            "Mode": {"Replicated": {"Replicas": 3}},
            "EndpointSpec": {
                "Mode": "vip",
                "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}],
            },
        },
        "Endpoint": {
            "Spec": {
                "Mode": "vip",
                "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}],
            },
            "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}],
            "VirtualIPs": [
                {"NetworkID": "net0000000000000000000000", "Addr": "10.0.1.2/24"},
                {"NetworkID": "net0000000000000000000000", "Addr": "fd00:1::2/64"},
            ],
        },
    });
    assert_eq!(printed(service::inspect(&web(), &networks())), want);
}

#[test]
fn service_for_people() {
    let text = pretty::service(&web(), &networks(), Timestamp(0));
    let want = "\
ID:                     svc0000000000000000000000
Name:                   web
Service Mode:           Replicated
 Replicas:              3
UpdateConfig:
 Parallelism:           1
 On failure:            pause
 Monitoring Period:     5s
 Max failure ratio:     0
 Order:                 stop-first
RollbackConfig:
 Parallelism:           1
 On failure:            pause
 Monitoring Period:     5s
 Max failure ratio:     0
 Order:                 stop-first
ContainerSpec:
 Image:                 hello:1@sha256:abc
 Args:                  /bin/httpd
Networks:               app
Endpoint Mode:          vip
Ports:
 PublishedPort:         8080
  Protocol:             tcp
  TargetPort:           80
  PublishMode:          ingress
";
    assert_eq!(text, want);
}

#[test]
fn task_in_dockers_shape() {
    let mut t = task("t", 1, 1_000, TaskState::Running, TaskState::Running);
    t.status.container_id = "c0ffee".into();
    t.status.pid = 42;
    t.allocation = Some(TaskAllocation {
        attachments: vec![Attachment {
            network: app().id,
            addrs: vec!["10.0.1.5/24".parse().unwrap()],
            aliases: vec![],
        }],
        ingress_addrs: vec!["10.0.0.5".parse().unwrap()],
        ports: vec![],
    });
    let object = printed(task::inspect(&t));
    assert_eq!(object["Status"]["State"], "running");
    assert_eq!(object["Status"]["ContainerStatus"], json!({"ContainerID": "c0ffee", "PID": 42}));
    assert_eq!(object["DesiredState"], "running");
    assert_eq!(object["NetworksAttachments"][0]["Addresses"], json!(["10.0.1.5/24"]));
    assert_eq!(object["Slot"], 1);
}

#[test]
fn a_node_has_a_certificate_of_the_root_or_needs_one() {
    let mut shown = docker_api::node::node(&node(), "");
    shown.description.tls_info.trust_root = "OLD".into();
    let status =
        |shown: &DockerNode, swarm: Option<&ClusterInfo>| node::row(shown, "", swarm)["TLSStatus"].clone();
    assert_eq!(status(&shown, None), "Unknown");
    let mut swarm = ClusterInfo::default();
    swarm.tls_info.trust_root = "OLD".into();
    assert_eq!(status(&shown, Some(&swarm)), "Ready");
    swarm.root_rotation_in_progress = true;
    assert_eq!(status(&shown, Some(&swarm)), "Needs Rotation");
    shown.description.tls_info.trust_root = "NEXT".into();
    assert_eq!(status(&shown, Some(&swarm)), "Ready");
}

#[test]
fn a_node_for_people() {
    let mut shown = docker_api::node::node(&node(), "");
    shown.description.tls_info.trust_root = "PEM\n".into();
    let text = pretty::node(&shown);
    assert!(text.ends_with("TLS Info:\n TrustRoot:\nPEM\n"), "{text}");
    assert!(text.contains(" Availability:          Drain\n"), "{text}");
    assert!(text.contains(" Raft Status:           Reachable\n"), "{text}");
    assert!(text.contains(" Memory:                1GiB\n"), "{text}");
}
