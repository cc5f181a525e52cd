//! Mounts.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use crate::{error::ApiError, model::Mount, parse::size};

/// The driver of volumes that each node has.
pub const LOCAL_DRIVER: &str = "local";

/// How far a bind mount takes along what is mounted below its source (`bind-recursive`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recursion {
    /// All of it; read-only if the mount is.
    #[default]
    Enabled,
    /// None of it.
    Disabled,
    /// All of it, and what is below stays writable in a read-only mount.
    Writable,
    /// All of it, read-only.
    ReadOnly,
}

/// Whether later mounts of the machine below the source are seen in the container (`bind-propagation`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Not said: private.
    #[default]
    Unset,
    /// They are not.
    Private,
    /// They are.
    Slave,
}

/// Checks the mounts of one container.
///
/// # Errors
/// One that cannot be, or two at one place.
pub fn all(object: &str, mounts: &[Mount]) -> Result<(), ApiError> {
    let mut targets = BTreeSet::new();
    let mut propagations = BTreeSet::new();
    for mount in mounts {
        one(mount).map_err(|mut e| {
            e.message = format!("{object}: mount at {:?}: {}", mount.target, e.message);
            e
        })?;
        if !targets.insert(clean(&mount.target)) {
            return Err(ApiError::invalid(format!("{object}: duplicate mount point: {}", mount.target)));
        }
        propagations.insert(match propagation(mount)? {
            Propagation::Unset => None,
            other => Some(other == Propagation::Slave),
        });
    }
    if propagations.contains(&Some(true)) && propagations.contains(&Some(false)) {
        return Err(ApiError::unsupported(format!(
            "{object}: bind-propagation: a container's mounts are all private or all slaves of the machine's"
        ))
        .help("give all bind mounts the same propagation, or none"));
    }
    Ok(())
}

/// Checks one mount by itself.
///
/// # Errors
/// A source, target or option that there is not, or that does not go together.
pub fn one(mount: &Mount) -> Result<(), ApiError> {
    let invalid = |message: String| ApiError::invalid(message);
    if mount.target.is_empty() {
        return Err(invalid("target is required".into()).help("add target=/PATH"));
    }
    let target = clean(&mount.target);
    if !target.is_absolute() {
        return Err(invalid("the target must be an absolute path".into()).help("add target=/PATH"));
    }
    if target == Path::new("/") {
        return Err(invalid("the target cannot be the root directory".into()));
    }
    if target.components().any(|part| part == Component::ParentDir) {
        return Err(invalid("the target must not lead upwards with \"..\"".into()));
    }
    let source = mount.source.as_str();
    match mount.kind.as_str() {
        "bind" if source.is_empty() => Err(invalid("source is required for a bind mount".into())),
        "bind" if !source.starts_with('/') => {
            Err(invalid(format!("invalid bind mount source {source:?}: it must be an absolute path"))
                .help("a volume is mounted with type=volume"))
        }
        "tmpfs" if !source.is_empty() => Err(invalid("a tmpfs has no source".into())),
        "volume" if !source.is_empty() && !is_volume_name(source) => {
            Err(invalid(format!("{source:?} is not a volume name ([a-zA-Z0-9][a-zA-Z0-9_.-]*)"))
                .help("a directory of the host is mounted with type=bind"))
        }
        "bind" | "tmpfs" | "volume" => Ok(()),
        "npipe" | "cluster" | "image" => {
            Err(ApiError::unsupported(format!("mount type {:?} is not supported", mount.kind))
                .help("use bind, volume or tmpfs"))
        }
        kind => Err(invalid(format!("unknown type {kind:?}")).help("use bind, volume or tmpfs")),
    }?;
    if mount.kind != "volume"
        && !(mount.driver.is_empty() && mount.driver_options.is_empty() && mount.labels.is_empty())
    {
        return Err(invalid(format!("cannot mix 'volume-*' options with mount type '{}'", mount.kind)));
    }
    for (key, value) in &mount.options {
        option(mount, key, value)?;
    }
    volume(mount)
}

fn option(mount: &Mount, key: &str, value: &str) -> Result<(), ApiError> {
    let kind = mount.kind.as_str();
    if key == "consistency" {
        // For Docker Desktop; there is nothing to choose between on Linux.
        return match value {
            "default" | "consistent" | "cached" | "delegated" => Ok(()),
            _ => Err(ApiError::invalid(format!("invalid consistency {value:?}"))
                .help("leave it out: it has no meaning on Linux")),
        };
    }
    if key == "volume-subpath" {
        return Err(ApiError::unsupported("volume-subpath is not supported")
            .help("mount the whole volume, and let the program look further below"));
    }
    match key.split_once('-') {
        Some((prefix, _)) if ["bind", "volume", "tmpfs"].contains(&prefix) && prefix != kind => {
            return Err(ApiError::invalid(format!("cannot mix '{key}' with mount type '{kind}'")));
        }
        _ => {}
    }
    match key {
        "bind-propagation" => propagation(mount).map(drop),
        "bind-recursive" | "bind-nonrecursive" => recursion(mount).map(drop),
        "volume-nocopy" => boolean(key, value).map(drop),
        "tmpfs-size" => tmpfs_size(mount).map(drop),
        "tmpfs-mode" => tmpfs_mode(mount).map(drop),
        _ => Err(ApiError::unsupported(format!("mount option '{key}' is not supported"))
            .help("leave it out; what differs from Docker is listed in docs/differences.md")),
    }
}

