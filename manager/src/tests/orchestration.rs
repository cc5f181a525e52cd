//! Slots, restarts, lost nodes, history.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proto::model::{
    Availability, Millis, NodeState, RestartCondition, RestartPolicy, ServiceId, ServiceMode, TaskState,
};

use super::{
    fixture::{self, add_service, edit_node, edit_service, node_id, report_node, service},
    world::World,
};
use crate::store::command::Command;

fn with_policy(world: &mut World, replicas: u64, policy: RestartPolicy) -> ServiceId {
    let mut web = service(&world.state, "web", replicas, &["app"], &[]);
    web.spec.task.restart = Some(policy);
    add_service(&mut world.state, web, world.now)
}

fn scale(world: &mut World, id: &ServiceId, replicas: u64) {
    edit_service(&mut world.state, id, world.now, |s| s.mode = ServiceMode::Replicated(replicas));
}

#[test]
fn scaling_touches_no_slot_that_stays() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    let id = world.serve("web", 3);
    world.run();
    let three = world.live(&id);
    scale(&mut world, &id, 5);
    world.run();
    let five = world.live(&id);
    assert_eq!(five.iter().map(|t| t.slot).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(three.iter().zip(&five).all(|(a, b)| Arc::ptr_eq(a, b)));
    scale(&mut world, &id, 3);
    world.run();
    assert_eq!(world.live(&id), three, "the busiest nodes and the highest slots go first");
    assert_eq!(world.tasks().len(), 3, "what was scaled away leaves no history");
    scale(&mut world, &id, 0);
    world.run();
    assert!(world.tasks().is_empty());
}

