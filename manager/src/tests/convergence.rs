//! Whatever happens, the loops come to rest, and at rest everything holds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use proptest::prelude::*;
use proto::model::{Availability, Millis, NodeState, ServiceMode, TaskState};

use super::{
    allocation::owners,
    fixture::{self, add_service, edit_node, edit_service, port, report_node, service},
    world::World,
};
use crate::{scheduler::constraint, store::command::Command};

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const SERVICES: [&str; 3] = ["s1", "s2", "s3"];

#[derive(Debug, Clone)]
enum Event {
    Create { service: usize, replicas: u64, publish: bool, constrained: bool, global: bool },
    Scale { service: usize, replicas: u64 },
    Image { service: usize, image: u8 },
    Remove { service: usize },
    Node { node: usize, state: NodeState },
    Availability { node: usize, availability: Availability },
    Label { node: usize, on: bool },
    End { nth: usize, to: TaskState },
    Pass { seconds: u64 },
    Settle,
    Run,
}

fn event() -> impl Strategy<Value = Event> {
    use Event as E;
    let service = 0..SERVICES.len();
    let node = 0..NODES.len();
    prop_oneof![
        3 => (service.clone(), 0u64..7, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(service, replicas, publish, constrained, global)| E::Create { service, replicas, publish, constrained, global }
        ),
        3 => (service.clone(), 0u64..7).prop_map(|(service, replicas)| E::Scale { service, replicas }),
        2 => (service.clone(), 0u8..3).prop_map(|(service, image)| E::Image { service, image }),
        1 => service.prop_map(|service| E::Remove { service }),
        2 => (node.clone(), prop_oneof![Just(NodeState::Ready), Just(NodeState::Down), Just(NodeState::Unknown)])
            .prop_map(|(node, state)| E::Node { node, state }),
        1 => (
            node.clone(),
            prop_oneof![Just(Availability::Active), Just(Availability::Pause), Just(Availability::Drain)]
        )
            .prop_map(|(node, availability)| E::Availability { node, availability }),
        1 => (node, any::<bool>()).prop_map(|(node, on)| E::Label { node, on }),
        3 => (
            0usize..50,
            prop_oneof![Just(TaskState::Failed), Just(TaskState::Complete), Just(TaskState::Rejected)]
        )
            .prop_map(|(nth, to)| E::End { nth, to }),
        2 => (0u64..20).prop_map(|seconds| E::Pass { seconds }),
        3 => Just(E::Settle),
        3 => Just(E::Run),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let id = |world: &World, service: &usize| {
        world.state.service_by_name(SERVICES[*service]).map(|s| s.id.clone())
    };
    match event {
        Event::Create { service: which, replicas, publish, constrained, global } => {
            if id(world, which).is_some() {
                return;
            }
            let ports = [port(8000 + *which as u16, 80), port(0, 443)];
            let ports: &[_] = if *publish { &ports } else { &[] };
            let mut new = service(&world.state, SERVICES[*which], *replicas, &["app"], ports);
            if *constrained {
                new.spec.task.placement.constraints = vec!["node.labels.on==yes".into()];
            }
            if *global {
                new.spec.mode = ServiceMode::Global;
            }
            add_service(&mut world.state, new, world.now);
        }
        Event::Scale { service, replicas } => {
            let Some(id) = id(world, service) else { return };
            if world.service(&id).spec.mode != ServiceMode::Global {
                edit_service(&mut world.state, &id, world.now, |s| {
                    s.mode = ServiceMode::Replicated(*replicas)
                });
            }
        }
        Event::Image { service, image } => {
            let Some(id) = id(world, service) else { return };
            edit_service(&mut world.state, &id, world.now, |s| {
                s.task.container.image = format!("image:{image}")
            });
        }
        Event::Remove { service } => {
            let Some(id) = id(world, service) else { return };
            fixture::must(&mut world.state, vec![Command::RemoveService(id)], world.now);
        }
        Event::Node { node, state } => report_node(&mut world.state, NODES[*node], *state),
        Event::Availability { node, availability } => {
            edit_node(&mut world.state, NODES[*node], |n| n.availability = *availability);
        }
        Event::Label { node, on } => edit_node(&mut world.state, NODES[*node], |n| {
            n.labels.insert("on".into(), if *on { "yes" } else { "no" }.into());
        }),
        Event::End { nth, to } => {
            let tasks = world.tasks();
            let running: Vec<_> = tasks.iter().filter(|t| t.status.state == TaskState::Running).collect();
            if let Some(task) = running.get(nth % running.len().max(1)) {
                world.end(task, *to);
            }
        }
        Event::Pass { seconds } => world.pass(Millis::secs(*seconds)),
        Event::Settle => drop(world.settle()),
        Event::Run => drop(world.run()),
    }
    owners(&world.state);
}

proptest! {
    #[test]
    fn the_loops_come_to_rest_and_everything_holds(events in prop::collection::vec(event(), 1..40)) {
        let mut world = World::new(&NODES);
        events.iter().for_each(|e| happen(&mut world, e));
        // In the end all nodes are there and time goes on.
        for node in NODES {
            report_node(&mut world.state, node, NodeState::Ready);
            edit_node(&mut world.state, node, |n| n.availability = Availability::Active);
        }
        world.run_out();

        prop_assert!(world.orchestrate().commands.is_empty());
        prop_assert!(world.allocate().commands.is_empty());
        prop_assert!(world.schedule().commands.is_empty());
        owners(&world.state);
        for service in world.state.services.values() {
            let live = world.live(&service.id);
            let labelled = world
                .state
                .nodes
                .values()
                .filter(|n| constraint::all_match(&service.spec.task.placement.constraints, n))
                .count();
            let paused = service.update_status.as_ref().is_some_and(|u| u.state.is_paused());
            match service.spec.mode {
                ServiceMode::Global => prop_assert_eq!(live.len(), labelled),
                ServiceMode::Replicated(n) => prop_assert_eq!(live.len() as u64, n),
            }
            for task in &live {
                if labelled == 0 {
                    prop_assert_eq!(task.status.state, TaskState::Pending);
                    prop_assert_eq!(task.conditions.len(), 1);
                    continue;
                }
                prop_assert_eq!(task.status.state, TaskState::Running);
                prop_assert!(paused || task.spec == service.spec.task);
                prop_assert!(task.conditions.is_empty());
                let node = world.state.nodes.get(task.node_id.as_ref().unwrap()).unwrap();
                prop_assert!(constraint::all_match(&task.spec.placement.constraints, node));
            }
        }
        // Nothing runs that no service wants.
        for task in world.tasks() {
            prop_assert!(task.status.state.is_terminal() || task.desired <= TaskState::Running);
        }
    }

    #[test]
    fn equal_nodes_differ_by_one_task_at_most(replicas in 1u64..40, nodes in 1usize..=4) {
        let mut world = World::new(&NODES[..nodes]);
        let first = world.serve("first", replicas);
        let second = world.serve("second", replicas / 2 + 1);
        world.run();
        for id in [first, second] {
            let spread = world.spread(&id);
            let most = spread.values().max().copied().unwrap_or_default();
            let least = if spread.len() < nodes { 0 } else { spread.values().min().copied().unwrap_or_default() };
            prop_assert!(most - least <= 1, "{:?}", spread);
        }
    }
}

/// Prints what a pass costs, so that a change for the worse is seen; asserts only the order of magnitude.
#[test]
fn passes_over_a_large_cluster_are_quick() {
    let names: Vec<String> = (0..100).map(|n| format!("node{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&names);
    let big = fixture::network("big", |s| {
        s.ipam = vec![proto::model::IpamConfig {
            subnet: Some("10.64.0.0/16".parse().unwrap()),
            ..proto::model::IpamConfig::default()
        }];
    });
    fixture::must(&mut world.state, vec![Command::CreateNetwork(Box::new(big))], world.now);
    for n in 0..100 {
        let new = service(&world.state, &format!("service{n}"), 100, &["big"], &[]);
        add_service(&mut world.state, new, world.now);
    }
    let mut step = |name: &str, plan: fn(&mut World) -> crate::control_loop::Plan| {
        let started = Instant::now();
        let plan = plan(&mut world);
        let took = started.elapsed();
        println!("{name}: {} commands in {took:?}", plan.commands.len());
        world.apply(&plan);
        plan.commands.len()
    };
    step("orchestrate 10,000 new tasks on 100 nodes", World::orchestrate);
    step("allocate", World::allocate);
    step("schedule", World::schedule);
    for (name, plan) in [
        ("settled: orchestrate", World::orchestrate as fn(&mut World) -> _),
        ("settled: allocate", World::allocate),
        ("settled: schedule", World::schedule),
    ] {
        assert_eq!(step(name, plan), 0, "{name}");
    }
    world.run();
    let one = world.serve("one", 1);
    for (name, plan) in [
        ("one more service: orchestrate", World::orchestrate as fn(&mut World) -> _),
        ("one more service: allocate", World::allocate),
        ("one more service: schedule", World::schedule),
    ] {
        let started = Instant::now();
        let plan = plan(&mut world);
        println!("{name}: {} commands in {:?}", plan.commands.len(), started.elapsed());
        world.apply(&plan);
    }
    assert_eq!(world.live(&one)[0].status.state, TaskState::Assigned);
}
