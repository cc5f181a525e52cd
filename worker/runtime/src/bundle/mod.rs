//! From what was asked for to what is run: OCI runtime configuration and the files beside it. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use proto::{parse::signal, rules};
use serde_json::{Value, json};
use shim_wire::{CopyUp, Directory, VolumeMount};

use super::{ContainerConfig, Result, RuntimeError, image::ImageConfig, users::User};

mod capabilities;
mod files;
mod mounts;
mod seccomp;

/// The program search path of a container that says nothing about it (Docker's).
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where an init that reaps orphans is found inside.
const INIT_INSIDE: &str = "/sbin/docker-init";

/// Everything that decides what a container is.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What was asked for.
    pub config: &'a ContainerConfig,
    /// What its image says.
    pub image: &'a ImageConfig,
    /// Who it runs as.
    pub user: &'a User,
    /// Its directory.
    pub dir: &'a Path,
    /// Its run directory.
    pub run_dir: &'a Path,
    /// The directory of all volumes.
    pub volumes: &'a Path,
    /// Its cgroup.
    pub cgroup: &'a str,
    /// The machine has cgroup v2 only.
    pub unified_cgroups: bool,
    /// A static init program on this machine, if there is one.
    pub init: Option<&'a Path>,
    /// The machine, as a container in its network sees it.
    pub machine: &'a Machine,
}

/// What a container in the machine's own network takes from it, as Docker's do.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its name.
    pub hostname: String,
    /// Its `/etc/hosts`.
    pub hosts: String,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// What a container is.
#[derive(Debug)]
pub struct Bundle {
    /// OCI runtime configuration.
    pub config: Value,
    /// Program and arguments as the user knows them (without an init).
    pub command: Vec<String>,
    /// Its host name.
    pub hostname: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What asks it to stop.
    pub stop_signal: i32,
    /// Files to write into its directory: name and text.
    pub files: Vec<(&'static str, String)>,
    /// Directories to make in its root file system.
    pub directories: Vec<Directory>,
    /// Bind sources that must be there.
    pub binds: Vec<PathBuf>,
    /// Volumes to make on the host, with what they are filled from.
    pub volumes: Vec<CopyUp>,
    /// File systems that are mounted as some of them.
    pub volume_mounts: Vec<VolumeMount>,
    /// Whether what the machine mounts later is seen in bind mounts.
    pub sees_later_mounts: bool,
}

/// Composes a container.
pub fn compose(inputs: &Inputs<'_>) -> Result<Bundle> {
    let Inputs { config, image, user, .. } = inputs;
    let spec = &config.spec;
    // The managers have checked it too, but perhaps by older rules than this node's.
    rules::container(&format!("container {}", config.name), spec, config.netns.is_none())
        .map_err(|e| RuntimeError::Invalid(e.message))?;
    let hostname = match (spec.hostname.as_str(), &config.netns) {
        ("", Some(_)) => config.id.short().to_owned(),
        ("", None) => inputs.machine.hostname.clone(),
        (name, _) => name.to_owned(),
    };
    let command = command(inputs)?;
    let cwd = working_dir(inputs)?;
    let caps = capabilities::effective(&spec.cap_add, &spec.cap_drop)?;
    let mounts = mounts::mounts(inputs)?;

    let mut args = command.clone();
    if spec.init == Some(true) {
        args.splice(0..0, [INIT_INSIDE.to_owned(), "--".to_owned()]);
    }
    // A user other than root gets capabilities only through what it executes, from the bounding set.
    let held: &[&str] = if user.uid == 0 { &caps } else { &[] };
    let process = json!({
        "terminal": spec.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": args,
        "env": environment(inputs, &hostname),
        "cwd": cwd,
        "capabilities": { "bounding": caps, "permitted": held, "effective": held },
        "rlimits": rlimits(inputs),
        "oomScoreAdj": 0,
    });
    let document = json!({
        "ociVersion": "1.2.0",
        "hostname": hostname,
        "process": process,
        "root": { "path": inputs.dir.join("rootfs"), "readonly": spec.read_only },
        "mounts": mounts.oci,
        "linux": {
            "cgroupsPath": inputs.cgroup,
            "namespaces": namespaces(inputs),
            "resources": resources(inputs),
            "sysctl": sysctls(inputs),
            "seccomp": seccomp::profile(&caps),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    });
    let (hosts, resolv_conf) = match config.netns {
        Some(_) => (
            files::hosts(&hostname, &config.addrs, &spec.hosts),
            files::resolv_conf(&spec.dns, &config.search),
        ),
        None => (
            files::machine_hosts(&inputs.machine.hosts, &spec.hosts),
            files::machine_resolv_conf(&inputs.machine.resolv_conf, &spec.dns),
        ),
    };
    let files = vec![("hostname", format!("{hostname}\n")), ("hosts", hosts), ("resolv.conf", resolv_conf)];
    let directories = vec![Directory { path: PathBuf::from(cwd), uid: user.uid, gid: user.gid }];
    Ok(Bundle {
        config: document,
        command,
        hostname,
        labels: labels(config, image),
        stop_signal: stop_signal(&spec.stop_signal, &image.stop_signal)?,
        files,
        directories,
        binds: mounts.binds,
        volumes: mounts.volumes,
        volume_mounts: mounts.file_systems,
        sees_later_mounts: mounts.sees_later_mounts,
    })
}

// Docker's: what of /proc and /sys is not namespaced and none of a container's business.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Entrypoint and command: the spec's `command` replaces the image's entrypoint and with it the image's command; one that is an
/// empty word leaves only the spec's arguments.
fn command(inputs: &Inputs<'_>) -> Result<Vec<String>> {
    let (spec, image) = (&inputs.config.spec, inputs.image);
    let (mut command, default_args): (_, &[String]) = match spec.command.as_slice() {
        [] => (image.entrypoint.clone(), &image.cmd),
        given if rules::is_without_entrypoint(given) => (Vec::new(), &[]),
        given => (given.to_vec(), &[]),
    };
    command.extend_from_slice(if spec.args.is_empty() { default_args } else { &spec.args });
    match command.first() {
        None => Err(RuntimeError::Invalid("no command specified".to_owned())),
        Some(_) => Ok(command),
    }
}

fn working_dir<'a>(inputs: &Inputs<'a>) -> Result<&'a str> {
    let dir = [inputs.config.spec.dir.as_str(), inputs.image.working_dir.as_str(), "/"]
        .into_iter()
        .find(|dir| !dir.is_empty());
    match dir {
        Some(dir) if dir.starts_with('/') => Ok(dir),
        other => Err(RuntimeError::Invalid(format!(
            "the working directory {:?} is invalid, it needs to be an absolute path",
            other.unwrap_or_default()
        ))),
    }
}