#[test]
fn scaling_down_gives_up_what_does_not_run_first() {
    let mut world = World::new(&["n1"]);
    let id = world.serve("web", 3);
    world.run();
    let first = world.live(&id)[0].clone();
    world.end(&first, TaskState::Failed);
    world.settle();
    scale(&mut world, &id, 2);
    world.run();
    assert_eq!(world.live(&id).iter().map(|t| t.slot).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_restart_does_not_wait_for_a_clock_that_was_ahead() {
    let mut world = World::new(&["n1"]);
    let id = world.serve("web", 1);
    world.run();
    let right = world.now;
    world.pass(Millis::secs(600));
    let failed = world.live(&id)[0].clone();
    world.end(&failed, TaskState::Failed);
    world.run();
    assert_eq!(world.live(&id)[0].desired, TaskState::Ready);
    // Another leader, whose clock is right.
    world.now = right;
    world.run();
    assert_eq!(world.live(&id)[0].desired, TaskState::Running);
}

#[test]
fn the_order_of_a_slots_tasks_is_not_that_of_clocks() {
    let mut world = World::new(&["n1"]);
    let condition = RestartCondition::None;
    let id = with_policy(&mut world, 1, RestartPolicy { condition, ..RestartPolicy::default() });
    let right = world.now;
    world.pass(Millis::secs(600));
    world.run();
    // Another leader, whose clock is right, replaces the task; the new one runs to its end.
    world.now = right;
    edit_service(&mut world.state, &id, world.now, |s| s.task.container.image = "image:2".into());
    world.run();
    let second = world.live(&id)[0].clone();
    assert_eq!(second.status.state, TaskState::Running);
    world.end(&second, TaskState::Complete);
    world.run_out();
    assert!(world.live(&id).is_empty(), "what is to run once was started again");
}

#[test]
fn a_failed_task_is_replaced_after_the_delay() {
    let mut world = World::new(&["n1", "n2"]);
    let id = world.serve("web", 2);
    world.run();
    let failed = world.live(&id)[0].clone();
    world.end(&failed, TaskState::Failed);
    let ended = world.now;
    let next = world.run();
    let due = ended.after(Millis::secs(5));
    assert_eq!(next, Some(due));
    let new = world.live(&id)[0].clone();
    assert_eq!((new.slot, new.desired, new.status.state), (1, TaskState::Ready, TaskState::Ready));
    assert_eq!(world.state.tasks.get(&failed.id).unwrap().desired, TaskState::Shutdown);
    world.now = due;
    world.run();
    let new = world.state.tasks.get(&new.id).unwrap();
    assert_eq!((new.desired, new.status.state), (TaskState::Running, TaskState::Running));
}

#[test]
fn what_fails_while_it_is_made_ready_is_not_tried_again_before_the_delay() {
    let mut world = World::new(&["n1", "n2"]);
    let id = world.serve("web", 1);
    world.run();
    let first = world.live(&id)[0].clone();
    world.end(&first, TaskState::Rejected);
    let mut due = world.now;
    for round in 2..6 {
        world.now = due;
        due = due.after(Millis::secs(5));
        assert_eq!(world.run(), Some(due), "round {round}");
        let second = world.live(&id)[0].clone();
        assert_eq!(second.desired, TaskState::Ready);
        world.end(&second, TaskState::Rejected);
        assert_eq!(world.run(), Some(due), "round {round}: it waits");
        assert_eq!(world.live(&id)[0].id, second.id, "round {round}: it shows why");
    }
    // Another image does not wait.
    let waiting = world.live(&id)[0].clone();
    edit_service(&mut world.state, &id, world.now, |s| s.task.container.image = "image:2".into());
    world.run();
    let new = world.live(&id)[0].clone();
    assert_ne!(new.id, waiting.id);
    assert_eq!((new.desired, new.status.state), (TaskState::Running, TaskState::Running));
}

#[test]
fn policies() {
    let cases = [
        (RestartCondition::None, TaskState::Failed, false),
        (RestartCondition::None, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Failed, true),
        (RestartCondition::OnFailure, TaskState::Rejected, true),
        (RestartCondition::Any, TaskState::Complete, true),
    ];
    for (condition, end, restarts) in cases {
        let mut world = World::new(&["n1"]);
        let id = with_policy(&mut world, 1, RestartPolicy { condition, ..RestartPolicy::default() });
        world.run();
        let first = world.live(&id)[0].clone();
        world.end(&first, end);
        world.run_out();
        assert_eq!(world.live(&id).len(), usize::from(restarts), "{condition:?} {end}");
        // A new spec opens a slot that was done.
        world.pass(Millis::secs(60));
        edit_service(&mut world.state, &id, world.now, |s| s.task.container.image = "image:2".into());
        world.run_out();
        assert_eq!(world.live(&id)[0].spec.container.image, "image:2");
        assert_eq!(world.live(&id)[0].status.state, TaskState::Running);
    }
}

#[test]
fn attempts_are_counted_per_slot_and_within_the_window() {
    let attempts = |window: Millis, lifetime: Millis| {
        let mut world = World::new(&["n1"]);
        let policy = RestartPolicy { max_attempts: 3, window, delay: Millis(0), ..RestartPolicy::default() };
        let id = with_policy(&mut world, 1, policy);
        world.run();
        for n in 0..20 {
            let Some(task) = world.live(&id).first().cloned() else { return n };
            world.pass(lifetime);
            world.end(&task, TaskState::Failed);
            world.run_out();
        }
        20
    };
    assert_eq!(attempts(Millis(0), Millis::secs(1000)), 4, "one start and three restarts");
    assert_eq!(attempts(Millis::secs(60), Millis::secs(1)), 4);
    assert_eq!(attempts(Millis::secs(60), Millis::secs(30)), 20, "never three within the window");
}

#[test]
fn a_lost_node_is_replaced_at_once_and_its_tasks_stop_when_it_returns() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    let id = world.serve("web", 3);
    world.run();
    report_node(&mut world.state, "n2", NodeState::Down);
    world.run();
    let spread = world.spread(&id);
    assert_eq!(spread.values().sum::<usize>(), 3);
    assert!(!spread.contains_key("n2"));
    assert!(world.live(&id).iter().all(|t| t.status.state == TaskState::Running));
    let old: Vec<_> = world.state.tasks_by_node(&node_id("n2")).cloned().collect();
    assert_eq!(old.len(), 1);
    assert_eq!((old[0].desired, old[0].status.state), (TaskState::Shutdown, TaskState::Running));
    report_node(&mut world.state, "n2", NodeState::Ready);
    world.run();
    assert_eq!(world.state.tasks.get(&old[0].id).unwrap().status.state, TaskState::Shutdown);
    assert!(!world.spread(&id).contains_key("n2"), "nothing is moved back");
}

#[test]
fn a_delay_outlives_the_node_that_it_began_on() {
    let delay = Millis::secs(60);
    // Replicated: the replacement, made ready and not yet started, loses its node.
    let mut world = World::new(&["n1"]);
    let id = with_policy(&mut world, 1, RestartPolicy { delay, ..RestartPolicy::default() });
    world.run();
    let failed = world.live(&id)[0].clone();
    world.end(&failed, TaskState::Failed);
    let due = world.now.after(delay);
    world.run();
    fixture::add_nodes(&mut world.state, &["n2"]);
    report_node(&mut world.state, "n1", NodeState::Down);
    assert_eq!(world.run(), Some(due));
    let waiting = world.live(&id)[0].clone();
    assert_eq!((waiting.node_id.as_ref().unwrap().as_str(), waiting.desired), ("n2", TaskState::Ready));
    world.now = due;
    world.run();
    assert_eq!(world.live(&id)[0].status.state, TaskState::Running);

    // Global: the node goes and returns, by itself and by its user's hand.
    let mut world = World::new(&["n1"]);
    let mut agent = service(&world.state, "agent", 0, &["app"], &[]);
    agent.spec.mode = ServiceMode::Global;
    agent.spec.task.restart = Some(RestartPolicy { delay, ..RestartPolicy::default() });
    let id = add_service(&mut world.state, agent, world.now);
    world.run();
    let failed = world.live(&id)[0].clone();
    world.end(&failed, TaskState::Failed);
    let due = world.now.after(delay);
    world.run();
    for round in 0..8 {
        world.pass(Millis::secs(5));
        match round % 2 {
            0 => report_node(&mut world.state, "n1", NodeState::Down),
            _ => edit_node(&mut world.state, "n1", |n| n.availability = Availability::Drain),
        }
        world.run();
        assert!(world.live(&id).is_empty(), "{round}");
        report_node(&mut world.state, "n1", NodeState::Ready);
        edit_node(&mut world.state, "n1", |n| n.availability = Availability::Active);
        assert_eq!(world.run(), Some(due), "{round}");
        assert_eq!(world.live(&id)[0].desired, TaskState::Ready, "{round}");
    }
    world.now = due;
    world.run();
    assert_eq!(world.live(&id)[0].status.state, TaskState::Running);
}

#[test]
fn draining_moves_without_delay_and_pausing_moves_nothing() {
    let mut world = World::new(&["n1", "n2"]);
    let id = world.serve("web", 4);
    world.run();
    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Pause);
    assert_eq!(world.orchestrate().commands, []);
    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Drain);
    assert_eq!(world.run(), None);
    assert_eq!(world.spread(&id), [("n2".to_owned(), 4)].into());
    assert!(world.live(&id).iter().all(|t| t.status.state == TaskState::Running));
}

