#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proto::{
    error::Kind,
    model::{
        ContainerSpec, EndpointSpec, Meta, NetworkId, NetworkSpec, Placement, PortConfig, Resources,
        Revision, ServiceId, TaskSpec,
    },
};

use super::*;

/// A replicated service of one task, as tests start from.
pub(crate) fn spec(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        labels: BTreeMap::new(),
        task: TaskSpec {
            container: ContainerSpec { image: "nginx".into(), ..ContainerSpec::default() },
            ..TaskSpec::default()
        },
        mode: ServiceMode::Replicated(1),
        update: None,
        rollback: None,
        endpoint: EndpointSpec::default(),
    }
}

/// The same, stored.
pub(crate) fn service(name: &str) -> Service {
    Service {
        id: ServiceId::random(),
        meta: Meta::default(),
        spec: spec(name),
        previous_spec: None,
        spec_version: Revision(1),
        allocation: None,
        conditions: Vec::new(),
        update_status: None,
    }
}

fn network(name: &str) -> Network {
    Network {
        id: NetworkId::random(),
        meta: Meta::default(),
        spec: NetworkSpec { name: name.into(), ingress: name == "ingress", ..NetworkSpec::default() },
        allocation: None,
        conditions: Vec::new(),
    }
}

/// Networks `ingress` and `app`, service `db`.
fn existing() -> State {
    let mut state = State::default();
    for n in [network("ingress"), network("app")] {
        state.put(n);
    }
    let db = service("db");
    state.put(db);
    state
}

fn attachment(target: &str) -> NetworkAttachmentConfig {
    NetworkAttachmentConfig { target: target.into(), aliases: Vec::new(), driver_opts: BTreeMap::new() }
}

fn refused(change: impl FnOnce(&mut ServiceSpec)) -> ApiError {
    let mut s = spec("web");
    change(&mut s);
    create(&existing(), s).expect_err("accepted")
}

#[test]
fn network_names_become_ids() {
    let state = existing();
    let app = state.networks.values().find(|n| n.spec.name == "app").unwrap().id.clone();
    for key in ["app", app.as_str(), app.short()] {
        let mut s = spec("web");
        s.task.networks = vec![attachment(key)];
        assert_eq!(create(&state, s).unwrap().task.networks[0].target, app.as_str());
    }
}

#[test]
fn an_unknown_network_is_named_with_the_way_out() {
    let error = refused(|s| s.task.networks = vec![attachment("nope")]);
    assert_eq!(error.kind, Kind::NotFound);
    assert_eq!(error.message, "service web: network nope not found");
    assert!(error.help.unwrap().contains("rnctl network create -d overlay nope"));
}

#[test]
fn each_mistake_is_named() {
    let messages = |s: fn(&mut ServiceSpec)| refused(s).message;
    assert!(messages(|s| s.name = "db".into()).contains("service db already exists"));
    let error = refused(|s| s.name = "DB".into());
    assert_eq!(error.message, "service db already exists");
    assert!(error.help.unwrap().contains("differs by more than case"));
    assert!(messages(|s| s.name = "a.b".into()).contains("DNS name component"));
    assert!(messages(|s| s.task.networks = vec![attachment("ingress")]).contains("explicitly attached"));
    assert!(
        messages(|s| s.task.networks = vec![attachment("app"), attachment("app")]).contains("given twice")
    );
    assert!(messages(|s| s.task.networks = vec![attachment("bridge")]).contains("predefined network bridge"));
    assert!(
        messages(|s| s.task.networks = vec![attachment("host"), attachment("host")]).contains("given twice")
    );
    assert!(messages(|s| s.task.networks = vec![attachment("app"), attachment("host")]).contains("combined"));
    assert!(
        messages(|s| {
            s.task.networks = vec![attachment("host")];
            s.task.container.sysctls.insert("net.core.somaxconn".into(), "1024".into());
        })
        .contains("sysctl net.core.somaxconn")
    );
    assert!(
        messages(|s| {
            s.task.networks =
                vec![NetworkAttachmentConfig { aliases: vec!["a b".into()], ..attachment("app") }];
        })
        .contains("alias")
    );
    assert!(
        messages(|s| s.task.placement.constraints = vec!["node.role".into()]).contains("invalid constraint")
    );
    assert!(
        messages(|s| s.task.placement.preferences = vec!["spread=".into()]).contains("placement preference")
    );
    assert!(
        messages(|s| {
            s.mode = ServiceMode::Global;
            s.task.placement = Placement { max_replicas: 1, ..Placement::default() };
        })
        .contains("replicas-max-per-node")
    );
    assert!(
        messages(|s| s.task.limits = Resources { memory_bytes: 1024, ..Resources::default() })
            .contains("4 MiB")
    );
    assert!(
        messages(|s| s.update = Some(UpdateConfig { max_failure_ratio: 1.5, ..UpdateConfig::default() }))
            .contains("between 0 and 1")
    );
    assert!(
        messages(|s| {
            s.rollback =
                Some(UpdateConfig { failure_action: FailureAction::Rollback, ..UpdateConfig::default() });
        })
        .contains("roll back")
    );
}

#[test]
fn publishing_needs_the_ingress_network() {
    let mut s = spec("web");
    s.endpoint.ports = vec![PortConfig { target: 80, published: 8080, ..PortConfig::default() }];
    assert!(create(&existing(), s.clone()).is_ok());
    let error = create(&State::default(), s).unwrap_err();
    assert!(error.message.contains("no ingress network is present"));
}

#[test]
fn name_and_mode_stay() {
    let state = existing();
    let db = service("db");
    assert!(update(&state, &db, ServiceSpec { mode: ServiceMode::Replicated(7), ..spec("db") }).is_ok());
    assert!(update(&state, &db, spec("other")).unwrap_err().message.contains("renaming"));
    assert!(
        update(&state, &db, ServiceSpec { mode: ServiceMode::Global, ..spec("db") })
            .unwrap_err()
            .message
            .contains("mode change")
    );
}
