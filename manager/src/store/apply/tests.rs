//! Preconditions one by one; in `random`, the invariants under random sequences of commands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod random;

use proto::model::*;

use super::*;
use crate::store::{
    command::RULES,
    fixtures::{self, addr, attached, cluster, id, ingress, network, node, port, service, subnets, task},
    index::Owner,
    snapshot,
};

fn run(state: &mut State, commands: Vec<Command>) -> Applied {
    let revision = Revision(state.revision.0 + 1);
    apply(state, revision, &Proposal { commands, at: Timestamp(1_000 + revision.0), rules: RULES })
}

#[track_caller]
fn accepted(state: &mut State, command: Command) -> Vec<Change> {
    let applied = run(state, vec![command.clone()]);
    assert_eq!(applied.outcomes, [Ok(())], "{command:?}");
    applied.changes
}

#[track_caller]
fn refused(state: &mut State, command: Command) -> String {
    let before = snapshot::encode(state);
    let applied = run(state, vec![command.clone()]);
    assert_eq!(applied.changes, [], "{command:?}");
    assert_eq!(snapshot::encode(state), before, "{command:?}");
    applied.outcomes.into_iter().next().unwrap().expect_err(&format!("{command:?}")).to_string()
}

/// A cluster with node 1, networks 0 (ingress) and 1 allocated, and service 1 on network 1 with a task.
fn world() -> State {
    let mut state = State::default();
    for command in [
        Command::InitCluster(Box::new(cluster())),
        Command::CreateNode(Box::new(node(1))),
        Command::CreateNetwork(Box::new(ingress(0))),
        Command::AllocateNetwork { id: id("network", 0), allocation: subnets(0) },
        Command::CreateNetwork(Box::new(network(1))),
        Command::AllocateNetwork { id: id("network", 1), allocation: subnets(1) },
        Command::CreateService(Box::new(service(1, &[1], vec![port(8080, PublishMode::Ingress)]))),
        Command::CreateTask(Box::new(task(1, 1))),
    ] {
        accepted(&mut state, command);
    }
    state
}

fn allocate(n: usize, host: usize) -> Command {
    Command::AllocateTask { id: id("task", n), allocation: attached(1, host) }
}

fn report(n: usize, state: TaskState) -> Command {
    let status = TaskStatus { state, ..TaskStatus::default() };
    Command::ReportTask { id: id("task", n), status }
}

fn wanted(n: usize, desired: TaskState) -> Command {
    Command::SetTaskDesired { id: id("task", n), desired, start_after: Timestamp(0) }
}

fn place(n: usize) -> Command {
    Command::PlaceTask { id: id("task", n), node: id("node", 1) }
}

#[test]
fn names_are_unique() {
    let mut state = world();
    let mut twin = network(9);
    twin.spec.name = "net1".into();
    let why = refused(&mut state, Command::CreateNetwork(Box::new(twin)));
    assert_eq!(why, "network name \"net1\" is already in use by network network1");
    let mut twin = network(9);
    twin.spec.name = "Net1".into();
    let why = refused(&mut state, Command::CreateNetwork(Box::new(twin)));
    assert_eq!(why, "network name \"net1\" is already in use by network network1");
    let mut twin = service(9, &[], Vec::new());
    twin.spec.name = "svc1".into();
    let why = refused(&mut state, Command::CreateService(Box::new(twin.clone())));
    assert_eq!(why, "service name \"svc1\" is already in use by service service1");
    twin.spec.name = "SVC1".into();
    let why = refused(&mut state, Command::CreateService(Box::new(twin.clone())));
    assert_eq!(why, "service name \"svc1\" is already in use by service service1");
    // An entry that an earlier version wrote means what it meant then.
    let (revision, commands) =
        (Revision(state.revision.0 + 1), vec![Command::CreateService(Box::new(twin.clone()))]);
    let of_before = Proposal { commands, at: Timestamp(0), rules: 0 };
    assert_eq!(apply(&mut state.clone(), revision, &of_before).outcomes, [Ok(())]);
    twin.spec.name = "svc1".into();
    accepted(&mut state, Command::RemoveService(id("service", 1)));
    accepted(&mut state, Command::CreateService(Box::new(twin)));
    assert_eq!(state.service_by_name("svc1").unwrap().id, id("service", 9));
}

