//! Mounts written as one text: `Binds` and `Tmpfs`.

use proto::{error::ApiError, model};

/// `source:target[:options]`, or a target alone.
///
/// # Errors
/// It is not written like that, or has an option that there is not.
pub fn bind(text: &str) -> Result<model::Mount, ApiError> {
    let bad = |why: String| ApiError::invalid(format!("invalid volume specification: '{text}': {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(bad("write source:target[:options]".into())),
    };
    if !target.starts_with('/') {
        return Err(bad("mount path must be absolute".into()));
    }
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let mut mount = model::Mount {
        kind: kind.into(),
        source: source.into(),
        target: target.into(),
        ..model::Mount::default()
    };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "rw" => {}
            "ro" => mount.read_only = true,
            "nocopy" => _ = mount.options.insert("volume-nocopy".into(), "true".into()),
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                mount.options.insert("bind-propagation".into(), option.into());
            }
            "z" | "Z" => return Err(bad(format!("{option} is for SELinux, which rn does not know"))),
            _ => return Err(bad(format!("invalid mode: {option}"))),
        }
    }
    Ok(mount)
}

/// `Tmpfs`: a path, and options of mount(8).
///
/// # Errors
/// An option that rn does not have.
pub fn tmpfs(target: &str, options: &str) -> Result<model::Mount, ApiError> {
    let mut mount =
        model::Mount { kind: "tmpfs".into(), target: target.to_owned(), ..model::Mount::default() };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            None if matches!(option, "rw" | "nosuid" | "nodev" | "noexec") => {}
            None if option == "ro" => mount.read_only = true,
            Some(("size", size)) => {
                let bytes = proto::parse::size::bytes(size)
                    .map_err(|e| ApiError::invalid(format!("HostConfig.Tmpfs {target}: size: {e}")))?;
                mount.options.insert("tmpfs-size".into(), bytes.to_string());
            }
            Some(("mode", mode)) => _ = mount.options.insert("tmpfs-mode".into(), mode.to_owned()),
            _ => {
                return Err(ApiError::unsupported(format!(
                    "HostConfig.Tmpfs {target}: option {option:?} is not supported by rn; size=, mode= and ro are"
                )));
            }
        }
    }
    Ok(mount)
}
