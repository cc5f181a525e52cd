//! What a container's root may do. Pure.

use proto::rules::capability::{self, ALL, Capability};

use crate::{Result, RuntimeError};

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
        match capability::find(name) {
            Some(Capability::All) => all = true,
            Some(Capability::One(name)) => known.push(name),
            None => return Err(RuntimeError::Invalid(format!("unknown capability: {name:?}"))),
        }
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
