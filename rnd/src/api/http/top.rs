//! The processes of a container.

use axum::extract::State;
use docker_api::top;
use proto::error::ApiError;
use runtime::{ContainerState, Runtime};
use tokio::process::Command;

use super::{
    Answer, Api,
    request::{Key, Params},
    respond::json,
};

/// `GET /containers/{id}/top`: what `ps` says of the processes in the container's process namespace.
pub async fn top(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let id = api.container(&key)?;
    let state = api.daemon.runtime.watch(&id).map_err(ApiError::from)?.borrow().clone();
    let ContainerState::Running { pid, .. } = state else {
        return Err(ApiError::conflict(format!("container {id} is not running")).into());
    };
    let arguments = match query.text("ps_args") {
        "" => "-ef",
        text => text,
    };
    let output = Command::new("ps").args(arguments.split_whitespace()).output().await;
    let output = output.map_err(|error| {
        ApiError::internal(format!("error running ps: {error}"))
            .help("install the package procps on this machine")
    })?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ApiError::invalid(format!("error running ps: {why}")).into());
    }
    let inside = tokio::task::spawn_blocking(move || namesakes(pid)).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&output.stdout);
    json(&top::processes(&text, &inside)?)
}

/// All processes in the process namespace of this one.
fn namesakes(pid: i32) -> Vec<u32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(&pid.to_string()) else { return Vec::new() };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| namespace(name).as_ref() == Some(&wanted))
        .filter_map(|name| name.parse().ok())
        .collect()
}
