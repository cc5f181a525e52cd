//! Service specs.

use std::sync::Arc;

use proto::{
    error::ApiError,
    model::{
        Config, FailureAction, HOST_NETWORK, Network, NetworkAttachmentConfig, Secret, Service, ServiceMode,
        ServiceSpec, UpdateConfig,
    },
    rules::{self, is_dns_label},
    template::Context,
};

use super::ports;
use crate::{scheduler::constraint, store::state::State};

/// Checks a new service and resolves its networks' names to ids.
pub fn create(state: &State, spec: ServiceSpec) -> Result<ServiceSpec, ApiError> {
    super::name("service", "rnctl service create --name NAME IMAGE", &spec.name)?;
    if let Some(holder) = state.services.values().find(|s| super::same_name(&s.spec.name, &spec.name)) {
        let name = &holder.spec.name;
        return Err(ApiError::conflict(format!("service {name} already exists")).help(format!(
            "it is {}; choose another name{}, or change it: rnctl service update {name}",
            holder.id,
            super::beyond_case(name, &spec.name)
        )));
    }
    checked(state, None, spec)
}

/// Checks a new spec of an existing service and resolves its networks' names to ids.
pub fn update(state: &State, service: &Service, spec: ServiceSpec) -> Result<ServiceSpec, ApiError> {
    let old = &service.spec;
    if spec.name != old.name {
        return Err(ApiError::unsupported(format!(
            "service {}: renaming services is not supported",
            old.name
        ))
        .help("create a service of the new name, then remove this one"));
    }
    if std::mem::discriminant(&spec.mode) != std::mem::discriminant(&old.mode) {
        return Err(ApiError::unsupported(format!(
            "service {}: service mode change is not allowed",
            old.name
        ))
        .help("remove the service and create it anew"));
    }
    checked(state, Some(service), spec)
}

fn checked(state: &State, own: Option<&Service>, mut spec: ServiceSpec) -> Result<ServiceSpec, ApiError> {
    let object = format!("service {}", spec.name);
    super::labels(&object, &spec.labels)?;
    // As it will be once a node has filled in its templates.
    let filled_in = Context::example(&spec.name, &spec.labels).container(&spec.task.container);
    let filled_in = filled_in.map_err(|why| ApiError::invalid(format!("{object}: {why}")))?;
    rules::image(&object, &filled_in.image)?;
    rules::container(&object, &filled_in, spec.task.is_on_host_network())?;
    rules::resources(&object, &spec.task.limits, &spec.task.reservations)?;
    placement(&object, &spec)?;
    for (what, config) in [("update", &spec.update), ("rollback", &spec.rollback)] {
        config.as_ref().map_or(Ok(()), |c| update_config(&object, what, c))?;
    }
    ports::endpoint(&object, &spec.endpoint)?;
    ports::conflict(state, own.map(|s| &s.id), &object, &spec.endpoint.ports)?;
    if spec.uses_ingress() && !state.networks.values().any(|n| n.spec.ingress) {
        return Err(ApiError::precondition(format!(
            "{object}: service needs ingress network, but no ingress network is present"
        ))
        .help("rnctl network create -d overlay --ingress ingress; or publish with mode=host"));
    }
    networks(state, &object, &mut spec.task.networks)?;
    super::file::references::<Secret>(state, &object, &mut spec.task.container.secrets)?;
    super::file::references::<Config>(state, &object, &mut spec.task.container.configs)?;
    host_network(state, &object, &spec)?;
    Ok(spec)
}

fn placement(object: &str, spec: &ServiceSpec) -> Result<(), ApiError> {
    let placement = &spec.task.placement;
    for text in &placement.constraints {
        if let Err((why, way_out)) = constraint::check(text) {
            return Err(ApiError::invalid(format!("{object}: invalid {why}")).help(way_out));
        }
    }
    for text in &placement.preferences {
        // One over something that no node can have is told to who speaks Docker's API, in a warning: Docker takes it.
        if text.strip_prefix("spread=").is_none_or(str::is_empty) {
            return Err(ApiError::invalid(format!("{object}: invalid placement preference {text:?}"))
                .help("write spread=node.labels.NAME or spread=engine.labels.NAME"));
        }
    }
    if placement.max_replicas != 0 && spec.mode == ServiceMode::Global {
        return Err(ApiError::invalid(format!(
            "{object}: replicas-max-per-node can only be used with replicated mode"
        ))
        .help("a global service has one task on each node anyway"));
    }
    Ok(())
}

