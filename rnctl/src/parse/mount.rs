//! `--mount type=bind,source=/a,target=/b,readonly`.

use proto::model::Mount;

use super::csv;

/// Parses one `--mount`.
pub fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for (key, value) in csv::pairs(text)? {
        if matches!(key.as_str(), "readonly" | "ro") {
            mount.read_only = match value.as_deref() {
                None => true,
                Some(v) => boolean(&key, v)?,
            };
            continue;
        }
        if key == "volume-nocopy" && value.is_none() {
            mount.options.insert(key, "true".into());
            continue;
        }
        let value = value.ok_or_else(|| format!("invalid field '{key}' must be a key=value pair"))?;
        match key.as_str() {
            "type" => mount.kind = value.to_lowercase(),
            "source" | "src" => mount.source = value,
            "target" | "dst" | "destination" => mount.target = value,
            "bind-propagation" | "bind-recursive" | "bind-nonrecursive" | "tmpfs-size" | "tmpfs-mode"
            | "volume-driver" | "volume-label" | "volume-nocopy" | "volume-opt" | "volume-subpath"
            | "consistency" => {
                mount.options.insert(key, value);
            }
            _ => return Err(format!("unexpected key '{key}' in '{text}'")),
        }
    }
    check(&mount)?;
    Ok(mount)
}

fn check(mount: &Mount) -> Result<(), String> {
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    if !mount.target.starts_with('/') {
        return Err(format!("invalid mount target {:?}: must be an absolute path", mount.target));
    }
    match mount.kind.as_str() {
        "bind" if mount.source.is_empty() => Err("source is required for a bind mount".into()),
        "bind" if !mount.source.starts_with('/') => {
            Err(format!("invalid bind mount source {:?}: must be an absolute path", mount.source))
        }
        "tmpfs" if !mount.source.is_empty() => Err("a tmpfs mount has no source".into()),
        "bind" | "volume" | "tmpfs" => {
            match mount.options.keys().find(|k| {
                k.split_once('-').is_some_and(|(kind, _)| kind != mount.kind) && k.as_str() != "consistency"
            }) {
                Some(key) => Err(format!("cannot mix '{key}' with mount type '{}'", mount.kind)),
                None => Ok(()),
            }
        }
        kind => Err(format!("mount type {kind:?} is not supported: use bind, volume or tmpfs")),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(format!("invalid value for {key}: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let bind = mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rshared");
        assert_eq!(
            bind,
            Ok(Mount {
                kind: "bind".into(),
                source: "/a".into(),
                target: "/b".into(),
                read_only: true,
                options: [("bind-propagation".to_owned(), "rshared".to_owned())].into(),
            })
        );
        assert!(mount("source=data,target=/d").is_ok_and(|m| m.kind == "volume"));
        assert!(mount("type=tmpfs,target=/t,tmpfs-size=1m,readonly=false").is_ok_and(|m| !m.read_only));
        for bad in [
            "type=bind,target=/b",
            "type=bind,source=a,target=/b",
            "type=tmpfs,source=/a,target=/b",
            "type=npipe,target=/b",
            "target=b",
            "type=bind,source=/a",
            "type=bind,source=/a,target=/b,tmpfs-size=1",
            "type=bind,source=/a,target=/b,colour=red",
            "type=bind,source=/a,target=/b,ro=maybe",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
