//! What a container sees where. Pure.

use std::path::{Path, PathBuf};

use proto::{
    error::ApiError,
    model::{ContainerId, Mount},
    rules::mount::{self, Propagation, Recursion, clean},
};
use serde_json::{Value, json};
use shim_wire::{CopyUp, FILES_DIR, VolumeMount};

use super::{INIT_INSIDE, Inputs};
use crate::{Result, RuntimeError};

/// The mounts of a container.
#[derive(Debug, Default)]
pub struct Mounts {
    /// For the OCI configuration, in the order of mounting.
    pub oci: Vec<Value>,
    /// Bind sources that must be there.
    pub binds: Vec<PathBuf>,
    /// Volumes to make, with what they are filled from.
    pub volumes: Vec<CopyUp>,
    /// File systems that are mounted as some of them.
    pub file_systems: Vec<VolumeMount>,
    /// Whether what the machine mounts later is seen in bind mounts.
    pub sees_later_mounts: bool,
}

/// The name of a volume that nobody named; it goes with its container.
fn anonymous_volume(id: &ContainerId, n: usize) -> String {
    format!("{id}-{n}")
}

/// Where a volume's files are.
fn volume_dir(volumes: &Path, name: &str) -> PathBuf {
    volumes.join(name).join("_data")
}

/// All mounts of a container: the system's, those under `/etc`, the image's volumes, the user's.
pub fn mounts(inputs: &Inputs<'_>) -> Result<Mounts> {
    let spec = &inputs.config.spec;
    let mut mounts = Mounts { oci: system(inputs), ..Mounts::default() };
    for name in ["hostname", "hosts", "resolv.conf"] {
        mounts.oci.push(bind(&inputs.dir.join(name), &format!("/etc/{name}"), &["rbind", "rw"]));
    }
    if spec.init == Some(true) {
        let init = inputs.init.ok_or_else(|| {
            RuntimeError::Invalid(
                "an init was asked for, but this node has none (install docker-init or tini-static)"
                    .to_owned(),
            )
        })?;
        mounts.oci.push(bind(init, INIT_INSIDE, &["bind", "ro"]));
    }
    let covered = |path: &str| spec.mounts.iter().any(|mount| clean(&mount.target) == clean(path));
    let of_image = inputs.image.volumes.keys().filter(|path| !covered(path)).map(|path| Mount {
        kind: "volume".to_owned(),
        target: path.clone(),
        ..Mount::default()
    });
    let mut all: Vec<Mount> = of_image.chain(spec.mounts.iter().cloned()).collect();
    // A mount below another must come after it.
    all.sort_by_key(|mount| clean(&mount.target).components().count());
    for (n, mount) in all.iter().enumerate() {
        add(inputs, n, mount, &mut mounts)?;
    }
    // Last: whatever is mounted above them.
    let dir = inputs.run_dir.join(FILES_DIR);
    let files = inputs.config.files.iter().enumerate();
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    mounts.oci.extend(files.map(|(n, file)| bind(&dir.join(n.to_string()), &file.target, &options)));
    Ok(mounts)
}

