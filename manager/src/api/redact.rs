//! Credentials of registries come in with a spec and go out to the nodes that pull, secrets to the nodes that use them; never back
//! to a client.

use proto::{
    model::{FileSpec, Payload, Secret, Service, ServiceSpec, Task},
    pb,
};

/// A service as a client sees it.
pub(super) fn service(service: &Service) -> pb::Service {
    let mut shown = pb::Service::from(service);
    let specs = [&mut shown.spec, &mut shown.previous_spec];
    for task in specs.into_iter().flatten().filter_map(|spec| spec.task.as_mut()) {
        strip(task);
    }
    shown
}

/// A task as a client sees it.
pub(super) fn task(task: &Task) -> pb::Task {
    let mut shown = pb::Task::from(task);
    if let Some(spec) = &mut shown.spec {
        strip(spec);
    }
    shown
}

/// A secret as a client sees it: without what it holds.
pub(super) fn secret(secret: &Secret) -> pb::Secret {
    let spec = FileSpec { data: Payload::default(), ..secret.spec.clone() };
    Secret { spec, ..secret.clone() }.into()
}

fn strip(task: &mut pb::TaskSpec) {
    if let Some(container) = &mut task.container {
        container.pull_auth = None;
    }
}

/// A spec that brings no credentials keeps those that are known: whoever changes a spec has not seen them.
pub(super) fn with_known_auth(mut spec: ServiceSpec, known: &ServiceSpec) -> ServiceSpec {
    let auth = &mut spec.task.container.pull_auth;
    if auth.is_none() {
        auth.clone_from(&known.task.container.pull_auth);
    }
    spec
}
