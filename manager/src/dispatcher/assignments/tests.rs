#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use proto::model::{
    Attachment, Availability, EndpointMode, Meta, NetworkAttachmentConfig, NetworkSpec, PortConfig, Role,
    TaskAllocation, TaskState, TaskStatus, Timestamp, Vni, endpoint_digest,
};

use super::*;
use crate::{
    api::validate::service::tests::service,
    ca::joined,
    store::{fixtures, state::State},
};

/// Two nodes, the networks `ingress`, `app` and `other`, a service on each of `app` and `other`, one in the mesh.
struct World {
    state: State,
    nodes: [NodeId; 2],
    ingress: NetworkId,
    app: NetworkId,
    other: NetworkId,
    web: Service,
    db: Service,
}

impl World {
    fn new() -> Self {
        let mut state = State::default();
        let nodes = [NodeId::random(), NodeId::random()];
        for id in &nodes {
            state.put(joined(id, Role::Worker, Availability::Active));
        }
        let [ingress, app, other] = ["ingress", "app", "other"].map(|name| {
            let network = Network {
                id: NetworkId::random(),
                meta: Meta::default(),
                spec: NetworkSpec { name: name.into(), ingress: name == "ingress", ..NetworkSpec::default() },
                allocation: None,
                conditions: Vec::new(),
            };
            let id = network.id.clone();
            state.put(network);
            id
        });
        let on = |service: &mut Service, network: &NetworkId| {
            service.spec.task.networks = vec![NetworkAttachmentConfig {
                target: network.to_string(),
                aliases: Vec::new(),
                driver_opts: Default::default(),
            }];
        };
        let (mut web, mut db, mut api) = (service("web"), service("db"), service("api"));
        on(&mut web, &app);
        on(&mut db, &other);
        db.spec.endpoint.mode = EndpointMode::DnsRr;
        api.spec.endpoint.ports = vec![PortConfig { target: 80, published: 80, ..PortConfig::default() }];
        for s in [&web, &db, &api] {
            state.put(s.clone());
        }
        state.revision = Revision(1);
        Self { state, nodes, ingress, app, other, web, db }
    }

    fn task(&mut self, service: &Service, network: &NetworkId, node: usize, state: TaskState) -> Task {
        let task = Task {
            id: TaskId::random(),
            meta: Meta::default(),
            service_id: service.id.clone(),
            service_name: service.spec.name.clone(),
            slot: 1,
            spec: service.spec.task.clone(),
            spec_version: Revision(1),
            allocation: Some(TaskAllocation {
                attachments: vec![Attachment {
                    network: network.clone(),
                    addrs: vec!["10.0.1.5/24".parse().unwrap()],
                    aliases: Vec::new(),
                }],
                ..TaskAllocation::default()
            }),
            node_id: Some(self.nodes[node].clone()),
            desired: TaskState::Running,
            status: TaskStatus { state, ..TaskStatus::default() },
            conditions: Vec::new(),
            start_after: Timestamp::default(),
            running_at: Timestamp::default(),
            ended_at: Timestamp::default(),
            attached_container: None,
        };
        self.state.put(task.clone());
        task
    }

    fn set(&self, node: usize) -> AssignmentSet {
        AssignmentSet::of(&View::of(Arc::new(self.state.clone())), &self.nodes[node]).unwrap()
    }
}

fn keys<K: Ord + Clone, V>(map: &BTreeMap<K, V>) -> Vec<K> {
    map.keys().cloned().collect()
}

#[test]
fn a_node_is_told_of_what_its_tasks_need_and_no_more() {
    let mut world = World::new();
    let (web, app, db, other) = (world.web.clone(), world.app.clone(), world.db.clone(), world.other.clone());
    let task = world.task(&web, &app, 0, TaskState::Running);
    world.task(&db, &other, 1, TaskState::Running);
    let set = world.set(0);
    assert_eq!(keys(&set.tasks), [task.id.clone()]);
    let mut networks = vec![world.ingress.clone(), app.clone()];
    networks.sort();
    assert_eq!(keys(&set.networks), networks);
    let names: Vec<&str> = set.services.values().map(|s| s.spec.name.as_str()).collect();
    assert!(names.len() == 2 && names.contains(&"web") && names.contains(&"api"), "{names:?}");
    assert_eq!(set.digests[&app], endpoint_digest([&task.id]));
    assert_eq!(set.digests[&world.ingress].count, 0);
    assert!(AssignmentSet::of(&View::of(Arc::new(world.state.clone())), &NodeId::random()).is_none());
}

#[test]
fn the_service_of_a_task_without_a_network_is_told_too() {
    let mut world = World::new();
    let (batch, app) = (service("batch"), world.app.clone());
    world.state.put(batch.clone());
    let mut task = world.task(&batch, &app, 0, TaskState::Assigned);
    task.allocation = None;
    world.state.put(task.clone());
    assert!(world.set(0).services.contains_key(&batch.id), "its templates may name its labels");
    assert!(!world.set(1).services.contains_key(&batch.id));
    task.status.state = TaskState::Complete;
    world.state.put(task);
    assert!(!world.set(0).services.contains_key(&batch.id));
}

