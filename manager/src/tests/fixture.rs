//! Small states to start from.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::model::{
    Availability, Cluster, ClusterId, ClusterSpec, ContainerSpec, EndpointSpec, Meta, Network,
    NetworkAttachmentConfig, NetworkId, NetworkSpec, Node, NodeDescription, NodeId, NodeSpec, NodeState,
    NodeStatus, PortConfig, Revision, Role, RootCa, Service, ServiceId, ServiceMode, ServiceSpec, Task,
    TaskSpec, TaskState, TaskStatus, Timestamp,
};

use crate::store::{
    apply::apply as apply_entry,
    command::{Command, Outcome, Proposal, RULES},
    state::State,
};

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::random(),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCa::default(),
        default_addr_pools: vec!["10.0.0.0/8".parse().unwrap()],
        subnet_size: 24,
        ula_prefix: "fd12:3456:789a::/48".parse().unwrap(),
        data_path_port: 4789,
        network_keys: Vec::new(),
        key_clock: 0,
        removed_nodes: Vec::new(),
        epoch: 0,
        unlock_key: Default::default(),
    }
}

/// A state with a cluster and nothing else.
pub(crate) fn state() -> State {
    let mut state = State::default();
    must(&mut state, vec![Command::InitCluster(Box::new(cluster()))], Timestamp(0));
    state
}

/// Applies commands as one entry.
pub(crate) fn apply(state: &mut State, commands: Vec<Command>, at: Timestamp) -> Vec<Outcome> {
    let revision = Revision(state.revision.0 + 1);
    apply_entry(state, revision, &Proposal { commands, at, rules: RULES }).outcomes
}

/// The same, where nothing may be refused.
pub(crate) fn must(state: &mut State, commands: Vec<Command>, at: Timestamp) {
    for outcome in apply(state, commands, at) {
        outcome.unwrap();
    }
}

/// A ready, active worker with 4 CPUs and 8 GiB.
pub(crate) fn node(name: &str) -> Node {
    Node {
        id: name.parse().unwrap(),
        meta: Meta::default(),
        spec: NodeSpec { availability: Availability::Active, ..NodeSpec::default() },
        description: Some(NodeDescription {
            hostname: name.to_owned(),
            os: "linux".into(),
            arch: "x86_64".into(),
            nano_cpus: 4_000_000_000,
            memory_bytes: 8 << 30,
            engine_version: "0".into(),
            engine_labels: Default::default(),
            advertise_addr: None,
            data_path_addr: None,
            underlay_mtu: 1500,
            missing_features: Vec::new(),
        }),
        status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
        manager_status: None,
        role: Role::Worker,
        ingress_addrs: Vec::new(),
        raft_id: 0,
        raft_addr: None,
        spec_version: Default::default(),
        conditions: Vec::new(),
    }
}

pub(crate) fn add_nodes(state: &mut State, names: &[&str]) {
    let create = names.iter().map(|n| Command::CreateNode(Box::new(node(n)))).collect();
    must(state, create, Timestamp(0));
}

/// Changes a node as its user would.
pub(crate) fn edit_node(state: &mut State, name: &str, edit: impl FnOnce(&mut NodeSpec)) {
    let node = state.nodes.get(name).unwrap().clone();
    let mut spec = node.spec.clone();
    edit(&mut spec);
    must(
        state,
        vec![Command::SetNodeSpec { id: node.id.clone(), expect: node.meta.version, spec }],
        Timestamp(0),
    );
}

/// Reports a node as its dispatcher would.
pub(crate) fn report_node(state: &mut State, name: &str, to: NodeState) {
    let status = Some(NodeStatus { state: to, ..NodeStatus::default() });
    must(
        state,
        vec![Command::ReportNode { id: name.parse().unwrap(), status, description: None }],
        Timestamp(0),
    );
}

pub(crate) fn network(name: &str, edit: impl FnOnce(&mut NetworkSpec)) -> Network {
    let mut spec = NetworkSpec { name: name.into(), ..NetworkSpec::default() };
    edit(&mut spec);
    Network { id: NetworkId::random(), meta: Meta::default(), spec, allocation: None, conditions: Vec::new() }
}

/// Creates the ingress network, and overlays by name.
pub(crate) fn add_networks(state: &mut State, names: &[&str]) {
    let mut create = vec![Command::CreateNetwork(Box::new(network("ingress", |s| s.ingress = true)))];
    create.extend(names.iter().map(|n| Command::CreateNetwork(Box::new(network(n, |_| {})))));
    must(state, create, Timestamp(0));
}

/// A service of one container on overlays named here.
pub(crate) fn service(
    state: &State,
    name: &str,
    replicas: u64,
    networks: &[&str],
    ports: &[PortConfig],
) -> Service {
    let target = |n: &&str| NetworkAttachmentConfig {
        target: state.network_by_name(n).unwrap().id.to_string(),
        aliases: Vec::new(),
        driver_opts: Default::default(),
    };
    let spec = ServiceSpec {
        name: name.into(),
        labels: Default::default(),
        task: TaskSpec {
            container: ContainerSpec { image: "image:1".into(), ..ContainerSpec::default() },
            networks: networks.iter().map(target).collect(),
            ..TaskSpec::default()
        },
        mode: ServiceMode::Replicated(replicas),
        update: None,
        rollback: None,
        endpoint: EndpointSpec { ports: ports.to_vec(), ..EndpointSpec::default() },
    };
    Service {
        id: ServiceId::random(),
        meta: Meta::default(),
        spec,
        previous_spec: None,
        spec_version: Revision(0),
        allocation: None,
        conditions: Vec::new(),
        update_status: None,
    }
}

pub(crate) fn add_service(state: &mut State, service: Service, at: Timestamp) -> ServiceId {
    let id = service.id.clone();
    must(state, vec![Command::CreateService(Box::new(service))], at);
    id
}

/// Changes a service as its user would.
pub(crate) fn edit_service(
    state: &mut State,
    id: &ServiceId,
    at: Timestamp,
    edit: impl FnOnce(&mut ServiceSpec),
) {
    let service = state.services.get(id).unwrap().clone();
    let mut spec = Box::new(service.spec.clone());
    edit(&mut spec);
    must(state, vec![Command::SetServiceSpec { id: id.clone(), expect: service.meta.version, spec }], at);
}

/// Reports a task as its agent would.
pub(crate) fn report(state: &mut State, task: &Task, to: TaskState, at: Timestamp) {
    let status = TaskStatus { state: to, at, err: "exit 1".into(), ..task.status.clone() };
    must(state, vec![Command::ReportTask { id: task.id.clone(), status }], at);
}

/// The node as an id.
pub(crate) fn node_id(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(crate) fn port(published: u16, target: u16) -> PortConfig {
    PortConfig { published, target, ..PortConfig::default() }
}
