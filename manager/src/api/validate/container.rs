//! What a task runs: image, mounts, resources, health check.

use std::{collections::BTreeSet, net::IpAddr};

use proto::{
    error::ApiError,
    model::{ContainerSpec, Healthcheck, Mount, Resources},
};

/// The least memory that the Docker engine accepts: a process cannot start in less.
const MIN_MEMORY: u64 = 4 << 20;
/// 0.001 CPU, in billionths (swarmkit `validateResources`).
const MIN_NANO_CPUS: u64 = 1_000_000;
/// Sysctls outside `net.` that belong to a namespace of the container (Docker's list).
const NAMESPACED_SYSCTLS: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.domainname",
];

/// Checks a container spec of the service that `object` names.
pub fn spec(object: &str, spec: &ContainerSpec) -> Result<(), ApiError> {
    image(object, &spec.image)?;
    super::labels(&format!("{object}: container"), &spec.labels)?;
    for env in &spec.env {
        if env.split('=').next().is_none_or(str::is_empty) {
            return Err(ApiError::invalid(format!("{object}: invalid environment variable {env:?}"))
                .help("write NAME=value"));
        }
    }
    hostname(object, &spec.hostname)?;
    if !spec.dir.is_empty() && !spec.dir.starts_with('/') {
        return Err(ApiError::invalid(format!(
            "{object}: working directory {:?} is not an absolute path",
            spec.dir
        )));
    }
    mounts(object, &spec.mounts)?;
    for line in &spec.hosts {
        let mut words = line.split_whitespace();
        let addr_ok = words.next().is_some_and(|a| a.parse::<IpAddr>().is_ok());
        if !addr_ok || words.next().is_none() {
            return Err(ApiError::invalid(format!("{object}: invalid host entry {line:?}"))
                .help("give an address and a name: --host NAME:ADDRESS"));
        }
    }
    for key in spec.sysctls.keys() {
        let namespaced = key.starts_with("net.") || key.starts_with("fs.mqueue.");
        if !namespaced && !NAMESPACED_SYSCTLS.contains(&key.as_str()) {
            return Err(ApiError::invalid(format!(
                "{object}: sysctl {key:?} is not of a namespace, so it would change the whole machine"
            ))
            .help("allowed are net.*, fs.mqueue.*, and the System V IPC keys under kernel."));
        }
    }
    for limit in &spec.ulimits {
        if limit.hard >= 0 && (limit.soft > limit.hard || limit.soft < 0) {
            return Err(ApiError::invalid(format!(
                "{object}: ulimit {}: soft limit {} is above hard limit {}",
                limit.name, limit.soft, limit.hard
            )));
        }
    }
    stop_signal(object, &spec.stop_signal)?;
    if let Some(driver) = &spec.log_driver {
        driver.check().map_err(|e| ApiError { message: format!("{object}: {}", e.message), ..e })?;
    }
    spec.healthcheck.as_ref().map_or(Ok(()), |check| healthcheck(object, check))
}

fn image(object: &str, image: &str) -> Result<(), ApiError> {
    if image.is_empty() {
        return Err(ApiError::invalid(format!("{object}: image reference must be provided")));
    }
    // The grammar proper belongs to whoever resolves the reference; this catches what no registry could hold.
    let ok = image.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@[]".contains(&b))
        && !image.starts_with(['/', ':', '@', '-'])
        && !image.ends_with(['/', ':', '@']);
    if !ok {
        return Err(ApiError::invalid(format!("{object}: {image:?} is not a valid image reference"))
            .help("write [REGISTRY/]NAME[:TAG][@DIGEST]"));
    }
    Ok(())
}

fn hostname(object: &str, hostname: &str) -> Result<(), ApiError> {
    // A template is checked once a node has expanded it.
    if hostname.is_empty() || hostname.contains("{{") {
        return Ok(());
    }
    let label = |l: &str| !l.contains('_') && super::is_dns_label(l);
    if hostname.len() > 63 || !hostname.split('.').all(label) {
        return Err(ApiError::invalid(format!("{object}: invalid hostname {hostname:?}"))
            .help("use letters, digits, '-' and '.', 63 characters at most"));
    }
    Ok(())
}

