//! Names of capabilities.

use crate::error::ApiError;

/// All that Linux has, in its order (`linux/capability.h`).
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A capability, as a user may name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Every one.
    All,
    /// One, by its full name.
    One(&'static str),
}

/// Finds a capability: in either case, with or without `CAP_`.
pub fn find(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match short {
        "ALL" => Some(Capability::All),
        _ => ALL.into_iter().find(|known| known.strip_prefix("CAP_") == Some(short)).map(Capability::One),
    }
}

/// Checks a name.
///
/// # Errors
/// There is no such capability.
pub fn check(name: &str) -> Result<(), ApiError> {
    find(name).map(drop).ok_or_else(|| {
        ApiError::invalid(format!("unknown capability: {name:?}"))
            .help("write for instance NET_ADMIN; capabilities(7) lists them, and ALL is all of them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_spelling() {
        for name in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(find(name), Some(Capability::One("CAP_NET_ADMIN")), "{name}");
        }
        assert_eq!((find("all"), find("CAP_ALL")), (Some(Capability::All), Some(Capability::All)));
        for name in ["NOPE", "", "CAP_", "CAP_CAP_CHOWN", "NET ADMIN"] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
