//! Rolling updates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::model::{
    FailureAction, Millis, RegistryAuth, ServiceId, ServiceMode, TaskState, UpdateConfig, UpdateOrder,
    UpdateState,
};

use super::{
    fixture::{self, add_service, edit_node, edit_service, port, service},
    world::World,
};
use crate::store::command::Command;

fn start(world: &mut World, replicas: u64, update: UpdateConfig) -> ServiceId {
    let mut web = service(&world.state, "web", replicas, &["app"], &[]);
    web.spec.update = Some(update);
    let id = add_service(&mut world.state, web, world.now);
    world.run();
    world.pass(Millis::secs(1));
    id
}

fn to_image(world: &mut World, id: &ServiceId, image: &str) {
    edit_service(&mut world.state, id, world.now, |s| s.task.container.image = image.into());
}

fn on_image(world: &World, id: &ServiceId, image: &str) -> usize {
    world.live(id).iter().filter(|t| t.spec.container.image == image).count()
}

#[test]
fn so_many_at_a_time_with_a_pause_between() {
    let update = UpdateConfig { parallelism: 2, delay: Millis::secs(10), ..UpdateConfig::default() };
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 5, update);
    let vips = world.service(&id).allocation.clone().unwrap().vips;
    to_image(&mut world, &id, "image:2");
    world.settle();
    let stopping = world.tasks().iter().filter(|t| t.desired == TaskState::Shutdown).count();
    assert_eq!(stopping, 2, "the others wait for these");
    let mut steps = vec![];
    while let Some(at) = world.run() {
        steps.push(on_image(&world, &id, "image:2"));
        world.now = at;
    }
    assert_eq!(steps, [2, 4, 5, 5], "the last steps are watched");
    assert_eq!(on_image(&world, &id, "image:2"), 5);
    let status = world.service(&id).update_status.clone().unwrap();
    assert_eq!((status.state, status.slots), (UpdateState::Completed, 5));
    assert_eq!(status.completed_at.0 - status.started_at.0, 10_000 + 10_000 + 11_000);
    assert_eq!(world.service(&id).allocation.as_ref().unwrap().vips, vips);
}

#[test]
fn an_update_does_not_wait_for_a_clock_that_was_ahead() {
    let update = UpdateConfig { parallelism: 1, delay: Millis::secs(10), ..UpdateConfig::default() };
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 2, update);
    let right = world.now;
    world.pass(Millis::secs(600));
    to_image(&mut world, &id, "image:2");
    assert!(world.run() > Some(right.after(Millis::secs(600))));
    assert_eq!(on_image(&world, &id, "image:2"), 1);
    // Another leader, whose clock is right.
    world.now = right;
    let next = world.run();
    assert_eq!(on_image(&world, &id, "image:2"), 2);
    assert!(next <= Some(right.after(Millis::secs(11))), "{next:?}");
}

#[test]
fn what_does_not_concern_a_task_does_not_replace_it() {
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 2, UpdateConfig::default());
    let before = world.live(&id);
    edit_service(&mut world.state, &id, world.now, |s| {
        s.labels.insert("a".into(), "b".into());
        s.update = None;
        s.task.placement.constraints = vec!["node.platform.os==linux".into()];
        // They have the image.
        s.task.container.pull_auth = Some(RegistryAuth { username: "me".into(), ..RegistryAuth::default() });
    });
    world.run();
    assert_eq!(world.live(&id), before);
    assert_eq!(world.service(&id).update_status, None, "nothing to update");
    edit_service(&mut world.state, &id, world.now, |s| {
        s.task.placement.constraints = vec!["node.hostname==n2".into()];
    });
    world.run();
    assert_eq!(world.spread(&id), [("n2".to_owned(), 2)].into());
    // Forced: all are replaced although nothing differs.
    let before = world.live(&id);
    edit_service(&mut world.state, &id, world.now, |s| s.task.force_update += 1);
    world.run();
    assert!(world.live(&id).iter().all(|t| before.iter().all(|b| b.id != t.id)));
}

#[test]
fn an_unplaceable_task_follows_the_repaired_spec() {
    let mut world = World::new(&["n1"]);
    let mut web = service(&world.state, "web", 2, &["app"], &[]);
    web.spec.task.placement.constraints = vec!["node.hostname==nowhere".into()];
    let id = add_service(&mut world.state, web, world.now);
    world.run();
    assert!(world.live(&id).iter().all(|t| t.status.state == TaskState::Pending));
    edit_service(&mut world.state, &id, world.now, |s| s.task.placement.constraints.clear());
    world.run();
    assert_eq!(world.spread(&id), [("n1".to_owned(), 2)].into());
    assert_eq!(world.tasks().len(), 2);
}

