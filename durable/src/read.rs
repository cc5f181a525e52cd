//! Reading.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{record, rename};

/// How a file is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It has no bytes.
    Empty,
    /// It has nothing but zeros, as after a power cut.
    Zeros {
        /// Bytes.
        len: usize,
    },
    /// Its end is missing.
    CutOff {
        /// Bytes that are there.
        have: usize,
        /// Bytes that were written.
        want: usize,
    },
    /// Something follows its end.
    TooLong {
        /// Bytes that are there.
        have: usize,
        /// Bytes that were written.
        want: usize,
    },
    /// Its first line is not what was written.
    Header,
    /// Its content is not what was written.
    Checksum,
    /// What it says makes no sense.
    Content(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Empty => f.write_str("it is empty"),
            Damage::Zeros { len } => write!(f, "it holds nothing but zeros ({len} bytes)"),
            Damage::CutOff { have, want } => write!(f, "it is cut off after {have} of {want} bytes"),
            Damage::TooLong { have, want } => write!(f, "it has {have} bytes instead of {want}"),
            Damage::Header => f.write_str("its first line is garbled"),
            Damage::Checksum => f.write_str("its checksum does not fit its content"),
            Damage::Content(why) => f.write_str(why),
        }
    }
}

/// Why there is no content.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system failed.
    #[error("read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// It is there and of no use.
    #[error("{} is damaged: {damage}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How.
        damage: Damage,
    },
}

/// A damaged file that was put out of the way. Its text says all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Which file.
    pub path: PathBuf,
    /// How it is damaged.
    pub damage: Damage,
    /// Where it is now.
    pub to: PathBuf,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged: {}; set aside as {}", self.path.display(), self.damage, self.to.display())
    }
}

/// What became of reading a file that can be had anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded<T> {
    /// There is none.
    Absent,
    /// It is whole.
    Whole(T),
    /// It was damaged, and is no longer there.
    Damaged(SetAside),
}

impl<T> Loaded<T> {
    /// The same, with something else made of a whole content.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Loaded<U> {
        match self {
            Loaded::Absent => Loaded::Absent,
            Loaded::Whole(content) => Loaded::Whole(f(content)),
            Loaded::Damaged(aside) => Loaded::Damaged(aside),
        }
    }

    /// The content if it is whole; `tell` hears of a damaged file.
    pub fn or_tell(self, tell: impl FnOnce(SetAside)) -> Option<T> {
        match self {
            Loaded::Absent => None,
            Loaded::Whole(content) => Some(content),
            Loaded::Damaged(aside) => {
                tell(aside);
                None
            }
        }
    }
}

/// A file's content; none if there is no such file.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn load(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    match fs::read(path) {
        Ok(bytes) => match record::open(bytes) {
            Ok(content) => Ok(Some(content)),
            Err(damage) => Err(ReadError::Damaged { path: path.to_owned(), damage }),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::Io { path: path.to_owned(), source }),
    }
}

/// What a file says; none if there is no such file.
///
/// # Errors
/// It cannot be read, is damaged, or says nothing that `parse` understands.
pub fn load_as<T, E: fmt::Display>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<Option<T>, ReadError> {
    let Some(content) = load(path)? else { return Ok(None) };
    parse(&content).map(Some).map_err(|error| ReadError::Damaged {
        path: path.to_owned(),
        damage: Damage::Content(error.to_string()),
    })
}

/// What a file says that can be had anew: a damaged one is set aside.
///
/// # Errors
/// It cannot be read, or not be set aside.
pub fn load_or_set_aside<T, E: fmt::Display>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<Loaded<T>, ReadError> {
    match load_as(path, parse) {
        Ok(Some(content)) => Ok(Loaded::Whole(content)),
        Ok(None) => Ok(Loaded::Absent),
        Err(ReadError::Damaged { path, damage }) => {
            let to = set_aside(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
            Ok(Loaded::Damaged(SetAside { path, damage, to }))
        }
        Err(error) => Err(error),
    }
}

/// Gives a damaged file, or folder, another name, `<name>.damaged`, that stays until somebody has looked at it; a later one takes
/// its place.
///
/// # Errors
/// The file system's.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut to = path.as_os_str().to_owned();
    to.push(".damaged");
    let to = PathBuf::from(to);
    if to.is_dir() {
        fs::remove_dir_all(&to)?;
    }
    rename(path, &to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{PRIVATE, save};

    fn number(content: &[u8]) -> Result<u32, String> {
        std::str::from_utf8(content)
            .map_err(|e| e.to_string())?
            .parse()
            .map_err(|_| "not a number".to_owned())
    }

    #[test]
    fn a_damaged_file_is_named_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        assert_eq!(load_or_set_aside(&path, number).unwrap(), Loaded::Absent);
        save(&path, b"12", PRIVATE).unwrap();
        assert_eq!(load_or_set_aside(&path, number).unwrap(), Loaded::Whole(12));
        for (bytes, words) in [
            (&b""[..], "it is empty"),
            (&[0; 30], "nothing but zeros (30 bytes)"),
            (&record::seal(b"12")[..29], "cut off after 29 of 30 bytes"),
            (b"twelve", "not a number"),
            (b"RNFILE1 0000000002 00000000\n12", "checksum"),
        ] {
            fs::write(&path, bytes).unwrap();
            assert!(load_as(&path, number).unwrap_err().to_string().contains(words));
            let Loaded::Damaged(aside) = load_or_set_aside(&path, number).unwrap() else { panic!("{words}") };
            assert!(aside.to_string().contains(words), "{aside}");
            assert_eq!(fs::read(dir.path().join("n.damaged")).unwrap(), bytes);
            assert_eq!(load_or_set_aside(&path, number).unwrap(), Loaded::Absent);
        }
    }
}
