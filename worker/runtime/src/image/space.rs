//! How much of the disk one layer, archive or import may take. A few megabytes of gzip unpack to as many gigabytes as somebody
//! likes, and the disk is the swarm's state's too.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::sys::statvfs::{Statvfs, fstatvfs};
use proto::parse::size;

use crate::{Result, RuntimeError};

/// The disk is looked at once for so many bytes that arrive.
const LOOK: u64 = 1 << 20;

/// The most that one layer, archive or import may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnpackLimit {
    /// In bytes.
    Bytes(u64),
    /// In percent of what is free, bytes and files, when it begins: so much may be gone when it ends, by whatever took it.
    Share(u8),
}

impl Default for UnpackLimit {
    fn default() -> Self {
        UnpackLimit::Share(90)
    }
}

impl fmt::Display for UnpackLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnpackLimit::Bytes(bytes) => write!(f, "{bytes} bytes"),
            UnpackLimit::Share(percent) => write!(f, "{percent}% of the free space"),
        }
    }
}

impl FromStr for UnpackLimit {
    type Err = String;

    /// `90%`, or a [size](size::bytes).
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bad =
            || format!("{text:?} is neither a size, as 20g, nor a share of the free space from 1% to 100%");
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 1..=100) => Ok(UnpackLimit::Share(percent)),
                _ => Err(bad()),
            };
        }
        match size::bytes(text) {
            Ok(bytes) if bytes > 0 => Ok(UnpackLimit::Bytes(bytes)),
            _ => Err(bad()),
        }
    }
}

/// The space that one layer, archive or import has.
#[derive(Debug)]
pub struct Space {
    limit: UnpackLimit,
    place: PathBuf,
    /// Open, since who unpacks has another root.
    dir: File,
    /// Bytes that may arrive: what does not fit on the disk at all need not be read to its end.
    most: u64,
    /// Bytes and files that are to stay free.
    reserve: (u64, u64),
}

impl Space {
    /// From what is free now where `dir` lies.
    pub fn of(dir: &Path, limit: UnpackLimit) -> Result<Self> {
        let failed = |e: io::Error| RuntimeError::io("look for space below", dir)(e);
        let file = File::open(dir).map_err(failed)?;
        let free = free(&file).map_err(failed)?;
        let keep = |free: u64| match limit {
            UnpackLimit::Bytes(_) => 0,
            UnpackLimit::Share(percent) => free / 100 * (100 - u64::from(percent.min(100))),
        };
        let most = match limit {
            UnpackLimit::Bytes(bytes) => bytes,
            UnpackLimit::Share(_) => free.0,
        };
        Ok(Self { limit, place: dir.to_owned(), dir: file, most, reserve: (keep(free.0), keep(free.1)) })
    }

    /// Refuses what would take more than there is, by its own word.
    pub fn allow(&self, bytes: u64) -> io::Result<()> {
        let most = match self.limit {
            UnpackLimit::Bytes(_) => self.most,
            UnpackLimit::Share(_) => free(&self.dir)?.0.saturating_sub(self.reserve.0),
        };
        if bytes > most { Err(self.exhausted("bytes")) } else { Ok(()) }
    }

    fn look(&self, passed: u64) -> io::Result<()> {
        if passed > self.most {
            return Err(self.exhausted("bytes"));
        }
        if matches!(self.limit, UnpackLimit::Bytes(_)) {
            return Ok(());
        }
        match free(&self.dir)? {
            (bytes, _) if bytes < self.reserve.0 => Err(self.exhausted("bytes")),
            (_, files) if files < self.reserve.1 => Err(self.exhausted("files")),
            _ => Ok(()),
        }
    }

    fn exhausted(&self, what: &str) -> io::Error {
        io::Error::other(format!(
            "it takes more {what} than the {} that one may unpack to below {}; make room there, or raise unpack-limit \
             (rnd --unpack-limit, daemon.json)",
            self.limit,
            self.place.display()
        ))
    }

    /// A tar on its way there, which ends with an error where the space does.
    pub fn bound<R: Read>(&self, inner: R) -> Bounded<'_, R> {
        Bounded { inner, space: self, passed: 0, next: 0 }
    }
}

/// Bytes and files that are free; a file system that does not count files has as many as anyone wants.
fn free(dir: &File) -> io::Result<(u64, u64)> {
    let there: Statvfs = fstatvfs(dir)?;
    let files = if there.files() == 0 { u64::MAX } else { there.files_available() };
    Ok((there.blocks_available().saturating_mul(there.fragment_size()), files))
}

/// See [`Space::bound`].
pub struct Bounded<'a, R> {
    inner: R,
    space: &'a Space,
    passed: u64,
    next: u64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.passed = self.passed.saturating_add(u64::try_from(len).unwrap_or_default());
        if self.passed >= self.next || matches!(self.space.limit, UnpackLimit::Bytes(_)) {
            self.next = self.passed.saturating_add(LOOK);
            self.space.look(self.passed)?;
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn limits_are_sizes_or_shares() {
        for (text, want) in [
            ("90%", Some(UnpackLimit::Share(90))),
            ("100%", Some(UnpackLimit::Share(100))),
            ("512", Some(UnpackLimit::Bytes(512))),
            ("20g", Some(UnpackLimit::Bytes(20 << 30))),
            ("1KiB", Some(UnpackLimit::Bytes(1024))),
            ("3MB", Some(UnpackLimit::Bytes(3 << 20))),
            ("2T", Some(UnpackLimit::Bytes(2 << 40))),
            ("1.5g", Some(UnpackLimit::Bytes(3 << 29))),
            ("0", None),
            ("0%", None),
            ("101%", None),
            ("-1", None),
            ("1x", None),
            ("g", None),
            ("", None),
            ("99999999999999999t", None),
        ] {
            assert_eq!(text.parse().ok(), want, "{text}");
        }
    }

    #[test]
    fn what_is_more_than_allowed_ends_with_the_limits_name() {
        let dir = tempfile::tempdir().unwrap();
        let read = |limit: UnpackLimit, len: u64| {
            let space = Space::of(dir.path(), limit).unwrap();
            io::copy(&mut space.bound(io::repeat(0).take(len)), &mut io::sink())
        };
        assert_eq!(read(UnpackLimit::Bytes(5000), 5000).unwrap(), 5000);
        let error = read(UnpackLimit::Bytes(5000), 1 << 40).unwrap_err().to_string();
        assert!(error.contains("5000 bytes") && error.contains("unpack-limit"), "{error}");
        assert_eq!(
            read(UnpackLimit::default(), 10 << 20).unwrap(),
            10 << 20,
            "what takes no space is not counted"
        );
        let space = Space::of(dir.path(), UnpackLimit::default()).unwrap();
        assert!(space.allow(u64::MAX).is_err());
        space.allow(1).unwrap();
    }
}