fn mounts(object: &str, mounts: &[Mount]) -> Result<(), ApiError> {
    let mut targets = BTreeSet::new();
    for mount in mounts {
        let invalid =
            |why: String| ApiError::invalid(format!("{object}: mount at {:?}: {why}", mount.target));
        if !mount.target.starts_with('/') {
            return Err(invalid("the target must be an absolute path".into()).help("add target=/PATH"));
        }
        let target = mount.target.trim_end_matches('/');
        if target.is_empty() {
            return Err(invalid("the target cannot be the root directory".into()));
        }
        if !targets.insert(target) {
            return Err(ApiError::invalid(format!("{object}: duplicate mount point: {}", mount.target)));
        }
        match mount.kind.as_str() {
            "bind" if !mount.source.starts_with('/') => {
                return Err(invalid(format!(
                    "invalid bind mount source {:?}: it must be an absolute path",
                    mount.source
                ))
                .help("a volume is mounted with type=volume"));
            }
            "tmpfs" if !mount.source.is_empty() => return Err(invalid("a tmpfs has no source".into())),
            "volume" if mount.source.contains('/') => {
                return Err(invalid(format!("{:?} is not a volume name", mount.source))
                    .help("a directory of the host is mounted with type=bind"));
            }
            "bind" | "tmpfs" | "volume" => {}
            other => return Err(invalid(format!("unknown type {other:?}")).help("use bind, volume or tmpfs")),
        }
    }
    Ok(())
}

fn stop_signal(object: &str, signal: &str) -> Result<(), ApiError> {
    let number = signal.parse::<u32>().map(|n| (1..=64).contains(&n));
    let word = signal.strip_prefix("SIG").unwrap_or(signal);
    let named = !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"+-".contains(&b));
    if signal.is_empty() || number.unwrap_or(named) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("{object}: invalid stop signal {signal:?}"))
        .help("write SIGTERM, TERM or 15"))
}

fn healthcheck(object: &str, check: &Healthcheck) -> Result<(), ApiError> {
    let help = "use --health-cmd COMMAND, or --no-healthcheck";
    match check.test.split_first() {
        None => Ok(()),
        Some((kind, [])) if kind == "NONE" => Ok(()),
        Some((kind, [_, ..])) if kind == "CMD" => Ok(()),
        Some((kind, [_])) if kind == "CMD-SHELL" => Ok(()),
        Some(_) => {
            Err(ApiError::invalid(format!("{object}: invalid health check {:?}", check.test)).help(help))
        }
    }
}

