//! Volumes of this machine.

use std::collections::BTreeSet;

use axum::extract::State;
use docker_api::volume::{self, Shown, VolumeCreate};
use http::StatusCode;
use proto::{error::ApiError, model::ContainerId};
use runtime::{RuntimeError, ShimRuntime, Volume};
use serde_json::{Value, json};

use super::{
    Answer, Api,
    containers::disk_usage,
    request::{Json, Key, Params},
    respond::{Refusal, done, json as answer, json_with},
};

impl Api {
    /// The containers that users have defined with a volume, whether they have been made or not.
    fn wanting(&self, name: &str) -> BTreeSet<ContainerId> {
        let named = |m: &proto::model::Mount| m.kind == "volume" && m.source == name;
        let all = self.daemon.containers.list();
        let wanting = all.iter().filter(|seen| seen.definition.spec.mounts.iter().any(named));
        wanting.map(|seen| seen.definition.id.clone()).collect()
    }

    pub(super) fn shown(&self, volume: Volume) -> Shown {
        let used = !volume.users.is_empty() || !self.wanting(&volume.name).is_empty();
        Shown {
            name: volume.name,
            mountpoint: volume.path.display().to_string(),
            created_at: volume.created_at,
            labels: volume.labels,
            used,
        }
    }

    /// Does something with the runtime that may wait for the disk.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ShimRuntime) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let runtime = self.daemon.runtime.clone();
        let done = tokio::task::spawn_blocking(move || work(&runtime)).await;
        let done = done.map_err(|e| ApiError::internal(e.to_string()))?;
        Ok(done.map_err(ApiError::from)?)
    }
}

/// `GET /volumes`.
pub async fn list(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&volume::FILTERS)?;
    let mut shown = Vec::new();
    for volume in api.blocking(ShimRuntime::volumes).await? {
        let volume = api.shown(volume);
        if volume.is_wanted(&filters)? {
            shown.push(volume.json());
        }
    }
    answer(&json!({"Volumes": shown, "Warnings": null}))
}

/// `POST /volumes/create`.
pub async fn create(State(api): State<Api>, Json(wanted): Json<VolumeCreate>) -> Answer {
    wanted.check()?;
    // As long as Docker's, and as random.
    let name = if wanted.name.is_empty() { ContainerId::random().to_string() } else { wanted.name };
    let made = api.blocking(move |runtime| runtime.create_volume(&name, wanted.labels)).await?;
    json_with(StatusCode::CREATED, &api.shown(made).json())
}

/// `GET /volumes/{name}`.
pub async fn inspect(State(api): State<Api>, Key(name): Key) -> Answer {
    let volume = api.blocking(move |runtime| runtime.volume(&name)).await?;
    answer(&api.shown(volume).json())
}

/// `DELETE /volumes/{name}`. Forced, one that is not there is no error.
pub async fn remove(State(api): State<Api>, Key(name): Key, query: Params) -> Answer {
    match api.daemon.runtime.remove_volume(&name, |name| api.wanting(name)).await {
        Err(RuntimeError::NoSuchVolume(_)) if query.flag("force") => done(),
        removed => {
            removed.map_err(ApiError::from)?;
            done()
        }
    }
}

/// `POST /volumes/prune`: those that no container has. Without `all`, only those that nobody named.
pub async fn prune(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&volume::PRUNE_FILTERS)?;
    let all = filters.switch("all")?.unwrap_or(false);
    let (mut removed, mut reclaimed) = (Vec::new(), 0);
    for volume in api.blocking(ShimRuntime::volumes).await? {
        let made_up = volume.name.len() == 64 && volume.name.bytes().all(|b| b.is_ascii_hexdigit());
        let wanted = (all || made_up)
            && filters.labels("label", &volume.labels)
            && !(filters.has("label!") && filters.labels("label!", &volume.labels));
        if !wanted || !volume.users.is_empty() {
            continue;
        }
        let path = volume.path.clone();
        let size = tokio::task::spawn_blocking(move || disk_usage(&path)).await.unwrap_or_default();
        // One that has got a user meanwhile stays.
        if api.daemon.runtime.remove_volume(&volume.name, |name| api.wanting(name)).await.is_ok() {
            reclaimed += size;
            removed.push(volume.name);
        }
    }
    let removed = if removed.is_empty() { Value::Null } else { removed.into() };
    answer(&json!({"VolumesDeleted": removed, "SpaceReclaimed": reclaimed}))
}
