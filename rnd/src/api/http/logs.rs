//! Logs of services and tasks.

use axum::extract::State;
use docker_api::{
    frames::{self, Output},
    log_line::{self, Origin, Shown},
    version::ApiVersion,
};
use futures::{StreamExt, stream};
use proto::{
    error::ApiError,
    pb::{self, LogChunk, LogOptions},
};

use super::{
    Answer, Api,
    request::{Key, Params, Version},
    respond,
};

/// The version that gave pieces a media type of their own.
const OWN_MEDIA_TYPE: ApiVersion = ApiVersion::minor(42);

/// `GET /services/{id}/logs`.
pub async fn of_service(
    State(api): State<Api>,
    Key(key): Key,
    Version(version): Version,
    query: Params,
) -> Answer {
    let shown = shown(&query)?;
    let service = api.service(key).await?;
    let request = pb::LogsRequest {
        service: service.id.to_string(),
        task: String::new(),
        options: Some(options(&query)?),
    };
    answer(&api, request, shown, service.spec.task.container.tty, version).await
}

/// `GET /tasks/{id}/logs`.
pub async fn of_task(
    State(api): State<Api>,
    Key(key): Key,
    Version(version): Version,
    query: Params,
) -> Answer {
    let shown = shown(&query)?;
    let task = api.task(key).await?;
    let request = pb::LogsRequest {
        service: String::new(),
        task: task.id.to_string(),
        options: Some(options(&query)?),
    };
    answer(&api, request, shown, task.spec.container.tty, version).await
}

fn shown(query: &Params) -> Result<Shown, ApiError> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    Ok(Shown { stdout, stderr, timestamps: query.flag("timestamps"), details: query.flag("details") })
}

/// From when, until when, how much of it.
pub(super) fn options(query: &Params) -> Result<LogOptions, ApiError> {
    let tail = match query.text("tail") {
        "" | "all" => -1,
        text => text.parse::<u32>().map(i64::from).map_err(|_| {
            ApiError::invalid(format!(
                "invalid value for \"tail\": {text:?} is neither \"all\" nor a number of lines"
            ))
        })?,
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        tail,
        since: 0,
        since_nanos: query.time("since")?.unwrap_or_default(),
        until_nanos: query.time("until")?.unwrap_or_default(),
    })
}

async fn answer(api: &Api, request: pb::LogsRequest, shown: Shown, tty: bool, version: ApiVersion) -> Answer {
    let chunks = api.logs().subscribe(request).await?.into_inner().boxed();
    let pieces = stream::unfold(Some((chunks, Vec::new())), move |state| async move {
        let (mut chunks, mut errors) = state?;
        Some(match chunks.next().await {
            Some(Ok(chunk)) => {
                let pieces = pieces(&chunk, shown, tty);
                errors.extend(Some(chunk.error).filter(|e| !e.is_empty()));
                (pieces, Some((chunks, errors)))
            }
            Some(Err(status)) => {
                errors.push(ApiError::from(status).message);
                (Vec::new(), Some((stream::empty().boxed(), errors)))
            }
            None => (complaint(&errors, tty), None),
        })
    });
    let pieces =
        pieces.flat_map(|pieces| stream::iter(pieces.into_iter().map(Ok::<_, std::convert::Infallible>)));
    let media_type = if tty || version < OWN_MEDIA_TYPE { frames::RAW } else { frames::MULTIPLEXED };
    respond::stream(media_type, pieces)
}

/// What goes out of a chunk: lines as they are where the task has a terminal, in pieces that say of which output they are otherwise.
fn pieces(chunk: &LogChunk, shown: Shown, tty: bool) -> Vec<Vec<u8>> {
    let origin = Origin { service: &chunk.service_id, task: &chunk.task_id, node: &chunk.node_id };
    let lines = chunk.lines.iter().filter_map(|line| {
        let output = if line.stderr { Output::Stderr } else { Output::Stdout };
        let text = log_line::text(line, &origin, shown)?;
        Some(if tty { text } else { frames::frame(output, &text) })
    });
    lines.collect()
}

/// What went wrong meanwhile, a node that could not be asked for instance. Clients stop reading there, so that it comes last.
fn complaint(errors: &[String], tty: bool) -> Vec<Vec<u8>> {
    if errors.is_empty() || tty {
        return Vec::new();
    }
    vec![frames::frame(Output::Failure, format!("Error grabbing logs: {}\n", errors.join("; ")).as_bytes())]
}