#[test]
fn a_replacement_waits_for_its_predecessor_to_stop() {
    let mut world = World::new(&["n1", "n2"]);
    let id = world.serve("web", 1);
    world.run();
    let old = world.live(&id)[0].clone();
    edit_node(&mut world.state, old.node_id.as_ref().unwrap().as_str(), |n| {
        n.availability = Availability::Drain
    });
    // The agent is slow to stop it.
    let next = world.settle();
    assert_eq!(world.live(&id)[0].desired, TaskState::Ready);
    assert_eq!(next, Some(world.now.after(Millis::secs(60))), "but not for ever");
    world.now = next.unwrap();
    world.settle();
    assert_eq!(world.live(&id)[0].desired, TaskState::Running);
}

#[test]
fn removing_a_node_replaces_its_tasks() {
    let mut world = World::new(&["n1", "n2"]);
    let id = world.serve("web", 2);
    world.run();
    report_node(&mut world.state, "n1", NodeState::Down);
    world.run();
    fixture::must(&mut world.state, vec![Command::RemoveNode(node_id("n1"))], world.now);
    world.run();
    assert_eq!(world.spread(&id), [("n2".to_owned(), 2)].into());
}

#[test]
fn history_is_bounded_per_slot() {
    let mut world = World::new(&["n1"]);
    let id = with_policy(&mut world, 2, RestartPolicy { delay: Millis(0), ..RestartPolicy::default() });
    world.run();
    for _ in 0..12 {
        world.pass(Millis::secs(1));
        let task = world.live(&id)[0].clone();
        world.end(&task, TaskState::Failed);
        world.run();
    }
    let of_slot = |slot| world.tasks().iter().filter(|t| t.slot == slot).count();
    assert_eq!((of_slot(1), of_slot(2)), (5, 1));
}

