//! What goes back.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use docker_api::error;
use futures::{Stream, StreamExt};
use http::{StatusCode, header};
use proto::{convert::Malformed, error::ApiError};
use serde::Serialize;

use super::Answer;

/// Docker's media type of JSON.
const JSON: &str = "application/json";

/// Why there is no answer.
#[derive(Debug)]
pub struct Refusal(pub ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        Self(status.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(error::status(&self.0)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        with_json(status, &error::body(&self.0)).unwrap_or_else(|_| status.into_response())
    }
}

fn with_json(status: StatusCode, value: &impl Serialize) -> Result<Response, serde_json::Error> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(JSON));
    Ok(response)
}

/// What a reply has a list of, as the model has it.
pub fn all<A, B: TryFrom<A, Error = Malformed>>(list: Vec<A>) -> Result<Vec<B>, Refusal> {
    Ok(list.into_iter().map(B::try_from).collect::<Result<_, _>>().map_err(ApiError::from)?)
}

/// An object or a list.
pub fn json(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

/// An object with a status of its own.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    with_json(status, value).map_err(|e| ApiError::internal(format!("cannot write the answer: {e}")).into())
}

/// It is done, and there is nothing to say of it.
pub fn done() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// It was so before.
pub fn not_modified() -> Answer {
    Ok(StatusCode::NOT_MODIFIED.into_response())
}

/// Objects as they come, one a line. The head goes out at once; an error that comes later ends the stream, and is its last line.
pub fn json_lines<T: Serialize>(lines: impl Stream<Item = Result<T, ApiError>> + Send + 'static) -> Answer {
    let lines = lines.map(|line| {
        let mut text = match line {
            Ok(value) => serde_json::to_vec(&value),
            Err(error) => serde_json::to_vec(&error::body(&error)),
        }?;
        text.push(b'\n');
        Ok::<_, serde_json::Error>(text)
    });
    stream(JSON, lines)
}

/// Bytes as they come. The head goes out at once.
pub fn stream<E: Into<axum::BoxError> + 'static>(
    media_type: &'static str,
    pieces: impl Stream<Item = Result<Vec<u8>, E>> + Send + 'static,
) -> Answer {
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    Ok(response)
}