#[test]
fn an_address_has_one_owner_until_its_task_is_over() {
    let mut state = world();
    accepted(&mut state, Command::CreateTask(Box::new(task(2, 1))));
    assert!(refused(&mut state, allocate(1, 1)).contains("in use by the network's gateway"));
    assert!(refused(&mut state, allocate(1, 255)).contains("not a host's address"));
    accepted(&mut state, allocate(1, 2));
    assert!(refused(&mut state, allocate(2, 2)).contains("in use by task task1"));
    accepted(&mut state, place(1));
    accepted(&mut state, report(1, TaskState::Running));
    assert!(refused(&mut state, allocate(2, 2)).contains("in use by task task1"));
    accepted(&mut state, report(1, TaskState::Failed));
    assert_eq!(state.address_owner(&id("network", 1), addr(1, 2)), None);
    accepted(&mut state, allocate(2, 2));
    assert_eq!(state.address_owner(&id("network", 1), addr(1, 2)), Some(&Owner::Task(id("task", 2))));
}

#[test]
fn what_is_said_again_is_no_news() {
    let mut state = world();
    accepted(&mut state, allocate(1, 2));
    accepted(&mut state, place(1));
    let running = |at: u64, pid: u32| {
        let status =
            TaskStatus { state: TaskState::Running, at: Timestamp(at), pid, ..TaskStatus::default() };
        Command::ReportTask { id: id("task", 1), status }
    };
    accepted(&mut state, running(1000, 7));
    let changes = accepted(&mut state, running(9000, 7));
    assert_eq!(changes, [], "its daemon has restarted, the task has not");
    accepted(&mut state, running(9000, 8));
    assert_eq!(state.tasks.get("task1").unwrap().status.at, Timestamp(9000), "another process");
}

#[test]
fn addresses_on_ingress_are_shared_by_nodes_and_tasks() {
    let mut state = world();
    accepted(&mut state, Command::AllocateNode { id: id("node", 1), ingress_addrs: vec![addr(0, 2)] });
    let mut allocation = attached(1, 2);
    allocation.ingress_addrs = vec![addr(0, 2)];
    let clash = Command::AllocateTask { id: id("task", 1), allocation: allocation.clone() };
    assert!(refused(&mut state, clash).contains("in use by node node1"));
    allocation.ingress_addrs = vec![addr(0, 3)];
    accepted(&mut state, Command::AllocateTask { id: id("task", 1), allocation });
    let clash = Command::AllocateNode { id: id("node", 1), ingress_addrs: vec![addr(0, 3)] };
    assert!(refused(&mut state, clash).contains("in use by task task1"));
    let two = Command::AllocateNode { id: id("node", 1), ingress_addrs: vec![addr(0, 4), addr(0, 5)] };
    assert!(refused(&mut state, two).contains("one too many"));
}

#[test]
fn networks_share_neither_vni_nor_subnet() {
    let mut state = world();
    accepted(&mut state, Command::CreateNetwork(Box::new(network(2))));
    let with = |allocation| Command::AllocateNetwork { id: id("network", 2), allocation };
    let same_vni = NetworkAllocation { vni: subnets(1).vni, ..subnets(2) };
    assert_eq!(refused(&mut state, with(same_vni)), "VNI 4097 is already in use by network net1");
    let wide = Subnet {
        subnet: "10.0.0.0/8".parse().unwrap(),
        gateway: "10.9.0.1".parse().unwrap(),
        ip_range: None,
    };
    let overlap = NetworkAllocation { subnets: vec![wide], ..subnets(2) };
    assert!(refused(&mut state, with(overlap)).starts_with("subnet 10.0.0.0/8 is already in use by network"));
    accepted(&mut state, with(subnets(2)));
    assert!(refused(&mut state, with(subnets(3))).contains("has its subnets and VNI already"));
    accepted(&mut state, with(NetworkAllocation { mtu: 1400, ..subnets(2) }));
}