#[test]
fn tasks_on_a_down_node_do_not_keep_a_removed_service_alive() {
    let mut world = World::new(&["n1", "n2"]);
    let id = world.serve("web", 2);
    world.run();
    report_node(&mut world.state, "n1", NodeState::Down);
    world.run();
    let app = world.state.network_by_name("app").unwrap().id.clone();
    fixture::must(&mut world.state, vec![Command::RemoveService(id)], world.now);
    world.run();
    assert!(world.tasks().is_empty());
    fixture::must(&mut world.state, vec![Command::RemoveNetwork(app)], world.now);
}

#[test]
fn global_services_follow_the_nodes() {
    let mut world = World::new(&["n1", "n2"]);
    let mut agent = service(&world.state, "agent", 0, &["app"], &[]);
    agent.spec.mode = ServiceMode::Global;
    agent.spec.task.placement.constraints = vec!["node.labels.skip!=yes".into()];
    let id = add_service(&mut world.state, agent, world.now);
    world.run();
    let on = |world: &World| world.spread(&id).into_keys().collect::<Vec<_>>();
    assert_eq!(on(&world), ["n1", "n2"]);
    fixture::add_nodes(&mut world.state, &["n3"]);
    world.run();
    assert_eq!(on(&world), ["n1", "n2", "n3"]);
    assert!(world.live(&id).iter().all(|t| t.status.state == TaskState::Running && t.slot == 0));

    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Drain);
    edit_node(&mut world.state, "n2", |n| n.availability = Availability::Pause);
    edit_node(&mut world.state, "n3", |n| drop(n.labels.insert("skip".into(), "yes".into())));
    world.run();
    assert_eq!(on(&world), ["n2"]);
    // A failed one comes back where it was, after its delay; not on a paused node, where it waits.
    edit_node(&mut world.state, "n1", |n| n.availability = Availability::Active);
    edit_node(&mut world.state, "n2", |n| n.availability = Availability::Active);
    world.run();
    let task = world.live(&id)[0].clone();
    world.end(&task, TaskState::Failed);
    world.run_out();
    assert_eq!(on(&world), ["n1", "n2"]);
    assert!(world.live(&id).iter().all(|t| t.status.state == TaskState::Running));
    report_node(&mut world.state, "n2", NodeState::Down);
    world.run();
    assert_eq!(on(&world), ["n1"]);
    fixture::must(&mut world.state, vec![Command::RemoveNode(node_id("n2"))], world.now);
    world.run();
    assert!(world.tasks().iter().all(|t| t.node_id.as_ref().unwrap().as_str() != "n2"));
}

#[test]
fn a_task_leaves_a_node_that_its_constraints_no_longer_allow() {
    let mut world = World::new(&["n1", "n2"]);
    edit_node(&mut world.state, "n1", |n| drop(n.labels.insert("disk".into(), "ssd".into())));
    let mut web = service(&world.state, "web", 1, &["app"], &[]);
    web.spec.task.placement.constraints = vec!["node.labels.disk==ssd".into()];
    let id = add_service(&mut world.state, web, world.now);
    world.run();
    assert_eq!(world.spread(&id), [("n1".to_owned(), 1)].into());
    edit_node(&mut world.state, "n1", |n| n.labels.clear());
    edit_node(&mut world.state, "n2", |n| drop(n.labels.insert("disk".into(), "ssd".into())));
    world.run();
    assert_eq!(world.spread(&id), [("n2".to_owned(), 1)].into());
}
