#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::path::PathBuf;

use gossip::EndpointState;
use kernel::{
    FakeKernel, Kernel, Link, LinkKind, NsObserved,
    observed::{BaseChain, FORWARD, Table},
};
use proptest::prelude::*;
use proto::model::NodeId;

use super::*;
use crate::{
    desired::DnsPorts,
    fixture::{World, id},
    services::ServiceTable,
};

fn desired(w: &World) -> NodeDesired {
    let table = Arc::new(ServiceTable::compute(&w.assigned, &w.view, &w.member.me));
    NodeDesired::compute(Some(w.swarm()), &w.local, table)
}

/// Observes, plans and executes; answers with what was planned.
fn pass(kernel: &dyn Kernel, desired: &NodeDesired, known: &mut Known, focus: &Focus) -> Plan {
    let observed = kernel.observe(&scope(desired, known, focus)).unwrap();
    let plan = plan(desired, &observed, known, focus);
    for unit in &plan.units {
        assert_eq!(unit.obstacle, None);
        if let Err(error) = kernel.execute_all(&unit.steps) {
            let steps: Vec<String> = unit.steps.iter().map(ToString::to_string).collect();
            panic!("{}: {error}\n{}", unit.key, steps.join("\n"));
        }
        known.extend(unit.known.clone());
    }
    let kept: BTreeSet<&PathBuf> = desired.sandboxes.values().map(|s| &s.netns).collect();
    known.retain(|(ns, ..), _| ns.path().is_none_or(|p| kept.contains(&p.to_path_buf())));
    plan
}

fn assert_empty(plan: &Plan, what: &str) {
    let steps: Vec<String> = plan.steps().map(ToString::to_string).collect();
    assert!(plan.is_empty(), "{what}:\n{}", steps.join("\n"));
}

/// What others have on the host.
fn foreign() -> NsObserved {
    let link = |name: &str, kind| {
        let link = Link {
            index: 77,
            kind,
            mtu: 1500,
            mac: None,
            master: None,
            port: None,
            up: true,
            alias: (name == "rng000000000000").then(|| "rn:another-daemon:gw/task".to_owned()),
            addrs: ["192.168.7.1/24".parse().unwrap()].into(),
            fdb: BTreeSet::new(),
            neigh: BTreeMap::new(),
        };
        (name.to_owned(), link)
    };
    let links = [
        link("docker0", LinkKind::Bridge),
        link("rng000000000000", LinkKind::Veth),
        link("vxlan.calico", LinkKind::Other("vxlan".into())),
    ];
    NsObserved {
        links: links.into(),
        tables: [((Family::Inet, "filter".to_owned()), firewall_table())].into(),
        ..NsObserved::default()
    }
}

/// A firewall that forwards only what it knows.
fn firewall_table() -> Table {
    let chain = BaseChain {
        name: "FORWARD".into(),
        kind: "filter".into(),
        hook: FORWARD,
        priority: 0,
        drops: true,
        marks: [("rn:another-daemon:forward".to_owned(), 4)].into(),
    };
    Table { chains: ["FORWARD".to_owned()].into(), base_chains: vec![chain], ..Table::default() }
}

fn kernel() -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.tamper(|namespaces| {
        let host = namespaces.get_mut(&Ns::Host).unwrap();
        host.links.extend(foreign().links);
        host.tables.extend(foreign().tables);
    });
    kernel
}

fn foreign_is_untouched(kernel: &FakeKernel) {
    kernel.tamper(|namespaces| {
        let host = &namespaces[&Ns::Host];
        for (name, link) in foreign().links {
            assert_eq!(host.links.get(&name), Some(&link));
        }
        let mut wall = host.tables[&(Family::Inet, "filter".to_owned())].clone();
        let ours = wall.base_chains[0].marks.remove("rn:daemon-a:forward");
        assert!(matches!(ours, None | Some(4)), "two rules for each of our devices, or none");
        assert_eq!(wall, firewall_table());
    });
}

#[derive(Debug, Clone)]
struct AnyTask {
    service: usize,
    slot: u64,
    node: usize,
    state: EndpointState,
    dns: Option<u16>,
}

