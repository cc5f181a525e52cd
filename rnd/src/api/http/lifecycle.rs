//! Starting, stopping and waiting for containers.

use std::time::Duration;

use axum::extract::State;
use node::containers::Until;
use proto::{
    error::ApiError,
    model::ContainerId,
    pb::{self, local_server::Local as _},
};
use runtime::{ContainerState, Runtime};
use serde_json::json;
use tonic::Request;

use super::{
    Answer, Api,
    request::{Key, Params},
    respond::{self, done, not_modified},
};

impl Api {
    fn is_running(&self, id: &ContainerId) -> bool {
        let state = self.daemon.runtime.watch(id);
        state.is_ok_and(|state| matches!(&*state.borrow(), ContainerState::Running { .. }))
    }

    async fn run(&self, id: &ContainerId) -> Result<(), ApiError> {
        let size = self.consoles.take(id);
        self.daemon.containers.start(id).await?;
        self.resize(id, size).await;
        Ok(())
    }

    async fn resize(&self, id: &ContainerId, size: Option<(u16, u16)>) {
        if let Some((rows, cols)) = size {
            // It may have ended already.
            let _ = self.daemon.runtime.resize(id, rows, cols).await;
        }
    }
}

/// Milliseconds from the stop signal to SIGKILL, as `t` says in seconds: less than 0 is never.
fn grace(query: &Params) -> Result<Option<u64>, ApiError> {
    if !query.text("signal").is_empty() {
        return Err(ApiError::unsupported(
            "a stop signal other than the container's own is not supported by rn",
        )
        .help("send it: kill --signal; or make the container with --stop-signal"));
    }
    let seconds = query.number::<i64>("t")?;
    Ok(seconds.map(|s| u64::try_from(s).map_or(u64::MAX, |s| s.saturating_mul(1000))))
}

/// `POST /containers/{id}/start`.
pub async fn start(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    if !query.text("checkpoint").is_empty() {
        return Err(ApiError::unsupported("checkpoints are not supported by rn; leave them out").into());
    }
    let id = api.local.by_hand(&key)?;
    if api.is_running(&id) && !api.daemon.runtime.is_paused(&id) {
        return not_modified();
    }
    api.run(&id).await?;
    done()
}

/// `POST /containers/{id}/stop`.
pub async fn stop(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let grace = grace(&query)?;
    let id = api.local.by_hand(&key)?;
    let seen = api.daemon.containers.watch(&id).map(|seen| seen.borrow().resting);
    if seen.unwrap_or(true) && !api.is_running(&id) {
        return not_modified();
    }
    api.local.stop_container(Request::new(pb::StopContainerRequest { key: id.to_string(), grace })).await?;
    done()
}

/// `POST /containers/{id}/restart`.
pub async fn restart(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let grace = grace(&query)?;
    let id = api.local.by_hand(&key)?;
    let size = api.consoles.take(&id);
    api.daemon.containers.restart(&id, grace.map(Duration::from_millis)).await?;
    api.resize(&id, size).await;
    api.daemon.runtime.container_event(&id, "restart", &[]);
    done()
}

/// `POST /containers/{id}/kill`.
pub async fn kill(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let request = pb::KillContainerRequest { key, signal: query.text("signal").to_owned() };
    api.local.kill_container(Request::new(request)).await?;
    done()
}

/// `POST /containers/{id}/wait`. The head goes out at once: who has it can start the container, and misses nothing.
pub async fn wait(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let until = match query.text("condition") {
        "" | "not-running" => Until::NotRunning,
        "next-exit" => Until::NextExit,
        "removed" => Until::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: \"{other}\"")).into()),
    };
    let id = api.local.by_hand(&key)?;
    let ending = api.daemon.containers.ending(&id, until)?;
    let body = async move { Ok::<_, ApiError>(json!({"StatusCode": ending.await})) };
    respond::json_lines(futures::stream::once(body))
}
