//! Rolling updates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proto::model::{
    FailureAction, Millis, RegistryAuth, ServiceId, ServiceMode, TaskState, UpdateConfig, UpdateOrder,
};

use super::{
    fixture::{add_service, edit_node, edit_service, service},
    world::World,
};

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
    assert_eq!(steps, [2, 4], "the last step sets no timer");
    assert_eq!(on_image(&world, &id, "image:2"), 5);
    assert_eq!(world.service(&id).allocation.as_ref().unwrap().vips, vips);
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
    let condition = world.service(&id).conditions[0].clone();
    assert_eq!(condition.kind, "update");
    assert!(condition.message.starts_with("update paused: task web.1.task"), "{}", condition.message);
    assert!(condition.message.ends_with(" rejected: exit 1"), "{}", condition.message);
    to_image(&mut world, &id, "image:3");
    world.run_out();
    assert_eq!(on_image(&world, &id, "image:3"), 3);
    assert!(world.service(&id).conditions.is_empty());
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