#[test]
fn start_first_keeps_the_old_one_until_the_new_one_runs() {
    let update = UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() };
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 2, update);
    to_image(&mut world, &id, "image:2");
    world.settle();
    let live = world.live(&id);
    assert_eq!(live.len(), 3, "one new beside both old ones");
    assert_eq!(live.iter().filter(|t| t.status.state == TaskState::Running).count(), 2);
    world.run();
    assert_eq!(on_image(&world, &id, "image:2"), 2);
    assert_eq!(world.live(&id).len(), 2);
}

#[test]
fn a_failing_update_pauses_and_a_new_spec_goes_on() {
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 3, UpdateConfig::default());
    to_image(&mut world, &id, "image:broken");
    for _ in 0..3 {
        // Agents never get the new image to run.
        world.settle();
        for task in world.tasks() {
            if task.desired > TaskState::Running && task.status.state == TaskState::Running {
                world.end(&task, TaskState::Shutdown);
            }
            let broken =
                task.spec.container.image == "image:broken" && task.status.state == TaskState::Assigned;
            if broken {
                world.end(&task, TaskState::Rejected);
            }
        }
        world.pass(Millis::secs(6));
    }
    world.settle();
    assert_eq!(on_image(&world, &id, "image:1"), 2, "two go on serving");
    let status = world.service(&id).update_status.clone().unwrap();
    assert_eq!(status.state, UpdateState::Paused);
    let message = status.message;
    assert!(
        message.starts_with("update paused due to failure or early termination of task task"),
        "{message}"
    );
    assert!(message.ends_with(": exit 1"), "{message}");
    to_image(&mut world, &id, "image:3");
    world.run_out();
    assert_eq!(on_image(&world, &id, "image:3"), 3);
    assert_eq!(state_of(&world, &id), Some(UpdateState::Completed));
}

fn state_of(world: &World, id: &ServiceId) -> Option<UpdateState> {
    world.service(id).update_status.as_ref().map(|u| u.state)
}

/// Updates to `image:2`, whose first new task fails so long after it began to run.
fn fail_after(world: &mut World, id: &ServiceId, running_for: Millis) {
    to_image(world, id, "image:2");
    world.run();
    let new = world.live(id).into_iter().find(|t| t.spec.container.image == "image:2").unwrap();
    world.pass(running_for);
    world.end(&new, TaskState::Failed);
    world.settle();
}

#[test]
fn only_what_fails_while_it_is_watched_counts() {
    for (running_for, state) in
        [(Millis::secs(5), UpdateState::Paused), (Millis(5001), UpdateState::Completed)]
    {
        let update = UpdateConfig { parallelism: 0, ..UpdateConfig::default() };
        let mut world = World::new(&["n1"]);
        let id = start(&mut world, 3, update);
        fail_after(&mut world, &id, running_for);
        world.run_out();
        assert_eq!(state_of(&world, &id), Some(state), "{running_for:?}");
    }
}

#[test]
fn a_failing_update_rolls_itself_back_once() {
    let (failure_action, delay) = (FailureAction::Rollback, Millis::secs(60));
    let update = UpdateConfig { failure_action, delay, ..UpdateConfig::default() };
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 3, update);
    let before = world.live(&id);
    fail_after(&mut world, &id, Millis::secs(1));
    assert_eq!(state_of(&world, &id), Some(UpdateState::RollbackStarted));
    let message = world.service(&id).update_status.clone().unwrap().message;
    assert!(
        message.starts_with("update rolled back due to failure or early termination of task"),
        "{message}"
    );
    world.run_out();
    assert_eq!(state_of(&world, &id), Some(UpdateState::RollbackCompleted));
    assert_eq!(on_image(&world, &id, "image:1"), 3);
    assert!(world.live(&id).iter().any(|t| before.contains(t)), "tasks of the old spec stay");
    assert_eq!(world.service(&id).previous_spec, None, "what failed is forgotten");
    assert_eq!(world.orchestrate().commands, []);

    // A rollback that fails pauses, and never rolls back.
    fail_after(&mut world, &id, Millis::secs(1));
    assert_eq!(state_of(&world, &id), Some(UpdateState::RollbackStarted));
    world.run();
    let version = world.service(&id).spec_version;
    let new = world.live(&id).into_iter().find(|t| t.spec_version == version).unwrap();
    world.end(&new, TaskState::Failed);
    world.run_out();
    assert_eq!(state_of(&world, &id), Some(UpdateState::RollbackPaused));
}

