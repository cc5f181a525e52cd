//! Images that go: into archives, and to registries.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use docker_api::{auth, image, push};
use futures::StreamExt;
use http::HeaderMap;
use proto::{error::ApiError, parse::InvalidReference};
use runtime::{Credentials, Event, PushStep, Reference, RuntimeError, is_repository};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Answer, Api, instead,
    request::Params,
    respond::{self, Refusal, json_lines},
};

/// Lines on their way to a client.
const AHEAD: usize = 64;

/// `GET /images/get`: several images in one archive.
pub async fn save(State(api): State<Api>, query: Params) -> Answer {
    let names: Vec<String> = query
        .texts("names")
        .flat_map(|names| names.split(','))
        .map(str::to_owned)
        .filter(|n| !n.is_empty())
        .collect();
    if names.is_empty() {
        return Err(ApiError::invalid("name the images that are to be saved (names)").into());
    }
    archive_of(&api, &names).await
}

/// An archive of images.
pub(super) async fn archive_of(api: &Api, names: &[String]) -> Answer {
    let pieces = api.daemon.runtime.save(names).await.map_err(ApiError::from)?;
    for name in names {
        if let Ok(image) = api.daemon.runtime.images().resolve(name) {
            api.local.image_event("save", &image.id, name);
        }
    }
    respond::stream("application/x-tar", ReceiverStream::new(pieces).map(|piece| piece.map(Vec::from)))
}

/// `GET /images/search`.
pub async fn no_search() -> Refusal {
    instead(
        "rn does not search for images: that is a service of Docker Hub alone",
        "look at https://hub.docker.com, or ask your registry what it has: GET /v2/_catalog",
    )
    .into()
}

/// `POST /images/{name}/push`. Without a tag all tags of the repository go.
pub(super) async fn push(api: Api, name: &str, tag: &str, headers: &HeaderMap) -> Answer {
    let parse = |text: &str| -> Result<Reference, ApiError> {
        text.parse().map_err(|e: InvalidReference| RuntimeError::from(e).into())
    };
    let text = image::name(name, tag);
    let whole = parse(&text)?;
    if whole.digest().is_some() {
        return Err(ApiError::invalid("cannot push a digest reference").into());
    }
    let header = headers.get(auth::HEADER).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let credentials =
        auth::header(header)?.map(|a| Credentials { username: a.username, password: a.password });
    let names: Vec<Reference> = match is_repository(&text) {
        false => vec![whole.clone()],
        true => {
            let prefix = format!("{}:", whole.name());
            let tags = api.daemon.runtime.images().list().into_iter().flat_map(|image| image.tags);
            tags.filter(|t| t.strip_prefix(&prefix).is_some_and(|tag| !tag.contains('/')))
                .map(|tag| parse(&tag))
                .collect::<Result<_, _>>()?
        }
    };
    let missing =
        || ApiError::not_found(format!("An image does not exist locally with the tag: {}", whole.name()));
    if names.is_empty() || names.iter().any(|n| api.daemon.runtime.images().resolve(&n.tagged()).is_err()) {
        return Err(missing().into());
    }
    lines(api, whole.name().to_owned(), names, credentials)
}

fn lines(
    api: Api,
    repository: String,
    names: Vec<Reference>,
    credentials: Option<Credentials>,
) -> Result<Response, Refusal> {
    let (sender, receiver) = mpsc::channel::<Result<Value, ApiError>>(AHEAD);
    let daemon = Arc::clone(&api.daemon);
    tokio::spawn(async move {
        let _ = sender.send(Ok(push::refers_to(&repository))).await;
        for name in names {
            let told = sender.clone();
            let hear = move |id: String, step: PushStep| {
                let step = match step {
                    PushStep::Preparing => push::Step::Preparing,
                    PushStep::Exists => push::Step::Exists,
                    PushStep::Pushing { current, total } => push::Step::Pushing { current, total },
                    PushStep::Pushed => push::Step::Pushed,
                };
                // Of what is sent in between, a slow reader may miss some.
                let _ = told.try_send(Ok(push::layer(&id, step)));
            };
            let pushing = daemon.runtime.registries().push(&name, credentials.as_ref(), &hear);
            let result = tokio::select! {
                result = pushing => result,
                () = sender.closed() => return,
            };
            let last = match result {
                Ok(pushed) => {
                    let event = Event::local("image", "push", &name.to_string()).with("name", name.name());
                    daemon.runtime.events().publish(event);
                    push::done(name.tag().unwrap_or("latest"), &pushed.digest, pushed.size)
                }
                Err(error) => vec![image::failure(&ApiError::from(error))],
            };
            for line in last {
                let _ = sender.send(Ok(line)).await;
            }
        }
    });
    json_lines(ReceiverStream::new(receiver))
}