#[test]
fn a_task_that_is_over_is_kept_and_its_network_is_not() {
    let mut world = World::new();
    let (web, app) = (world.web.clone(), world.app.clone());
    let task = world.task(&web, &app, 0, TaskState::Failed);
    let set = world.set(0);
    assert_eq!(keys(&set.tasks), [task.id]);
    assert_eq!(keys(&set.networks), [world.ingress]);
}

#[test]
fn a_task_that_is_bound_to_a_node_and_not_placed_yet_is_not_told() {
    let mut world = World::new();
    let (web, app) = (world.web.clone(), world.app.clone());
    for state in [TaskState::New, TaskState::Pending] {
        world.task(&web, &app, 0, state);
    }
    assert!(world.set(0).tasks.is_empty());
    let task = world.task(&web, &app, 0, TaskState::Assigned);
    assert_eq!(keys(&world.set(0).tasks), [task.id]);
}

#[test]
fn a_nodes_own_reports_are_no_news_to_it() {
    let mut world = World::new();
    let (web, app) = (world.web.clone(), world.app.clone());
    let mut task = world.task(&web, &app, 0, TaskState::Starting);
    let before = world.set(0);
    assert!(world.set(0).since(&before).is_none(), "nothing moved");

    task.status.state = TaskState::Running;
    world.state.put(task.clone());
    let message = world.set(0).since(&before).unwrap();
    assert!(message.tasks.is_empty());
    assert_eq!(message.digests.len(), 1, "the network has one running endpoint more");

    let before = world.set(0);
    task.desired = TaskState::Shutdown;
    world.state.put(task.clone());
    let message = world.set(0).since(&before).unwrap();
    assert_eq!(message.tasks.len(), 1);
    assert_eq!(message.tasks[0].id, task.id.to_string());
    assert!(message.networks.is_empty() && message.services.is_empty() && message.node.is_none());
}

#[test]
fn what_comes_and_goes_is_told() {
    let mut world = World::new();
    let (web, app) = (world.web.clone(), world.app.clone());
    let empty = world.set(0);
    let mut task = world.task(&web, &app, 0, TaskState::Assigned);
    let full = world.set(0);
    let message = full.since(&empty).unwrap();
    assert_eq!((message.tasks.len(), message.networks.len(), message.services.len()), (1, 1, 1));
    task.status.state = TaskState::Shutdown;
    world.state.put(task);
    let message = world.set(0).since(&full).unwrap();
    assert_eq!(message.removed_networks, [app.to_string()]);
    assert_eq!(message.removed_services, [web.id.to_string()]);
    assert!(message.removed_tasks.is_empty());
}

#[test]
fn addresses_of_the_node_and_of_a_network_are_news() {
    let mut world = World::new();
    let before = world.set(1);
    let mut node = (**world.state.nodes.get(&world.nodes[1]).unwrap()).clone();
    node.status.message = "a heartbeat came".into();
    world.state.put(node.clone());
    assert!(world.set(1).since(&before).is_none());
    node.ingress_addrs = vec!["10.0.0.7".parse::<IpAddr>().unwrap()];
    world.state.put(node);
    let mut ingress = (**world.state.networks.get(&world.ingress).unwrap()).clone();
    ingress.allocation =
        Some(proto::model::NetworkAllocation { vni: Vni::FIRST, mtu: 1450, subnets: Vec::new() });
    world.state.put(ingress);
    let message = world.set(1).since(&before).unwrap();
    assert!(message.node.is_some());
    assert_eq!(message.networks.len(), 1);
}

#[test]
fn secrets_go_only_where_tasks_use_them_and_go_with_the_last() {
    let mut world = World::new();
    world.state.put(fixtures::secret(1));
    world.state.put(fixtures::secret(2));
    world.state.put(fixtures::config(1));
    let app = world.app.clone();
    let mut using = world.web.clone();
    using.spec.task.container = fixtures::using_files(1).spec.task.container;
    let before = world.set(0);
    let mut task = world.task(&using, &app, 0, TaskState::Assigned);
    let set = world.set(0);
    let message = set.since(&before).unwrap();
    assert_eq!(message.secrets, [pb::Secret::from(fixtures::secret(1))], "with what it holds");
    assert_eq!(message.configs, [pb::Config::from(fixtures::config(1))]);
    assert_eq!((set.complete().secrets, set.complete().configs), (message.secrets, message.configs));
    let other = world.set(1).complete();
    assert!(other.secrets.is_empty() && other.configs.is_empty(), "no task there uses them");

    let mut labelled = fixtures::secret(1);
    labelled.spec.labels.clear();
    world.state.put(labelled);
    assert!(world.set(0).since(&set).is_none(), "labels are the user's");

    let before = world.set(0);
    task.status.state = TaskState::Shutdown;
    world.state.put(task);
    let message = world.set(0).since(&before).unwrap();
    assert_eq!(message.removed_secrets, ["secret1"]);
    assert_eq!(message.removed_configs, ["config1"]);
}
