//! The daemon itself.

use axum::{body::Body, extract::State, response::Response};
use docker_api::{
    auth::{AuthConfig, AuthStatus},
    event::{self, EventMessage},
    system,
};
use futures::StreamExt;
use http::{HeaderValue, StatusCode, header};
use proto::{
    error::ApiError,
    model::Timestamp,
    pb::{self, local_server::Local as _},
};
use runtime::Runtime;
use tonic::Request;

use super::{
    Answer, Api, instead,
    request::{Json, Params},
    respond::{self, Refusal, json, json_lines},
};

/// `GET` and `HEAD /_ping`.
pub async fn ping(State(api): State<Api>) -> Response {
    let swarm = system::swarm_header(&api.swarm_info().await);
    let mut response = Response::new(Body::from("OK"));
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        // 1 is the builder without BuildKit: clients then ask at /build, and hear what to use instead.
        (header::HeaderName::from_static("builder-version"), "1"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(&swarm) {
        headers.insert("Swarm", value);
    }
    response
}

/// `GET /version`.
pub async fn version(State(api): State<Api>) -> Answer {
    json(&system::version(&api.local.version_reply()))
}

/// `GET /info`.
pub async fn info(State(api): State<Api>) -> Answer {
    let reply = api.local.info_reply().await;
    let insecure = &api.daemon.context.config.insecure_registries;
    let mut info = system::info(&reply, insecure, Timestamp::now());
    let paused = api.daemon.runtime.list().iter().filter(|c| c.paused).count();
    info.containers_paused = u32::try_from(paused).unwrap_or(u32::MAX);
    info.containers_running = info.containers_running.saturating_sub(info.containers_paused);
    json(&info)
}

/// `GET /events`.
pub async fn events(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&event::FILTERS)?;
    filters.check_values("scope", &["local", "swarm"])?;
    let (since, until) = (query.time("since")?, query.time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(ApiError::invalid("`since` time cannot be after `until` time").into());
    }
    // Without either it is what happens from now on. An `until` alone ends that; it does not ask for the past.
    let request = pb::EventsRequest {
        since_nanos: since.map_or(0, |nanos| nanos.max(1)),
        until_nanos: until.map_or(0, |nanos| nanos.max(1)),
    };
    let events = api.local.events(Request::new(request)).await?.into_inner();
    json_lines(events.filter_map(move |event| {
        let shown = match event {
            Ok(event) => Some(EventMessage::from(event)).filter(|e| e.is_wanted(&filters)).map(Ok),
            Err(status) => Some(Err(ApiError::from(status))),
        };
        std::future::ready(shown)
    }))
}

/// `POST /auth`: whether a registry takes these credentials.
pub async fn auth(State(api): State<Api>, Json(auth): Json<AuthConfig>) -> Answer {
    let auth = auth.check()?;
    let request = pb::RegistryAuth {
        server: auth.registry().to_owned(),
        username: auth.username,
        password: auth.password,
    };
    match api.local.login(Request::new(request)).await {
        Ok(reply) => {
            let status = reply.into_inner().status;
            json(&AuthStatus { status, identity_token: String::new() })
        }
        Err(status) => {
            let error = ApiError::from(status);
            let denied = error.kind == proto::error::Kind::Denied;
            let code = if denied { StatusCode::UNAUTHORIZED } else { return Err(error.into()) };
            respond::json_with(code, &docker_api::error::body(&error))
        }
    }
}

/// `GET /plugins`: none.
pub async fn plugins() -> Answer {
    json(&[(); 0])
}

/// Everything else about plugins.
pub async fn no_plugins() -> Refusal {
    instead(
        "plugins cannot be installed in rn",
        "its drivers are built in: overlay networks, local volumes, logs in files of the node",
    )
    .into()
}

/// `POST /build`.
pub async fn no_build() -> Refusal {
    instead(
        "rn does not build images",
        "build them with buildah, podman or docker buildx (--output type=docker), and bring them here: docker load, or a registry",
    )
    .into()
}

/// `POST /commit`.
pub async fn no_commit() -> Refusal {
    instead(
        "rn does not make images of containers",
        "docker export, and docker import, make one of a container's files",
    )
    .into()
}

/// `POST /session` and `POST /grpc`: BuildKit's.
pub async fn no_session() -> Refusal {
    instead(
        "rn does not build images, and has no BuildKit",
        "build them with buildah, podman or docker buildx create",
    )
    .into()
}
