//! Files of containers.

use axum::{body::Body, extract::State, response::Response};
use docker_api::archive::{self, Changed, PathStat, STAT_HEADER};
use futures::StreamExt;
use http::{HeaderValue, header};
use proto::{error::ApiError, model::ContainerId};
use runtime::{ChangeKind, Pieces};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Answer, Api,
    images::archive as reader,
    request::{Key, Params},
    respond::{self, json as answer},
};

/// The media type of a tar.
const TAR: &str = "application/x-tar";

impl Api {
    /// The image of a container that was never started.
    fn image_of(&self, id: &ContainerId) -> Option<String> {
        self.daemon.containers.watch(id).map(|seen| seen.borrow().definition.spec.image.clone())
    }
}

fn path(query: &Params) -> Result<&str, ApiError> {
    match query.text("path") {
        "" => Err(ApiError::invalid("bad parameter: 'path' cannot be empty")),
        path => Ok(path),
    }
}

fn with_stat(mut response: Response, stat: runtime::PathStat) -> Answer {
    let runtime::PathStat { name, size, mode, modified_nanos, link_target } = stat;
    let stat = PathStat { name, size, mode, modified_nanos, link_target }.header();
    let value = HeaderValue::from_str(&stat).map_err(|error| ApiError::internal(error.to_string()))?;
    response.headers_mut().insert(STAT_HEADER, value);
    Ok(response)
}

fn tar(pieces: Pieces) -> Answer {
    respond::stream(TAR, ReceiverStream::new(pieces).map(|piece| piece.map(Vec::from)))
}

/// `HEAD /containers/{id}/archive`.
pub async fn stat(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let id = api.container(&key)?;
    let stat = api.daemon.runtime.stat_path(&id, api.image_of(&id).as_deref(), path(&query)?).await;
    with_stat(Response::default(), stat.map_err(ApiError::from)?)
}

/// `GET /containers/{id}/archive`.
pub async fn get(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let id = api.container(&key)?;
    let path = path(&query)?;
    let read = api.daemon.runtime.read_path(&id, api.image_of(&id).as_deref(), path).await;
    let (stat, pieces) = read.map_err(ApiError::from)?;
    api.daemon.runtime.container_event(&id, "archive-path", &[]);
    with_stat(tar(pieces)?, stat)
}

/// `PUT /containers/{id}/archive`.
pub async fn put(State(api): State<Api>, Key(key): Key, query: Params, body: Body) -> Answer {
    let id = api.container(&key)?;
    let (path, keep_kinds, as_its_user) =
        (path(&query)?, query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID"));
    let image = api.image_of(&id);
    let (archive, feed) = reader(body);
    let written =
        api.daemon.runtime.write_path(&id, image.as_deref(), path, archive, keep_kinds, as_its_user);
    let (written, ()) = tokio::join!(written, feed);
    written.map_err(ApiError::from)?;
    api.daemon.runtime.container_event(&id, "extract-to-dir", &[]);
    Ok(Response::default())
}

/// `GET /containers/{id}/export`.
pub async fn export(State(api): State<Api>, Key(key): Key) -> Answer {
    let id = api.container(&key)?;
    let pieces = api.daemon.runtime.export(&id, api.image_of(&id).as_deref()).await;
    api.daemon.runtime.container_event(&id, "export", &[]);
    let mut response = tar(pieces.map_err(ApiError::from)?)?;
    // Docker's.
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// `GET /containers/{id}/changes`.
pub async fn changes(State(api): State<Api>, Key(key): Key) -> Answer {
    let id = api.container(&key)?;
    let changes = api.daemon.runtime.changes(&id).await.map_err(ApiError::from)?;
    let shown = changes.into_iter().map(|change| {
        let kind = match change.kind {
            ChangeKind::Modified => Changed::Modified,
            ChangeKind::Added => Changed::Added,
            ChangeKind::Deleted => Changed::Deleted,
        };
        (change.path.to_string_lossy().into_owned(), kind)
    });
    answer(&archive::changes(shown))
}
