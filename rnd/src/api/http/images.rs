//! Images.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use docker_api::{
    auth,
    error::PAGE_NOT_FOUND,
    filters::Filters,
    image::{self, failure},
};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode};
use proto::{
    error::ApiError,
    parse::InvalidReference,
    pb::{self, local_server::Local as _},
};
use runtime::{Chunks, ImportOptions, Loaded, Platform, Reference, RuntimeError};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::Request;

use super::{
    Answer, Api, push,
    request::{Key, Params, Version},
    respond::{Refusal, json as answer, json_lines},
};

/// Chunks of an archive on their way to the disk.
const AHEAD: usize = 8;
/// Bytes that are read of a body that is refused.
const DRAINED: usize = 4 << 20;

impl Api {
    async fn image(&self, key: &str) -> Result<pb::Image, Refusal> {
        Ok(self.local.inspect_image(Request::new(pb::GetRequest { key: key.to_owned() })).await?.into_inner())
    }

    /// When the image was made that a filter names.
    async fn made_at(&self, filters: &Filters, name: &str) -> Result<Option<u64>, Refusal> {
        match filters.values(name).next() {
            Some(key) => Ok(Some(self.image(key).await?.created_at)),
            None => Ok(None),
        }
    }
}

/// `GET /images/json`.
pub async fn list(State(api): State<Api>, Version(version): Version, query: Params) -> Answer {
    let filters = query.filters(&image::FILTERS)?;
    let bounds = (api.made_at(&filters, "before").await?, api.made_at(&filters, "since").await?);
    let images = api.local.list_images(Request::new(pb::ListImagesRequest {})).await?.into_inner().images;
    let mut shown = Vec::new();
    for one in &images {
        if image::is_wanted(one, &filters, bounds)? {
            shown.push(image::summary(one, version));
        }
    }
    answer(&shown)
}

/// `GET /images/{name}/json`, `/history` and `/get`: the name may have slashes.
pub async fn of_one(State(api): State<Api>, Key(rest): Key) -> Answer {
    match rest.rsplit_once('/') {
        Some((name, "json")) => answer(&image::inspect(&api.image(name).await?)),
        Some((name, "get")) => push::archive_of(&api, &[name.to_owned()]).await,
        Some((name, "history")) => {
            let shown = api.image(name).await?;
            let layers = api.daemon.runtime.images().layers_dir();
            let dirs: Vec<_> = shown.layers.iter().map(|layer| layers.join(layer)).collect();
            let measure =
                move || dirs.iter().map(|dir| super::containers::disk_usage(dir)).collect::<Vec<_>>();
            let sizes = tokio::task::spawn_blocking(measure).await.unwrap_or_default();
            answer(&image::history(&shown, &sizes))
        }
        _ => Err(ApiError::not_found(PAGE_NOT_FOUND).into()),
    }
}

/// `POST /images/{name}/tag` and `/push`.
pub async fn to_one(State(api): State<Api>, Key(rest): Key, query: Params, headers: HeaderMap) -> Answer {
    let source = match rest.rsplit_once('/') {
        Some((source, "tag")) => source,
        Some((name, "push")) => return push::push(api, name, query.text("tag"), &headers).await,
        _ => return Err(ApiError::not_found(PAGE_NOT_FOUND).into()),
    };
    let target = image::name(query.text("repo"), query.text("tag"));
    let request = pb::TagImageRequest { source: source.to_owned(), target };
    pb::local_server::Local::tag_image(&api.local, Request::new(request)).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// `DELETE /images/{name}`.
pub async fn remove(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let request = pb::RemoveImageRequest { key, force: query.flag("force") };
    let removed =
        pb::local_server::Local::remove_image(&api.local, Request::new(request)).await?.into_inner();
    answer(&image::removed(&removed.untagged, &removed.deleted))
}

/// `POST /images/prune`.
pub async fn prune(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&image::PRUNE_FILTERS)?;
    let until = filters.values("until").map(|text| docker_api::time::timestamp("until", text));
    let until = until.collect::<Result<Vec<_>, _>>()?.into_iter().min();
    let request = pb::PruneImagesRequest {
        all: !filters.switch("dangling")?.unwrap_or(true),
        until: until.map_or(0, |nanos| (nanos / 1_000_000).max(1)),
        labels: filters.values("label").map(str::to_owned).collect(),
        not_labels: filters.values("label!").map(str::to_owned).collect(),
    };
    let removed =
        pb::local_server::Local::prune_images(&api.local, Request::new(request)).await?.into_inner();
    let deleted = image::removed(&removed.untagged, &removed.deleted);
    let deleted = if deleted.is_empty() { Value::Null } else { deleted.into() };
    answer(&json!({"ImagesDeleted": deleted, "SpaceReclaimed": removed.reclaimed}))
}

