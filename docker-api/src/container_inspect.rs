//! `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use proto::{
    model::{self, JSON_FILE, Timestamp},
    pb::{Container, ContainerDefinition, ContainerDetail, HealthReport, PortConfig, health_report},
};
use serde_json::{Map, Value, json};

use crate::{
    container::{is_published, network_mode, networks, protocol},
    container_spec::HealthConfig,
    mount::Mount,
    time::{rfc3339, rfc3339_nanos},
};

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inspected {
    /// What the engine says.
    pub detail: ContainerDetail,
    /// What its user wanted; none for a task's.
    pub definition: Option<ContainerDefinition>,
    /// Its image, `sha256:…`.
    pub image_id: String,
    /// The part `config` of its image's configuration.
    pub image_config: Value,
    /// Bytes that it has written, and all that it sees; where that was asked for.
    pub size: Option<(u64, u64)>,
}

/// The whole.
pub fn inspect(inspected: &Inspected) -> Value {
    let Inspected { detail, definition, image_id, image_config, size } = inspected;
    let container = detail.container.clone().unwrap_or_default();
    let oci: Value = serde_json::from_str(&detail.oci_config_json).unwrap_or_default();
    let spec =
        definition.as_ref().and_then(|d| d.spec.clone()).and_then(|s| model::ContainerSpec::try_from(s).ok());
    let exposed = definition.as_ref().map(|d| d.exposed.as_slice()).unwrap_or_default();
    let words = command(&oci, spec.as_ref(), image_config);
    let (path, args) = words.split_first().map_or((String::new(), &[][..]), |(p, a)| (p.clone(), a));
    let mut whole = json!({
        "Id": container.id,
        "Created": rfc3339(Timestamp(container.created_at)),
        "Path": path,
        "Args": args,
        "State": state(detail, &container),
        "Image": image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": detail.log_path,
        "Name": format!("/{}", container.name),
        "RestartCount": detail.restarts,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(detail, &container, definition.as_ref(), spec.as_ref()),
        "GraphDriver": {"Name": "overlayfs", "Data": {"UpperDir": detail.rootfs_path}},
        "Mounts": mounts(&detail.oci_config_json),
        "Config": config(&container, detail, &oci, spec.as_ref(), image_config, exposed),
        "NetworkSettings": network_settings(&container, &detail.netns_path),
    });
    if let (Some((written, all)), Some(fields)) = (size, whole.as_object_mut()) {
        fields.insert("SizeRw".into(), (*written).into());
        fields.insert("SizeRootFs".into(), (*all).into());
    }
    whole
}

fn state(detail: &ContainerDetail, container: &Container) -> Value {
    let mut state = json!({
        "Status": container.state,
        // As Docker's: one that is about to start again counts as running.
        "Running": matches!(container.state.as_str(), "running" | "paused" | "restarting"),
        "Paused": container.state == "paused",
        "Restarting": container.state == "restarting",
        "OOMKilled": detail.oom_killed,
        "Dead": false,
        "Pid": container.pid,
        "ExitCode": container.exit_code,
        "Error": detail.error,
        "StartedAt": rfc3339(Timestamp(container.started_at)),
        "FinishedAt": rfc3339(Timestamp(container.finished_at)),
    });
    if let (Some(report), Some(fields)) = (&detail.health, state.as_object_mut()) {
        fields.insert("Health".into(), health(report));
    }
    state
}

