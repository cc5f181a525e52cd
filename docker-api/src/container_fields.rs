//! Which fields of what clients send of containers are read. Clients send every field of their own types, most of them empty: one that
//! is not read may be empty, or have the value that says what is so in any case; anything else is refused by name.

use proto::error::ApiError;
use serde_json::Value;

use crate::json::means_something;

/// Fields of the body that are read, or that say what only the client itself makes use of.
pub(crate) const CONFIG: [&str; 21] = [
    "Hostname",
    "User",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Env",
    "Cmd",
    "Entrypoint",
    "Image",
    "Labels",
    "Volumes",
    "ExposedPorts",
    "WorkingDir",
    "StopSignal",
    "StopTimeout",
    "Healthcheck",
    "HostConfig",
    "NetworkingConfig",
];

/// The same of `HostConfig`.
pub(crate) const HOST_CONFIG: [&str; 24] = [
    "Binds",
    "Mounts",
    "Tmpfs",
    "NetworkMode",
    "PortBindings",
    "RestartPolicy",
    "AutoRemove",
    "CapAdd",
    "CapDrop",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "ReadonlyRootfs",
    "Memory",
    "NanoCpus",
    "PidsLimit",
    "Ulimits",
    "Sysctls",
    "Init",
    "LogConfig",
    "ConsoleSize",
    // Where the client has written the id.
    "ContainerIDFile",
];

/// Fields of an endpoint that are read, or that only answers have a meaning for.
pub(crate) const ENDPOINT: [&str; 10] = [
    "IPAMConfig",
    "Aliases",
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
];

/// Values that say what is so in any case.
const AS_IT_IS: [(&str, &[&str]); 12] = [
    ("CgroupnsMode", &["\"private\""]),
    ("IpcMode", &["\"private\""]),
    ("Isolation", &["\"default\""]),
    ("MemorySwappiness", &["-1"]),
    ("MemorySwap", &["-1"]),
    ("VolumeDriver", &["\"local\""]),
    ("ShmSize", &["67108864"]),
    ("Runtime", &["\"runc\""]),
    ("OnBuild", &["[]"]),
    ("MaskedPaths", &["[]"]),
    ("ReadonlyPaths", &["[]"]),
    ("DNSNames", &["[]"]),
];

/// What to do instead.
const INSTEAD: [(&str, &str); 13] = [
    ("Privileged", "add the capabilities that it needs (CapAdd)"),
    ("Links", "containers on one network find each other by name"),
    ("VolumesFrom", "name the volumes (Binds, Mounts)"),
    ("PublishAllPorts", "name the ports (PortBindings)"),
    ("CpuQuota", "say how many processors (NanoCpus)"),
    ("CpuPeriod", "say how many processors (NanoCpus)"),
    ("Domainname", "write it into Hostname"),
    ("NetworkDisabled", "leave it out, and name a network"),
    ("MacAddress", "leave it out: it follows from the address"),
    ("Annotations", "use Labels"),
    ("ShmSize", "mount a tmpfs at /dev/shm (Tmpfs)"),
    ("OnBuild", "rn does not build images"),
    ("Healthcheck", "leave it out"),
];

/// Refuses what means something and is not read.
pub(crate) fn refuse_others(at: &str, fields: Option<&Value>, read: &[&str]) -> Result<(), ApiError> {
    for (name, value) in fields.and_then(Value::as_object).into_iter().flatten() {
        let name = name.as_str();
        let harmless = || AS_IT_IS.iter().any(|(n, v)| *n == name && v.contains(&value.to_string().as_str()));
        if read.contains(&name) || !means_something(value) || harmless() {
            continue;
        }
        let instead = INSTEAD.iter().find(|(n, _)| *n == name).map_or("leave it out", |(_, instead)| instead);
        return Err(ApiError::unsupported(format!("{at}{name} is not supported by rn; {instead}")));
    }
    Ok(())
}