fn any_world() -> impl Strategy<Value = World> {
    let state = prop_oneof![
        1 => Just(EndpointState::Starting),
        3 => Just(EndpointState::Ready),
        1 => Just(EndpointState::Draining),
    ];
    let dns = proptest::option::of(1024u16..2000);
    let task = (0usize..3, 1u64..9, 0usize..3, state, dns)
        .prop_map(|(service, slot, node, state, dns)| AnyTask { service, slot, node, state, dns });
    let tasks = proptest::collection::vec(task, 0..24);
    (tasks, any::<[bool; 3]>(), any::<[bool; 3]>()).prop_map(
        |(tasks, alive, [with_mesh, members_only, moved])| {
            let mut w = World::new();
            w.local.vxlan_members_only = members_only;
            if moved {
                w.node("b", "10.78.0.2", &["10.0.0.2", "fd00:1::2"]);
            }
            let services = ["web", "api", "db"];
            w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &["www"]);
            w.service("api", &["10.0.1.3", "fd00:2::3"], 9090, &[]);
            w.service("db", &[], 0, &[]);
            for t in tasks {
                let host = 20 + t.service as u32 * 10 + t.slot as u32;
                let task = w.task(services[t.service], t.slot, ["a", "b", "c"][t.node], host, t.state);
                if let Some(sandbox) = w.local.sandboxes.get_mut(&WorkloadId::from(&task)) {
                    sandbox.dns = t.dns.map(|udp| DnsPorts { udp, tcp: udp + 1 });
                }
            }
            for (node, alive) in ["a", "b", "c"].into_iter().zip(alive) {
                w.set_alive(node, alive);
            }
            if !with_mesh {
                w.assigned.networks.remove(&id::<NetworkId>("ingress"));
            }
            w
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is wanted, and whatever was there, one plan makes it so.
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(worlds in proptest::collection::vec(any_world(), 1..4)) {
        let kernel = kernel();
        for world in &worlds {
            let desired = desired(world);
            pass(&kernel, &desired, &mut Known::new(), &Focus::All(true));
            assert_empty(&pass(&kernel, &desired, &mut Known::new(), &Focus::All(true)), "the second pass");
            foreign_is_untouched(&kernel);
        }
    }

    /// Looking only where two answers differ comes to the same.
    #[test]
    fn looking_where_answers_differ_is_enough(worlds in proptest::collection::vec(any_world(), 2..5)) {
        let kernel = kernel();
        let mut known = Known::new();
        let mut last: Option<NodeDesired> = None;
        for world in &worlds {
            let desired = desired(world);
            let focus = last.as_ref().map_or(Focus::All(true), |last| Focus::between(last, &desired));
            pass(&kernel, &desired, &mut known, &focus);
            let again = pass(&kernel, &desired, &mut Known::new(), &Focus::All(true));
            // The administrator's table is looked at by the clock only.
            assert_empty(&again, "a full pass after one that looked at differences");
            last = Some(desired);
        }
        foreign_is_untouched(&kernel);
    }
}

/// Tables of an earlier version have other chains, hence another digest: each is replaced with its elements in one transaction, so that
/// no packet sees it empty.
#[test]
fn tables_of_an_earlier_version_are_replaced_whole() {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    w.task("web", 1, "a", 20, EndpointState::Ready);
    w.local.vxlan_members_only = true;
    let (kernel, desired) = (kernel(), desired(&w));
    pass(&kernel, &desired, &mut Known::new(), &Focus::All(true));
    let mut earlier = 0;
    kernel.tamper(|namespaces| {
        for table in namespaces.values_mut().flat_map(|ns| ns.tables.values_mut()) {
            if let Some(digest) = &mut table.digest {
                "0123456789abcdef".clone_into(digest);
                earlier += 1;
            }
        }
    });
    let plan = pass(&kernel, &desired, &mut Known::new(), &Focus::All(true));
    let replaced: Vec<_> = plan.steps().collect();
    assert!(earlier >= 5 && replaced.len() == earlier, "{earlier}: {replaced:?}");
    for step in replaced {
        let Step::ApplyRuleset { ns, ruleset } = step else { panic!("{step}") };
        let filled = !ruleset.elements.is_empty();
        assert!(filled || ruleset.table == desired.names.gateway_table, "{} in {ns} is empty", ruleset.table);
    }
    assert_empty(&pass(&kernel, &desired, &mut Known::new(), &Focus::All(true)), "the second pass");
}

proptest! {
    /// A frame can be answered only by who may send one.
    #[test]
    fn who_is_sent_frames_may_send_some(world in any_world()) {
        let kernel = kernel();
        let desired = desired(&world);
        pass(&kernel, &desired, &mut Known::new(), &Focus::All(true));
        let observed = kernel.observe(&scope(&desired, &Known::new(), &Focus::All(true))).unwrap();
        let targets: BTreeSet<_> = observed
            .namespaces
            .values()
            .flat_map(|ns| ns.links.values())
            .flat_map(|link| link.fdb.iter().map(|entry| entry.dst))
            .collect();
        let host = observed.ns(&Ns::Host).unwrap();
        let table = host.tables.get(&(Family::Inet, "rn-vxlan".to_owned()));
        prop_assert_eq!(table.is_some(), desired.senders.is_some());
        let Some(table) = table else { return Ok(()) };
        let senders = elements::members(&targets);
        let in_table = table.elements.clone().unwrap_or_default();
        for (set, elements) in senders {
            prop_assert!(elements.is_subset(&in_table[&set]), "{:?} of {:?}", elements, in_table);
        }
    }
}

#[test]
fn members_come_and_go_as_elements() {
    let mut w = World::new();
    let (kernel, mut known, first) = (kernel(), Known::new(), desired(&w));
    pass(&kernel, &first, &mut known, &Focus::All(true));
    w.node("d", "10.77.0.4", &[]);
    w.view.nodes.remove(&id::<NodeId>("c"));
    let second = desired(&w);
    let focus = Focus::between(&first, &second);
    let plan = pass(&kernel, &second, &mut known, &focus);
    let unit = plan.units.iter().find(|u| u.key == UnitKey::Underlay).unwrap();
    let [Step::UpdateElements { table, changes, .. }] = unit.steps.as_slice() else { panic!("{unit:?}") };
    assert_eq!(table, "rn-vxlan");
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((change.set.as_str(), change.add.len(), change.del.len()), ("member4", 1, 1));
}

fn ready(world: &mut World, tasks: u64) {
    for slot in 1..=tasks {
        let node = ["a", "b"][slot as usize % 2];
        world.task("web", slot, node, 10 + slot as u32, EndpointState::Ready);
    }
}

#[test]
fn a_change_of_backends_is_a_change_of_elements_only() {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    ready(&mut w, 3);
    let (kernel, mut known, first) = (kernel(), Known::new(), desired(&w));
    pass(&kernel, &first, &mut known, &Focus::All(true));
    w.task("web", 2, "a", 12, EndpointState::Draining);
    let second = desired(&w);
    let focus = Focus::between(&first, &second);
    assert_eq!(focus, Focus::Units(BTreeSet::new()), "nothing needs to be looked at");
    let plan = pass(&kernel, &second, &mut known, &focus);
    assert!(plan.steps().count() > 0);
    for step in plan.steps() {
        assert!(matches!(step, Step::UpdateElements { .. }), "{step}");
    }
}

#[test]
fn a_node_that_just_started_takes_nothing_away() {
    let mut w = World::new();
    w.service("web", &["10.0.1.2", "fd00:2::2"], 8080, &[]);
    ready(&mut w, 3);
    let kernel = kernel();
    pass(&kernel, &desired(&w), &mut Known::new(), &Focus::All(true));
    // After a restart gossip knows of this node alone.
    w.view.endpoints.retain(|_, record| record.node == w.member.me);
    let desired = desired(&w);
    let observed = kernel.observe(&scope(&desired, &Known::new(), &Focus::All(true))).unwrap();
    let plan = plan(&desired, &observed, &Known::new(), &Focus::All(true)).without_removals();
    for step in plan.steps() {
        match step {
            Step::UpdateElements { changes, .. } => {
                for change in changes {
                    assert!(change.del.iter().all(|d| change.add.iter().any(|a| a.key == d.key)));
                }
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_foreign_bridge_of_our_name_is_refused_not_taken() {
    let kernel = kernel();
    kernel.tamper(|namespaces| {
        let host = namespaces.get_mut(&Ns::Host).unwrap();
        let docker = host.links["docker0"].clone();
        host.links.insert("rn_gwbridge".into(), docker);
    });
    let desired = desired(&World::new());
    let observed = kernel.observe(&scope(&desired, &Known::new(), &Focus::All(true))).unwrap();
    let plan = plan(&desired, &observed, &Known::new(), &Focus::All(true));
    let gateway = plan.units.iter().find(|u| u.key == UnitKey::Gateway).unwrap();
    assert!(gateway.steps.is_empty() && gateway.obstacle.is_some());
}

#[test]
fn slots_are_exact_for_few_and_even_for_many() {
    for n in 1..=1000usize {
        let slots = rulesets::slots_for(n).unwrap();
        assert!(rulesets::SLOTS.contains(&slots));
        let (least, most) = (slots as usize / n, (slots as usize).div_ceil(n));
        assert!(n <= 16 && least == most || n > 16 && most * 8 <= least * 9, "{n} backends in {slots} slots");
    }
    assert_eq!(rulesets::slots_for(0), None);
}
