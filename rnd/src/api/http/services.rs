//! Services.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use docker_api::{
    auth,
    service::{self, ServiceCreateResponse, ServiceStatus, ServiceUpdateResponse},
    service_spec::{self, ServiceSpec},
};
use http::{HeaderMap, StatusCode};
use proto::{
    error::ApiError,
    model::{self, Network, NetworkId, RegistryAuth, Service},
    pb,
};

use super::{
    Answer, Api,
    request::{Json, Key, Params},
    respond::{Refusal, json, json_with},
};

impl Api {
    /// All networks of the swarm, as the managers know them.
    pub(super) async fn networks(&self) -> Result<BTreeMap<NetworkId, Network>, Refusal> {
        let reply = self.control().list_networks(pb::ListNetworksRequest {}).await?.into_inner();
        let networks: Vec<Network> = super::respond::all(reply.networks)?;
        Ok(networks.into_iter().map(|n| (n.id.clone(), n)).collect())
    }

    /// All services with their numbers of tasks.
    pub(super) async fn services(&self) -> Result<Vec<(Service, ServiceStatus)>, Refusal> {
        let reply = self.control().list_services(pb::ListServicesRequest {}).await?.into_inner();
        let entry = |entry: pb::ServiceEntry| {
            let service = entry.service.ok_or_else(|| ApiError::internal("a service is missing"))?;
            let status = ServiceStatus {
                running_tasks: entry.running,
                desired_tasks: entry.desired,
                completed_tasks: 0,
            };
            Ok((Service::try_from(service).map_err(tonic::Status::from)?, status))
        };
        reply.services.into_iter().map(entry).collect()
    }

    /// The service that `key` means.
    pub(super) async fn service(&self, key: String) -> Result<Service, Refusal> {
        let reply = self.control().get_service(pb::GetRequest { key }).await?.into_inner();
        Ok(Service::try_from(reply).map_err(tonic::Status::from)?)
    }
}

/// `GET /services`.
pub async fn list(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&service::FILTERS)?;
    service::check_filters(&filters)?;
    let with_status = query.flag("status");
    let (services, networks) = (api.services().await?, api.networks().await?);
    let wanted = services.iter().filter(|(s, _)| service::is_wanted(s, &filters));
    let shown = wanted.map(|(s, status)| service::Service {
        service_status: with_status.then_some(*status),
        ..service::service(s, &networks, false)
    });
    json(&shown.collect::<Vec<_>>())
}

/// `GET /services/{id}`.
pub async fn inspect(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let found = api.service(key).await?;
    json(&service::service(&found, &api.networks().await?, query.flag("insertDefaults")))
}

/// The credentials that come along, for the nodes that pull the image.
fn credentials(headers: &HeaderMap) -> Result<Option<RegistryAuth>, ApiError> {
    let Some(value) = headers.get(auth::HEADER) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ApiError::invalid(format!("invalid {} header", auth::HEADER)))?;
    Ok(auth::header(text)?.map(RegistryAuth::from))
}

/// `POST /services/create`.
pub async fn create(State(api): State<Api>, headers: HeaderMap, Json(spec): Json<ServiceSpec>) -> Answer {
    let mut spec = model::ServiceSpec::try_from(spec)?;
    spec.task.container.pull_auth = credentials(&headers)?;
    if spec.name.is_empty() {
        spec.name = service_spec::invented_name(rand::random());
    }
    let warnings = service_spec::warnings(&spec);
    let request = pb::CreateServiceRequest { spec: Some((&spec).into()) };
    let made = api.control().create_service(request).await?.into_inner();
    json_with(StatusCode::CREATED, &ServiceCreateResponse { id: made.id, warnings })
}

/// `POST /services/{id}/update`.
pub async fn update(
    State(api): State<Api>,
    Key(key): Key,
    query: Params,
    headers: HeaderMap,
    Json(spec): Json<ServiceSpec>,
) -> Answer {
    let version = query.version()?;
    let rollback = match query.text("rollback") {
        "" => false,
        "previous" => true,
        other => return Err(ApiError::invalid(format!("unrecognized rollback option {other}")).into()),
    };
    // Without credentials of its own an update goes on with those that the managers have for the image's registry.
    if !matches!(query.text("registryAuthFrom"), "" | "spec" | "previous-spec") {
        return Err(ApiError::invalid(format!(
            "unsupported registryAuthFrom {:?}",
            query.text("registryAuthFrom")
        ))
        .help("spec or previous-spec")
        .into());
    }
    // What comes along with a rollback is not read, as with Docker: the managers know the previous spec.
    let mut warnings = Vec::new();
    let spec = if rollback {
        None
    } else {
        let mut spec = model::ServiceSpec::try_from(spec)?;
        spec.task.container.pull_auth = credentials(&headers)?;
        warnings = service_spec::warnings(&spec);
        Some((&spec).into())
    };
    api.control().update_service(pb::UpdateServiceRequest { key, version, spec, rollback }).await?;
    json(&ServiceUpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) })
}

/// `DELETE /services/{id}`.
pub async fn remove(State(api): State<Api>, Key(key): Key) -> Answer {
    api.control().remove_service(pb::RemoveRequest { key, force: false }).await?;
    Ok(Response::default())
}