fn update_config(object: &str, what: &str, config: &UpdateConfig) -> Result<(), ApiError> {
    if !(0.0..=1.0).contains(&config.max_failure_ratio) {
        return Err(ApiError::invalid(format!(
            "{object}: {what} max failure ratio {} is not between 0 and 1",
            config.max_failure_ratio
        )));
    }
    if what == "rollback" && config.failure_action == FailureAction::Rollback {
        return Err(ApiError::invalid(format!("{object}: a rollback cannot roll back when it fails"))
            .help("use --rollback-failure-action pause or continue"));
    }
    Ok(())
}

/// Replaces names and id prefixes by ids.
fn networks(state: &State, object: &str, configs: &mut [NetworkAttachmentConfig]) -> Result<(), ApiError> {
    for i in 0..configs.len() {
        if configs[i].target == HOST_NETWORK {
            if configs[..i].iter().any(|other| other.target == HOST_NETWORK) {
                return Err(ApiError::invalid(format!("{object}: network host is given twice")));
            }
            continue;
        }
        let network = resolve(state, object, &configs[i].target)?;
        if network.spec.ingress {
            return Err(ApiError::invalid(format!(
                "{object}: service cannot be explicitly attached to the ingress network {:?}",
                network.spec.name
            ))
            .help("leave it out: a service with published ports is on it by itself"));
        }
        if let Some(key) = configs[i].driver_opts.keys().next() {
            return Err(ApiError::unsupported(format!(
                "{object}: option {key:?} on network {} is not known",
                network.spec.name
            ))
            .help("leave out driver-opt: attachments have no options"));
        }
        let id = network.id.as_str();
        if configs[..i].iter().any(|other| other.target == id) {
            return Err(ApiError::invalid(format!("{object}: network {} is given twice", network.spec.name)));
        }
        for alias in &configs[i].aliases {
            if !alias.split('.').all(is_dns_label) {
                return Err(ApiError::invalid(format!(
                    "{object}: alias {alias:?} on network {} is not a valid DNS name",
                    network.spec.name
                )));
            }
        }
        configs[i].target = id.to_owned();
    }
    Ok(())
}

/// A task in its node's own network has no place of its own on any other, nor a port that could be led elsewhere.
fn host_network(state: &State, object: &str, spec: &ServiceSpec) -> Result<(), ApiError> {
    if !spec.task.is_on_host_network() {
        return Ok(());
    }
    if let [first, second, ..] = spec.task.networks.as_slice() {
        let other = if first.target == HOST_NETWORK { second } else { first };
        return Err(ApiError::invalid(format!(
            "{object}: network host cannot be combined with another network ({})",
            state.networks.get(other.target.as_str()).map_or(other.target.as_str(), |n| &n.spec.name)
        ))
        .help("a task in its node's own network reaches other services by their published ports; leave out one of the two"));
    }
    if spec.task.networks.iter().any(|n| !n.aliases.is_empty()) {
        return Err(ApiError::invalid(format!(
            "{object}: aliases need a network of the swarm, not the host's"
        )));
    }
    if let Some(port) = spec.endpoint.ports.first() {
        return Err(ApiError::invalid(format!(
            "{object}: port {} cannot be published from network host",
            port.target
        ))
        .help("leave out --publish: what the program listens on is open on its node"));
    }
    Ok(())
}

fn resolve(state: &State, object: &str, key: &str) -> Result<Arc<Network>, ApiError> {
    if matches!(key, "bridge" | "none") && state.networks.values().all(|n| n.spec.name != key) {
        return Err(ApiError::unsupported(format!(
            "{object}: the predefined network {key} cannot be used by services"
        ))
        .help("use an overlay: rnctl network create -d overlay NAME"));
    }
    state.find_network(key).map_err(|error| match error.kind {
        proto::error::Kind::NotFound => ApiError::not_found(format!("{object}: network {key} not found"))
            .help(format!("create it first: rnctl network create -d overlay {key}")),
        _ => error,
    })
}

#[cfg(test)]
pub(crate) mod tests;
