//! Mounts.

use docker_api::{
    mount::{BindOptions, Mount, TmpfsOptions, VolumeOptions},
    swarm::Driver,
};
use serde_json::json;

use super::Namespace;
use crate::document::{Compose, ServiceVolume};

/// A mount of a service.
///
/// # Errors
/// What is wrong with it; in Docker's words.
pub(super) fn mount(
    namespace: &Namespace,
    volume: &ServiceVolume,
    compose: &Compose,
) -> Result<Mount, String> {
    let kind = if volume.kind.is_empty() { "volume" } else { volume.kind.as_str() };
    let foreign = [
        ("volume", "volume", volume.volume.is_some()),
        ("bind", "bind", volume.bind.is_some()),
        ("tmpfs", "tmpfs", volume.tmpfs.is_some()),
    ];
    for (name, of, is_set) in foreign {
        if is_set && of != kind && !(of == "bind" && kind == "npipe") {
            return Err(format!("{name} options are incompatible with type {kind}"));
        }
    }
    let mut mount = Mount {
        kind: volume.kind.clone(),
        source: volume.source.clone(),
        target: volume.target.clone(),
        read_only: volume.read_only,
        consistency: volume.consistency.clone(),
        ..Mount::default()
    };
    match kind {
        "volume" if volume.source.is_empty() => {}
        "volume" => of_volume(namespace, volume, compose, &mut mount)?,
        "bind" | "npipe" | "image" | "cluster" if volume.source.is_empty() => {
            return Err(format!("invalid {kind} source, source cannot be empty"));
        }
        "bind" | "npipe" => {
            let propagation = |bind: &crate::document::BindOptions| bind.propagation.clone();
            mount.bind_options = volume
                .bind
                .as_ref()
                .map(|bind| BindOptions { propagation: propagation(bind), ..BindOptions::default() });
        }
        "tmpfs" => {
            if !volume.source.is_empty() {
                return Err("invalid tmpfs source, source must be empty".into());
            }
            if let Some(tmpfs) = &volume.tmpfs {
                let size_bytes = i64::try_from(tmpfs.size).map_err(|_| "tmpfs: the size is too large")?;
                mount.tmpfs_options = Some(TmpfsOptions { size_bytes, ..TmpfsOptions::default() });
            }
        }
        "image" => {}
        "cluster" => {
            mount.cluster_options = json!({});
            if !volume.source.starts_with("group:") {
                mount.source = name(namespace, &volume.source, compose)?;
            }
        }
        _ => return Err("volume type must be volume, bind, tmpfs, npipe, or cluster".into()),
    }
    Ok(mount)
}

/// The name on the nodes of a volume in the file.
fn name(namespace: &Namespace, key: &str, compose: &Compose) -> Result<String, String> {
    let section = compose.volumes.get(key).ok_or_else(|| format!("undefined volume {key:?}"))?;
    Ok(if section.name.is_empty() { namespace.scope(key) } else { section.name.clone() })
}

fn of_volume(
    namespace: &Namespace,
    volume: &ServiceVolume,
    compose: &Compose,
    mount: &mut Mount,
) -> Result<(), String> {
    mount.source = name(namespace, &volume.source, compose)?;
    let mut options = VolumeOptions::default();
    if let Some(wanted) = &volume.volume {
        options.no_copy = wanted.nocopy;
        options.subpath.clone_from(&wanted.subpath);
    }
    if let Some(section) = compose.volumes.get(&volume.source).filter(|section| !section.external.external) {
        options.labels = namespace.labels(&section.labels);
        if !section.driver.is_empty() || !section.driver_opts.is_empty() {
            options.driver_config =
                Some(Driver { name: section.driver.clone(), options: section.driver_opts.clone() });
        }
    }
    mount.volume_options = Some(options);
    Ok(())
}
