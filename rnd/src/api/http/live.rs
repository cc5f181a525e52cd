//! What is changed of a container while it is there, and what it uses.

use std::time::Duration;

use axum::{extract::State, response::Response};
use docker_api::{container_update, stats};
use futures::stream;
use node::containers::DefinitionUpdate;
use proto::{
    error::ApiError,
    model::{ContainerId, ContainerUsage},
};
use runtime::{Runtime, RuntimeError};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    Answer, Api,
    request::{Json, Key, Params},
    respond::{done, json as answer, json_lines},
};

/// From one look at what a container uses to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// `POST /containers/{id}/rename`.
pub async fn rename(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let id = api.local.by_hand(&key)?;
    let before = api.daemon.containers.rename(&id, query.text("name")).await?;
    let old = format!("/{before}");
    api.daemon.runtime.container_event(&id, "rename", &[("oldName", &old)]);
    done()
}

/// `POST /containers/{id}/pause`.
pub async fn pause(State(api): State<Api>, Key(key): Key) -> Answer {
    let id = api.local.by_hand(&key)?;
    made(&id, api.daemon.runtime.pause(&id).await)?;
    done()
}

/// `POST /containers/{id}/unpause`.
pub async fn unpause(State(api): State<Api>, Key(key): Key) -> Answer {
    let id = api.local.by_hand(&key)?;
    made(&id, api.daemon.runtime.unpause(&id).await)?;
    done()
}

/// One that was never started is there all the same.
fn made(id: &ContainerId, result: Result<(), RuntimeError>) -> Result<(), ApiError> {
    match result {
        Err(RuntimeError::NoSuchContainer(_)) => {
            Err(ApiError::conflict(format!("Container {id} is not running")))
        }
        other => Ok(other?),
    }
}

/// `POST /containers/{id}/update`.
pub async fn update(State(api): State<Api>, Key(key): Key, Json(body): Json<Value>) -> Answer {
    let id = api.local.by_hand(&key)?;
    let change = container_update::read(body)?;
    let restart = change.restart.map(|text| text.parse());
    let update = DefinitionUpdate {
        nano_cpus: change.nano_cpus,
        memory_bytes: change.memory_bytes,
        pids: change.pids,
        restart: restart.transpose().map_err(|error| ApiError::invalid(format!("{error}")))?,
    };
    api.daemon.containers.update(&id, update).await?;
    api.daemon.runtime.container_event(&id, "update", &[]);
    answer(&json!({"Warnings": []}))
}

/// `GET /containers/{id}/stats`: a line each second; without `stream` one line, and with `one-shot` too at once, without one to
/// compare it with.
pub async fn stats_of(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let id = api.container(&key)?;
    let (stream, once) = (query.flag_or("stream", true), query.flag("one-shot"));
    if stream && once {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true").into());
    }
    if !stream {
        let before = if once { None } else { usage(&api, &id).await };
        if before.is_some() {
            tokio::time::sleep(INTERVAL).await;
        }
        let now = usage(&api, &id).await;
        return answer(&stats::stats(id.as_str(), &name(&api, &id), now.as_ref(), before.as_ref()));
    }
    lines(api, id)
}

fn lines(api: Api, id: ContainerId) -> Result<Response, super::respond::Refusal> {
    let first = (api, None::<ContainerUsage>, Instant::now());
    json_lines(stream::unfold(first, move |(api, before, at)| {
        let id = id.clone();
        async move {
            sleep_until(at).await;
            // It ends with the container.
            api.container(id.as_str()).ok()?;
            let now = usage(&api, &id).await;
            let line = stats::stats(id.as_str(), &name(&api, &id), now.as_ref(), before.as_ref());
            Some((Ok::<_, ApiError>(line), (api, now, Instant::now() + INTERVAL)))
        }
    }))
}

/// None where it does not run.
async fn usage(api: &Api, id: &ContainerId) -> Option<ContainerUsage> {
    api.daemon.runtime.usage(id).await.ok().flatten()
}

fn name(api: &Api, id: &ContainerId) -> String {
    if let Some(seen) = api.daemon.containers.watch(id) {
        return seen.borrow().definition.name.clone();
    }
    let found = api.daemon.runtime.list().into_iter().find(|c| c.record.id == *id);
    found.map(|c| c.record.name).unwrap_or_default()
}
