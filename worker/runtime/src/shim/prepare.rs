//! A container's directory: made before its shim runs, removed after.

use std::{
    fs,
    net::{IpAddr, ToSocketAddrs},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use proto::model::ContainerId;
use shim_wire::{CopyUp, LogLimits, MemoryFile, Rootfs, SPEC_FILE, ShimSpec, VolumeMount};

use super::{RECORD_FILE, ShimConfig, bundle};
use crate::{
    ContainerConfig, ContainerFile, ContainerRecord, Image, ImageStore, Result, RuntimeError, health, image,
    now_millis, rootdir, users,
};

/// Docker's, from the stop signal to SIGKILL, in ms.
const DEFAULT_GRACE: u64 = 10_000;
/// Where packages put a static init.
const INITS: [&str; 4] =
    ["/usr/libexec/rn/rn-init", "/usr/bin/docker-init", "/usr/bin/tini-static", "/sbin/docker-init"];

/// Writes everything that the shim needs. Blocks. Whoever calls it removes the directory if it fails.
pub fn prepare(
    place: &ShimConfig,
    images: &ImageStore,
    image: &Image,
    config: &ContainerConfig,
) -> Result<ContainerRecord> {
    let layers_dir = &images.layers_dir();
    let id = config.id.as_str();
    let (dir, volumes, cgroup) = (place.dir(id), place.volumes(), place.cgroup(id));
    let read = |path: &str| {
        rootdir::read_layered(layers_dir, &image.layers, path)
            .map(Option::unwrap_or_default)
            .map_err(RuntimeError::io("read from the image", Path::new(path)))
    };
    let image_config = &image.document.config;
    let who = if config.spec.user.is_empty() { &image_config.user } else { &config.spec.user };
    let user = users::resolve(who, &config.spec.groups, &read("/etc/passwd")?, &read("/etc/group")?)?;
    let init = INITS.iter().map(Path::new).find(|path| path.exists());
    let machine = if config.netns.is_none() { machine() } else { bundle::Machine::default() };
    let bundle = bundle::compose(&bundle::Inputs {
        config,
        image: image_config,
        user: &user,
        dir: &dir,
        run_dir: &place.run_dir(id),
        volumes: &volumes,
        cgroup: &cgroup,
        unified_cgroups: unified_cgroups(),
        init,
        machine: &machine,
    })?;
    for bind in &bundle.binds {
        if !bind.exists() {
            return Err(RuntimeError::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                bind.display()
            )));
        }
    }
    let renewed = dir.join("upper").exists();
    for name in ["bundle", "lower", "upper", "work", "rootfs"] {
        fs::create_dir_all(dir.join(name)).map_err(RuntimeError::io("create", &dir.join(name)))?;
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o710)).map_err(RuntimeError::io("chmod", &dir))?;
    if !renewed {
        like_image(images, image, &dir.join("upper"))?;
    }
    let lower = short_names(layers_dir, image, &dir.join("lower"))?;
    let write = |name: &str, text: &[u8]| {
        // Made anew for each run: nobody reads them after the machine has gone down, but for a shim that cleans up.
        durable::scratch(&dir.join(name), text, durable::PUBLIC)
            .map_err(RuntimeError::io("write", &dir.join(name)))
    };
    for (name, text) in &bundle.files {
        write(name, text.as_bytes())?;
    }
    write("bundle/config.json", bundle.config.to_string().as_bytes())?;
    for volume in &bundle.volumes {
        fs::create_dir_all(&volume.to).map_err(RuntimeError::io("create", &volume.to))?;
    }
    let spec = ShimSpec {
        id: id.to_owned(),
        bundle: dir.join("bundle"),
        run_dir: place.run_dir(id),
        cgroup,
        rootfs: Rootfs {
            layers_dir: dir.join("lower"),
            lower,
            upper: dir.join("upper"),
            work: dir.join("work"),
            target: dir.join("rootfs"),
        },
        directories: bundle.directories,
        copy_up: bundle
            .volumes
            .into_iter()
            .filter(|CopyUp { from, .. }| !from.as_os_str().is_empty())
            .collect(),
        log: log_limits(config, &place.log)?,
        terminal: config.spec.tty,
        stdin: config.spec.open_stdin,
        stdin_once: config.spec.stdin_once,
        volume_mounts: bundle.volume_mounts.into_iter().map(with_address).collect::<Result<_>>()?,
        sees_later_mounts: bundle.sees_later_mounts,
        files: config.files.iter().map(memory_file).collect(),
    };
    write(SPEC_FILE, &serde_json::to_vec(&spec).unwrap_or_default())?;
    Ok(ContainerRecord {
        id: config.id.clone(),
        name: config.name.clone(),
        task: config.task.clone(),
        image: config.spec.image.clone(),
        image_id: image.id.clone(),
        command: bundle.command,
        hostname: bundle.hostname,
        labels: bundle.labels,
        created_at: now_millis(),
        netns: config.netns.clone(),
        stop_signal: bundle.stop_signal,
        stop_grace_ms: config.spec.stop_grace_period.map_or(DEFAULT_GRACE, |grace| grace.0),
        tty: config.spec.tty,
        health: health::effective(config.spec.healthcheck.as_ref(), image_config.healthcheck.as_ref()),
    })
}

