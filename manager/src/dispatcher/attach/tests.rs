#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;

use proto::model::{NetworkAllocation, Revision, Subnet, TaskState, TaskStatus, Timestamp, Vni};

use super::*;
use crate::store::{
    apply::apply,
    command::{Command, Proposal, RULES},
    fixtures::{id, network, node},
};

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two nodes; `net1` is attachable, `net2` is not. Both families.
fn world() -> State {
    let mut state = State::default();
    for n in 1..=2 {
        state.put(node(n));
        let mut net = network(n);
        net.spec.attachable = n == 1;
        let subnet = |subnet: String, gateway: String| Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: addr(&gateway),
            ip_range: None,
        };
        net.allocation = Some(NetworkAllocation {
            vni: Vni(4096 + u32::try_from(n).unwrap()),
            mtu: 1450,
            subnets: vec![
                subnet(format!("10.10.{n}.0/24"), format!("10.10.{n}.1")),
                subnet(format!("fd00:{n}::/64"), format!("fd00:{n}::1")),
            ],
        });
        state.put(net);
    }
    state
}

fn wanted(n: usize, network: &str, addrs: &[&str]) -> Request {
    Request {
        container: id("container", n),
        name: format!("c{n}"),
        networks: vec![EndpointSettings {
            network: network.into(),
            aliases: vec!["alias".into()],
            addrs: addrs.iter().map(|a| addr(a)).collect(),
        }],
        ports: Vec::new(),
    }
}

fn attach(state: &mut State, n: usize, request: Request) -> Result<Task, String> {
    let task = plan(state, &id("node", n), request).map_err(|e| e.message)?;
    let proposal =
        Proposal { commands: vec![Command::Attach(Box::new(task.clone()))], at: Timestamp(7), rules: RULES };
    let applied = apply(state, Revision(state.revision.0 + 1), &proposal);
    applied.outcomes.into_iter().next().unwrap().map_err(|e| e.to_string())?;
    Ok((**state.tasks.get(&task.id).unwrap()).clone())
}

fn addrs(task: &Task) -> Vec<String> {
    let all = task.allocation.iter().flat_map(|a| &a.attachments).flat_map(|a| &a.addrs);
    all.map(ToString::to_string).collect()
}

#[test]
fn a_place_is_there_whole_and_only_once() {
    let mut state = world();
    let first = attach(&mut state, 1, wanted(1, "net1", &["10.10.1.33"])).unwrap();
    assert_eq!(addrs(&first), ["10.10.1.33/24", "fd00:1::2/64"], "one wanted, one chosen");
    assert_eq!((first.name().as_str(), first.status.state), ("c1", TaskState::Assigned));

    let clash = attach(&mut state, 2, wanted(2, "net1", &["10.10.1.33"])).unwrap_err();
    assert!(clash.contains("10.10.1.33") && clash.contains("container c1 on node"), "{clash}");
    assert_eq!(state.tasks.values().count(), 1, "nothing is left of what failed");

    let second = attach(&mut state, 2, wanted(2, "network1", &["fd00:1::99"])).unwrap();
    assert_eq!(addrs(&second).last().unwrap(), "fd00:1::99/64");
}

#[test]
fn what_cannot_be_attached_says_why() {
    let mut state = world();
    for (network, addrs, words) in [
        ("net2", &[][..], "not manually attachable"),
        ("nowhere", &[], "nowhere not found"),
        ("net1", &["10.99.0.1"], "in no subnet of network net1"),
        ("net1", &["10.10.1.1"], "the network's gateway"),
        ("net1", &["10.10.1.0"], "in use, or cannot be"),
        ("net1", &["10.10.1.5", "10.10.1.6"], "one address of a family"),
    ] {
        let error = attach(&mut state, 1, wanted(1, network, addrs)).unwrap_err();
        assert!(error.contains(words), "{network} {addrs:?}: {error}");
    }
    let mut drained = node(1);
    drained.spec.availability = Availability::Drain;
    state.put(drained);
    let error = attach(&mut state, 1, wanted(1, "net1", &[])).unwrap_err();
    assert!(error.contains("drained"), "{error}");
    assert_eq!(state.tasks.values().count(), 0);
}

#[test]
fn its_node_ends_it_and_the_reaper_forgets_it() {
    let mut state = world();
    state.cluster = Some(std::sync::Arc::new(crate::store::fixtures::cluster()));
    let task = attach(&mut state, 1, wanted(1, "net1", &[])).unwrap();
    let reap = |state: &State| crate::orchestrator::reap::plan(state, Timestamp(9)).commands;
    assert!(reap(&state).is_empty(), "without a service, and nobody's to remove: {:?}", reap(&state));
    let status = TaskStatus { state: TaskState::Shutdown, ..TaskStatus::default() };
    let over = Command::ReportTask { id: task.id.clone(), status };
    apply(&mut state, Revision(50), &Proposal { commands: vec![over], at: Timestamp(8), rules: RULES });
    assert_eq!(reap(&state), [Command::RemoveTask(task.id.clone())]);
    // And its address is free at once.
    let held =
        attach(&mut state, 2, wanted(2, "net1", &[addrs(&task)[0].split_once('/').unwrap().0])).unwrap();
    assert_eq!(held.name(), "c2");
}