#[test]
fn a_published_port_has_one_service() {
    let mut state = world();
    let create = |n, ports| Command::CreateService(Box::new(service(n, &[], ports)));
    let why = refused(&mut state, create(2, vec![port(8080, PublishMode::Ingress)]));
    assert_eq!(why, "port 8080/tcp is already in use by service svc1 (service1) as an ingress port");
    assert!(refused(&mut state, create(2, vec![port(8080, PublishMode::Host)])).contains("svc1"));
    accepted(&mut state, create(2, vec![port(9000, PublishMode::Host)]));
    accepted(&mut state, create(3, vec![port(9000, PublishMode::Host)]));
    let why = refused(&mut state, create(4, vec![port(9000, PublishMode::Ingress)]));
    assert!(why.ends_with("as a host-published port"), "{why}");
    accepted(&mut state, create(4, vec![port(0, PublishMode::Ingress)]));
    let version = state.services.get("service4").unwrap().spec_version;
    let chosen = |published| Command::AllocateService {
        id: id("service", 4),
        allocation: ServiceAllocation {
            ports: vec![port(published, PublishMode::Ingress)],
            vips: Vec::new(),
            of_version: version,
        },
    };
    assert!(refused(&mut state, chosen(8080)).contains("already in use by service svc1"));
    assert!(refused(&mut state, chosen(0)).contains("not those that service svc4 asks for"));
    accepted(&mut state, chosen(30000));
    assert!(refused(&mut state, create(5, vec![port(30000, PublishMode::Host)])).contains("svc4"));
    // Removal frees the port at once.
    accepted(&mut state, Command::RemoveService(id("service", 1)));
    accepted(&mut state, create(5, vec![port(8080, PublishMode::Ingress)]));
}

#[test]
fn an_answer_to_an_older_spec_is_refused() {
    let mut state = world();
    let before = state.services.get("service1").unwrap().clone();
    let scaled = |n| Box::new(ServiceSpec { mode: ServiceMode::Replicated(n), ..before.spec.clone() });
    let set = |expect, spec| Command::SetServiceSpec { id: id("service", 1), expect, spec };
    accepted(&mut state, set(before.meta.version, scaled(3)));
    let stale = ServiceAllocation {
        ports: before.spec.endpoint.ports.clone(),
        vips: Vec::new(),
        of_version: before.spec_version,
    };
    let allocate = |allocation: &ServiceAllocation| Command::AllocateService {
        id: id("service", 1),
        allocation: allocation.clone(),
    };
    assert!(refused(&mut state, allocate(&stale)).contains("out of sequence"));
    let now = state.services.get("service1").unwrap().clone();
    assert_eq!(now.previous_spec.as_ref(), Some(&before.spec));
    accepted(&mut state, allocate(&ServiceAllocation { of_version: now.spec_version, ..stale }));
    // The allocator's answer in between does not send the user back, another user's change does.
    accepted(&mut state, set(now.meta.version, scaled(4)));
    let why = refused(&mut state, set(now.meta.version, scaled(5)));
    assert!(why.starts_with("update out of sequence: service svc1"), "{why}");
}

#[test]
fn observed_and_wanted_state_only_rise() {
    let mut state = world();
    assert!(refused(&mut state, place(1)).contains("is New, not Pending"));
    accepted(&mut state, allocate(1, 2));
    accepted(&mut state, place(1));
    accepted(&mut state, report(1, TaskState::Running));
    assert_eq!(
        run(&mut state, vec![report(1, TaskState::Preparing)]),
        Applied { outcomes: vec![Ok(())], changes: Vec::new() }
    );
    assert_eq!(state.tasks.get("task1").unwrap().status.state, TaskState::Running);
    assert!(
        refused(&mut state, Command::RemoveTask(id("task", 1))).contains("Running on a node that is there")
    );
    accepted(&mut state, wanted(1, TaskState::Shutdown));
    assert!(refused(&mut state, wanted(1, TaskState::Running)).contains("cannot go back"));
    assert!(refused(&mut state, wanted(1, TaskState::Failed)).contains("cannot be wanted Failed"));
    accepted(&mut state, report(1, TaskState::Shutdown));
    accepted(&mut state, Command::RemoveTask(id("task", 1)));
    assert!(state.tasks.is_empty());
    assert_eq!(state.tasks_by_service(&id("service", 1)).count(), 0);
    assert_eq!(state.tasks_by_node(&id("node", 1)).count(), 0);
}