/// The file in the directory of a container that was never started and has files: the id of the image that they are over.
const FILES_FILE: &str = "files.json";

/// Makes the layer of a container that is not to be started yet. Blocks.
pub fn prepare_files(place: &ShimConfig, images: &ImageStore, image: &Image, id: &str) -> Result<()> {
    let dir = place.dir(id);
    let make = || {
        for name in ["lower", "upper", "work", "rootfs"] {
            fs::create_dir_all(dir.join(name)).map_err(RuntimeError::io("create", &dir.join(name)))?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o710))
            .map_err(RuntimeError::io("chmod", &dir))?;
        like_image(images, image, &dir.join("upper"))?;
        short_names(&images.layers_dir(), image, &dir.join("lower"))?;
        image::save_record(&dir.join(FILES_FILE), &serde_json::to_vec(&image.id).unwrap_or_default())
    };
    make().inspect_err(|_| discard(place, id))
}

/// Whether a directory is that of such a container: its id, and its image's.
pub fn prepared(dir: &Path) -> Option<(ContainerId, String)> {
    let image = durable::load_as(&dir.join(FILES_FILE), |text| serde_json::from_slice(text)).ok()??;
    Some((dir.file_name()?.to_str()?.parse().ok()?, image))
}

fn memory_file(file: &ContainerFile) -> MemoryFile {
    let size = u64::try_from(file.data.0.len()).unwrap_or(u64::MAX);
    MemoryFile { size, uid: file.uid, gid: file.gid, mode: file.mode }
}

/// Limits of the log: what the container is to have, and where that says nothing, the daemon's.
fn log_limits(config: &ContainerConfig, usual: &LogLimits) -> Result<LogLimits> {
    let Some(driver) = &config.spec.log_driver else { return Ok(usual.clone()) };
    let options = driver.check().map_err(|error| RuntimeError::Invalid(error.to_string()))?;
    Ok(LogLimits {
        max_bytes: options.max_size.unwrap_or(usual.max_bytes),
        max_files: options.max_files.unwrap_or(usual.max_files),
    })
}

/// The kernel wants a file server's address, not its name (as Docker's local driver does). Blocks.
fn with_address(mut volume: VolumeMount) -> Result<VolumeMount> {
    if !["nfs", "nfs4", "cifs", "smb3"].contains(&volume.kind.as_str()) {
        return Ok(volume);
    }
    let mut words: Vec<String> = volume.data.split(',').map(str::to_owned).collect();
    for word in &mut words {
        let Some(name) = word.strip_prefix("addr=").filter(|a| a.parse::<IpAddr>().is_err()) else {
            continue;
        };
        let found = (name, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
        let addr = found.ok_or_else(|| {
            RuntimeError::Invalid(format!(
                "failed to mount local volume: the name {name} of its server cannot be resolved"
            ))
        })?;
        *word = format!("addr={}", addr.ip());
    }
    volume.data = words.join(",");
    Ok(volume)
}

/// What is not there is empty.
fn machine() -> bundle::Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    bundle::Machine {
        hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
        hosts: read("/etc/hosts"),
        resolv_conf: read("/etc/resolv.conf"),
    }
}

