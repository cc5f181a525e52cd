//! What a container sees where. Pure.

use std::path::{Path, PathBuf};

use proto::model::{ContainerId, Mount};
use serde_json::{Value, json};
use shim_wire::CopyUp;

use super::{INIT_INSIDE, Inputs};
use crate::runtime::{Result, RuntimeError};

/// The mounts of a container.
#[derive(Debug, Default)]
pub struct Mounts {
    /// For the OCI configuration, in the order of mounting.
    pub oci: Vec<Value>,
    /// Bind sources that must be there.
    pub binds: Vec<PathBuf>,
    /// Volumes to make, with what they are filled from.
    pub volumes: Vec<CopyUp>,
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
        mounts.oci.push(bind(&inputs.dir.join(name), &format!("/etc/{name}"), &["rbind", "rprivate", "rw"]));
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

/// A path without `.`, doubled or trailing slashes.
fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

fn add(inputs: &Inputs<'_>, n: usize, mount: &Mount, out: &mut Mounts) -> Result<()> {
    let invalid = |why: String| RuntimeError::Invalid(format!("invalid mount at {:?}: {why}", mount.target));
    let target = clean(&mount.target);
    let steps_back = target.components().any(|part| part == std::path::Component::ParentDir);
    if !target.is_absolute() || target == Path::new("/") || steps_back {
        return Err(invalid("the target must be an absolute path other than /".to_owned()));
    }
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    match mount.kind.as_str() {
        "bind" => {
            if !Path::new(&mount.source).is_absolute() {
                return Err(invalid(format!("the source {:?} must be an absolute path", mount.source)));
            }
            let propagation = mount.options.get("bind-propagation").map_or("rprivate", String::as_str);
            if !["rprivate", "private", "rslave", "slave", "rshared", "shared"].contains(&propagation) {
                return Err(invalid(format!("unknown propagation {propagation:?}")));
            }
            let recursive = mount.options.get("bind-nonrecursive").is_none_or(|value| value != "true");
            options.extend([if recursive { "rbind" } else { "bind" }, propagation]);
            out.binds.push(PathBuf::from(&mount.source));
            out.oci.push(bind(Path::new(&mount.source), &mount.target, &options));
        }
        "" | "volume" => {
            let name = match mount.source.as_str() {
                "" => anonymous_volume(&inputs.config.id, n),
                name => name.to_owned(),
            };
            let edge = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
            if !edge || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
                return Err(invalid(format!("{name:?} is not a volume name ([a-zA-Z0-9][a-zA-Z0-9_.-]*)")));
            }
            let dir = volume_dir(inputs.volumes, &name);
            options.extend(["rbind", "rprivate"]);
            out.oci.push(bind(&dir, &mount.target, &options));
            let nocopy = mount.options.get("volume-nocopy").is_some_and(|value| value != "false");
            let from = if nocopy { PathBuf::new() } else { target };
            out.volumes.push(CopyUp { from, to: dir });
        }
        "tmpfs" => {
            let size = mount.options.get("tmpfs-size").map(|size| format!("size={size}"));
            let mode =
                mount.options.get("tmpfs-mode").map_or("mode=1777".to_owned(), |mode| format!("mode={mode}"));
            options.extend(["nosuid", "nodev", "noexec"]);
            let options: Vec<String> =
                options.into_iter().map(str::to_owned).chain(size).chain([mode]).collect();
            out.oci.push(json!({ "type": "tmpfs", "source": "tmpfs", "destination": mount.target, "options": options }));
        }
        other => return Err(invalid(format!("unknown type {other:?} (bind, volume or tmpfs)"))),
    }
    Ok(())
}
