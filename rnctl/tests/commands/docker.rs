//! The same daemon's HTTP: Docker's Engine API.

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use docker_api::network::{self, NetworkCreateRequest, NetworkPruneResponse};
use http::{HeaderValue, StatusCode};
use proto::{
    error::ApiError,
    model::{Network, NetworkSpec, Node},
    pb::{self, control_server::Control, local_server::Local},
};
use serde::Serialize;

use crate::fake::{Fake, NODE};

/// The version that its paths have.
const VERSION: &str = "1.47";

/// Everything it has.
pub fn router(fake: Fake) -> Router {
    let paths = Router::new()
        .route("/networks", get(networks))
        .route("/networks/create", post(create_network))
        .route("/networks/prune", post(prune_networks))
        .route("/networks/{key}", get(network).delete(remove_network))
        .merge(crate::machine::router())
        .route("/nodes", get(nodes))
        .route("/nodes/{key}", get(node))
        .route("/info", get(info))
        .with_state(fake);
    Router::new()
        .route("/_ping", get(async || "OK"))
        .nest(&format!("/v{VERSION}"), paths)
        .layer(middleware::from_fn(who_answers))
}

async fn who_answers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("Api-Version", HeaderValue::from_static(VERSION));
    response.headers_mut().insert("Server", HeaderValue::from_static("rn/0.1.0 (linux)"));
    response
}

/// Why there is no answer.
pub struct Refusal(ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(docker_api::error::status(&self.0)).unwrap();
        json(status, &docker_api::error::body(&self.0))
    }
}

pub type Answer = Result<Response, Refusal>;

pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap()));
    *response.status_mut() = status;
    response
}

pub fn ok(value: &impl Serialize) -> Answer {
    Ok(json(StatusCode::OK, value))
}

pub async fn body<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    Ok(docker_api::json::read(&bytes)?)
}

fn ask<T>(message: T) -> tonic::Request<T> {
    tonic::Request::new(message)
}

async fn all_networks(fake: &Fake) -> Vec<network::NetworkInspect> {
    let mut all = Vec::new();
    if let Ok(reply) = fake.list_networks(ask(pb::ListNetworksRequest {})).await {
        let typed = reply.into_inner().networks.into_iter().map(|n| Network::try_from(n).unwrap());
        all.extend(typed.map(|n| network::network(&n, None)));
    }
    let own = fake.list_local_networks(ask(pb::ListNetworksRequest {})).await.ok();
    for n in own.into_iter().flat_map(|reply| reply.into_inner().networks) {
        let driver = if n.driver == "none" { "null" } else { &n.driver };
        all.push(network::of_machine(&n.name, &n.id, driver, &n.scope, Default::default()));
    }
    all
}

async fn networks(State(fake): State<Fake>) -> Answer {
    ok(&all_networks(&fake).await)
}

async fn network(State(fake): State<Fake>, Path(key): Path<String>) -> Answer {
    let found = all_networks(&fake).await.into_iter().find(|n| n.name == key || n.id == key);
    ok(&found.ok_or_else(|| ApiError::not_found(format!("network {key} not found")))?)
}

async fn create_network(State(fake): State<Fake>, request: Request) -> Answer {
    let spec = NetworkSpec::try_from(body::<NetworkCreateRequest>(request).await?)?;
    let made = fake.create_network(ask(pb::CreateNetworkRequest { spec: Some((&spec).into()) })).await?;
    let made = network::NetworkCreateResponse { id: made.into_inner().id, warning: String::new() };
    Ok(json(StatusCode::CREATED, &made))
}

async fn remove_network(State(fake): State<Fake>, Path(key): Path<String>) -> Answer {
    fake.remove_network(ask(pb::RemoveRequest { key, force: false })).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn prune_networks() -> Answer {
    ok(&NetworkPruneResponse { networks_deleted: Some(vec!["app".into()]) })
}

async fn nodes(State(fake): State<Fake>) -> Answer {
    let list = fake.list_nodes(ask(pb::ListNodesRequest {})).await?.into_inner().nodes;
    let typed = list.into_iter().map(|n| Node::try_from(n).unwrap());
    ok(&typed.map(|n| docker_api::node::node(&n, "")).collect::<Vec<_>>())
}

async fn node(State(fake): State<Fake>, Path(key): Path<String>) -> Answer {
    let found = fake.get_node(ask(pb::GetRequest { key })).await?.into_inner();
    ok(&docker_api::node::node(&Node::try_from(found).unwrap(), ""))
}

async fn info() -> Answer {
    ok(&serde_json::json!({"Swarm": {"NodeID": NODE}}))
}
