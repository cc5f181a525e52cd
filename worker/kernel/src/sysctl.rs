//! Sysctls of a namespace: `/proc/sys/net` shows those of whoever opens it.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use super::{error::Cause, linux::Namespace};

fn path(key: &str) -> Result<PathBuf, Cause> {
    let bad = key.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    if bad {
        Err(Cause::Invalid(format!("{key:?} is no sysctl key")))
    } else {
        Ok(PathBuf::from("/proc/sys").join(key))
    }
}

/// Sets values, those that differ only: the rest of the system may be watching.
// The kernel's files, not a disk's.
#[allow(clippy::disallowed_methods)]
pub(super) fn set(ns: &Namespace, values: &[(&str, &str)]) -> Result<(), Cause> {
    let values =
        values.iter().map(|(key, value)| Ok((path(key)?, *value))).collect::<Result<Vec<_>, Cause>>()?;
    ns.run("enter the namespace", || {
        values.iter().try_for_each(|(path, value)| {
            let old = fs::read_to_string(path)?;
            if old.split_whitespace().eq(value.split_whitespace()) { Ok(()) } else { fs::write(path, value) }
        })
    })?
    .map_err(Cause::system::<io::Error>("write the sysctl"))
}

/// Reads values; those that do not exist are left out.
pub(super) fn get<'a>(
    ns: &Namespace,
    keys: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, String>, Cause> {
    let paths = keys.map(|key| Ok((key.clone(), path(key)?))).collect::<Result<Vec<_>, Cause>>()?;
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    ns.run("enter the namespace", || {
        let read = |path| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        paths.into_iter().filter_map(|(key, path)| Some((key, read(path)?))).collect()
    })
}