/// Checks limits and reservations.
pub fn resources(object: &str, limits: &Resources, reservations: &Resources) -> Result<(), ApiError> {
    for (what, r) in [("limit", limits), ("reservation", reservations)] {
        if r.nano_cpus != 0 && r.nano_cpus < MIN_NANO_CPUS {
            return Err(ApiError::invalid(format!(
                "{object}: invalid cpu {what} of {} CPUs: must be at least 0.001",
                r.nano_cpus as f64 / 1e9
            )));
        }
        if r.memory_bytes != 0 && r.memory_bytes < MIN_MEMORY {
            return Err(ApiError::invalid(format!(
                "{object}: invalid memory {what} of {} bytes: must be at least 4 MiB",
                r.memory_bytes
            )));
        }
    }
    if reservations.pids != 0 {
        return Err(ApiError::invalid(format!("{object}: processes can be limited, not reserved")));
    }
    if limits.memory_bytes != 0 && reservations.memory_bytes > limits.memory_bytes {
        return Err(ApiError::invalid(format!(
            "{object}: memory reservation of {} bytes is above the limit of {} bytes",
            reservations.memory_bytes, limits.memory_bytes
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn with(change: impl FnOnce(&mut ContainerSpec)) -> Result<(), String> {
        let mut c = ContainerSpec { image: "nginx:1.27".into(), ..ContainerSpec::default() };
        change(&mut c);
        spec("service web", &c).map_err(|e| e.message)
    }

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
    }

    #[test]
    fn what_is_right_passes() {
        for image in ["nginx", "localhost:5000/a/b:1.0", "busybox@sha256:abcdef", "[::1]:5000/x"] {
            assert_eq!(with(|c| c.image = image.into()), Ok(()), "{image}");
        }
        assert_eq!(
            with(|c| {
                c.env = vec!["A=b".into(), "EMPTY=".into(), "FROM_HOST".into()];
                c.hostname = "{{.Node.Hostname}}-x".into();
                c.mounts = vec![
                    mount("bind", "/srv", "/data"),
                    mount("tmpfs", "", "/tmp"),
                    mount("volume", "db", "/db"),
                ];
                c.hosts = vec!["10.0.0.1 db".into()];
                c.stop_signal = "SIGRTMIN+3".into();
                c.sysctls = [("net.core.somaxconn".to_owned(), "1024".to_owned())].into();
            }),
            Ok(())
        );
    }

    #[test]
    fn each_mistake_is_named() {
        let cases: Vec<(Box<dyn FnOnce(&mut ContainerSpec)>, &str)> = vec![
            (Box::new(|c| c.image.clear()), "image reference must be provided"),
            (Box::new(|c| c.image = "a b".into()), "not a valid image reference"),
            (Box::new(|c| c.env = vec!["=x".into()]), "environment variable"),
            (Box::new(|c| c.hostname = "-x".into()), "invalid hostname"),
            (Box::new(|c| c.hostname = "a_b".into()), "invalid hostname"),
            (Box::new(|c| c.dir = "rel".into()), "absolute"),
            (Box::new(|c| c.mounts = vec![mount("bind", "rel", "/a")]), "absolute path"),
            (Box::new(|c| c.mounts = vec![mount("bind", "/a", "rel")]), "target must be an absolute path"),
            (
                Box::new(|c| c.mounts = vec![mount("tmpfs", "", "/a"), mount("tmpfs", "", "/a/")]),
                "duplicate mount point",
            ),
            (Box::new(|c| c.mounts = vec![mount("nfs", "x", "/a")]), "unknown type"),
            (Box::new(|c| c.mounts = vec![mount("tmpfs", "x", "/a")]), "no source"),
            (Box::new(|c| c.mounts = vec![mount("volume", "/x", "/a")]), "volume name"),
            (Box::new(|c| c.hosts = vec!["db 10.0.0.1".into()]), "host entry"),
            (Box::new(|c| c.stop_signal = "sig term".into()), "stop signal"),
            (Box::new(|c| c.stop_signal = "99".into()), "stop signal"),
            (Box::new(|c| drop(c.sysctls.insert("vm.swappiness".into(), "1".into()))), "whole machine"),
            (
                Box::new(|c| {
                    c.healthcheck = Some(Healthcheck { test: vec!["CMD".into()], ..Healthcheck::default() })
                }),
                "health check",
            ),
        ];
        for (change, expected) in cases {
            let message = with(change).expect_err(expected);
            assert!(message.contains(expected) && message.starts_with("service web: "), "{message}");
        }
    }

    #[test]
    fn resources_have_floors() {
        let r = |nano_cpus, memory_bytes| Resources { nano_cpus, memory_bytes, pids: 0 };
        let none = Resources::default();
        assert!(resources("s", &r(1_000_000, 4 << 20), &none).is_ok());
        assert!(resources("s", &r(999_999, 0), &none).is_err());
        assert!(resources("s", &none, &r(0, (4 << 20) - 1)).is_err());
        assert!(resources("s", &r(0, 8 << 20), &r(0, 9 << 20)).is_err());
        assert!(resources("s", &none, &Resources { pids: 1, ..none }).is_err());
    }
}
