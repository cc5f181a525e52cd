//! Values of flags that only containers on their machine have.

use docker_api::{
    bind,
    container_config::{Device, DeviceRequest, RestartPolicy},
};

use super::{csv, refusal};

/// `source:target[:ro]`, or a target alone for a volume without a name; as it was written.
pub fn volume(text: &str) -> Result<String, String> {
    bind::bind(text).map_err(refusal)?;
    Ok(text.to_owned())
}

/// `path[:options]` of a file system in memory.
pub fn tmpfs(text: &str) -> Result<(String, String), String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(format!("invalid tmpfs {text:?}: {target:?} is not an absolute path"));
    }
    Ok((target.to_owned(), options.to_owned()))
}

/// `no`, `always`, `unless-stopped`, `on-failure[:times]`; that there is such a policy the daemon says.
pub fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, times) = text.split_once(':').unwrap_or((text, ""));
    let bad = || format!("invalid restart policy {text:?}: maximum retry count must be an integer");
    let times = if times.is_empty() { 0 } else { times.parse().map_err(|_| bad())? };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count: times })
}

/// `/dev/a[:/dev/b][:rwm]`.
pub fn device(text: &str) -> Result<Device, String> {
    let is_mode = |word: &str| !word.is_empty() && word.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] => (*host, *container, *mode),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(format!("invalid device specification: {text}: a path is absolute"));
    }
    if !is_mode(mode) {
        return Err(format!("invalid mode for device: {mode}: some of r, w and m"));
    }
    Ok(Device {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `all`, a number, or `count=2,driver=nvidia,capabilities=utility`, `device=0`.
pub fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        _ => text.parse::<i64>().map_err(|_| format!("count must be an integer or \"all\": {text:?}")),
    };
    let mut request = DeviceRequest { count: 1, ..DeviceRequest::default() };
    let mut capabilities = vec!["gpu".to_owned()];
    for (key, value) in csv::pairs(text)? {
        match (key.as_str(), value) {
            (number, None) => request.count = count(number)?,
            ("count", Some(value)) => request.count = count(&value)?,
            ("driver", Some(value)) => request.driver = value,
            ("device", Some(value)) => {
                request.device_ids = value.split(',').map(str::to_owned).collect();
                request.count = 0;
            }
            ("capabilities", Some(value)) => capabilities.extend(value.split(',').map(str::to_owned)),
            ("options", Some(value)) => {
                for option in value.split(',') {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    request.options.insert(key.to_owned(), value.to_owned());
                }
            }
            (key, Some(_)) => return Err(format!("unexpected key '{key}' in '{text}'")),
        }
    }
    request.capabilities = vec![capabilities];
    Ok(request)
}

/// Whose namespace: one of `words`, or `container:NAME` where that is among them.
fn namespace(kind: &str, text: &str, words: &[&str]) -> Result<String, String> {
    let of_container = text.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if words.contains(&text) || (of_container && words.contains(&"container:NAME")) {
        return Ok(text.to_owned());
    }
    Err(format!("invalid {kind} mode {text:?}: it may be {}", words.join(", ")))
}

/// `--pid`.
pub fn pid_mode(text: &str) -> Result<String, String> {
    namespace("PID", text, &["host", "container:NAME"])
}

/// `--ipc`.
pub fn ipc_mode(text: &str) -> Result<String, String> {
    namespace("IPC", text, &["private", "none", "shareable", "host", "container:NAME"])
}

/// `--uts`.
pub fn uts_mode(text: &str) -> Result<String, String> {
    namespace("UTS", text, &["host"])
}

/// `--userns`.
pub fn userns_mode(text: &str) -> Result<String, String> {
    namespace("USER", text, &["host"])
}

/// `--cgroupns`.
pub fn cgroupns_mode(text: &str) -> Result<String, String> {
    namespace("CGROUP", text, &["private", "host"])
}

/// Bytes, or -1 for no limit.
pub fn memory_swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = proto::parse::size::bytes(text)?;
    i64::try_from(bytes).map_err(|_| format!("invalid size {text:?}: too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let found = |text: &str| {
            device(text).map(|d| (d.path_on_host, d.path_in_container, d.cgroup_permissions)).ok()
        };
        let is = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(found("/dev/a"), is("/dev/a", "/dev/a", "rwm"));
        assert_eq!(found("/dev/a:r"), is("/dev/a", "/dev/a", "r"));
        assert_eq!(found("/dev/a:/dev/b"), is("/dev/a", "/dev/b", "rwm"));
        assert_eq!(found("/dev/a:/dev/b:rw"), is("/dev/a", "/dev/b", "rw"));
        for bad in ["", "dev", "/dev/a:/dev/b:x", "/dev/a:b", "a:b:c:d"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_for_gpus() {
        assert_eq!(gpus("all").map(|r| r.count), Ok(-1));
        assert_eq!(gpus("2").map(|r| r.count), Ok(2));
        let own = gpus("\"device=0,2\",driver=nvidia,capabilities=utility").unwrap_or_default();
        assert_eq!((own.count, own.driver.as_str(), own.device_ids.len()), (0, "nvidia", 2));
        assert_eq!(own.capabilities, [["gpu", "utility"]]);
        assert!(gpus("some").is_err() && gpus("colour=red").is_err());
    }

    #[test]
    fn policies_and_modes() {
        assert_eq!(restart("on-failure:3").map(|p| p.maximum_retry_count), Ok(3));
        assert_eq!(restart("always").map(|p| p.name), Ok("always".into()));
        assert!(restart("on-failure:some").is_err());
        assert!(pid_mode("container:a").is_ok() && pid_mode("container:").is_err());
        assert!(uts_mode("container:a").is_err() && ipc_mode("shareable").is_ok());
        assert_eq!((memory_swap("-1"), memory_swap("1k")), (Ok(-1), Ok(1024)));
        assert_eq!(tmpfs("/a:size=1m"), Ok(("/a".into(), "size=1m".into())));
        assert!(tmpfs("a").is_err() && volume("a:b").is_err() && volume("/a:/b:ro").is_ok());
    }
}
