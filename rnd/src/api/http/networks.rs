//! Networks: those of the swarm, and the ones that each machine has by itself.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::Response};
use docker_api::{
    connect::{Connect, Disconnect},
    network::{self, NetworkCreateRequest, NetworkCreateResponse, NetworkInspect, NetworkPruneResponse},
};
use http::StatusCode;
use proto::{
    error::{ApiError, Kind},
    model::{EndpointSettings, HOST_NETWORK, NO_NETWORK, Network, NetworkId, NetworkSpec, Timestamp},
    pb::{self, local_server::Local as _},
};
use serde_json::Value;
use tonic::Request;

use super::{
    Answer, Api,
    request::{Json, Key, Params},
    respond::{Refusal, json, json_with},
};
use crate::swarm_state::SwarmState;

/// Driver of `host`, as Docker calls it.
const HOST: &str = "host";
impl Api {
    /// Networks of the swarm: all of them on a manager, on a worker those in use there, and none outside a swarm.
    async fn swarm_networks(&self) -> Result<BTreeMap<NetworkId, Network>, Refusal> {
        let assigned = match &*self.daemon.swarm_state.read().await {
            SwarmState::Active(member) if member.is_manager() => None,
            SwarmState::Active(_) => Some(self.daemon.engine.assigned()),
            SwarmState::Inactive | SwarmState::Failed(_) | SwarmState::Changing(_) => {
                return Ok(BTreeMap::new());
            }
        };
        match assigned {
            None => self.networks().await,
            Some(assigned) => {
                Ok(assigned.networks.iter().map(|(id, n)| (id.clone(), (**n).clone())).collect())
            }
        }
    }

    /// What this node has of networks of the swarm, by id; and its own, in Docker's form.
    async fn here(&self) -> Result<(BTreeMap<String, Value>, Vec<NetworkInspect>), Refusal> {
        let list =
            self.local.list_local_networks(Request::new(pb::ListNetworksRequest {})).await?.into_inner();
        let since = Timestamp(self.daemon.started_at);
        let mut own = vec![
            network::of_machine(HOST_NETWORK, &self.machine_id(1), HOST, "local", since),
            network::of_machine(NO_NETWORK, &self.machine_id(2), "null", "local", since),
        ];
        let mut details = BTreeMap::new();
        for n in list.networks {
            match n.scope.as_str() {
                "local" => {
                    own.push(network::of_machine(&n.name, &n.id, &n.driver, "local", Timestamp(n.created_at)))
                }
                _ => drop(details.insert(n.id, serde_json::from_str(&n.inspect_json).unwrap_or_default())),
            }
        }
        Ok((details, own))
    }

    /// An id for a network that this machine has by itself: 64 digits that stay the same for a daemon.
    fn machine_id(&self, kind: u8) -> String {
        format!("{kind:x}{:0<15.15}", self.daemon.context.daemon_id).repeat(4)
    }

    /// Networks that something is on, or may be in a moment: of services and of tasks that have not ended.
    async fn used(&self) -> Result<BTreeSet<String>, Refusal> {
        let mut used = BTreeSet::new();
        for (service, _) in self.services().await? {
            used.extend(service.spec.task.networks.into_iter().map(|n| n.target));
        }
        for task in self.tasks().await?.into_iter().filter(|t| !t.status.state.is_terminal()) {
            used.extend(task.spec.networks.into_iter().map(|n| n.target));
        }
        Ok(used)
    }
}

/// `GET /networks`.
pub async fn list(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&network::FILTERS)?;
    network::check_filters(&filters)?;
    let (details, own) = api.here().await?;
    let swarm = api.swarm_networks().await?;
    // A worker knows of its own only, and those are in use.
    let used = match filters.has("dangling") {
        true => api.used().await.unwrap_or_else(|_| swarm.keys().map(ToString::to_string).collect()),
        false => BTreeSet::new(),
    };
    let shown = swarm.values().map(|n| {
        // The list of Docker has neither.
        let detail = details.get(n.id.as_str()).map(|_| Value::Null);
        (network::network(n, detail.as_ref()), n.spec.ingress || used.contains(n.id.as_str()))
    });
    let all = shown.chain(own.into_iter().map(|n| (n, true)));
    json(&all.filter(|(n, used)| network::is_wanted(n, &filters, *used)).map(|(n, _)| n).collect::<Vec<_>>())
}

/// What `key` means of a list: an id, else a name, else the begin of an id.
fn pick<T>(
    list: Vec<T>,
    key: &str,
    id: impl Fn(&T) -> &str,
    name: impl Fn(&T) -> &str,
) -> Result<T, ApiError> {
    let found = list.iter().position(|n| id(n) == key).or_else(|| list.iter().position(|n| name(n) == key));
    let found = match found {
        Some(at) => Some(at),
        None => {
            let mut begins =
                list.iter().enumerate().filter(|(_, n)| !key.is_empty() && id(n).starts_with(key));
            let first = begins.next().map(|(at, _)| at);
            if begins.next().is_some() {
                return Err(ApiError::invalid(format!(
                    "network {key} is ambiguous (2 matches found based on ID prefix)"
                )));
            }
            first
        }
    };
    let at = found.ok_or_else(|| ApiError::not_found(format!("network {key} not found")))?;
    list.into_iter().nth(at).ok_or_else(|| ApiError::not_found(format!("network {key} not found")))
}

