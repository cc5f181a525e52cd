//! Files of this machine, into archives and out of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::Stream;
use tokio::{io::AsyncRead, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::SyncIoBridge;

use super::place::{Chosen, Target};
use crate::exit::Failure;

/// Pieces of an archive on their way to the daemon.
const AHEAD: usize = 8;

/// What is at a path; of a link, where it leads to.
pub fn target(path: &Path) -> Target {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Target::Directory,
        Ok(_) => Target::File,
        Err(_) => Target::Nothing,
    }
}

/// The file or directory that is to be copied, and whether it is a directory.
pub fn source(path: &str, follow: bool) -> Result<(PathBuf, bool), Failure> {
    let bad = |e: io::Error| Failure::local(format!("cannot read {path}: {e}"));
    let real = if follow { fs::canonicalize(path).map_err(bad)? } else { PathBuf::from(path) };
    // A slash at the end is for what a link leads to.
    let meta = if path.ends_with('/') { fs::metadata(&real) } else { fs::symlink_metadata(&real) };
    let meta = meta.map_err(bad)?;
    Ok((real, meta.is_dir()))
}

/// Writes a file, or a directory with what is in it, into an archive, under `name`; and how many bytes that has.
pub fn pack(
    path: PathBuf,
    name: String,
) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, JoinHandle<io::Result<u64>>) {
    let (pieces, archive) = mpsc::channel(AHEAD);
    let packing = tokio::task::spawn_blocking(move || {
        let mut writer = Pieces { pieces: pieces.clone(), written: 0 };
        let packed = write(&mut writer, &path, &name);
        if let Err(error) = &packed {
            // An archive that is cut off must not look whole.
            let _ = pieces.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
        }
        packed.map(|()| writer.written)
    });
    (ReceiverStream::new(archive), packing)
}

fn write(writer: &mut Pieces, path: &Path, name: &str) -> io::Result<()> {
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, writer));
    builder.follow_symlinks(false);
    match fs::symlink_metadata(path)?.is_dir() || name == "." {
        true => builder.append_dir_all(name, path)?,
        false => builder.append_path_with_name(path, name)?,
    }
    io::Write::flush(&mut builder.into_inner()?)
}

/// Passes on what is written to it.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    written: u64,
}

impl io::Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(data);
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.written = self.written.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks an archive with one file or directory in it; how many bytes it had.
pub async fn unpack(
    archive: impl AsyncRead + Send + Unpin + 'static,
    chosen: Chosen,
    keep_owner: bool,
) -> Result<u64, Failure> {
    let reader = SyncIoBridge::new(archive);
    let place =
        format!("{}/{}", chosen.dir.trim_end_matches('/'), chosen.name.as_deref().unwrap_or_default());
    let unpacked = tokio::task::spawn_blocking(move || read(reader, &chosen, keep_owner)).await;
    let unpacked = unpacked.map_err(io::Error::other).and_then(|unpacked| unpacked);
    unpacked.map_err(|e| Failure::local(format!("cannot write {place}: {}", proto::error::with_causes(&e))))
}

fn read(reader: impl io::Read, chosen: &Chosen, keep_owner: bool) -> io::Result<u64> {
    let counted = Counted { reader, read: 0 };
    let mut archive = tar::Archive::new(counted);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(keep_owner);
    let dir = Path::new(&chosen.dir);
    if let Some(name) = &chosen.name {
        // Under its own name beside the place, then to it.
        let beside = tempfile::tempdir_in(dir)?;
        archive.unpack(beside.path())?;
        let entry = fs::read_dir(beside.path())?.next();
        let entry = entry.ok_or_else(|| io::Error::other("the archive is empty"))??;
        place(&entry.path(), beside.path(), &dir.join(name))?;
    } else {
        archive.unpack(dir)?;
    }
    let mut counted = archive.into_inner();
    io::copy(&mut counted, &mut io::sink())?;
    Ok(counted.read)
}

/// Gives what was unpacked its place. A directory's own content may have come without the directory (`.`).
fn place(entry: &Path, beside: &Path, target: &Path) -> io::Result<()> {
    let several = fs::read_dir(beside)?.count() > 1;
    if !several {
        return durable::rename(entry, target);
    }
    fs::create_dir(target)?;
    for entry in fs::read_dir(beside)? {
        let entry = entry?;
        durable::rename(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}

struct Counted<R> {
    reader: R,
    read: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.read = self.read.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}