/// Links to the layers, in `dir`, of a few characters each: the names of a hundred layers have to fit into one mount.
fn short_names(layers_dir: &Path, image: &Image, dir: &Path) -> Result<Vec<PathBuf>> {
    let link = |(n, layer): (usize, &PathBuf)| {
        let name = PathBuf::from(n.to_string());
        let path = dir.join(&name);
        symlink(layers_dir.join(layer), &path).map_err(RuntimeError::io("create", &path))?;
        Ok(name)
    };
    image.layers.iter().enumerate().map(link).collect()
}

/// The merged root directory takes its owner and mode from the upper layer, and so do directories that layers have without listing
/// them.
fn like_image(images: &ImageStore, image: &Image, upper: &Path) -> Result<()> {
    let directories = images.directories_on_top(&image.layers)?;
    for (path, like) in &directories {
        let there = fs::metadata(like).map_err(RuntimeError::io("stat", like))?;
        let own = upper.join(path.strip_prefix("/").unwrap_or(path));
        if own != *upper && !own.is_dir() {
            fs::create_dir(&own).map_err(RuntimeError::io("create", &own))?;
        }
        chown(&own, Some(there.uid()), Some(there.gid())).map_err(RuntimeError::io("chown", &own))?;
        fs::set_permissions(&own, there.permissions()).map_err(RuntimeError::io("chmod", &own))?;
    }
    // Last, since making one in another changes the other's times.
    for (path, like) in directories.iter().rev() {
        let own = upper.join(path.strip_prefix("/").unwrap_or(path));
        let times = fs::metadata(like).and_then(|there| {
            let times = fs::FileTimes::new().set_accessed(there.accessed()?).set_modified(there.modified()?);
            fs::File::open(&own)?.set_times(times)
        });
        times.map_err(RuntimeError::io("set the times of", &own))?;
    }
    Ok(())
}

/// Whether this machine has cgroup v2 and nothing else.
fn unified_cgroups() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The last step of making a container: from now on it is one.
pub fn save_record(dir: &Path, record: &ContainerRecord) -> Result<()> {
    image::save_record(&dir.join(RECORD_FILE), &serde_json::to_vec(record).unwrap_or_default())
}

/// Makes room for another run of a container that has ended: what it has written and logged stays. Blocks.
///
/// # Errors
/// Something of the last run cannot be removed, or its shim is still there.
pub fn clear(place: &ShimConfig, id: &str) -> Result<()> {
    let (dir, run_dir) = (place.dir(id), place.run_dir(id));
    // The shim removes its run directory last of all.
    for _ in 0..500 {
        if !run_dir.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let gone = |path: &Path, result: std::io::Result<()>| match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(RuntimeError::io("remove", path)(e)),
        _ => Ok(()),
    };
    let (links, started) = (dir.join("lower"), dir.join(shim_wire::STARTED_FILE));
    let exit = dir.join(shim_wire::EXIT_FILE);
    gone(&links, fs::remove_dir_all(&links))?;
    gone(&started, fs::remove_file(&started))?;
    gone(&exit, fs::remove_file(&exit))
}

/// Removes a container's directory and the volumes that nobody named. Blocks.
pub fn discard(place: &ShimConfig, id: &str) {
    let dir = place.dir(id);
    let _ = fs::remove_file(dir.join(RECORD_FILE));
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a container's directory; tried again at the next start");
    }
    let anonymous = format!("{id}-");
    for entry in fs::read_dir(place.volumes()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&anonymous)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the daemon's own, by now empty, group from every cgroup hierarchy.
pub fn remove_empty_groups(group: &str) {
    let root = PathBuf::from("/sys/fs/cgroup");
    let _ = fs::remove_dir(root.join(group));
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path().join(group));
    }
}
