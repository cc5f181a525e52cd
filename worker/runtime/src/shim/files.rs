//! Files of containers, as they come and go: those of one that runs as it sees them, those of one that does not from a mount of
//! its own. One that was never started gets its layer when somebody writes to it or looks into it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use proto::model::ContainerId;
use serde_json::Value;
use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot},
    task::spawn_blocking,
};

use super::{ShimRuntime, panicked, prepare};
use crate::{
    Result, RuntimeError,
    tree::{
        PathStat, Tree, Wanted,
        changes::{self, Change},
        extract::{ExtractError, ExtractOptions},
        pack::Packer,
        view::Stopped,
    },
};

/// Pieces of an archive on their way to whoever wants it.
pub(super) const AHEAD: usize = 16;
/// Bytes of such a piece.
const PIECE: usize = 64 << 10;

/// Who uses the files of which container that does not run: one at a time, and it is not started meanwhile.
#[derive(Debug, Clone, Default)]
pub struct FileLocks(Arc<Mutex<BTreeMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>>);

impl FileLocks {
    /// Waits until nobody else has it.
    pub async fn take(&self, id: &ContainerId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(id.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// Where a container's files are to be had.
enum Source {
    Running(PathBuf),
    /// It is not started as long as this lives.
    Stopped {
        files: Stopped,
        _lock: OwnedMutexGuard<()>,
    },
}

impl Source {
    fn open(&self, volumes: bool) -> io::Result<Tree> {
        match self {
            Source::Running(root) => Tree::new(root),
            Source::Stopped { files, .. } => files.mount(volumes),
        }
    }
}

/// A reader of an archive.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Passes on what is written, by the piece.
pub(super) struct Sender {
    to: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Sender {
    pub(super) fn new(to: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self { to, piece: Vec::with_capacity(PIECE) }
    }
}

impl Write for Sender {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(data);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.to.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Does something on a thread of its own, which may mount what it likes.
fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T>>> {
    let (answer, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("files".to_owned());
    let started = thread.spawn(move || _ = answer.send(work()));
    started
        .map(|_| result)
        .map_err(|error| RuntimeError::Io { what: "start a thread".to_owned(), cause: error.to_string() })
}

fn broken(_: oneshot::error::RecvError) -> RuntimeError {
    RuntimeError::Io {
        what: "read files of a container".to_owned(),
        cause: "it has been broken off".to_owned(),
    }
}

/// What went wrong with a path in a container.
fn failed<'a>(path: &'a str, container: &'a str) -> impl Fn(io::Error) -> RuntimeError + use<'a> {
    move |error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            RuntimeError::NoSuchFile { path: path.to_owned(), container: container.to_owned() }
        }
        _ => RuntimeError::io("read from the container", Path::new(path))(error),
    }
}

impl ShimRuntime {
    /// `image` is what one that was never started is to be made from.
    async fn source(&self, id: &ContainerId, image: Option<&str>) -> Result<Source> {
        let lock = self.files.take(id).await;
        let dir = self.config.dir(id.as_str());
        match self.record(id) {
            Ok((_, state)) => match state.pid() {
                Some(pid) => Ok(Source::Running(PathBuf::from(format!("/proc/{pid}/root")))),
                None => {
                    let path = dir.join("bundle/config.json");
                    let text = tokio::fs::read(&path).await.map_err(RuntimeError::io("read", &path))?;
                    let config: Value = serde_json::from_slice(&text).unwrap_or_default();
                    Ok(Source::Stopped { files: Stopped::of(&dir, &config), _lock: lock })
                }
            },
            Err(error) => {
                let Some(image) = image else { return Err(error) };
                self.prepare_files(id, image).await?;
                Ok(Source::Stopped { files: Stopped { dir, ..Stopped::default() }, _lock: lock })
            }
        }
    }

    /// Gives a container that was never started its own layer; its image is settled by that.
    async fn prepare_files(&self, id: &ContainerId, image: &str) -> Result<()> {
        if self.table().prepared.contains_key(id) {
            return Ok(());
        }
        let _making = self.making.read().await;
        let image = self.images.resolve(image)?;
        let (place, images, name, id) =
            (Arc::clone(&self.config), Arc::clone(&self.images), id.to_string(), id.clone());
        let image_id = image.id.clone();
        spawn_blocking(move || prepare::prepare_files(&place, &images, &image, &name))
            .await
            .map_err(panicked)??;
        self.table().prepared.insert(id, image_id);
        Ok(())
    }

    /// Forgets the layers of containers that were never started and are not defined any more.
    pub async fn forget_files(&self, is_defined: impl Fn(&ContainerId) -> bool + Send) {
        let all: Vec<ContainerId> = self.table().prepared.keys().cloned().collect();
        for id in all.into_iter().filter(|id| !is_defined(id)) {
            self.discard_files(&id).await;
        }
    }

    pub(super) async fn discard_files(&self, id: &ContainerId) {
        if self.table().prepared.remove(id).is_some() {
            let (config, name) = (Arc::clone(&self.config), id.to_string());
            let _ = spawn_blocking(move || prepare::discard(&config, &name)).await;
        }
    }

    /// What is at a path.
    ///
    /// # Errors
    /// There is nothing, or no such container.
    pub async fn stat_path(&self, id: &ContainerId, image: Option<&str>, path: &str) -> Result<PathStat> {
        let source = self.source(id, image).await?;
        let (wanted, path, name) = (Wanted::of(path), path.to_owned(), id.to_string());
        let result = on_thread(move || {
            let failed = failed(&path, &name);
            source.open(true).map_err(&failed)?.stat(&wanted).map_err(failed)
        })?;
        result.await.map_err(broken)?
    }

    /// What is at a path, and all of it as a tar.
    ///
    /// # Errors
    /// There is nothing, or no such container. What goes wrong later ends the archive.
    pub async fn read_path(
        &self,
        id: &ContainerId,
        image: Option<&str>,
        path: &str,
    ) -> Result<(PathStat, Pieces)> {
        let source = self.source(id, image).await?;
        let (wanted, path, name) = (Wanted::of(path), path.to_owned(), id.to_string());
        let (pieces, archive) = mpsc::channel(AHEAD);
        let (say, said) = oneshot::channel();
        on_thread(move || {
            let failed = failed(&path, &name);
            let opened = source.open(true).and_then(|tree| tree.stat(&wanted).map(|stat| (tree, stat)));
            let (tree, stat) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    let _ = say.send(Err(failed(error)));
                    return Ok(());
                }
            };
            if say.send(Ok(stat)).is_err() {
                return Ok(());
            }
            if let Err(error) = Packer::new(&tree, Sender::new(pieces.clone()), false).pack(&wanted) {
                let _ = pieces.blocking_send(Err(error));
            }
            Ok(())
        })?;
        Ok((said.await.map_err(broken)??, archive))
    }

    /// Puts the files of a tar into a directory; `as_its_user` = they belong to the container's user.
    ///
    /// # Errors
    /// There is no such directory, it is not to be written to, or the archive does not fit.
    pub async fn write_path(
        &self,
        id: &ContainerId,
        image: Option<&str>,
        path: &str,
        archive: impl Read + Send + 'static,
        keep_kinds: bool,
        as_its_user: bool,
    ) -> Result<()> {
        let source = self.source(id, image).await?;
        let owner = if as_its_user { self.user_of(id).await } else { None };
        let options = ExtractOptions { keep_kinds, owner };
        let (wanted, path, name) = (Wanted::of(path), path.to_owned(), id.to_string());
        let result = on_thread(move || {
            let tree = source.open(true).map_err(failed(&path, &name))?;
            tree.extract(&wanted.path, archive, options).map_err(|error| match error {
                ExtractError::Missing => RuntimeError::NoSuchFile { path, container: name },
                ExtractError::NotADirectory => RuntimeError::Invalid(error.to_string()),
                ExtractError::ReadOnly(_) => RuntimeError::Denied(error.to_string()),
                ExtractError::Archive(error) => RuntimeError::BadArchive(error.to_string()),
            })
        })?;
        result.await.map_err(broken)?
    }

    /// The user that a container runs as, if that is not root.
    async fn user_of(&self, id: &ContainerId) -> Option<(u32, u32)> {
        let path = self.config.dir(id.as_str()).join("bundle/config.json");
        let config: Value = serde_json::from_slice(&tokio::fs::read(path).await.ok()?).ok()?;
        let number =
            |key: &str| config["process"]["user"][key].as_u64().and_then(|id| u32::try_from(id).ok());
        number("uid").zip(number("gid")).filter(|user| *user != (0, 0))
    }

    /// All files of its root file system as a tar, without what is mounted over it.
    ///
    /// # Errors
    /// There is no such container. What goes wrong later ends the archive.
    pub async fn export(&self, id: &ContainerId, image: Option<&str>) -> Result<Pieces> {
        let source = self.source(id, image).await?;
        let (pieces, archive) = mpsc::channel(AHEAD);
        on_thread(move || {
            let packed = source
                .open(false)
                .and_then(|tree| Packer::new(&tree, Sender::new(pieces.clone()), true).pack_root().map(drop));
            if let Err(error) = packed {
                let _ = pieces.blocking_send(Err(error));
            }
            Ok(())
        })?;
        Ok(archive)
    }

    /// What it has changed of its image, by path.
    ///
    /// # Errors
    /// Its layer cannot be read.
    pub async fn changes(&self, id: &ContainerId) -> Result<Vec<Change>> {
        let dir = self.config.dir(id.as_str());
        if self.record(id).is_err() && !self.table().prepared.contains_key(id) {
            return Ok(Vec::new());
        }
        let look = move || {
            let links = dir.join("lower");
            let names = std::fs::read_dir(&links).map_err(RuntimeError::io("read", &links))?;
            let mut layers: Vec<(u32, PathBuf)> = names
                .flatten()
                .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
                .collect();
            layers.sort();
            let layers: Vec<PathBuf> = layers.into_iter().map(|(_, path)| path).collect();
            changes::changes(&dir.join("upper"), &layers).map_err(RuntimeError::io("read", &dir))
        };
        spawn_blocking(look).await.map_err(panicked)?
    }
}
