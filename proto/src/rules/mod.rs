//! What a container may be: the rules for the tasks of services and for containers that a user runs by hand, in one place.
//!
//! The managers check a service's spec by them before they replicate it, the daemon a container by hand before it keeps it, and
//! the runtime both once more before it makes a container. Pure: from a spec to an error that names the object, the cause and the
//! way out. The rules are Docker's where Docker has one.

pub mod capability;
mod file;
pub mod mount;
mod resources;
pub mod sysctl;

use std::net::IpAddr;

pub use file::{SECRETS, file_target};
pub use resources::resources;

use crate::{
    error::ApiError,
    model::{ContainerSpec, DnsConfig, Healthcheck, Ulimit},
    parse::{Reference, signal},
};

/// Longest label of a DNS name, and with it of host names and of names of services and networks (RFC 1035, 2.3.4).
pub const MAX_LABEL: usize = 63;

/// What setrlimit(2) limits, as Docker names it (go-units `ulimit.go`).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Whether a spec's `command` switches the image's entrypoint off and puts nothing in its place.
pub fn is_without_entrypoint(command: &[String]) -> bool {
    matches!(command, [only] if only.is_empty())
}

/// Letters and digits, with `-` and `_` inside (swarmkit `isValidDNSName`).
pub fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= MAX_LABEL
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Checks everything but the image, whose name the runtime no longer needs when it makes a container. `on_host` says that the
/// container is to run in its machine's own network.
///
/// # Errors
/// The first thing that no container can be.
pub fn container(object: &str, spec: &ContainerSpec, on_host: bool) -> Result<(), ApiError> {
    for key in spec.labels.keys() {
        label(&format!("{object}: container"), key)?;
    }
    for env in &spec.env {
        if env.split('=').next().is_none_or(str::is_empty) {
            return Err(ApiError::invalid(format!("{object}: invalid environment variable {env:?}"))
                .help("write NAME=value"));
        }
    }
    if spec.groups.iter().any(|group| group.trim().is_empty()) {
        return Err(ApiError::invalid(format!("{object}: a further group has no name"))
            .help("give the name or the number of a group"));
    }
    hostname(object, &spec.hostname)?;
    if is_without_entrypoint(&spec.command) && spec.args.is_empty() {
        return Err(ApiError::invalid(format!("{object}: no command specified"))
            .help("an empty --entrypoint leaves out the image's command too: name one behind the image, or with --args"));
    }
    if !spec.dir.is_empty() && !spec.dir.starts_with('/') {
        return Err(ApiError::invalid(format!(
            "{object}: working directory {:?} is not an absolute path",
            spec.dir
        )));
    }
    mount::all(object, &spec.mounts)?;
    hosts(object, &spec.hosts)?;
    resolver(object, &spec.dns)?;
    for (key, value) in &spec.sysctls {
        sysctl::check(key, value, on_host).map_err(|e| prefixed(object, e))?;
    }
    spec.ulimits.iter().try_for_each(|limit| ulimit(limit).map_err(|e| prefixed(object, e)))?;
    for name in spec.cap_add.iter().chain(&spec.cap_drop) {
        capability::check(name).map_err(|e| prefixed(object, e))?;
    }
    stop_signal(&spec.stop_signal).map_err(|e| prefixed(object, e))?;
    spec.log_driver
        .as_ref()
        .map_or(Ok(()), |driver| driver.check().map(drop))
        .map_err(|e| prefixed(object, e))?;
    spec.healthcheck.as_ref().map_or(Ok(()), |check| healthcheck(object, check))
}

/// The same error, which says whom it is about.
fn prefixed(object: &str, mut error: ApiError) -> ApiError {
    error.message = format!("{object}: {}", error.message);
    error
}

/// Checks a label's key: one without can be neither shown nor removed.
///
/// # Errors
/// It is empty.
pub fn label(object: &str, key: &str) -> Result<(), ApiError> {
    match key.trim() {
        "" => Err(ApiError::invalid(format!("{object} has a label without a name"))
            .help("write labels as KEY=VALUE")),
        _ => Ok(()),
    }
}

