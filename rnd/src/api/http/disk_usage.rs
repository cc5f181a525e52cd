//! What is on the disk.

use axum::extract::State;
use docker_api::disk_usage::{self, DiskUsage, Wanted};
use proto::{
    error::ApiError,
    model::Timestamp,
    pb::{self, local_server::Local as _},
};
use runtime::{Runtime, ShimRuntime};
use tonic::Request;

use super::{
    Answer, Api,
    containers::disk_usage as bytes_below,
    request::{Params, Version},
    respond::json,
};

/// `GET /system/df`.
pub async fn usage(State(api): State<Api>, Version(version): Version, query: Params) -> Answer {
    let wanted = Wanted::of(query.texts("type"), version)?;
    let mut usage = DiskUsage { builds: wanted.builds, ..DiskUsage::default() };
    if wanted.containers {
        usage.containers = Some(api.listed(true).await);
    }
    if wanted.images {
        let runtime = api.daemon.runtime.clone();
        let images = api.local.list_images(Request::new(pb::ListImagesRequest {})).await?.into_inner().images;
        for container in runtime.list() {
            *usage.users.entry(container.record.image_id).or_default() += 1;
        }
        let sizes = tokio::task::spawn_blocking(move || {
            images
                .into_iter()
                .map(|image| (runtime.images().layer_sizes(&image.id), image))
                .collect::<Vec<_>>()
        });
        let sizes = sizes.await.map_err(|error| ApiError::internal(error.to_string()))?;
        usage.images = Some(sizes.into_iter().map(|(sizes, image)| (image, sizes)).collect());
    }
    if wanted.volumes {
        let mut shown = Vec::new();
        for volume in api.blocking(ShimRuntime::volumes).await? {
            let users = volume.users.len();
            let path = volume.path.clone();
            let size = tokio::task::spawn_blocking(move || bytes_below(&path)).await.unwrap_or_default();
            shown.push((api.shown(volume), size, users));
        }
        usage.volumes = Some(shown);
    }
    json(&disk_usage::usage(&usage, version, Timestamp::now()))
}
