//! Containers: what there is, and how it comes and goes.

use std::{collections::BTreeMap, path::PathBuf};

use axum::extract::State;
use docker_api::{
    container::{self, Bounds, Listed},
    container_create,
    container_inspect::{self, Inspected},
    filters::Filters,
};
use http::StatusCode;
use proto::{
    error::ApiError,
    model::{ContainerId, Timestamp},
    pb::{self, local_server::Local as _},
};
use runtime::{Platform, Runtime};
use serde_json::{Value, json};
use tonic::Request;

use super::{
    Answer, Api,
    request::{Json, Key, Params},
    respond::{done, json as answer, json_with},
};

/// The filters of `POST /containers/prune`.
const PRUNE_FILTERS: [&str; 3] = ["until", "label", "label!"];

impl Api {
    /// The container that a name, an id or a unique beginning of an id means.
    pub(super) fn container(&self, key: &str) -> Result<ContainerId, ApiError> {
        match self.daemon.containers.find(key) {
            Some(id) => Ok(id),
            None => Ok(self.daemon.runtime.find(key)?),
        }
    }

    /// All containers, the newest first.
    pub(super) async fn listed(&self, with_size: bool) -> Vec<Listed> {
        let runtime = &self.daemon.runtime;
        let images: BTreeMap<String, String> =
            runtime.list().into_iter().map(|c| (c.record.id.to_string(), c.record.image_id)).collect();
        let mut all = Vec::new();
        for container in self.local.containers(true).await {
            let image_id = match images.get(&container.id) {
                Some(id) => id.clone(),
                None => runtime.images().resolve(&container.image).map(|i| i.id).unwrap_or_default(),
            };
            let detail = match container.id.parse::<ContainerId>() {
                Ok(id) => runtime.inspect(&id).await.ok(),
                Err(_) => None,
            };
            let mounts =
                detail.as_ref().map(|d| container_inspect::mounts(&d.oci_config)).unwrap_or_default();
            let size = match &detail {
                Some(detail) if with_size => Some(self.size(detail.rootfs_path.clone(), &image_id).await),
                None if with_size => Some(self.size(PathBuf::new(), &image_id).await),
                Some(_) | None => None,
            };
            all.push(Listed { container, image_id, mounts, size });
        }
        all
    }

    /// Bytes that a container has written, and those together with its image's.
    async fn size(&self, written: PathBuf, image_id: &str) -> (u64, u64) {
        let image = self.daemon.runtime.images().resolve(image_id).map(|i| i.size).unwrap_or_default();
        let written = tokio::task::spawn_blocking(move || disk_usage(&written)).await.unwrap_or_default();
        (written, written.saturating_add(image))
    }
}

/// Bytes of all files below a directory. What goes meanwhile is not counted.
pub(super) fn disk_usage(dir: &std::path::Path) -> u64 {
    let mut sum = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Of a link itself, not of what it points to.
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => left.push(entry.path()),
                Ok(meta) => sum += meta.len(),
                Err(_) => {}
            }
        }
    }
    sum
}

/// `GET /containers/json`.
pub async fn list(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&container::FILTERS)?;
    container::check(&filters)?;
    let limit = query.number::<i64>("limit")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let all = query.flag("all") || limit.is_some() || filters.has("status");
    let listed = api.listed(query.flag("size")).await;
    let images = api.daemon.runtime.images();
    let bounds = Bounds {
        before: bound(&api, &listed, &filters, "before")?,
        since: bound(&api, &listed, &filters, "since")?,
        ancestors: filters
            .values("ancestor")
            .filter_map(|key| images.resolve(key).ok())
            .map(|i| i.id)
            .collect(),
    };
    let now = Timestamp::now();
    let shown: Vec<Value> = listed
        .iter()
        .filter(|l| all || matches!(l.container.state.as_str(), "running" | "paused" | "restarting"))
        .filter(|l| container::is_wanted(l, &filters, &bounds))
        .take(limit.unwrap_or(usize::MAX))
        .map(|l| container::summary(l, now))
        .collect();
    answer(&shown)
}

