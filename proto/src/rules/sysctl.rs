//! Kernel settings that belong to a container's namespaces, and to nobody else.

use crate::error::ApiError;

/// Settings outside `net.` and `fs.mqueue.` that belong to a namespace of the container (Docker's list, and the UTS namespace's).
const NAMESPACED: [&str; 9] = [
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

/// What a network namespace has under `net.` (Linux 6.18). Which settings are in there is each node's kernel's own.
const NET: [&str; 15] = [
    "bridge",
    "core",
    "dccp",
    "ipv4",
    "ipv6",
    "mpls",
    "mptcp",
    "netfilter",
    "nf_conntrack_max",
    "rds",
    "sctp",
    "smc",
    "tipc",
    "unix",
    "vsock",
];

/// Checks one setting. `on_host` says that the container runs in its machine's own network: `net.` is the machine's then.
///
/// # Errors
/// It is no setting, or would change the whole machine.
pub fn check(key: &str, value: &str, on_host: bool) -> Result<(), ApiError> {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    if !key.contains('.') || !key.split('.').all(word) {
        return Err(ApiError::invalid(format!("sysctl {key:?} is not the name of a kernel setting"))
            .help("write KEY=VALUE with a key as sysctl shows it, for instance net.core.somaxconn=1024"));
    }
    if value.contains(['\n', '\0']) {
        return Err(ApiError::invalid(format!("sysctl {key}: the value is more than one line")));
    }
    if let Some(rest) = key.strip_prefix("net.") {
        let family = rest.split('.').next().unwrap_or_default();
        if on_host {
            return Err(ApiError::invalid(format!("sysctl {key} is not allowed in network host"))
                .help("it would change the node; set it there"));
        }
        if !NET.contains(&family) {
            return Err(ApiError::invalid(format!(
                "sysctl {key:?}: there is no net.{family} in a network namespace"
            ))
            .help(format!("under net. there are {}", NET.join(", "))));
        }
        return Ok(());
    }
    if key.starts_with("fs.mqueue.") || NAMESPACED.contains(&key) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "sysctl {key:?} is not of a namespace, so it would change the whole machine"
    ))
    .help("allowed are net.*, fs.mqueue.*, and the System V IPC keys under kernel."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_machines_is_not_a_containers() {
        for key in [
            "net.core.somaxconn",
            "net.ipv4.conf.eth0.forwarding",
            "net.nf_conntrack_max",
            "fs.mqueue.msg_max",
            "kernel.sem",
        ] {
            assert_eq!(check(key, "1", false), Ok(()), "{key}");
        }
        for (key, on_host, words) in [
            ("vm.swappiness", false, "whole machine"),
            ("kernel.core_pattern", false, "whole machine"),
            ("kernel.hostname", false, "whole machine"),
            ("fs.file-max", false, "whole machine"),
            ("net.core.somaxconn", true, "network host"),
            ("net.nope", false, "no net.nope"),
            ("net.nope.x", false, "no net.nope"),
            ("net", false, "not the name"),
            ("", false, "not the name"),
            ("net.", false, "not the name"),
            ("net..core", false, "not the name"),
            ("net/../vm.x", false, "not the name"),
            ("net.ipv4.a b", false, "not the name"),
        ] {
            let error = check(key, "1", on_host).err().map(|e| e.message).unwrap_or_default();
            assert!(error.contains(words), "{key}: {error}");
        }
        assert!(check("kernel.sem", "1\n2", false).is_err());
        assert!(check("kernel.sem", "1", true).is_ok(), "its IPC namespace is its own");
    }
}