fn health(health: &HealthReport) -> Value {
    let check = |c: &health_report::Check| {
        json!({
            "Start": rfc3339_nanos(c.start_nanos),
            "End": rfc3339_nanos(c.end_nanos),
            "ExitCode": c.exit_code,
            "Output": c.output,
        })
    };
    json!({
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(check).collect::<Vec<_>>(),
    })
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Program and arguments: what runs, or what would.
fn command(oci: &Value, spec: Option<&model::ContainerSpec>, image: &Value) -> Vec<String> {
    let made = texts(&oci["process"]["args"]);
    let Some(spec) = spec.filter(|_| made.is_empty()) else { return made };
    let (entrypoint, cmd) = words(spec, image);
    entrypoint.into_iter().chain(cmd).filter(|w| !w.is_empty()).collect()
}

/// The entry point and the command that count: an entry point of one's own leaves out the image's command.
fn words(spec: &model::ContainerSpec, image: &Value) -> (Vec<String>, Vec<String>) {
    match (spec.command.is_empty(), spec.args.is_empty()) {
        (true, true) => (texts(&image["Entrypoint"]), texts(&image["Cmd"])),
        (true, false) => (texts(&image["Entrypoint"]), spec.args.clone()),
        (false, _) => (spec.command.clone(), spec.args.clone()),
    }
}

/// The image's variables with the container's own over them.
fn environment(spec: &model::ContainerSpec, image: &Value) -> Vec<String> {
    let mut env = texts(&image["Env"]);
    for entry in &spec.env {
        let name = entry.split('=').next().unwrap_or_default();
        env.retain(|e| e.split('=').next() != Some(name));
        if entry.contains('=') {
            env.push(entry.clone());
        }
    }
    env
}

fn null_or_list(list: Vec<String>) -> Value {
    if list.is_empty() { Value::Null } else { list.into() }
}

fn config(
    container: &Container,
    detail: &ContainerDetail,
    oci: &Value,
    spec: Option<&model::ContainerSpec>,
    image: &Value,
    exposed: &[PortConfig],
) -> Value {
    let own = spec.cloned().unwrap_or_default();
    let (entrypoint, cmd) = match spec {
        Some(spec) => words(spec, image),
        None => (Vec::new(), texts(&oci["process"]["args"])),
    };
    let env = if spec.is_some() { environment(&own, image) } else { texts(&oci["process"]["env"]) };
    let or_image = |own: &str, key: &str| {
        if own.is_empty() { image[key].as_str().unwrap_or_default().to_owned() } else { own.to_owned() }
    };
    let attached = own.stdin_once;
    let hostname = if detail.hostname.is_empty() {
        container.id.get(..12).unwrap_or_default()
    } else {
        &detail.hostname
    };
    let mut config = json!({
        "Hostname": hostname,
        "Domainname": "",
        "User": or_image(&own.user, "User"),
        "AttachStdin": attached,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": detail.tty,
        "OpenStdin": detail.open_stdin,
        "StdinOnce": attached,
        "Env": env,
        "Cmd": null_or_list(cmd),
        "Image": container.image,
        "Volumes": null,
        "WorkingDir": or_image(&own.dir, "WorkingDir"),
        "Entrypoint": null_or_list(entrypoint),
        "OnBuild": null,
        "Labels": container.labels,
    });
    let Some(fields) = config.as_object_mut() else { return config };
    let exposed = exposed.iter().chain(&container.ports);
    let mut ports: Map<String, Value> =
        exposed.map(|p| (format!("{}/{}", p.target_port, protocol(p)), json!({}))).collect();
    ports.extend(image["ExposedPorts"].as_object().cloned().unwrap_or_default());
    if !ports.is_empty() {
        fields.insert("ExposedPorts".into(), ports.into());
    }
    let signal = or_image(&own.stop_signal, "StopSignal");
    if !signal.is_empty() {
        fields.insert("StopSignal".into(), signal.into());
    }
    if let Some(grace) = own.stop_grace_period {
        let seconds = if grace == model::Millis::UNLIMITED { json!(-1) } else { json!(grace.0 / 1000) };
        fields.insert("StopTimeout".into(), seconds);
    }
    if let Some(check) = &own.healthcheck {
        fields.insert("Healthcheck".into(), json!(HealthConfig::from(check)));
    } else if !image["Healthcheck"].is_null() {
        fields.insert("Healthcheck".into(), image["Healthcheck"].clone());
    }
    config
}

fn host_config(
    detail: &ContainerDetail,
    container: &Container,
    definition: Option<&ContainerDefinition>,
    spec: Option<&model::ContainerSpec>,
) -> Value {
    let mut fields = empty_host_config();
    let own = spec.cloned().unwrap_or_default();
    let log = detail.log_driver.clone().unwrap_or_default();
    let (policy, times) = detail.restart.split_once(':').unwrap_or((detail.restart.as_str(), "0"));
    let ports = definition.map(|d| d.ports.as_slice()).unwrap_or_default();
    let mut bindings = BTreeMap::<String, Vec<Value>>::new();
    for port in ports {
        let published =
            if port.published_port == 0 { String::new() } else { port.published_port.to_string() };
        let all = bindings.entry(format!("{}/{}", port.target_port, protocol(port))).or_default();
        all.push(json!({"HostIp": "", "HostPort": published}));
    }
    let limits = definition.and_then(|d| d.limits).unwrap_or_default();
    let mode = definition
        .and_then(|d| d.networks.first())
        .map_or_else(|| network_mode(container).to_owned(), |n| n.network.clone());
    let set = json!({
        "LogConfig": {"Type": if log.name.is_empty() { JSON_FILE } else { &log.name }, "Config": log.options},
        "NetworkMode": mode,
        "PortBindings": bindings,
        "RestartPolicy": {
            "Name": if policy.is_empty() { "no" } else { policy },
            "MaximumRetryCount": times.parse::<u32>().unwrap_or_default(),
        },
        "AutoRemove": definition.is_some_and(|d| d.auto_remove),
        "Binds": null,
        "Mounts": own.mounts.iter().map(Mount::from).collect::<Vec<_>>(),
        "CapAdd": null_or_list(own.cap_add),
        "CapDrop": null_or_list(own.cap_drop),
        "Dns": own.dns.nameservers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "DnsOptions": own.dns.options,
        "DnsSearch": own.dns.search,
        // A line of /etc/hosts begins with the address.
        "ExtraHosts": null_or_list(own.hosts.iter().filter_map(|line| {
            let (addr, name) = line.split_once(' ')?;
            Some(format!("{name}:{addr}"))
        }).collect()),
        "GroupAdd": null_or_list(own.groups),
        "ReadonlyRootfs": own.read_only,
        "Memory": limits.memory_bytes,
        "NanoCpus": limits.nano_cpus,
        "PidsLimit": if limits.pids == 0 { Value::Null } else { limits.pids.into() },
        "Ulimits": own.ulimits.iter().map(|u| json!({"Name": u.name, "Hard": u.hard, "Soft": u.soft})).collect::<Vec<_>>(),
        "Sysctls": own.sysctls,
        "Init": own.init,
    });
    fields.extend(set.as_object().cloned().unwrap_or_default());
    fields.into()
}

fn network_settings(container: &Container, sandbox: &str) -> Value {
    let ports: Map<String, Value> = container
        .ports
        .iter()
        .map(|port| {
            let number = port.published_port.to_string();
            let bound = match is_published(port) {
                true => {
                    json!([{"HostIp": "0.0.0.0", "HostPort": number}, {"HostIp": "::", "HostPort": number}])
                }
                false => Value::Null,
            };
            (format!("{}/{}", port.target_port, protocol(port)), bound)
        })
        .collect();
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": sandbox,
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": networks(container),
    })
}

