//! What registries know of images.

use axum::extract::State;
use docker_api::{
    auth,
    distribution::{self, DistributionInspect},
    error::PAGE_NOT_FOUND,
};
use http::HeaderMap;
use proto::{error::ApiError, parse::InvalidReference};
use runtime::{Credentials, Reference, RuntimeError};

use super::{Answer, Api, request::Key, respond::json};

/// `GET /distribution/{name}/json`: the name may have slashes.
pub async fn inspect(State(api): State<Api>, Key(rest): Key, headers: HeaderMap) -> Answer {
    let Some(name) = rest.strip_suffix("/json") else {
        return Err(ApiError::not_found(PAGE_NOT_FOUND).into());
    };
    let reference: Reference =
        name.parse().map_err(|e: InvalidReference| ApiError::from(RuntimeError::from(e)))?;
    // A name without a registry that is here by `load` or `import` is our own: no registry knows better.
    let here = api.daemon.runtime.images().resolve(name).ok();
    if here.is_some_and(|image| image.digests.is_empty()) && !reference.names_registry() {
        return Err(ApiError::not_found(format!(
            "image {name} was loaded on this node, and is of no registry"
        ))
        .into());
    }
    let header = headers.get(auth::HEADER).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let credentials = auth::header(header)?
        .filter(|auth| !auth.username.is_empty() && auth.registry() == reference.registry())
        .map(|auth| Credentials { username: auth.username, password: auth.password });
    let resolved = api
        .daemon
        .runtime
        .registries()
        .resolve(&reference, credentials.as_ref())
        .await
        .map_err(ApiError::from)?;
    let platforms = resolved.platforms.iter().map(|p| distribution::platform(&p.to_string()));
    json(&DistributionInspect {
        descriptor: distribution::Descriptor {
            media_type: resolved.media_type,
            digest: resolved.digest,
            size: resolved.size,
        },
        platforms: platforms.collect(),
    })
}