fn system(inputs: &Inputs<'_>) -> Vec<Value> {
    let fs = |kind: &str, source: &str, target: &str, options: &[&str]| json!({ "type": kind, "source": source, "destination": target, "options": options });
    let mut list = vec![
        fs("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        fs("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fs(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        fs("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    // On v1 and hybrid machines a container would see the whole machine's groups, not its own.
    if inputs.unified_cgroups {
        list.push(fs("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"]));
    }
    list.push(fs("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]));
    list.push(fs("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]));
    list
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Value {
    json!({ "type": "bind", "source": source, "destination": target, "options": options })
}

fn add(inputs: &Inputs<'_>, n: usize, mount: &Mount, out: &mut Mounts) -> Result<()> {
    // An image's own volumes come by here too.
    let invalid =
        |e: ApiError| RuntimeError::Invalid(format!("invalid mount at {:?}: {}", mount.target, e.message));
    mount::one(mount).map_err(invalid)?;
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    match mount.kind.as_str() {
        "bind" => {
            out.sees_later_mounts |= mount::propagation(mount).map_err(invalid)? == Propagation::Slave;
            options.extend(match mount::recursion(mount).map_err(invalid)? {
                Recursion::Disabled => ["bind"].as_slice(),
                Recursion::Writable => &["rbind"],
                // What is mounted below a read-only mount is read-only too.
                Recursion::Enabled | Recursion::ReadOnly if mount.read_only => &["rbind", "rro"],
                Recursion::Enabled | Recursion::ReadOnly => &["rbind"],
            });
            out.binds.push(PathBuf::from(&mount.source));
            out.oci.push(bind(Path::new(&mount.source), &mount.target, &options));
        }
        "tmpfs" => {
            let size = mount::tmpfs_size(mount).map_err(invalid)?.map(|bytes| format!("size={bytes}"));
            let mode = mount::tmpfs_mode(mount).map_err(invalid)?.unwrap_or(0o1777);
            options.extend(["nosuid", "nodev", "noexec"]);
            let options: Vec<String> = options
                .into_iter()
                .map(str::to_owned)
                .chain(size)
                .chain([format!("mode={mode:o}")])
                .collect();
            out.oci.push(json!({ "type": "tmpfs", "source": "tmpfs", "destination": mount.target, "options": options }));
        }
        _ => {
            let name = match mount.source.as_str() {
                "" => anonymous_volume(&inputs.config.id, n),
                name => name.to_owned(),
            };
            let dir = volume_dir(inputs.volumes, &name);
            options.push("rbind");
            out.oci.push(bind(&dir, &mount.target, &options));
            out.file_systems.extend(file_system(mount, &dir).filter(|f| !out.file_systems.contains(f)));
            let from = if mount::is_nocopy(mount) { PathBuf::new() } else { clean(&mount.target) };
            out.volumes.push(CopyUp { from, to: dir });
        }
    }
    Ok(())
}

/// Options of mount(8) that are flags of mount(2): which they set, and which they clear.
const FLAGS: [(&str, u64, u64); 22] = [
    ("defaults", 0, 0),
    ("ro", libc::MS_RDONLY, 0),
    ("rw", 0, libc::MS_RDONLY),
    ("nosuid", libc::MS_NOSUID, 0),
    ("suid", 0, libc::MS_NOSUID),
    ("nodev", libc::MS_NODEV, 0),
    ("dev", 0, libc::MS_NODEV),
    ("noexec", libc::MS_NOEXEC, 0),
    ("exec", 0, libc::MS_NOEXEC),
    ("sync", libc::MS_SYNCHRONOUS, 0),
    ("async", 0, libc::MS_SYNCHRONOUS),
    ("dirsync", libc::MS_DIRSYNC, 0),
    ("noatime", libc::MS_NOATIME, 0),
    ("atime", 0, libc::MS_NOATIME),
    ("nodiratime", libc::MS_NODIRATIME, 0),
    ("diratime", 0, libc::MS_NODIRATIME),
    ("relatime", libc::MS_RELATIME, 0),
    ("norelatime", 0, libc::MS_RELATIME),
    ("strictatime", libc::MS_STRICTATIME, 0),
    ("nostrictatime", 0, libc::MS_STRICTATIME),
    ("bind", libc::MS_BIND, 0),
    ("rbind", libc::MS_BIND | libc::MS_REC, 0),
];

/// What is mounted as a volume, as Docker's local driver does it; none for a plain directory.
fn file_system(mount: &Mount, dir: &Path) -> Option<VolumeMount> {
    let option = |key: &str| mount.driver_options.get(key).cloned().unwrap_or_default();
    if mount.driver_options.is_empty() {
        return None;
    }
    let (mut flags, mut data) = (0, Vec::new());
    let given = option("o");
    for word in given.split(',').filter(|word| !word.is_empty()) {
        match FLAGS.iter().find(|(name, _, _)| *name == word) {
            Some((_, set, clear)) => flags = (flags | set) & !clear,
            None => data.push(word),
        }
    }
    Some(VolumeMount {
        kind: option("type"),
        device: option("device"),
        target: dir.to_owned(),
        flags,
        data: data.join(","),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_volume_is_mounted_as_mount_would() {
        let mut mount = Mount::default();
        assert_eq!(file_system(&mount, Path::new("/v")), None);
        let options =
            [("type", "nfs"), ("o", "addr=10.0.0.1,ro,nolock,noatime,rw,vers=4"), ("device", ":/srv")];
        mount.driver_options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let made = file_system(&mount, Path::new("/v")).unwrap();
        assert_eq!(
            (made.kind.as_str(), made.device.as_str(), made.target.as_path()),
            ("nfs", ":/srv", Path::new("/v"))
        );
        assert_eq!((made.flags, made.data.as_str()), (libc::MS_NOATIME, "addr=10.0.0.1,nolock,vers=4"));
    }
}
