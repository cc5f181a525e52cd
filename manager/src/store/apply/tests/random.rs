//! Random sequences over a small world.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;

use super::*;
use crate::store::{
    fixtures::place as attach,
    index::{Owner, holds_resources},
    snapshot,
};

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
            .prop_map(|(n, mesh)| Command::CreateNetwork(Box::new(if mesh && n == 0 { ingress(n) } else { attachable(n) }))),
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
        3 => (0usize..8, n.clone(), 0usize..6)
            .prop_map(|(t, net, host)| Command::Attach(Box::new(attach(t, net, host)))),
        4 => (0usize..8, n).prop_map(|(t, n)| Command::PlaceTask { id: id("task", t), node: id("node", n) }),
        3 => (0usize..8, task_states()).prop_map(|(t, state)| report(t, state)),
        2 => (0usize..8, prop::sample::select(vec![TaskState::Ready, TaskState::Running, TaskState::Shutdown, TaskState::Remove]))
            .prop_map(|(t, state)| wanted(t, state)),
        1 => (0usize..8).prop_map(|t| Command::RemoveTask(id("task", t))),
    ]
}

/// Those with an odd number are attachable.
fn attachable(n: usize) -> Network {
    let mut network = network(n);
    network.spec.attachable = n % 2 == 1;
    network
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
            let proposal = Proposal { commands, at: Timestamp(revision.0), rules: RULES };
            let applied = apply(&mut state, revision, &proposal);
            prop_assert_eq!(applied.outcomes.len(), proposal.commands.len());
            prop_assert_eq!(&apply(&mut twin, revision, &proposal), &applied);
            check(&state);
            // Ids are drawn anew for each task; only this generator removes one and makes another of its name in one entry.
            let reborn = |task: &Task| {
                let made =
                    |c: &Command| matches!(c, Command::CreateTask(new) | Command::Attach(new) if new.id == task.id);
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
                let proposal = Proposal { commands: command, at: Timestamp(0), rules: RULES };
                let next = Revision(1_000);
                prop_assert_eq!(apply(&mut both.0, next, &proposal), apply(&mut both.1, next, &proposal));
            }
        }
    }
}
