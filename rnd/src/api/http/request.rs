//! What is asked: parts of requests, read as Docker does.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use docker_api::{json, query::Query, version::ApiVersion};
use http::{header, request::Parts};
use proto::error::{ApiError, Kind};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::respond::Refusal;

/// The most that a body of JSON may have. The largest that means anything is a config or a secret, of a megabyte and a half
/// in base64.
const BODY_LIMIT: usize = 4 << 20;

/// How long a body of JSON may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The parameters behind the question mark.
pub struct Params(pub Query);

impl std::ops::Deref for Params {
    type Target = Query;

    fn deref(&self) -> &Query {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let text = parts.uri.query().unwrap_or_default();
        Ok(Self(Query::new(form_urlencoded::parse(text.as_bytes()).into_owned().collect())))
    }
}

/// The version of the API that a path names; the newest where it names none.
pub struct Version(pub ApiVersion);

impl<S: Sync> FromRequestParts<S> for Version {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Ok(Self(parts.extensions.get().copied().unwrap_or(ApiVersion::NEWEST)))
    }
}

/// The one variable part of a path: an id, a name, or the begin of an id.
pub struct Key(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(key) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::invalid(error.body_text()))?;
        Ok(Self(key))
    }
}

/// A body of JSON. Docker asks for the content type, so that a page of some other site in a browser cannot send one.
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?").to_owned());
        let body = whole(body).await?;
        if let Some(kind) = kind {
            let media = kind.split(';').next().unwrap_or_default().trim();
            if !media.eq_ignore_ascii_case("application/json") {
                return Err(ApiError::invalid(format!(
                    "unsupported Content-Type header ({media}): must be 'application/json'"
                ))
                .into());
            }
        } else if !body.is_empty() {
            return Err(
                ApiError::invalid("unsupported Content-Type header (): must be 'application/json'").into()
            );
        }
        Ok(Self(json::read(&body)?))
    }
}

/// A body, whole.
async fn whole(body: Body) -> Result<Vec<u8>, ApiError> {
    match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => Err(ApiError::invalid(format!(
            "error reading request body: {error}; a body has {BODY_LIMIT} bytes at most"
        ))),
        // The client's fault, as a body that is cut off.
        Err(_) => Err(ApiError {
            kind: Kind::Invalid,
            ..ApiError::timeout("error reading request body: it did not arrive in time")
        }),
    }
}
