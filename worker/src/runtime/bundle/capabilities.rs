//! What a container's root may do. Pure.

use crate::runtime::{Result, RuntimeError};

/// Docker's default set (moby `daemon/pkg/oci/caps/defaults.go`).
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All that Linux has, in its order (`linux/capability.h`).
const ALL: [&str; 41] = [
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

/// The default set with some added and some dropped; `ALL` is understood. Dropping wins unless all are dropped, as in Docker.
pub fn effective(add: &[String], drop: &[String]) -> Result<Vec<&'static str>> {
    let (add_all, add) = parse(add)?;
    let (drop_all, drop) = parse(drop)?;
    let has = |name: &&'static str| {
        let base = if drop_all { add_all } else { add_all || DEFAULT.contains(name) };
        (base || add.contains(name)) && !drop.contains(name)
    };
    Ok(ALL.into_iter().filter(has).collect())
}

fn parse(names: &[String]) -> Result<(bool, Vec<&'static str>)> {
    let mut all = false;
    let mut known = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" || upper == "CAP_ALL" {
            all = true;
            continue;
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let found = ALL.into_iter().find(|known| *known == full);
        known.push(found.ok_or_else(|| RuntimeError::Invalid(format!("unknown capability: {name:?}")))?);
    }
    Ok((all, known))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn caps(add: &[&str], drop: &[&str]) -> Vec<&'static str> {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        effective(&owned(add), &owned(drop)).unwrap()
    }

    #[test]
    fn sets_are_added_to_and_taken_from() {
        assert_eq!(caps(&[], &[]).len(), DEFAULT.len());
        assert!(caps(&["net_admin"], &[]).contains(&"CAP_NET_ADMIN"));
        assert!(!caps(&[], &["CAP_NET_RAW"]).contains(&"CAP_NET_RAW"));
        assert_eq!(caps(&["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(caps(&["ALL"], &["SYS_MODULE"]).len(), ALL.len() - 1);
        assert!(effective(&["NOPE".to_owned()], &[]).is_err());
    }
}