/// `POST /images/create`: a pull, or an import.
pub async fn create(State(api): State<Api>, query: Params, headers: HeaderMap, body: Body) -> Answer {
    match (query.text("fromImage"), query.text("fromSrc")) {
        ("", "") => Err(ApiError::invalid("fromImage or fromSrc has to be named").into()),
        ("", "-") => import(api, &query, body).await,
        ("", source) => Err(ApiError::unsupported(format!(
            "an import from {source:?} is not supported by rn; fetch it yourself, and import the file (fromSrc=-)"
        ))
        .into()),
        (from, _) => {
            let name = image::name(from, query.text("tag"));
            let header = headers.get(auth::HEADER).and_then(|v| v.to_str().ok()).unwrap_or_default();
            pull(&api, name, header, query.text("platform")).await
        }
    }
}

async fn pull(api: &Api, name: String, header: &str, platform: &str) -> Answer {
    let reference: Reference =
        name.parse().map_err(|e: InvalidReference| ApiError::from(RuntimeError::from(e)))?;
    let auth = auth::header(header)?.map(|auth| pb::RegistryAuth {
        server: auth.registry().to_owned(),
        username: auth.username,
        password: auth.password,
    });
    let request = pb::PullImageRequest { reference: name, auth, platform: platform.to_owned() };
    let pulling = pb::local_server::Local::pull_image(&api.local, Request::new(request)).await?;
    let mut pulling = pulling.into_inner();
    // What fails before anything has been said is refused; later on an error is the last line.
    let first = match pulling.next().await {
        Some(Err(status)) => return Err(status.into()),
        first => first,
    };
    let lines = stream::iter(first).chain(pulling).flat_map(move |progress| {
        stream::iter(match progress {
            Ok(progress) => image::progress(progress, &reference),
            Err(status) => vec![failure(&status.into())],
        })
    });
    json_lines(lines.map(Ok::<_, ApiError>))
}

/// A body, for a reader on another thread.
pub(super) fn archive(body: Body) -> (Chunks, impl Future<Output = ()> + Send) {
    let (chunks, archive) = mpsc::channel(AHEAD);
    let feed = async move {
        let mut body = body.into_data_stream();
        while let Some(piece) = body.next().await {
            // Cut off: what came so far is not the archive.
            let piece = piece.map_err(std::io::Error::other);
            let last = piece.is_err();
            if chunks.send(piece).await.is_err() {
                break;
            }
            if last {
                return;
            }
        }
        // Nobody wants the rest. A client that is still sending would not hear why.
        let mut left = DRAINED;
        while let Some(Ok(piece)) = body.next().await {
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    (archive.into(), feed)
}

/// One line, or an error with its own status.
fn lines(list: Vec<Value>) -> Result<Response, Refusal> {
    let list: std::pin::Pin<Box<dyn Stream<Item = Result<Value, ApiError>> + Send>> =
        Box::pin(stream::iter(list.into_iter().map(Ok)));
    json_lines(list)
}

async fn import(api: Api, query: &Params, body: Body) -> Answer {
    let reference = image::name(query.text("repo"), query.text("tag"));
    let options = ImportOptions {
        reference: reference.clone(),
        message: query.text("message").to_owned(),
        changes: query.texts("changes").map(str::to_owned).collect(),
    };
    let platform = query.text("platform");
    if !platform.is_empty() && Platform::parse(platform).map_err(ApiError::from)? != Platform::own() {
        return Err(ApiError::unsupported(format!(
            "an import for {platform} is not supported by rn; leave it out"
        ))
        .into());
    }
    let (archive, feed) = archive(body);
    let (id, ()) = tokio::join!(api.daemon.runtime.import(archive, options), feed);
    let id = id.map_err(ApiError::from)?;
    api.local.image_event("import", &id, &reference);
    lines(vec![json!({ "status": id })])
}

/// `POST /images/load`.
pub async fn load(State(api): State<Api>, query: Params, body: Body) -> Answer {
    let platform = match query.text("platform") {
        "" => Platform::own(),
        text => Platform::parse(text).map_err(ApiError::from)?,
    };
    let (archive, feed) = archive(body);
    let (loaded, ()) = tokio::join!(api.daemon.runtime.load(archive, platform), feed);
    let mut said = Vec::new();
    for Loaded { id, tags, renamed } in loaded.map_err(ApiError::from)? {
        api.local.image_event("load", &id, tags.first().unwrap_or(&id));
        for (tag, before) in renamed {
            said.push(json!({"stream": format!(
                "The image {tag} already exists, renaming the old one with ID {before} to empty string\n"
            )}));
        }
        if tags.is_empty() {
            said.push(json!({"stream": format!("Loaded image ID: {id}\n")}));
        }
        said.extend(tags.iter().map(|tag| json!({"stream": format!("Loaded image: {tag}\n")})));
    }
    lines(said)
}