/// The mounts that a user or the image asked for: what every container has (`/proc`, `/etc/hosts`, …) is left out.
pub fn mounts(oci_config: &str) -> Vec<Value> {
    const EVERY: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let oci: Value = serde_json::from_str(oci_config).unwrap_or_default();
    let text = |m: &Value, key: &str| m.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for mount in oci["mounts"].as_array().into_iter().flatten() {
        let (kind, source, target) = (text(mount, "type"), text(mount, "source"), text(mount, "destination"));
        let usual = EVERY.contains(&target.as_str()) || target == "/dev" || target.starts_with("/dev/");
        if !matches!(kind.as_str(), "bind" | "tmpfs") || usual {
            continue;
        }
        let options = texts(&mount["options"]);
        let mut shown = json!({
            "Type": kind,
            "Source": if kind == "tmpfs" { "" } else { &source },
            "Destination": target,
            "Mode": "",
            "RW": !options.iter().any(|o| o == "ro"),
            "Propagation": if kind == "bind" { "rprivate" } else { "" },
        });
        let volume = source.strip_suffix("/_data").and_then(|dir| dir.rsplit_once("/volumes/"));
        if let (Some((_, name)), Some(fields)) = (volume, shown.as_object_mut()) {
            fields.insert("Type".into(), "volume".into());
            fields.insert("Name".into(), name.into());
            fields.insert("Driver".into(), "local".into());
            fields.insert("Propagation".into(), "".into());
        }
        all.push(shown);
    }
    all
}

/// The fields of `HostConfig`, empty, that clients look for whatever is in them.
fn empty_host_config() -> Map<String, Value> {
    let empty = json!({
        "ContainerIDFile": "", "VolumeDriver": "", "VolumesFrom": null, "CgroupnsMode": "private", "IpcMode": "private",
        "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
        "SecurityOpt": null, "UTSMode": "", "UsernsMode": "", "ShmSize": 67_108_864, "Runtime": "runc", "Isolation": "",
        "CpuShares": 0, "CgroupParent": "", "BlkioWeight": 0, "CpuPeriod": 0, "CpuQuota": 0, "CpusetCpus": "", "CpusetMems": "",
        "Devices": [], "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null,
        "OomKillDisable": false, "ConsoleSize": [0, 0],
    });
    empty.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_were_asked_for_are_shown() {
        let oci = json!({"mounts": [
            {"type": "proc", "source": "proc", "destination": "/proc", "options": ["nosuid"]},
            {"type": "tmpfs", "source": "shm", "destination": "/dev/shm"},
            {"type": "bind", "source": "/x/hosts", "destination": "/etc/hosts", "options": ["rw"]},
            {"type": "bind", "source": "/data", "destination": "/srv", "options": ["rbind", "ro"]},
            {"type": "bind", "source": "/r/volumes/v/_data", "destination": "/v", "options": ["rw", "rbind"]},
        ]});
        let shown = mounts(&oci.to_string());
        assert_eq!(shown.len(), 2);
        assert_eq!((&shown[0]["Type"], &shown[0]["RW"]), (&json!("bind"), &json!(false)));
        assert_eq!((&shown[1]["Type"], &shown[1]["Name"]), (&json!("volume"), &json!("v")));
    }

    #[test]
    fn an_entry_point_of_ones_own_leaves_out_the_images_command() {
        let image = json!({"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=1", "B=2"]});
        let mut spec = model::ContainerSpec { env: vec!["A=3".into(), "B".into()], ..Default::default() };
        assert_eq!(command(&Value::Null, Some(&spec), &image), ["/e", "c"]);
        assert_eq!(environment(&spec, &image), ["A=3"]);
        spec.command = vec!["/f".into()];
        assert_eq!(command(&Value::Null, Some(&spec), &image), ["/f"]);
    }
}