/// `GET /networks/{id}`.
pub async fn inspect(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let scope = query.text("scope");
    if !matches!(scope, "" | "swarm" | "local" | "global") {
        return Err(ApiError::invalid(format!("invalid scope {scope:?}")).into());
    }
    let (details, own) = api.here().await?;
    let mut candidates = Vec::new();
    if scope != "local" {
        for n in api.swarm_networks().await?.into_values() {
            let shown = network::network(&n, details.get(n.id.as_str()));
            candidates.push(shown);
        }
    }
    match scope {
        // What services are told that run on their nodes' own network.
        "swarm" => candidates.push(network::of_machine(
            HOST_NETWORK,
            HOST_NETWORK,
            HOST,
            "swarm",
            Timestamp(api.daemon.started_at),
        )),
        _ => candidates.extend(own),
    }
    let mut found = pick(candidates, &key, |n| &n.id, |n| &n.name)?;
    if query.flag("verbose") && found.scope == "swarm" && found.id != HOST_NETWORK {
        // On a worker nobody knows all of them.
        if let Ok(services) = api.services().await {
            let services: Vec<_> = services.into_iter().map(|(service, _)| service).collect();
            let (tasks, nodes) = (api.tasks().await?, api.nodes().await?);
            found.services = Some(network::services_there(&found.id, &services, &tasks, &nodes));
        }
    }
    json(&found)
}

/// `POST /networks/create`.
pub async fn create(State(api): State<Api>, Json(request): Json<NetworkCreateRequest>) -> Answer {
    let spec = NetworkSpec::try_from(request)?;
    let request = pb::CreateNetworkRequest { spec: Some((&spec).into()) };
    let made = api.control().create_network(request).await?.into_inner();
    json_with(StatusCode::CREATED, &NetworkCreateResponse { id: made.id, warning: String::new() })
}

/// `DELETE /networks/{id}`.
pub async fn remove(State(api): State<Api>, Key(key): Key) -> Answer {
    let (_, own) = api.here().await?;
    if let Ok(predefined) = pick(own, &key, |n| &n.id, |n| &n.name) {
        return Err(ApiError::denied(format!(
            "{} is a pre-defined network and cannot be removed",
            predefined.name
        ))
        .into());
    }
    api.control().remove_network(pb::RemoveRequest { key, force: false }).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// A network that a container is to be put on, or taken off.
struct Meant {
    /// As its users call it.
    name: String,
    /// All that it may be called.
    names: Vec<String>,
    /// What is known of it.
    network: Option<Network>,
}

impl Api {
    /// What `key` means. On a worker nobody knows all networks of the swarm: what is unknown there is taken as it is, and judged
    /// by the managers when the container starts.
    async fn meant_network(&self, key: String) -> Result<Meant, Refusal> {
        let (_, own) = self.here().await?;
        if let Ok(own) = pick(own, &key, |n| &n.id, |n| &n.name) {
            return Ok(Meant { name: own.name.clone(), names: vec![own.id, key, own.name], network: None });
        }
        let swarm = self.swarm_info().await;
        let all = self.swarm_networks().await?.into_values().collect();
        match pick(all, &key, |n: &Network| n.id.as_str(), |n| &n.spec.name) {
            Ok(n) => {
                let name = n.spec.name.clone();
                let names = vec![n.id.to_string(), key, name.clone()];
                Ok(Meant { name, names, network: Some(n) })
            }
            Err(_) if swarm.state == "active" && !swarm.control_available => {
                Ok(Meant { name: key.clone(), names: vec![key], network: None })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// `POST /networks/{id}/connect`.
pub async fn connect(State(api): State<Api>, Key(key): Key, Json(body): Json<Value>) -> Answer {
    let connect = Connect::read(body)?;
    let meant = api.meant_network(key).await?;
    let id = api.local.by_hand(&connect.container)?;
    if let Some(network) = &meant.network {
        network::attachable(network)?;
    }
    let endpoint = connect.endpoint_config.on(meant.name);
    let endpoint = EndpointSettings::try_from(endpoint).map_err(|e| ApiError::invalid(e.to_string()))?;
    api.daemon.containers.connect(&id, endpoint).await?;
    Ok(Response::default())
}

/// `POST /networks/{id}/disconnect`.
pub async fn disconnect(State(api): State<Api>, Key(key): Key, Json(body): Json<Disconnect>) -> Answer {
    body.check()?;
    let meant = api.meant_network(key).await?;
    let id = api.local.by_hand(&body.container)?;
    api.daemon.containers.disconnect(&id, meant.names).await?;
    Ok(Response::default())
}

/// `POST /networks/prune`: networks of the swarm that nothing is on. On a node that is no manager there is nothing to prune.
pub async fn prune(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&["until", "label", "label!"])?;
    let until = network::pruned_until(&filters, Timestamp::now())?;
    let mut deleted = Vec::new();
    if api.swarm_info().await.control_available {
        let used = api.used().await?;
        for (id, n) in api.networks().await? {
            let excluded = filters.has("label!") && filters.labels("label!", &n.spec.labels);
            let wanted = !n.spec.ingress
                && !used.contains(id.as_str())
                && filters.labels("label", &n.spec.labels)
                && !excluded
                && until.is_none_or(|until| n.meta.created_at.0 * 1_000_000 < until);
            if !wanted {
                continue;
            }
            match api.control().remove_network(pb::RemoveRequest { key: id.to_string(), force: false }).await
            {
                Ok(_) => deleted.push(n.spec.name),
                // A container that a user runs is on it, or somebody was quicker.
                Err(status) => match ApiError::from(status) {
                    error if matches!(error.kind, Kind::Precondition | Kind::NotFound) => {}
                    error => return Err(error.into()),
                },
            }
        }
    }
    json(&NetworkPruneResponse { networks_deleted: Some(deleted).filter(|d| !d.is_empty()) })
}
