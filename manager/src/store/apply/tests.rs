//! Preconditions one by one, and the invariants under random command sequences.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;
use proto::model::*;

use super::*;
use crate::store::{
    fixtures::{addr, attached, cluster, id, ingress, network, node, port, service, subnets, task},
    index::{Owner, holds_resources},
    snapshot,
};

fn run(state: &mut State, commands: Vec<Command>) -> Applied {
    let revision = Revision(state.revision.0 + 1);
    apply(state, revision, &Proposal { commands, at: Timestamp(1_000 + revision.0) })
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
    let mut twin = service(9, &[], Vec::new());
    twin.spec.name = "svc1".into();
    let why = refused(&mut state, Command::CreateService(Box::new(twin.clone())));
    assert_eq!(why, "service name \"svc1\" is already in use by service service1");
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

// ---- random sequences over a small world ----

fn task_states() -> impl Strategy<Value = TaskState> {
    prop::sample::select(vec![
        TaskState::Accepted,
        TaskState::Running,
        TaskState::Complete,
        TaskState::Shutdown,
        TaskState::Failed,
        TaskState::Rejected,
    ])
}

fn commands() -> impl Strategy<Value = Command> {
    let n = 0usize..4;
    let mode = prop::sample::select(vec![PublishMode::Ingress, PublishMode::Host]);
    let ports = prop::collection::vec((0u16..4, mode).prop_map(|(p, mode)| port(p, mode)), 0..3);
    prop_oneof![
        1 => Just(Command::InitCluster(Box::new(cluster()))),
        2 => n.clone().prop_map(|n| Command::CreateNode(Box::new(node(n)))),
        1 => n.clone().prop_map(|n| Command::RemoveNode(id("node", n))),
        2 => (n.clone(), 0usize..6).prop_map(|(n, host)| Command::AllocateNode {
            id: id("node", n),
            ingress_addrs: vec![addr(0, host)],
        }),
        3 => (n.clone(), any::<bool>())
            .prop_map(|(n, mesh)| Command::CreateNetwork(Box::new(if mesh && n == 0 { ingress(n) } else { network(n) }))),
        1 => n.clone().prop_map(|n| Command::RemoveNetwork(id("network", n))),
        3 => (n.clone(), n.clone(), n.clone()).prop_map(|(n, subnet, vni)| Command::AllocateNetwork {
            id: id("network", n),
            allocation: NetworkAllocation { vni: Vni(4096 + u32::try_from(vni).unwrap()), ..subnets(subnet) },
        }),
        3 => (n.clone(), n.clone(), ports.clone())
            .prop_map(|(n, net, ports)| Command::CreateService(Box::new(service(n, &[net], ports)))),
        2 => (n.clone(), n.clone(), ports.clone(), 0u64..40).prop_map(|(n, net, ports, expect)| {
            Command::SetServiceSpec {
                id: id("service", n),
                expect: Revision(expect),
                spec: Box::new(service(n, &[net], ports).spec),
            }
        }),
        1 => n.clone().prop_map(|n| Command::RemoveService(id("service", n))),
        3 => (n.clone(), n.clone(), 0usize..6, 0u64..40, ports).prop_map(|(n, net, host, of, ports)| {
            Command::AllocateService {
                id: id("service", n),
                allocation: ServiceAllocation {
                    ports,
                    vips: vec![Vip { network: id("network", net), addrs: vec![addr(net, host)] }],
                    of_version: Revision(of),
                },
            }
        }),
        4 => (0usize..8, n.clone()).prop_map(|(t, s)| Command::CreateTask(Box::new(task(t, s)))),
        6 => (0usize..8, n.clone(), 0usize..6, prop::option::of(0usize..6)).prop_map(|(t, net, host, mesh)| {
            let mut allocation = attached(net, host);
            allocation.ingress_addrs = mesh.map(|host| addr(0, host)).into_iter().collect();
            Command::AllocateTask { id: id("task", t), allocation }
        }),
        4 => (0usize..8, n).prop_map(|(t, n)| Command::PlaceTask { id: id("task", t), node: id("node", n) }),
        3 => (0usize..8, task_states()).prop_map(|(t, state)| report(t, state)),
        2 => (0usize..8, prop::sample::select(vec![TaskState::Ready, TaskState::Running, TaskState::Shutdown, TaskState::Remove]))
            .prop_map(|(t, state)| wanted(t, state)),
        1 => (0usize..8).prop_map(|t| Command::RemoveTask(id("task", t))),
    ]
}

/// Who has each address, from the tables alone; an address met twice fails.
fn owners(state: &State) -> BTreeMap<(NetworkId, IpAddr), Owner> {
    let mut owners = BTreeMap::new();
    let mut own = |network: &NetworkId, addr: IpAddr, owner: Owner| {
        let before = owners.insert((network.clone(), addr), owner.clone());
        assert_eq!(before, None, "{addr} on {network} has two owners, one is {owner}");
    };
    let mesh = state.networks.values().find(|n| n.spec.ingress).map(|n| n.id.clone());
    for network in state.networks.values() {
        for subnet in network.allocation.iter().flat_map(|a| &a.subnets) {
            own(&network.id, subnet.gateway, Owner::Gateway);
        }
    }
    for node in state.nodes.values() {
        for addr in &node.ingress_addrs {
            own(
                mesh.as_ref().expect("ingress addresses without ingress"),
                *addr,
                Owner::Node(node.id.clone()),
            );
        }
    }
    for service in state.services.values() {
        for vip in service.allocation.iter().flat_map(|a| &a.vips) {
            for addr in &vip.addrs {
                own(&vip.network, *addr, Owner::Service(service.id.clone()));
            }
        }
    }
    for task in state.tasks.values().filter(|t| holds_resources(t)) {
        for attachment in task.allocation.iter().flat_map(|a| &a.attachments) {
            for addr in &attachment.addrs {
                own(&attachment.network, addr.addr, Owner::Task(task.id.clone()));
            }
        }
        for addr in task.allocation.iter().flat_map(|a| &a.ingress_addrs) {
            own(
                mesh.as_ref().expect("ingress addresses without ingress"),
                *addr,
                Owner::Task(task.id.clone()),
            );
        }
    }
    owners
}

fn check(state: &State) {
    for ((network, addr), owner) in owners(state) {
        assert_eq!(state.address_owner(&network, addr), Some(&owner));
    }
    let networks: Vec<_> = state.networks.values().collect();
    for (i, a) in networks.iter().enumerate() {
        for b in &networks[..i] {
            assert_ne!(a.spec.name, b.spec.name);
            if let (Some(x), Some(y)) = (&a.allocation, &b.allocation) {
                assert_ne!(x.vni, y.vni);
                for s in &x.subnets {
                    assert!(
                        !y.subnets
                            .iter()
                            .any(|t| s.subnet.contains(&t.subnet) || t.subnet.contains(&s.subnet))
                    );
                }
            }
        }
    }
    let mut mesh = BTreeMap::new();
    for service in state.services.values() {
        assert_eq!(state.service_by_name(&service.spec.name).map(|s| &s.id), Some(&service.id));
        for p in service.allocation.iter().flat_map(|a| &a.ports).chain(&service.spec.endpoint.ports) {
            if p.mode == PublishMode::Ingress && p.published != 0 {
                let holder = mesh.insert((p.protocol, p.published), service.id.clone());
                assert!(holder.is_none_or(|h| h == service.id), "{p:?} has two services");
            }
        }
    }
    for task in state.tasks.values() {
        assert!(state.tasks_by_service(&task.service_id).any(|t| t.id == task.id));
        assert_eq!(state.tasks.get(&task.id).map(|t| &t.id), Some(&task.id));
        if let Some(node) = &task.node_id {
            assert!(state.tasks_by_node(node).any(|t| t.id == task.id));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_under_any_sequence(
        log in prop::collection::vec(prop::collection::vec(commands(), 1..4), 1..60)
    ) {
        let (mut state, mut twin, mut replayed) = (State::default(), State::default(), State::default());
        for (i, commands) in log.into_iter().enumerate() {
            let revision = Revision(i as u64 + 1);
            let before = state.clone();
            let proposal = Proposal { commands, at: Timestamp(revision.0) };
            let applied = apply(&mut state, revision, &proposal);
            prop_assert_eq!(applied.outcomes.len(), proposal.commands.len());
            prop_assert_eq!(&apply(&mut twin, revision, &proposal), &applied);
            check(&state);
            // Ids are drawn anew for each task; only this generator removes one and makes another of its name in one entry.
            let reborn = |task: &Task| {
                let made = |c: &Command| matches!(c, Command::CreateTask(new) if new.id == task.id);
                proposal.commands.iter().zip(&applied.outcomes).any(|(c, outcome)| made(c) && outcome.is_ok())
            };
            for task in before.tasks.values().filter(|task| !reborn(task)) {
                if let Some(now) = state.tasks.get(&task.id) {
                    prop_assert!(now.status.state >= task.status.state);
                    prop_assert!(now.desired >= task.desired);
                }
            }
            // The feed is the whole difference: whoever follows it has the state.
            for change in &applied.changes {
                replayed.set(change);
            }
            prop_assert_eq!(snapshot::encode(&replayed), snapshot::encode(&state));
            if applied.changes.is_empty() {
                prop_assert_eq!(snapshot::encode(&before), snapshot::encode(&state));
            }
        }
        prop_assert_eq!(snapshot::encode(&twin), snapshot::encode(&state));
        // A state that has been away in a snapshot answers as one that has not, index and all.
        let loaded = snapshot::decode(&snapshot::encode(&state)).unwrap();
        prop_assert_eq!(snapshot::encode(&loaded), snapshot::encode(&state));
        check(&loaded);
        prop_assert_eq!(state.diff(&loaded), Vec::new());
        let mut both = (state.clone(), loaded);
        for n in 0..8 {
            for host in 0..6 {
                let command = vec![Command::AllocateTask { id: id("task", n), allocation: attached(1, host) }];
                let proposal = Proposal { commands: command, at: Timestamp(0) };
                let next = Revision(1_000);
                prop_assert_eq!(apply(&mut both.0, next, &proposal), apply(&mut both.1, next, &proposal));
            }
        }
    }
}
