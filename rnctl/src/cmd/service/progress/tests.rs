//! What is shown of a service on its way.

use std::collections::BTreeMap;

use proto::model::{
    Condition, EndpointSpec, Meta, NodeId, RestartPolicy, Revision, ServiceId, ServiceSpec, TaskId,
    TaskStatus, Timestamp, UpdateStatus,
};

use super::*;

fn service(mode: ServiceMode) -> Service {
    Service {
        id: ServiceId::random(),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: "web".into(),
            labels: BTreeMap::new(),
            task: TaskSpec::default(),
            mode,
            update: None,
            rollback: None,
            endpoint: EndpointSpec::default(),
        },
        previous_spec: None,
        spec_version: Revision(5),
        allocation: None,
        conditions: vec![],
        update_status: None,
    }
}

fn task(slot: u64, state: TaskState) -> Task {
    Task {
        id: TaskId::random(),
        meta: Meta::default(),
        service_id: ServiceId::random(),
        service_name: "web".into(),
        slot,
        spec: TaskSpec::default(),
        spec_version: Revision(5),
        allocation: None,
        node_id: Some(NodeId::random()),
        desired: TaskState::Running,
        status: TaskStatus { state, ..TaskStatus::default() },
        conditions: vec![],
        start_after: Timestamp(0),
        running_at: Timestamp(0),
        ended_at: Timestamp(0),
        attached_container: None,
    }
}

fn lines(service: &Service, tasks: &[Task], width: usize) -> String {
    Progress::of(service, tasks).lines(width).join("\n")
}

#[test]
fn each_place_says_where_it_stands() {
    let service = service(ServiceMode::Replicated(4));
    let mut waits = task(3, TaskState::Pending);
    waits.conditions =
        vec![Condition { kind: "placement".into(), message: "no suitable node".into(), since: Timestamp(0) }];
    let tasks = [task(1, TaskState::Running), task(2, TaskState::Preparing), waits];
    assert_eq!(
        lines(&service, &tasks, 8),
        "overall progress: 1 out of 4 tasks\n1/4: running   [=======>]\n2/4: preparing [====>   ]\n3/4: no suitable node\n4/4: "
    );
}

#[test]
fn a_failure_stays_visible_while_its_replacement_starts() {
    let service = service(ServiceMode::Replicated(1));
    let mut failed = task(1, TaskState::Failed);
    failed.desired = TaskState::Shutdown;
    failed.status.err = "task: non-zero exit (1)".into();
    let tasks = [failed.clone(), task(1, TaskState::Ready)];
    assert_eq!(
        lines(&service, &tasks, 0),
        "overall progress: 0 out of 1 tasks\n1/1: task: non-zero exit (1)"
    );
    let tasks = [failed, task(1, TaskState::Running)];
    assert_eq!(lines(&service, &tasks, 0), "overall progress: 1 out of 1 tasks\n1/1: running");
}

#[test]
fn what_ran_to_its_end_is_not_waited_for() {
    let mut service = service(ServiceMode::Replicated(2));
    service.spec.task.restart =
        Some(RestartPolicy { condition: RestartCondition::None, ..RestartPolicy::default() });
    let ended = |slot, state, err: &str| {
        let mut task = task(slot, state);
        (task.spec, task.desired, task.status.err) =
            (service.spec.task.clone(), TaskState::Shutdown, err.into());
        task
    };
    let tasks = [ended(1, TaskState::Complete, ""), ended(2, TaskState::Complete, "")];
    assert_eq!(
        lines(&service, &tasks, 0),
        "overall progress: 0 out of 2 tasks\n1/2: complete\n2/2: complete"
    );
    let progress = Progress::of(&service, &tasks);
    assert!(progress.converged());
    assert!(progress.verdict(&service).unwrap().ends_with("2 of 2 tasks are complete"));
    assert!(!Progress::of(&service, &tasks[..1]).converged(), "the second is still to come");
    let tasks = [ended(1, TaskState::Complete, ""), ended(2, TaskState::Failed, "task: non-zero exit (3)")];
    let failure = Progress::of(&service, &tasks).verdict(&service).unwrap_err();
    assert_eq!(failure.code(), 1);
    assert!(failure.to_string().contains("no other: 2/2: task: non-zero exit (3)"), "{failure}");
}