/// When the container was made that a filter names.
fn bound(api: &Api, listed: &[Listed], filters: &Filters, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(key) = filters.values(name).next() else { return Ok(None) };
    let id = api.container(key)?;
    Ok(listed.iter().find(|l| l.container.id == id.as_str()).map(|l| l.container.created_at))
}

/// `POST /containers/create`.
pub async fn create(State(api): State<Api>, query: Params, Json(body): Json<Value>) -> Answer {
    let platform = query.text("platform");
    if !platform.is_empty() && Platform::parse(platform).map_err(ApiError::from)? != Platform::own() {
        return Err(ApiError::unsupported(format!(
            "platform {platform} is not this machine's, which is {}",
            Platform::own()
        ))
        .into());
    }
    let wanted = container_create::read(body, query.text("name"))?;
    let made = api.local.create_container(Request::new(wanted.definition)).await?.into_inner();
    if let (Some(size), Ok(id)) = (wanted.console, made.id.parse()) {
        api.consoles.put(id, size);
    }
    json_with(StatusCode::CREATED, &json!({"Id": made.id, "Warnings": []}))
}

/// `GET /containers/{id}/json`.
pub async fn inspect(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let detail = api.local.container_detail(&key).await?.into_inner();
    let by_hand = api.daemon.containers.find(&key).and_then(|id| api.daemon.containers.watch(&id));
    let definition = by_hand.map(|seen| pb::ContainerDefinition::from(&seen.borrow().definition));
    let container = detail.container.clone().unwrap_or_default();
    let made = api.daemon.runtime.list().into_iter().find(|c| c.record.id.as_str() == container.id);
    let image = made.map_or_else(|| container.image.clone(), |c| c.record.image_id);
    let found = api.daemon.runtime.images().resolve(&image);
    let (image_id, config) = match found {
        Ok(image) => (image.id, serde_json::from_str::<Value>(&image.config_json).unwrap_or_default()),
        // Its image has been removed from under it.
        Err(_) => (image, Value::Null),
    };
    let size = match query.flag("size") {
        true => Some(api.size(PathBuf::from(&detail.rootfs_path), &image_id).await),
        false => None,
    };
    let image_config = config.get("config").cloned().unwrap_or_default();
    answer(&container_inspect::inspect(&Inspected { detail, definition, image_id, image_config, size }))
}

/// `DELETE /containers/{id}`. Volumes without a name go with their container, whether that is asked for or not.
pub async fn remove(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    if query.flag("link") {
        return Err(ApiError::unsupported("links are not supported by rn: there are none to remove").into());
    }
    let request = pb::RemoveContainerRequest { key: key.clone(), force: query.flag("force") };
    let id = api.local.remove_container(Request::new(request)).await?.into_inner().id;
    if let Ok(id) = id.parse() {
        api.consoles.take(&id);
    }
    done()
}

/// `POST /containers/prune`: all that do not run.
pub async fn prune(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&PRUNE_FILTERS)?;
    let until = filters.values("until").map(|text| docker_api::time::timestamp("until", text));
    let until = until.collect::<Result<Vec<_>, _>>()?.into_iter().min();
    let (mut removed, mut reclaimed) = (Vec::new(), 0);
    for listed in api.listed(true).await {
        let container = &listed.container;
        let labels = container.labels.clone().into_iter().collect();
        let wanted = matches!(container.state.as_str(), "created" | "exited")
            && until.is_none_or(|until| container.created_at.saturating_mul(1_000_000) < until)
            && filters.labels("label", &labels)
            && !(filters.has("label!") && filters.labels("label!", &labels));
        let Some(id) = container.id.parse().ok().filter(|_| wanted) else { continue };
        // A task's is not the user's to remove; and one that was started meanwhile stays.
        if api.daemon.containers.watch(&id).is_some()
            && api.daemon.containers.remove(&id, false).await.is_ok()
        {
            api.consoles.take(&id);
            reclaimed += listed.size.map_or(0, |(written, _)| written);
            removed.push(id.to_string());
        }
    }
    answer(
        &json!({"ContainersDeleted": if removed.is_empty() { Value::Null } else { removed.into() }, "SpaceReclaimed": reclaimed}),
    )
}