#[test]
fn a_paused_update_goes_on_when_told_again() {
    let mut world = World::new(&["n1"]);
    let id = start(&mut world, 3, UpdateConfig { delay: Millis::secs(60), ..UpdateConfig::default() });
    fail_after(&mut world, &id, Millis(0));
    world.run_out();
    assert_eq!((state_of(&world, &id), on_image(&world, &id, "image:1")), (Some(UpdateState::Paused), 2));
    let previous = world.service(&id).previous_spec.clone();
    edit_service(&mut world.state, &id, world.now, |_| {});
    world.run_out();
    assert_eq!((state_of(&world, &id), on_image(&world, &id, "image:2")), (Some(UpdateState::Completed), 3));
    assert_eq!(world.service(&id).previous_spec, previous, "the way back is still there");
}

#[test]
fn a_user_goes_back_and_forth() {
    let mut world = World::new(&["n1", "n2"]);
    let id = start(&mut world, 2, UpdateConfig::default());
    to_image(&mut world, &id, "image:2");
    world.run_out();
    let back = |world: &mut World| {
        let expect = world.service(&id).meta.version;
        let (id, message) = (id.clone(), "manually requested rollback".to_owned());
        let command = Command::RollbackService { id, expect, automatic: false, message };
        fixture::must(&mut world.state, vec![command], world.now);
        world.run_out();
    };
    back(&mut world);
    assert_eq!(
        (on_image(&world, &id, "image:1"), state_of(&world, &id)),
        (2, Some(UpdateState::RollbackCompleted))
    );
    back(&mut world);
    assert_eq!(on_image(&world, &id, "image:2"), 2);
}

#[test]
fn a_rollback_to_what_is_no_longer_possible_pauses() {
    let update = UpdateConfig { failure_action: FailureAction::Rollback, ..UpdateConfig::default() };
    let mut world = World::new(&["n1"]);
    let mut web = service(&world.state, "web", 1, &["app"], &[port(8080, 80)]);
    web.spec.update = Some(update);
    let id = add_service(&mut world.state, web, world.now);
    world.run();
    edit_service(&mut world.state, &id, world.now, |s| {
        s.endpoint.ports.clear();
        s.task.container.image = "image:2".into();
    });
    world.run();
    // Somebody else takes the port meanwhile.
    let thief = service(&world.state, "thief", 1, &[], &[port(8080, 80)]);
    add_service(&mut world.state, thief, world.now);
    let new = world.live(&id)[0].clone();
    world.end(&new, TaskState::Failed);
    world.run_out();
    let status = world.service(&id).update_status.clone().unwrap();
    assert_eq!(status.state, UpdateState::Paused);
    assert!(status.message.contains("8080") && status.message.contains("thief"), "{}", status.message);
}

#[test]
fn an_update_that_goes_on_over_failures_comes_to_its_end() {
    let update = UpdateConfig { failure_action: FailureAction::Continue, ..UpdateConfig::default() };
    let mut world = World::new(&["n1"]);
    let id = start(&mut world, 3, update);
    to_image(&mut world, &id, "image:broken");
    // Agents never get the new image to run.
    for _ in 0..20 {
        world.settle();
        for task in world.tasks() {
            let over = task.status.state.is_terminal();
            if task.desired > TaskState::Running && !over {
                world.end(&task, TaskState::Shutdown);
            } else if task.spec.container.image == "image:broken" && task.status.state == TaskState::Assigned
            {
                world.end(&task, TaskState::Rejected);
            }
        }
        world.pass(Millis::secs(6));
    }
    assert_eq!(on_image(&world, &id, "image:broken"), 3);
    assert_eq!(state_of(&world, &id), Some(UpdateState::Completed));
}

/// Lets the new image fail at once wherever it is started, for so long; when its tasks were started.
fn failing(world: &mut World, id: &ServiceId, span: Millis) -> Vec<u64> {
    let (end, mut starts) = (world.now.after(span), Vec::new());
    while world.now < end {
        world.settle();
        for task in world.tasks() {
            if task.spec.container.image == "image:1" || task.status.state.is_terminal() {
                continue;
            }
            if task.status.state == TaskState::Assigned && task.desired == TaskState::Running {
                starts.push(world.now.0);
                world.end(&task, TaskState::Failed);
            }
        }
        world.pass(Millis(100));
    }
    let old = world.live(id).iter().filter(|t| t.spec.container.image == "image:1").count();
    assert_eq!(old, world.live(id).iter().filter(|t| t.status.state == TaskState::Running).count());
    starts
}