fn environment(inputs: &Inputs<'_>, hostname: &str) -> Vec<String> {
    let spec = &inputs.config.spec;
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if spec.tty {
        env.push("TERM=xterm".to_owned());
    }
    merge_environment(&mut env, &inputs.image.env);
    merge_environment(&mut env, &spec.env);
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", inputs.user.home));
    }
    env
}

/// Sets, replaces, or (a bare name) removes variables.
pub fn merge_environment(env: &mut Vec<String>, changes: &[String]) {
    for change in changes {
        let name = change.split_once('=').map_or(change.as_str(), |(name, _)| name);
        let same = |entry: &&mut String| entry.split_once('=').is_some_and(|(other, _)| other == name);
        match (env.iter_mut().find(same), change.contains('=')) {
            (Some(entry), true) => entry.clone_from(change),
            (None, true) => env.push(change.clone()),
            (_, false) => env.retain(|entry| entry.split_once('=').is_none_or(|(other, _)| other != name)),
        }
    }
}

fn rlimits(inputs: &Inputs<'_>) -> Vec<Value> {
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let one = |ulimit: &proto::model::Ulimit| {
        let name = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase());
        json!({ "type": name, "soft": limit(ulimit.soft), "hard": limit(ulimit.hard) })
    };
    inputs.config.spec.ulimits.iter().map(one).collect()
}

fn namespaces(inputs: &Inputs<'_>) -> Vec<Value> {
    let mut list: Vec<Value> =
        ["pid", "mount", "uts", "ipc"].into_iter().map(|kind| json!({ "type": kind })).collect();
    if let Some(netns) = &inputs.config.netns {
        list.push(json!({ "type": "network", "path": netns }));
    }
    // As Docker: a view of its own on v2, the machine's on v1.
    if inputs.unified_cgroups {
        list.push(json!({ "type": "cgroup" }));
    }
    list
}

fn resources(inputs: &Inputs<'_>) -> Value {
    let limits = &inputs.config.limits;
    let mut resources = json!({ "devices": devices() });
    let mut set = |key: &str, value: Value| {
        if let Some(map) = resources.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    if limits.memory_bytes > 0 {
        set("memory", json!({ "limit": limits.memory_bytes }));
    }
    if limits.nano_cpus > 0 {
        // Microseconds of CPU per period of 100 ms.
        let quota = (limits.nano_cpus / 10_000).max(1_000);
        set("cpu", json!({ "quota": quota, "period": 100_000 }));
    }
    if limits.pids > 0 {
        set("pids", json!({ "limit": limits.pids }));
    }
    resources
}

/// Docker's device rules; the shim has the same for cgroup v2.
fn devices() -> Vec<Value> {
    let allow = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut rule = json!({ "allow": true, "type": kind, "access": access });
        for (key, number) in [("major", major), ("minor", minor)] {
            if let (Some(map), Some(number)) = (rule.as_object_mut(), number) {
                map.insert(key.to_owned(), number.into());
            }
        }
        rule
    };
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.push(allow("c", None, None, "m"));
    rules.push(allow("b", None, None, "m"));
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(allow("c", Some(major), Some(minor), "rwm"));
    }
    rules.push(allow("c", Some(136), None, "rwm"));
    rules
}

fn sysctls(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    // With a network namespace of its own, a container may listen on low ports and ping whoever it runs as (Docker's).
    let mut all = BTreeMap::new();
    if inputs.config.netns.is_some() {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    all.extend(inputs.config.spec.sysctls.clone());
    all
}

fn labels(config: &ContainerConfig, image: &ImageConfig) -> BTreeMap<String, String> {
    let mut labels = image.labels.clone();
    labels.extend(config.spec.labels.clone());
    if let Some(task) = &config.task {
        for (key, value) in [
            ("com.docker.swarm.task", String::new()),
            ("com.docker.swarm.task.id", task.task.to_string()),
            ("com.docker.swarm.task.name", config.name.clone()),
            ("com.docker.swarm.service.id", task.service.to_string()),
            ("com.docker.swarm.service.name", task.service_name.clone()),
            ("com.docker.swarm.node.id", task.node.to_string()),
        ] {
            labels.insert(key.to_owned(), value);
        }
    }
    labels
}

fn stop_signal(spec: &str, image: &str) -> Result<i32> {
    match [spec, image].into_iter().find(|name| !name.is_empty()) {
        None => Ok(libc::SIGTERM),
        Some(name) => {
            signal::number(name).ok_or_else(|| RuntimeError::Invalid(format!("invalid stop signal: {name}")))
        }
    }
}

#[cfg(test)]
mod tests;