/// Checks the name of an image.
///
/// # Errors
/// There is none, or no registry could have it.
pub fn image(object: &str, image: &str) -> Result<(), ApiError> {
    if image.is_empty() {
        return Err(ApiError::invalid(format!("{object}: image reference must be provided")));
    }
    image.parse::<Reference>().map(drop).map_err(|e| {
        ApiError::invalid(format!("{object}: {e}"))
            .help("write [REGISTRY/]NAME[:TAG][@DIGEST], names in small letters")
    })
}

fn hostname(object: &str, hostname: &str) -> Result<(), ApiError> {
    let label = |l: &str| !l.contains('_') && is_dns_label(l);
    if hostname.is_empty() || (hostname.len() <= MAX_LABEL && hostname.split('.').all(label)) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("{object}: invalid hostname {hostname:?}"))
        .help("use letters, digits, '-' and '.', 63 characters at most"))
}

/// Lines of `/etc/hosts`.
fn hosts(object: &str, lines: &[String]) -> Result<(), ApiError> {
    for line in lines {
        let mut words = line.split_whitespace();
        let addr_ok = words.next().is_some_and(|a| a.parse::<IpAddr>().is_ok());
        if !addr_ok || words.next().is_none() || line.contains(['\n', '\r']) {
            return Err(ApiError::invalid(format!("{object}: invalid host entry {line:?}"))
                .help("give an address and a name: --host NAME:ADDRESS"));
        }
    }
    Ok(())
}

fn resolver(object: &str, dns: &DnsConfig) -> Result<(), ApiError> {
    for domain in &dns.search {
        search_domain(domain).map_err(|e| prefixed(object, e))?;
    }
    for option in &dns.options {
        resolver_option(option).map_err(|e| prefixed(object, e))?;
    }
    Ok(())
}

/// Checks a search domain; `.` means none (Docker's `ValidateDNSSearch`).
///
/// # Errors
/// It is no domain.
pub fn search_domain(domain: &str) -> Result<(), ApiError> {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    let label = |l: &str| !l.contains('_') && is_dns_label(l);
    let letters = name.bytes().any(|b| b.is_ascii_alphabetic());
    if domain == "." || (letters && name.len() < 255 && name.split('.').all(label)) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("{domain:?} is not a valid search domain"))
        .help("give one domain at a time, for instance --dns-search corp.example; . is none"))
}

/// Checks an option of the resolver: one word of `resolv.conf`.
///
/// # Errors
/// It is none, or several.
pub fn resolver_option(option: &str) -> Result<(), ApiError> {
    if option.is_empty() || option.contains(char::is_whitespace) {
        return Err(ApiError::invalid(format!("{option:?} is not one option of the resolver"))
            .help("give one option at a time, for instance --dns-option ndots:2"));
    }
    Ok(())
}

/// Checks a resource limit.
///
/// # Errors
/// There is no such limit, or the soft one is above the hard one.
pub fn ulimit(limit: &Ulimit) -> Result<(), ApiError> {
    let Ulimit { name, soft, hard } = limit;
    if !ULIMITS.contains(&name.as_str()) {
        return Err(ApiError::invalid(format!("invalid ulimit type: {name}"))
            .help(format!("there are {}", ULIMITS.join(", "))));
    }
    let value_ok = |n: i64| n >= -1;
    if !value_ok(*soft) || !value_ok(*hard) {
        return Err(ApiError::invalid(format!(
            "ulimit {name}: {soft}:{hard} is below -1, which is unlimited"
        )));
    }
    if *hard != -1 && (*soft == -1 || soft > hard) {
        return Err(ApiError::invalid(format!(
            "ulimit {name}: soft limit {soft} is above hard limit {hard}"
        )));
    }
    Ok(())
}

/// Checks a stop signal; empty means the image's.
///
/// # Errors
/// There is no such signal.
pub fn stop_signal(text: &str) -> Result<(), ApiError> {
    if text.is_empty() || signal::number(text).is_some() {
        return Ok(());
    }
    Err(ApiError::invalid(format!("invalid stop signal {text:?}")).help(signal::HELP))
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

#[cfg(test)]
mod tests;