/// The driver of a volume, and what it is told (moby `volume/local`).
fn volume(mount: &Mount) -> Result<(), ApiError> {
    if !["", LOCAL_DRIVER].contains(&mount.driver.as_str()) {
        return Err(ApiError::unsupported(format!("volume driver {:?} is not supported", mount.driver)).help(
            "the local driver mounts what Linux can: volume-opt=type=nfs,\"volume-opt=o=addr=SERVER,rw\",volume-opt=device=:/PATH",
        ));
    }
    if mount.labels.keys().any(|key| key.trim().is_empty()) {
        return Err(ApiError::invalid("volume-label without a name").help("write volume-label=KEY=VALUE"));
    }
    let options = &mount.driver_options;
    if options.is_empty() {
        return Ok(());
    }
    if let Some(key) = options.keys().find(|key| !["type", "o", "device"].contains(&key.as_str())) {
        return Err(ApiError::unsupported(format!("volume-opt {key:?} is not supported"))
            .help("the local driver knows type, o and device, as mount(8) does"));
    }
    for key in ["type", "device"] {
        if options.get(key).is_none_or(String::is_empty) {
            return Err(ApiError::invalid(format!("missing required option: volume-opt={key}=…"))
                .help("the local driver needs both type and device, as mount(8) does"));
        }
    }
    Ok(())
}

/// What a bind mount takes along.
///
/// # Errors
/// A word that says nothing of it, or one that contradicts the mount's other options.
pub fn recursion(mount: &Mount) -> Result<Recursion, ApiError> {
    if let Some(value) = mount.options.get("bind-nonrecursive")
        && boolean("bind-nonrecursive", value)?
    {
        return Ok(Recursion::Disabled);
    }
    match mount.options.get("bind-recursive").map(String::as_str) {
        None | Some("enabled") => Ok(Recursion::Enabled),
        Some("disabled") => Ok(Recursion::Disabled),
        Some("writable") if mount.read_only => Ok(Recursion::Writable),
        Some("readonly") if mount.read_only && propagation(mount)? != Propagation::Slave => {
            Ok(Recursion::ReadOnly)
        }
        Some("writable") => {
            Err(ApiError::invalid("option 'bind-recursive=writable' requires 'readonly' to be specified too"))
        }
        Some("readonly") => Err(ApiError::invalid(
            "option 'bind-recursive=readonly' requires 'readonly' to be specified too, and a private propagation",
        )),
        Some(value) => Err(ApiError::invalid(format!(
            "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
        ))),
    }
}

/// What is seen of the machine's later mounts.
///
/// # Errors
/// A word that says nothing of it, or one that cannot be done.
pub fn propagation(mount: &Mount) -> Result<Propagation, ApiError> {
    match mount.options.get("bind-propagation").map(String::as_str) {
        None => Ok(Propagation::Unset),
        Some("private" | "rprivate") => Ok(Propagation::Private),
        Some("slave" | "rslave") => Ok(Propagation::Slave),
        Some(value @ ("shared" | "rshared")) => {
            Err(ApiError::unsupported(format!("bind-propagation={value} is not supported"))
                .help("mounts made in a container stay in it; rslave shows the machine's in the container"))
        }
        Some(value) => Err(ApiError::invalid(format!("invalid value for bind-propagation: {value:?}"))
            .help("use rprivate or rslave")),
    }
}

/// The size of a tmpfs, in bytes; none is half of the machine's memory.
///
/// # Errors
/// It is no size.
pub fn tmpfs_size(mount: &Mount) -> Result<Option<u64>, ApiError> {
    let parse = |text: &String| size::bytes(text).map_err(|e| ApiError::invalid(format!("tmpfs-size: {e}")));
    mount.options.get("tmpfs-size").map(parse).transpose()
}

/// The mode of a tmpfs' root directory; none is 1777.
///
/// # Errors
/// It is no mode.
pub fn tmpfs_mode(mount: &Mount) -> Result<Option<u32>, ApiError> {
    let parse = |text: &String| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let mode = digits.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| {
            ApiError::invalid(format!("invalid tmpfs-mode {text:?}"))
                .help("write it in octal, for instance 1777")
        })
    };
    mount.options.get("tmpfs-mode").map(parse).transpose()
}

/// Whether a new volume is to stay empty rather than take what the image has at its place.
pub fn is_nocopy(mount: &Mount) -> bool {
    mount.options.get("volume-nocopy").is_some_and(|value| boolean("volume-nocopy", value) == Ok(true))
}

/// Whether a name can be a volume's.
pub fn is_volume_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A yes or no, as Go's `strconv.ParseBool` reads it.
///
/// # Errors
/// It is neither.
pub fn boolean(key: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ApiError::invalid(format!("invalid value for {key}: {value}")).help("write true or false")),
    }
}

/// A path without `.`, doubled or trailing slashes.
pub fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}