#[test]
fn a_network_in_use_stays_and_says_who_uses_it() {
    let mut state = world();
    let remove = || Command::RemoveNetwork(id("network", 1));
    assert_eq!(refused(&mut state, remove()), "network net1 is in use by service svc1");
    accepted(&mut state, allocate(1, 2));
    accepted(&mut state, place(1));
    accepted(&mut state, Command::RemoveService(id("service", 1)));
    assert_eq!(state.tasks.get("task1").unwrap().desired, TaskState::Remove);
    assert_eq!(refused(&mut state, remove()), "network net1 is in use by task svc1.1.task1");
    accepted(&mut state, report(1, TaskState::Shutdown));
    accepted(&mut state, remove());
}

#[test]
fn the_ingress_network_goes_with_its_addresses() {
    let mut state = world();
    accepted(&mut state, Command::AllocateNode { id: id("node", 1), ingress_addrs: vec![addr(0, 2)] });
    let remove = || Command::RemoveNetwork(id("network", 0));
    assert_eq!(refused(&mut state, remove()), "network ingress is in use by service svc1");
    accepted(&mut state, Command::RemoveService(id("service", 1)));
    accepted(&mut state, remove());
    assert!(state.nodes.get("node1").unwrap().ingress_addrs.is_empty());
    let mut second = ingress(5);
    second.spec.name = "mesh".into();
    accepted(&mut state, Command::CreateNetwork(Box::new(second)));
    assert!(refused(&mut state, Command::CreateNetwork(Box::new(ingress(6)))).contains("already present"));
}

#[test]
fn a_removed_node_leaves_orphans_and_does_not_return() {
    let mut state = world();
    accepted(&mut state, allocate(1, 2));
    accepted(&mut state, place(1));
    let member = Command::SetNodeRaft { id: id("node", 1), raft_id: 7, raft_addr: None };
    accepted(&mut state, member);
    assert!(refused(&mut state, Command::RemoveNode(id("node", 1))).contains("demote it first"));
    accepted(&mut state, Command::SetNodeRaft { id: id("node", 1), raft_id: 0, raft_addr: None });
    accepted(&mut state, Command::RemoveNode(id("node", 1)));
    assert_eq!(state.tasks.get("task1").unwrap().status.state, TaskState::Orphaned);
    assert_eq!(state.cluster.as_ref().unwrap().removed_nodes, [id("node", 1)]);
    assert!(refused(&mut state, Command::CreateNode(Box::new(node(1)))).contains("new id"));
    accepted(&mut state, Command::RemoveTask(id("task", 1)));
}

#[test]
fn the_last_manager_is_not_demoted() {
    let mut state = State::default();
    let manager = |n| Node { spec: NodeSpec { role: Role::Manager, ..NodeSpec::default() }, ..node(n) };
    accepted(&mut state, Command::CreateNode(Box::new(manager(1))));
    let demote = |state: &State| Command::SetNodeSpec {
        id: id("node", 1),
        expect: state.nodes.get("node1").unwrap().meta.version,
        spec: NodeSpec::default(),
    };
    let command = demote(&state);
    assert!(refused(&mut state, command).contains("last manager"));
    accepted(&mut state, Command::CreateNode(Box::new(manager(2))));
    let command = demote(&state);
    accepted(&mut state, command);
}

#[test]
fn a_host_port_of_a_node_has_one_task() {
    let mut state = world();
    let with_port = |host| TaskAllocation { ports: vec![port(9000, PublishMode::Host)], ..attached(1, host) };
    for n in [1, 2] {
        if n == 2 {
            accepted(&mut state, Command::CreateTask(Box::new(task(2, 1))));
        }
        accepted(&mut state, Command::AllocateTask { id: id("task", n), allocation: with_port(n + 1) });
    }
    accepted(&mut state, place(1));
    let why = refused(&mut state, place(2));
    assert_eq!(why, "host port 9000/tcp of node node1 is already in use by task svc1.1.task1");
    accepted(&mut state, report(1, TaskState::Failed));
    accepted(&mut state, place(2));
}

