//! Pulling an image.

use std::{
    fs::{self, File},
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;

use super::{Credentials, LayerDescriptor, Platform, Registries, Session};
use crate::{
    Result, RuntimeError,
    image::{
        Reference, archive, hex_of,
        manifest::{Descriptor, Manifest, select},
    },
};

/// As dockerd's `max-concurrent-downloads`.
const CONCURRENT: usize = 3;
/// What arrived of a layer is of no use any more if nobody asks for the rest.
const PARTIAL_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It has begun.
    Started {
        /// The tag or digest.
        what: String,
        /// The repository.
        from: String,
    },
    /// A layer.
    Layer {
        /// The beginning of its digest.
        id: String,
        /// What has become of it.
        step: LayerStep,
    },
    /// The digest of what the name means.
    Digest(String),
}

/// What becomes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerStep {
    /// It is needed.
    Waiting,
    /// It is here.
    Exists,
    /// It arrives.
    Downloading {
        /// Bytes that are here.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It has arrived.
    Downloaded,
    /// It is unpacked.
    Complete,
}

/// What a pull has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id.
    pub id: String,
    /// The digest that the registry gives it.
    pub digest: String,
    /// Whether the name meant another image, or none, before.
    pub newer: bool,
    /// Tags that were taken from another image, which has no name left: the tag and that image's id.
    pub renamed: Vec<(String, String)>,
}

impl Registries {
    /// Gets an image from its registry, whatever is here. `progress` hears what goes on.
    pub async fn pull(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
        platform: &Platform,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Pulled> {
        let turn = self.turn(image);
        let _mine = turn.lock().await;
        self.pull_now(image, credentials, platform, progress).await
    }

    /// Gets an image from its registry unless it is here.
    pub async fn ensure(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        let turn = self.turn(image);
        let _mine = turn.lock().await;
        if self.store.resolve(&image.to_string()).is_ok() {
            return Ok(());
        }
        self.pull_now(image, credentials, &Platform::own(), progress).await.map(drop)
    }

    /// The lock of a name.
    fn turn(&self, image: &Reference) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(image.to_string()).or_default().clone()
    }

    async fn pull_now(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
        platform: &Platform,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Pulled> {
        let before = self.store.resolve(&image.to_string()).ok().map(|image| image.id);
        let session = self.open(image, credentials).await?;
        let (bytes, digest) = session.manifest(image).await?;
        let what = image.digest().or(image.tag()).unwrap_or("latest").to_owned();
        progress(Progress::Started { what, from: image.repository() });
        let (config, layers) = match Manifest::parse(&bytes)? {
            Manifest::Image { config, layers } => (config, layers),
            Manifest::Index(list) => {
                let chosen = select(&list, platform)?.digest.clone();
                let (bytes, _) = session.manifest(&image.canonical(&chosen)).await?;
                match Manifest::parse(&bytes)? {
                    Manifest::Image { config, layers } => (config, layers),
                    Manifest::Index(_) => {
                        return Err(RuntimeError::BadImage(format!("{image}: an index within an index")));
                    }
                }
            }
        };
        let partial = self.store.root.join("partial");
        let config = {
            let turn = self.turn_of_blob(&config.digest);
            let _mine = turn.lock().await;
            session.small_blob(&config, &partial).await?
        };
        let config = String::from_utf8(config)
            .map_err(|_| RuntimeError::BadImage("the image's configuration is not UTF-8".to_owned()))?;
        let document = archive::read_document(&config)?;
        let diff_ids = document.rootfs.diff_ids.clone();
        if diff_ids.len() != layers.len() {
            return Err(RuntimeError::BadImage(format!(
                "{image} has {} layers, its configuration names {}",
                layers.len(),
                diff_ids.len()
            )));
        }
        // From now until the image is there, nobody collects its layers.
        let _hold = self.store.hold(diff_ids.iter().cloned());
        for layer in &layers {
            progress(Progress::Layer { id: short(layer), step: LayerStep::Waiting });
        }
        let session = &session;
        // A layer that comes twice is fetched once. One blob that is said to be two layers is a lie, and found out by the second.
        let mut distinct: Vec<(Descriptor, String)> = Vec::new();
        for (layer, diff_id) in layers.into_iter().zip(diff_ids) {
            if !distinct.iter().any(|(known, id)| known.digest == layer.digest && *id == diff_id) {
                distinct.push((layer, diff_id));
            }
        }
        stream::iter(distinct)
            .map(Ok)
            .try_for_each_concurrent(CONCURRENT, |(layer, diff_id)| async move {
                self.layer(session, layer, diff_id, progress).await
            })
            .await?;
        progress(Progress::Digest(digest.clone()));
        let (store, names, known) = (self.store.clone(), [image.clone()], digest.clone());
        let loaded =
            spawn_blocking(move || store.install(config, document, &names, Some(&known))).await.map_err(
                |e| RuntimeError::io("run", "a blocking task".as_ref())(std::io::Error::other(e)),
            )??;
        self.forget_old_partials();
        Ok(Pulled {
            newer: before.as_ref() != Some(&loaded.id),
            id: loaded.id,
            digest,
            renamed: loaded.renamed,
        })
    }

    async fn layer(
        &self,
        session: &Session,
        layer: Descriptor,
        diff_id: String,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        let id = short(&layer);
        let tell = |step| progress(Progress::Layer { id: id.clone(), step });
        let blob = LayerDescriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
        };
        if self.store.has_layer(&diff_id) {
            tell(LayerStep::Exists);
            return Ok(());
        }
        // Another image that is being pulled may want the same blob.
        let turn = self.turn_of_blob(&layer.digest);
        let _mine = turn.lock().await;
        if !self.store.has_layer(&diff_id) {
            let partial = self.store.root.join("partial");
            let total = layer.size;
            let path = session
                .blob(&layer, &partial, &|current| tell(LayerStep::Downloading { current, total }))
                .await?;
            tell(LayerStep::Downloaded);
            let (store, id) = (self.store.clone(), diff_id.clone());
            let unpacked = spawn_blocking(move || {
                let file = File::open(&path).map_err(RuntimeError::io("open", &path))?;
                let result = store.add_layer(file, &id);
                // Good or not, it has served.
                let _ = fs::remove_file(&path);
                result
            });
            unpacked.await.map_err(|e| {
                RuntimeError::io("run", "a blocking task".as_ref())(std::io::Error::other(e))
            })??;
            self.remember(&diff_id, blob);
        }
        tell(LayerStep::Complete);
        Ok(())
    }

    fn turn_of_blob(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // No name of an image looks like this.
        turns.entry(format!("@{digest}")).or_default().clone()
    }

    fn forget_old_partials(&self) {
        let dir = self.store.root.join("partial");
        let old = SystemTime::now().checked_sub(PARTIAL_LIFE);
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|m| m.modified()).ok();
            if modified.zip(old).is_some_and(|(modified, old)| modified < old) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn short(layer: &Descriptor) -> String {
    hex_of(&layer.digest).get(..12).unwrap_or(&layer.digest).to_owned()
}