#[test]
fn what_fails_beside_the_old_task_is_started_again_after_the_restart_delay_only() {
    for history in [0, 1, 5] {
        let update = UpdateConfig {
            failure_action: FailureAction::Continue,
            order: UpdateOrder::StartFirst,
            ..UpdateConfig::default()
        };
        let mut world = World::new(&["n1"]);
        let mut spec = world.state.cluster.as_ref().unwrap().spec.clone();
        spec.task_history_limit = history;
        let expect = world.state.cluster.as_ref().unwrap().meta.version;
        fixture::must(&mut world.state, vec![Command::SetClusterSpec { expect, spec }], world.now);
        let id = start(&mut world, 1, update);
        to_image(&mut world, &id, "image:2");
        let starts = failing(&mut world, &id, Millis::secs(30));
        assert!((5..=6).contains(&starts.len()), "{history}: {starts:?}");
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 5000), "{history}: {starts:?}");
        assert_eq!(on_image(&world, &id, "image:1"), 1, "{history}: the old one serves all the while");
    }
}

#[test]
fn an_update_beside_the_old_task_ends_when_the_restart_policy_does() {
    use proto::model::{RestartCondition, RestartPolicy};
    let none = RestartPolicy { condition: RestartCondition::None, ..RestartPolicy::default() };
    let twice = RestartPolicy { max_attempts: 2, delay: Millis(0), ..RestartPolicy::default() };
    for (policy, tries) in [(none, 1), (twice, 3)] {
        let update = UpdateConfig {
            failure_action: FailureAction::Continue,
            order: UpdateOrder::StartFirst,
            ..UpdateConfig::default()
        };
        let mut world = World::new(&["n1"]);
        let mut web = service(&world.state, "web", 2, &["app"], &[]);
        (web.spec.update, web.spec.task.restart) = (Some(update), Some(policy.clone()));
        let id = add_service(&mut world.state, web, world.now);
        world.run();
        to_image(&mut world, &id, "image:2");
        let starts = failing(&mut world, &id, Millis::secs(60));
        assert_eq!(starts.len(), 2 * tries, "{policy:?}: {starts:?}");
        assert_eq!(on_image(&world, &id, "image:1"), 2, "{policy:?}");
        assert_eq!(state_of(&world, &id), Some(UpdateState::Completed), "{policy:?}");
        // A new spec is a new try.
        to_image(&mut world, &id, "image:3");
        world.run_out();
        assert_eq!(on_image(&world, &id, "image:3"), 2, "{policy:?}");
    }
}

#[test]
fn failures_within_the_ratio_or_ignored_do_not_pause() {
    for update in [
        UpdateConfig { max_failure_ratio: 0.5, ..UpdateConfig::default() },
        UpdateConfig { failure_action: FailureAction::Continue, ..UpdateConfig::default() },
    ] {
        let mut world = World::new(&["n1"]);
        let id = start(&mut world, 3, update);
        to_image(&mut world, &id, "image:2");
        world.settle();
        let old = world.tasks().into_iter().find(|t| t.desired == TaskState::Shutdown).unwrap();
        world.end(&old, TaskState::Shutdown);
        world.settle();
        let new = world.live(&id).into_iter().find(|t| t.spec.container.image == "image:2").unwrap();
        world.end(&new, TaskState::Failed);
        world.run_out();
        assert_eq!(on_image(&world, &id, "image:2"), 3);
    }
}

#[test]
fn a_global_service_is_updated_node_by_node_and_scaling_goes_beside() {
    let mut world = World::new(&["n1", "n2", "n3"]);
    let mut agent = service(&world.state, "agent", 0, &["app"], &[]);
    agent.spec.mode = ServiceMode::Global;
    let id = add_service(&mut world.state, agent, world.now);
    world.run();
    to_image(&mut world, &id, "image:2");
    world.settle();
    assert_eq!(world.tasks().iter().filter(|t| t.desired == TaskState::Shutdown).count(), 1);
    world.run();
    assert_eq!(on_image(&world, &id, "image:2"), 3);

    let web = start(&mut world, 2, UpdateConfig::default());
    edit_service(&mut world.state, &web, world.now, |s| {
        s.task.container.image = "image:2".into();
        s.mode = ServiceMode::Replicated(4);
    });
    world.run();
    assert_eq!(on_image(&world, &web, "image:2"), 4);
    edit_node(&mut world.state, "n1", |n| drop(n.labels.insert("a".into(), "b".into())));
    assert_eq!(world.orchestrate().commands, []);
}