#[test]
fn the_key_clock_only_rises() {
    let mut state = world();
    let keys = |clock| Command::SetNetworkKeys { keys: Vec::new(), clock };
    accepted(&mut state, keys(3));
    assert!(refused(&mut state, keys(3)).contains("key clock"));
}

#[test]
fn a_condition_said_again_changes_nothing() {
    let mut state = world();
    let say = |message: &str, since| Command::SetCondition {
        object: crate::store::command::ObjectId::Task(id("task", 1)),
        condition: Condition { kind: "placement".into(), message: message.into(), since: Timestamp(since) },
    };
    assert_eq!(accepted(&mut state, say("no node", 1)).len(), 1);
    assert_eq!(accepted(&mut state, say("no node", 2)).len(), 0);
    assert_eq!(accepted(&mut state, say("still none", 3)).len(), 1);
    assert_eq!(accepted(&mut state, say("", 4)).len(), 1);
    assert!(state.tasks.get("task1").unwrap().conditions.is_empty());
}

#[test]
fn commands_of_one_entry_see_each_other() {
    let mut state = world();
    let applied = run(&mut state, vec![allocate(1, 2), allocate(1, 3), place(1)]);
    assert!(applied.outcomes[0].is_ok() && applied.outcomes[1].is_err() && applied.outcomes[2].is_ok());
    assert_eq!(applied.changes.len(), 2);
    assert_eq!(state.tasks.get("task1").unwrap().meta.version, state.revision);
}

#[test]
fn a_secret_stays_while_a_service_names_it() {
    let mut state = world();
    let using = || Command::CreateService(Box::new(fixtures::using_files(2)));
    assert_eq!(refused(&mut state, using()), "secret secret1 does not exist");
    accepted(&mut state, Command::CreateSecret(Box::new(fixtures::secret(1))));
    assert_eq!(refused(&mut state, using()), "config config1 does not exist");
    accepted(&mut state, Command::CreateConfig(Box::new(fixtures::config(1))));
    accepted(&mut state, using());
    assert_eq!(
        refused(&mut state, Command::RemoveSecret(id("secret", 1))),
        "secret 'secret1' is in use by the following service: svc2"
    );
    let mut third = fixtures::using_files(3);
    third.spec.task.container.secrets.clear();
    accepted(&mut state, Command::CreateService(Box::new(third)));
    assert_eq!(
        refused(&mut state, Command::RemoveConfig(id("config", 1))),
        "config 'config1' is in use by the following services: svc2, svc3"
    );
    accepted(&mut state, Command::RemoveService(id("service", 2)));
    accepted(&mut state, Command::RemoveSecret(id("secret", 1)));
    assert!(state.secrets.is_empty() && state.secrets.named("secret1").is_none());
}

#[test]
fn of_a_secret_only_labels_change() {
    let mut state = world();
    accepted(&mut state, Command::CreateSecret(Box::new(fixtures::secret(1))));
    let mut twin = fixtures::secret(2);
    twin.spec.name = "SECRET1".into();
    let why = refused(&mut state, Command::CreateSecret(Box::new(twin)));
    assert_eq!(why, "secret name \"secret1\" is already in use by secret secret1");
    let version = state.secrets.named("secret1").unwrap().meta.version;
    let labels = |expect| Command::SetSecretLabels {
        id: id("secret", 1),
        expect,
        labels: [("c".to_owned(), "d".to_owned())].into(),
    };
    assert!(refused(&mut state, labels(Revision(1))).contains("out of sequence"));
    accepted(&mut state, labels(version));
    let secret = state.secrets.named("secret1").unwrap();
    assert_eq!((secret.spec.labels.len(), &secret.spec.data), (1, &fixtures::secret(1).spec.data));
    let whole = format!("{secret:?}");
    assert!(whole.contains("Payload(7 bytes)") && !whole.contains("content"), "{whole}");
}