#[test]
fn tasks_of_an_older_spec_and_surplus_ones_are_not_done_yet() {
    let mut service = service(ServiceMode::Replicated(1));
    service.spec.task.container.image = "hello:2".into();
    let mut old = task(1, TaskState::Running);
    old.spec_version = Revision(4);
    assert!(!Progress::of(&service, &[old.clone()]).converged());
    // Scaling changes the version of the spec, not the task's part of it.
    service.spec.task = old.spec.clone();
    assert!(Progress::of(&service, &[old.clone()]).converged());
    // Nor does a constraint that holds where the task is.
    service.spec.task.placement.constraints = vec!["node.role==worker".into()];
    assert!(Progress::of(&service, &[old.clone()]).converged());
    service.spec.task.placement.constraints.clear();
    let mut leaving = task(2, TaskState::Running);
    assert!(!Progress::of(&service, &[old.clone(), leaving.clone()]).converged());
    leaving.desired = TaskState::Remove;
    assert!(Progress::of(&service, &[old, leaving]).converged());
}

#[test]
fn any_slots_may_be_left_when_a_service_was_made_smaller() {
    let service = service(ServiceMode::Replicated(2));
    let tasks = [task(1, TaskState::Running), task(3, TaskState::Running)];
    assert_eq!(lines(&service, &tasks, 0), "overall progress: 2 out of 2 tasks\n1/2: running\n2/2: running");
    assert!(Progress::of(&service, &tasks).converged());
    let one = [task(3, TaskState::Running)];
    assert_eq!(lines(&service, &one, 0), "overall progress: 1 out of 2 tasks\n1/2: running\n2/2: ");
    let three = [task(1, TaskState::Running), task(2, TaskState::Running), task(3, TaskState::Running)];
    assert!(!Progress::of(&service, &three).converged(), "one has to go yet");
}

#[test]
fn an_update_of_ports_is_not_over_before_its_tasks_are_new() {
    let mut service = service(ServiceMode::Replicated(2));
    let going = |state| Some(UpdateStatus { state, ..UpdateStatus::default() });
    service.update_status = going(UpdateState::Updating);
    let mut old = task(2, TaskState::Running);
    old.spec_version = Revision(4);
    let tasks = [task(1, TaskState::Running), old];
    assert_eq!(Progress::of(&service, &tasks).running, 1);
    service.update_status = going(UpdateState::RollbackStarted);
    assert_eq!(Progress::of(&service, &tasks).running, 2, "what was not touched yet is as it shall be");
}

#[test]
fn a_rollback_shows_and_a_paused_update_is_an_error() {
    let mut service = service(ServiceMode::Replicated(1));
    let status = |state, message: &str| {
        Some(UpdateStatus { state, message: message.into(), ..UpdateStatus::default() })
    };
    service.update_status = status(UpdateState::RollbackStarted, "update rolled back due to failure");
    assert_eq!(
        lines(&service, &[task(1, TaskState::Running)], 0),
        "rollback: update rolled back due to failure\noverall progress: rolling back update: 1 out of 1 tasks\n1/1: running"
    );
    assert!(stopped(&service).is_ok());
    service.update_status = status(UpdateState::Paused, "update paused due to failure");
    let failure = stopped(&service).unwrap_err();
    assert_eq!(failure.code(), 1);
    assert!(failure.to_string().starts_with("service update paused: update paused due to failure\n"));
    service.update_status = status(UpdateState::RollbackPaused, "x");
    assert!(stopped(&service).unwrap_err().to_string().starts_with("service rollback paused: x"));
}

#[test]
fn a_global_service_has_a_place_on_each_node() {
    let service = service(ServiceMode::Global);
    let tasks = [task(0, TaskState::Running), task(0, TaskState::Starting)];
    let progress = Progress::of(&service, &tasks);
    assert_eq!((progress.running, progress.wanted), (1, 2));
}

#[test]
fn many_places_are_one_line_and_the_service_says_what_it_waits_for() {
    let mut service = service(ServiceMode::Replicated(50));
    service.conditions =
        vec![Condition { kind: "allocation".into(), message: "pool is used up".into(), since: Timestamp(0) }];
    assert_eq!(lines(&service, &[], 0), "overall progress: 0 out of 50 tasks\nwaiting: pool is used up");
}
