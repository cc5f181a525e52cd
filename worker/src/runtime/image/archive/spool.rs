//! An archive's files on disk, to be read in any order. Names in the archive are keys, never paths.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::{Component, Path},
};

use tar::{Archive, EntryType};
use tempfile::TempDir;

use crate::runtime::{
    Result, RuntimeError,
    image::unpack::{Digesting, decompressed},
};

/// A manifest or configuration is a few kilobytes.
const MAX_TEXT: u64 = 16 << 20;
/// Links lead to a file, not in circles.
const MAX_LINKS: usize = 8;

enum Kept {
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
    files: BTreeMap<String, Kept>,
}

impl Spool {
    /// Reads the whole archive.
    pub fn read(dir: TempDir, archive: impl Read) -> Result<Self> {
        let mut spool = Self { dir, files: BTreeMap::new() };
        spool.fill(archive).map_err(|error| RuntimeError::BadArchive(error.to_string()))?;
        if spool.files.is_empty() {
            return Err(RuntimeError::BadArchive("it is empty, or not a tar".to_owned()));
        }
        Ok(spool)
    }

    fn fill(&mut self, archive: impl Read) -> io::Result<()> {
        let mut archive = Archive::new(BufReader::with_capacity(64 << 10, decompressed(archive)?));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = normal(&entry.path()?, Path::new(""))?;
            match entry.header().entry_type() {
                EntryType::Symlink | EntryType::Link => {
                    let target =
                        entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
                    let from = match entry.header().entry_type() {
                        EntryType::Link => Path::new(""),
                        _ => Path::new(&name).parent().unwrap_or(Path::new("")),
                    };
                    let target = normal(&target, from)?;
                    self.files.insert(name, Kept::Link(target));
                }
                EntryType::Regular | EntryType::Continuous => {
                    let number = self.files.len();
                    let mut file = File::create(self.path(number))?;
                    let mut content = Digesting::new(&mut entry);
                    let size = io::copy(&mut content, &mut file)?;
                    self.files.insert(name, Kept::File { number, digest: content.finish(), size });
                }
                _ => {}
            }
        }
        // To the end, so that the sender is not cut off.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
    }

    fn path(&self, number: usize) -> std::path::PathBuf {
        self.dir.path().join(number.to_string())
    }

    fn find(&self, name: &str) -> Result<(usize, &str, u64)> {
        let mut wanted = name;
        for _ in 0..MAX_LINKS {
            match self.files.get(wanted) {
                Some(Kept::File { number, digest, size }) => return Ok((*number, digest, *size)),
                Some(Kept::Link(target)) => wanted = target,
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
            return Err(RuntimeError::BadArchive(format!("{name} is {size} bytes long")));
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
fn normal(path: &Path, from: &Path) -> io::Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in from.components().chain(path.components()) {
        match component {
            Component::Normal(part) => {
                parts.push(part.to_str().ok_or_else(|| io::Error::other("a name that is not UTF-8"))?);
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
