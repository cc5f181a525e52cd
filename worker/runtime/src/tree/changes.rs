//! What a container has changed of its image: what its own layer has, compared with the layers below.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::rootdir::is_opaque;

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is another.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute path.
    pub path: PathBuf,
    /// What has become of it.
    pub kind: ChangeKind,
}

/// Files and directories that every container gets for its mounts, whoever runs it.
const MADE_FOR_ALL: [&str; 6] = ["/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// What the layer `upper` changes of those below it, the top one first; by path.
pub fn changes(upper: &Path, lower: &[PathBuf]) -> io::Result<Vec<Change>> {
    let mut all = Vec::new();
    let lower: Vec<PathBuf> = lower.to_vec();
    walk(upper, &lower, Path::new("/"), &mut all)?;
    all.sort();
    Ok(all)
}

fn is_whiteout(there: &Metadata) -> bool {
    there.file_type().is_char_device() && there.rdev() == 0
}

/// What the layers below show under a name: directories that are merged, or one file.
fn below(lower: &[PathBuf], name: &std::ffi::OsStr) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    for dir in lower {
        let path = dir.join(name);
        let Ok(there) = path.symlink_metadata() else { continue };
        if is_whiteout(&there) {
            break;
        }
        let directory = there.is_dir();
        if !directory && !found.is_empty() {
            break;
        }
        let last = !directory || is_opaque(&path);
        found.push((path, there));
        if last {
            break;
        }
    }
    found
}

/// Whether anything was found. `lower` are the directories that are merged here.
fn walk(upper: &Path, lower: &[PathBuf], at: &Path, all: &mut Vec<Change>) -> io::Result<(bool, bool)> {
    let (mut changed, mut ours) = (false, false);
    let mut names: Vec<_> = fs::read_dir(upper)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let hidden = is_opaque(upper);
    if hidden {
        // What was there before is gone, but for what has come anew.
        for dir in lower {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), at.join(entry.file_name()));
                let gone = Change { path, kind: ChangeKind::Deleted };
                if !below(lower, &name).is_empty() && !names.contains(&name) && !all.contains(&gone) {
                    all.push(gone);
                    changed = true;
                }
            }
        }
    }
    for name in names {
        let (own, path) = (upper.join(&name), at.join(&name));
        let there = own.symlink_metadata()?;
        let before = below(lower, &name);
        if MADE_FOR_ALL.iter().any(|made| path == Path::new(made)) && before.is_empty() {
            ours = true;
            continue;
        }
        if is_whiteout(&there) {
            if !before.is_empty() {
                all.push(Change { path, kind: ChangeKind::Deleted });
                changed = true;
            }
            continue;
        }
        let mut inside = (false, false);
        if there.is_dir() {
            let merged: Vec<PathBuf> =
                before.iter().filter(|(_, meta)| meta.is_dir()).map(|(path, _)| path.clone()).collect();
            inside = walk(&own, &merged, &path, all)?;
        }
        let kind = match before.first() {
            None => ChangeKind::Added,
            Some((_, old)) if there.is_dir() && old.is_dir() => {
                let same_mode =
                    |m: &Metadata| (m.mode(), m.uid(), m.gid()) == (there.mode(), there.uid(), there.gid());
                let same_time =
                    |m: &Metadata| (m.mtime(), m.mtime_nsec()) == (there.mtime(), there.mtime_nsec());
                // A layer need not say what a directory is like that it has something in: one below does.
                let (mode, time) =
                    (before.iter().any(|(_, m)| same_mode(m)), before.iter().any(|(_, m)| same_time(m)));
                // A file that was made for a mount has changed its directory's time.
                if mode && !inside.0 && (time || inside.1) {
                    continue;
                }
                ChangeKind::Modified
            }
            Some(_) => ChangeKind::Modified,
        };
        all.push(Change { path, kind });
        changed = true;
    }
    Ok((changed, ours))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    #[test]
    fn what_differs_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in [
            "low/etc",
            "low/var/log",
            "low/same",
            "top/etc",
            "upper/etc",
            "upper/var",
            "upper/same",
            "upper/dev/pts",
            "upper/new/deep",
        ] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in
            ["low/etc/passwd", "top/etc/group", "upper/etc/passwd", "upper/etc/hosts", "upper/new/deep/file"]
        {
            fs::write(at(path), path).unwrap();
        }
        let same = fs::metadata(at("low/same")).unwrap().modified().unwrap();
        let times = fs::FileTimes::new().set_modified(same);
        fs::File::open(at("upper/same")).unwrap().set_times(times).unwrap();
        let later = fs::FileTimes::new().set_modified(same + std::time::Duration::from_secs(9));
        fs::File::open(at("upper/var")).unwrap().set_times(later).unwrap();
        let found = changes(&at("upper"), &[at("top"), at("low")]).unwrap();
        let found: Vec<_> = found.iter().map(|c| (c.path.to_str().unwrap(), c.kind)).collect();
        use ChangeKind::{Added, Modified};
        assert_eq!(
            found,
            [
                ("/etc", Modified),
                ("/etc/passwd", Modified),
                ("/new", Added),
                ("/new/deep", Added),
                ("/new/deep/file", Added),
                ("/var", Modified),
            ]
        );
    }
}
