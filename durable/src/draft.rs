//! A record that changes more often than one wants to wait for the disk.
//!
//! [`draft`] keeps it safe from the death of this process at once, beside the last one that is on the disk; [`settle`] brings it
//! to the disk and under its name. Neither ever puts bytes that may be lost in the place of bytes that are safe.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{Loaded, ReadError, load_as, load_or_set_aside, record, rename, write};

/// Newer than the record itself.
const DRAFT: &str = "draft";
/// On its way to the disk: no newer draft takes its place before it is there.
const SETTLING: &str = "settling";

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Keeps a newer content of the record. Safe from the death of this process when this returns.
///
/// # Errors
/// The file system's.
pub fn draft(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let to = beside(path, DRAFT);
    write::Temporary::create(&to, &[&record::header(content), content], mode)?.rename(&to)
}

/// Brings the last draft to the disk; whether there was one. One caller at a time.
///
/// # Errors
/// The file system's.
pub fn settle(path: &Path) -> io::Result<bool> {
    let (draft, settling) = (beside(path, DRAFT), beside(path, SETTLING));
    let there = |result: io::Result<()>| match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    };
    there(fs::rename(&draft, &settling))?;
    if !there(File::open(&settling).and_then(|file| file.sync_all()))? {
        return Ok(false);
    }
    rename(&settling, path)?;
    Ok(true)
}

/// What the record's last content says, draft or not; [`Loaded::Damaged`] if the record is damaged and no draft is whole.
///
/// # Errors
/// It cannot be read, or not be set aside.
pub fn load_latest_or_set_aside<T, E: fmt::Display>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Loaded<T>, ReadError> {
    for what in [DRAFT, SETTLING] {
        // One that power took is no damage: the record is still there.
        if let Ok(Some(content)) = load_as(&beside(path, what), &parse) {
            return Ok(Loaded::Whole(content));
        }
    }
    load_or_set_aside(path, parse)
}

/// Forgets the record's drafts.
///
/// # Errors
/// The file system's.
pub fn discard_drafts(path: &Path) -> io::Result<()> {
    [DRAFT, SETTLING].iter().try_for_each(|what| write::remove(&beside(path, what)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{PRIVATE, save};

    fn text(content: &[u8]) -> Result<String, String> {
        String::from_utf8(content.to_vec()).map_err(|e| e.to_string())
    }

    fn latest(path: &Path) -> Option<String> {
        load_latest_or_set_aside(path, text).unwrap().or_tell(|_| {})
    }

    #[test]
    fn the_last_one_that_is_whole_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        assert!(!settle(&path).unwrap());
        draft(&path, b"one", PRIVATE).unwrap();
        assert_eq!(latest(&path).as_deref(), Some("one"), "this process may die now");
        assert!(settle(&path).unwrap() && !settle(&path).unwrap());
        draft(&path, b"two", PRIVATE).unwrap();
        assert_eq!(latest(&path).as_deref(), Some("two"));
        // A power cut takes what was not synced, and leaves what was.
        fs::write(beside(&path, DRAFT), [0; 31]).unwrap();
        assert_eq!(latest(&path).as_deref(), Some("one"));
        // The process died while it settled.
        fs::write(beside(&path, SETTLING), record::seal(b"three")).unwrap();
        assert_eq!(latest(&path).as_deref(), Some("three"));
        draft(&path, b"four", PRIVATE).unwrap();
        assert_eq!(latest(&path).as_deref(), Some("four"));
        assert!(settle(&path).unwrap());
        assert_eq!(latest(&path).as_deref(), Some("four"));
        discard_drafts(&path).unwrap();
        fs::write(&path, b"").unwrap();
        assert!(matches!(load_latest_or_set_aside(&path, text).unwrap(), Loaded::Damaged(_)));
        save(&path, b"five", PRIVATE).unwrap();
        assert_eq!(latest(&path).as_deref(), Some("five"));
    }
}
