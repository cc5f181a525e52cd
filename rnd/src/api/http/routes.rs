//! Which path is whose, and what all answers have.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use docker_api::{
    error::PAGE_NOT_FOUND,
    version::{self, ApiVersion},
};
use http::{HeaderValue, Request, Uri, header, uri::PathAndQuery};
use proto::error::ApiError;
use tower::ServiceExt;

use super::{
    Api, archive, containers, disk_usage, distribution, exec, files, images, lifecycle, live, logs, networks,
    nodes, push, respond::Refusal, services, stale, streams, swarm, system, tasks, top, volumes,
};

/// The paths that there are.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/system/df", get(disk_usage::usage))
        .route("/events", get(system::events))
        .route("/auth", post(system::auth))
        .route("/plugins", get(system::plugins))
        .route("/plugins/{*rest}", axum::routing::any(system::no_plugins))
        .route("/build", post(system::no_build))
        .route("/build/{*rest}", post(system::no_build))
        .route("/commit", post(system::no_commit))
        .route("/session", post(system::no_session))
        .route("/grpc", post(system::no_session))
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/update", post(swarm::update))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::inspect).delete(nodes::remove))
        .route("/nodes/{id}/update", post(nodes::update))
        .route("/services", get(services::list))
        .route("/services/create", post(services::create))
        .route("/services/{id}", get(services::inspect).delete(services::remove))
        .route("/services/{id}/update", post(services::update))
        .route("/services/{id}/logs", get(logs::of_service))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::inspect))
        .route("/tasks/{id}/logs", get(logs::of_task))
        .route("/secrets", get(files::secrets))
        .route("/secrets/create", post(files::create_secret))
        .route("/secrets/{id}", get(files::secret).delete(files::remove_secret))
        .route("/secrets/{id}/update", post(files::update_secret))
        .route("/configs", get(files::configs))
        .route("/configs/create", post(files::create_config))
        .route("/configs/{id}", get(files::config).delete(files::remove_config))
        .route("/configs/{id}/update", post(files::update_config))
        .route("/networks", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route("/networks/{id}/connect", post(networks::connect))
        .route("/networks/{id}/disconnect", post(networks::disconnect))
        .route("/networks/{id}", get(networks::inspect).delete(networks::remove))
        .route("/distribution/{*rest}", get(distribution::inspect))
        .route("/containers/json", get(containers::list))
        .route("/containers/create", post(containers::create))
        .route("/containers/prune", post(containers::prune))
        .route("/containers/{id}", delete(containers::remove))
        .route("/containers/{id}/json", get(containers::inspect))
        .route("/containers/{id}/top", get(top::top))
        .route("/containers/{id}/start", post(lifecycle::start))
        .route("/containers/{id}/stop", post(lifecycle::stop))
        .route("/containers/{id}/restart", post(lifecycle::restart))
        .route("/containers/{id}/kill", post(lifecycle::kill))
        .route("/containers/{id}/rename", post(live::rename))
        .route("/containers/{id}/pause", post(live::pause))
        .route("/containers/{id}/unpause", post(live::unpause))
        .route("/containers/{id}/update", post(live::update))
        .route("/containers/{id}/stats", get(live::stats_of))
        .route("/containers/{id}/archive", get(archive::get).head(archive::stat).put(archive::put))
        .route("/containers/{id}/export", get(archive::export))
        .route("/containers/{id}/changes", get(archive::changes))
        .route("/containers/{id}/wait", post(lifecycle::wait))
        .route("/containers/{id}/logs", get(streams::logs))
        .route("/containers/{id}/attach", post(streams::attach))
        .route("/containers/{id}/resize", post(streams::resize))
        .route("/containers/{id}/exec", post(exec::create))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
        .route("/images/json", get(images::list))
        .route("/images/create", post(images::create))
        .route("/images/load", post(images::load))
        .route("/images/prune", post(images::prune))
        .route("/images/get", get(push::save))
        .route("/images/search", get(push::no_search))
        .route("/images/{*rest}", get(images::of_one).post(images::to_one).delete(images::remove))
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(volumes::prune))
        .route("/volumes/{id}", get(volumes::inspect).delete(volumes::remove))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(api)
}

async fn not_found() -> Refusal {
    ApiError::not_found(PAGE_NOT_FOUND).into()
}

/// Answers a request: whatever version of the API its path names, it is one and the same path here.
pub async fn answer(router: Router, mut request: Request<Body>) -> Result<Response, Infallible> {
    let mut response = match versioned(&mut request) {
        Ok(()) => stale::marked(router.oneshot(request)).await?,
        Err(error) => Refusal(error).into_response(),
    };
    let headers = response.headers_mut();
    let fixed = [
        ("Api-Version", ApiVersion::NEWEST.to_string()),
        ("Docker-Experimental", "false".into()),
        ("Ostype", "linux".into()),
        ("Server", format!("rn/{} (linux)", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    // Answers are of the moment; what streams must not be guessed at.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Takes the version off the path.
fn versioned(request: &mut Request<Body>) -> Result<(), ApiError> {
    let (named, rest) = version::split(request.uri().path());
    let Some(named) = named else { return Ok(()) };
    let named = named.spoken()?;
    let text = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let path = PathAndQuery::try_from(text).map_err(|e| ApiError::invalid(e.to_string()))?;
    *request.uri_mut() = Uri::from(path);
    request.extensions_mut().insert(named);
    Ok(())
}
