//! An archive's files on disk, to be read in any order. Names in the archive are keys, never paths.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use tar_reader::{Kind, Limits, Reader};
use tempfile::TempDir;

use crate::{
    Result, RuntimeError,
    image::{
        space::Space,
        stream::{Digesting, decompressed_tar},
    },
};

/// Bytes of a manifest or a configuration; they are a few kilobytes. Registries take no larger ones.
pub const MAX_TEXT: u64 = 4 << 20;
/// Files of an archive: an image has a handful, and a few for each of its layers.
const MAX_FILES: usize = 65_536;
/// Bytes of a file's name, whose usual ones are a digest.
const MAX_NAME: usize = 1024;
/// Links lead to a file, not in circles.
const MAX_LINKS: usize = 8;

enum SpooledEntry {
    File {
        number: usize,
        digest: String,
        size: u64,
    },
    /// Docker's old layout links a layer that several images share.
    Link(String),
}

/// The files.
pub struct Spool {
    dir: TempDir,
    files: BTreeMap<String, SpooledEntry>,
}

impl Spool {
    /// Reads the whole archive.
    pub fn read(dir: TempDir, archive: impl Read, space: &Space) -> Result<Self> {
        let mut spool = Self { dir, files: BTreeMap::new() };
        spool.fill(archive, space).map_err(|error| RuntimeError::BadArchive(error.to_string()))?;
        if spool.files.is_empty() {
            return Err(RuntimeError::BadArchive("it is empty, or not a tar".to_owned()));
        }
        Ok(spool)
    }

    fn fill(&mut self, archive: impl Read, space: &Space) -> io::Result<()> {
        let input = BufReader::with_capacity(64 << 10, space.bound(decompressed_tar(archive)?));
        let mut tar = Reader::new(input, Limits::default());
        // Of the next file. How many names there are is no such number: one may come twice.
        let mut number = 0;
        while let Some(entry) = tar.next_entry()? {
            let name = normal(&entry.path, Path::new(""))?;
            if self.files.len().max(number) >= MAX_FILES {
                return Err(io::Error::other(format!("it has more than {MAX_FILES} files")));
            }
            match entry.kind {
                Kind::Symlink | Kind::HardLink => {
                    let from = match entry.kind {
                        Kind::HardLink => Path::new(""),
                        _ => Path::new(&name).parent().unwrap_or(Path::new("")),
                    };
                    let target = normal(&entry.link, from)?;
                    self.files.insert(name, SpooledEntry::Link(target));
                }
                Kind::File => {
                    // With its holes filled in.
                    space.allow(entry.size)?;
                    let mut file = File::create(self.path(number))?;
                    let mut content = Digesting::new(tar.content());
                    let size = io::copy(&mut content, &mut file)?;
                    self.files.insert(name, SpooledEntry::File { number, digest: content.finish(), size });
                    number += 1;
                }
                _ => {}
            }
        }
        // To the end, so that the sender is not cut off.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map(drop)
    }

    fn path(&self, number: usize) -> std::path::PathBuf {
        self.dir.path().join(number.to_string())
    }

    fn find(&self, name: &str) -> Result<(usize, &str, u64)> {
        let mut wanted = name;
        for _ in 0..MAX_LINKS {
            match self.files.get(wanted) {
                Some(SpooledEntry::File { number, digest, size }) => return Ok((*number, digest, *size)),
                Some(SpooledEntry::Link(target)) => wanted = target,
                None => break,
            }
        }
        Err(RuntimeError::BadArchive(format!("it lacks {name}")))
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// A file, to be read from its beginning.
    pub fn open(&self, name: &str) -> Result<File> {
        let path = self.path(self.find(name)?.0);
        File::open(&path).map_err(RuntimeError::io("open", &path))
    }

    /// A small file's text.
    pub fn text(&self, name: &str) -> Result<String> {
        let (_, _, size) = self.find(name)?;
        if size > MAX_TEXT {
            return Err(RuntimeError::BadArchive(format!(
                "{name} has {size} bytes, and at most {MAX_TEXT} are read"
            )));
        }
        let mut text = String::new();
        self.open(name)?
            .read_to_string(&mut text)
            .map_err(|error| RuntimeError::BadArchive(format!("{name}: {error}")))?;
        Ok(text)
    }

    /// The name of the blob with this digest (OCI image layout), whose content has it indeed.
    pub fn blob(&self, digest: &str) -> Result<String> {
        let name = format!("blobs/{}", digest.replacen(':', "/", 1));
        let (_, actual, _) = self.find(&name)?;
        match actual == digest {
            true => Ok(name),
            false => Err(RuntimeError::BadArchive(format!("{name} is damaged: its digest is {actual}"))),
        }
    }
}

/// A path without `.` and `..`.
fn normal(path: &[u8], from: &Path) -> io::Result<String> {
    if path.len() > MAX_NAME {
        return Err(io::Error::other(format!("a name of {} bytes: at most {MAX_NAME} are read", path.len())));
    }
    let path = Path::new(OsStr::from_bytes(path));
    let mut parts: Vec<String> = Vec::new();
    for component in from.components().chain(path.components()) {
        match component {
            Component::Normal(part) => {
                // Those that we look for are text.
                parts.push(part.to_string_lossy().into_owned());
            }
            Component::ParentDir => {
                if parts.pop().is_none() {
                    return Err(io::Error::other(format!("{} leads out of the archive", path.display())));
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::image::UnpackLimit;

    #[test]
    fn a_name_that_comes_twice_is_the_last_and_takes_no_others_place() {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in [("a", "one"), ("b", "two"), ("a", "three"), ("c", "four")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let space = Space::of(dir.path(), UnpackLimit::default()).unwrap();
        let spool = Spool::read(dir, tar.into_inner().unwrap().as_slice(), &space).unwrap();
        for (name, content) in [("a", "three"), ("b", "two"), ("c", "four")] {
            assert_eq!(spool.text(name).unwrap(), content, "{name}");
        }
    }
}
