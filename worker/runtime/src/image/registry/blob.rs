//! One blob, from the registry onto the disk: taken up again where it broke off, checked when it is whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt;
use oci_client::{client::BlobResponse, errors::OciDistributionError};

use super::{Session, explain, remote};
use crate::{
    Result, RuntimeError,
    image::{archive::MAX_TEXT, hex_of, manifest::Descriptor, space::Space, stream::Digesting},
};

/// As dockerd's `max-download-attempts`.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What stopped an attempt.
enum Stop {
    Registry(OciDistributionError),
    Disk(RuntimeError),
    Content(String),
}

impl Session {
    /// A small blob's content, checked.
    pub(super) async fn small_blob(&self, descriptor: &Descriptor, partial: &Path) -> Result<Vec<u8>> {
        if descriptor.size > MAX_TEXT {
            return Err(RuntimeError::BadImage(format!(
                "a configuration of {} bytes, and at most {MAX_TEXT} are read",
                descriptor.size
            )));
        }
        let path = self.blob(descriptor, partial, &|_| {}).await?;
        let content = fs::read(&path).map_err(RuntimeError::io("read", &path));
        let _ = fs::remove_file(&path);
        content
    }

    /// Gets a blob into the directory for partial ones; its file, whole and checked. `seen` hears how many bytes are there.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        partial: &Path,
        seen: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<PathBuf> {
        let hex = hex_of(&descriptor.digest);
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(RuntimeError::BadImage(format!("{:?} is not a sha256 digest", descriptor.digest)));
        }
        let path = partial.join(hex);
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let stop = match self.attempt(descriptor, &path, seen).await {
                Ok(()) => return Ok(path),
                Err(stop) => stop,
            };
            let (error, again) = match stop {
                Stop::Registry(error) => {
                    let passing = explain::is_passing(&error);
                    (self.explain(error), passing)
                }
                Stop::Disk(error) => (error, false),
                Stop::Content(why) => {
                    // Nothing of it is any good.
                    let _ = fs::remove_file(&path);
                    let message =
                        format!("registry {}: blob {}: {why}", self.image.registry(), descriptor.digest);
                    (RuntimeError::Registry { message, denied: false }, true)
                }
            };
            if !again || attempt >= ATTEMPTS {
                return Err(error);
            }
            tracing::info!(image = %self.image, digest = %descriptor.digest, %error, "pulled again in {pause:?}");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(RuntimeError::BadImage("no attempt was made".to_owned()))
    }

    async fn attempt(
        &self,
        descriptor: &Descriptor,
        path: &Path,
        seen: &(dyn Fn(u64) + Send + Sync),
    ) -> std::result::Result<(), Stop> {
        let disk = |error: io::Error| Stop::Disk(RuntimeError::io("write", path)(error));
        let mut have = fs::metadata(path).map_or(0, |there| there.len());
        if have > descriptor.size {
            fs::remove_file(path).map_err(disk)?;
            have = 0;
        }
        if have < descriptor.size {
            let target = remote(&self.image).map_err(Stop::Disk)?;
            let digest = descriptor.digest.as_str();
            let (mut stream, from) = match have {
                0 => (self.client.pull_blob_stream(&target, digest).await.map_err(Stop::Registry)?, 0),
                _ => match self
                    .client
                    .pull_blob_stream_partial(&target, digest, have, None)
                    .await
                    .map_err(Stop::Registry)?
                {
                    BlobResponse::Partial(stream) => (stream, have),
                    BlobResponse::Full(stream) => (stream, 0),
                },
            };
            // A registry may say, and send, what it likes.
            let space = Space::of(path.parent().unwrap_or(Path::new("/")), self.limit).map_err(Stop::Disk)?;
            space.allow(descriptor.size - from).map_err(disk)?;
            let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(disk)?;
            file.set_len(from).map_err(disk)?;
            let mut arrived = from;
            while let Some(chunk) = stream.next().await {
                // A digest that does not fit shows below too, and there it is told from a broken connection.
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(_) if arrived >= descriptor.size => break,
                    Err(error) => return Err(Stop::Registry(OciDistributionError::IoError(error))),
                };
                arrived += u64::try_from(chunk.len()).unwrap_or_default();
                if arrived > descriptor.size {
                    return Err(Stop::Content(format!("it is longer than {} bytes", descriptor.size)));
                }
                file.write_all(&chunk).map_err(disk)?;
                seen(arrived);
            }
            if arrived < descriptor.size {
                let short = format!("it broke off after {arrived} of {} bytes", descriptor.size);
                return Err(Stop::Registry(OciDistributionError::IoError(io::Error::other(short))));
            }
        }
        let (checked, wanted) = (path.to_owned(), descriptor.digest.clone());
        let digest = tokio::task::spawn_blocking(move || digest_of_file(&checked)).await;
        match digest {
            Ok(Ok(digest)) if digest == wanted => Ok(()),
            Ok(Ok(digest)) => Err(Stop::Content(format!("its content has digest {digest}"))),
            Ok(Err(error)) => Err(disk(error)),
            Err(error) => Err(disk(io::Error::other(error))),
        }
    }
}

fn digest_of_file(path: &Path) -> io::Result<String> {
    let mut content = Digesting::new(File::open(path)?);
    io::copy(&mut content, &mut io::sink())?;
    Ok(content.finish())
}
