//! Pushing an image.

use std::{
    fs::File,
    io::{self, Write},
    sync::PoisonError,
};

use flate2::{Compression, write::GzEncoder};
use futures::stream;
use oci_client::{RegistryOperation, errors::OciDistributionError};
use serde_json::json;
use tokio::{io::AsyncReadExt, sync::watch, task::spawn_blocking};

use super::{Credentials, LayerDescriptor, Registries, Session, remote};
use crate::{
    Result, RuntimeError,
    image::{Image, Reference, digest_of, hex, hex_of},
};

/// Docker's form of an image, which every registry takes.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Bytes that are read at once of what is sent.
const PIECE: usize = 64 << 10;

/// What becomes of a layer that is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStep {
    /// It is looked for, and compressed if it has to be sent.
    Preparing,
    /// The registry has it.
    Exists,
    /// It is sent.
    Pushing {
        /// Bytes that have been sent.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry has it now.
    Pushed,
}

/// What a push has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest that the registry gives the image.
    pub digest: String,
    /// Bytes of its manifest.
    pub size: u64,
}

/// Counts and digests what is written.
struct Counted<W> {
    out: W,
    digest: ring::digest::Context,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let len = self.out.write(data)?;
        self.digest.update(data.get(..len).unwrap_or_default());
        self.size += u64::try_from(len).unwrap_or_default();
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Registries {
    /// Gives an image that is here to its registry, under this name. Layers that the registry has are not sent. `progress` hears
    /// what becomes of each layer, by the beginning of its diff id.
    ///
    /// # Errors
    /// There is no such image here, the registry does not take it, or a layer's archive cannot be rebuilt.
    pub async fn push(
        &self,
        name: &Reference,
        credentials: Option<&Credentials>,
        progress: &(dyn Fn(String, PushStep) + Send + Sync),
    ) -> Result<Pushed> {
        let (image, _held) =
            self.store.resolve_and_hold(&name.tagged()).map_err(|_| RuntimeError::NoSuchImage {
                image: name.tagged(),
                why: "there is none of this name to push".to_owned(),
            })?;
        for diff_id in &image.document.rootfs.diff_ids {
            progress(short(diff_id), PushStep::Preparing);
        }
        let session = self.open(name, credentials).await?;
        session.allow_push().await?;
        let mut layers = Vec::new();
        for (n, diff_id) in image.document.rootfs.diff_ids.iter().enumerate() {
            let again = image.document.rootfs.diff_ids.iter().take(n).position(|earlier| earlier == diff_id);
            let layer = match again.and_then(|at| layers.get(at).cloned()) {
                Some(known) => known,
                None => self.push_layer(&session, diff_id, progress).await?,
            };
            layers.push(layer);
        }
        let pushed = session.push_manifest(&image, &layers).await?;
        self.store.name_by_digest(&image.id, name, &pushed.digest)?;
        Ok(pushed)
    }

    async fn push_layer(
        &self,
        session: &Session,
        diff_id: &str,
        progress: &(dyn Fn(String, PushStep) + Send + Sync),
    ) -> Result<LayerDescriptor> {
        let tell = |step| progress(short(diff_id), step);
        let known = self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(diff_id).cloned();
        if let Some(known) = known
            && session.has_blob(&known.digest).await?
        {
            tell(PushStep::Exists);
            return Ok(known);
        }
        let (file, layer) = self.compressed(diff_id).await?;
        self.remember(diff_id, layer.clone());
        if session.has_blob(&layer.digest).await? {
            tell(PushStep::Exists);
            return Ok(layer);
        }
        let total = layer.size;
        let (sent, mut seen) = watch::channel(0);
        {
            let sending = session.push_blob(file, &layer, sent);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    done = &mut sending => {
                        done?;
                        break;
                    }
                    Ok(()) = seen.changed() => {
                        let current = *seen.borrow_and_update();
                        tell(PushStep::Pushing { current, total });
                    }
                }
            }
        }
        tell(PushStep::Pushed);
        Ok(layer)
    }

    /// Remembers as what a layer can be had from registries, and given to them.
    pub(super) fn remember(&self, diff_id: &str, layer: LayerDescriptor) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(diff_id.to_owned(), layer);
    }

    /// A layer's tar, compressed, in a file without a name.
    async fn compressed(&self, diff_id: &str) -> Result<(File, LayerDescriptor)> {
        let (store, diff_id) = (self.store.clone(), diff_id.to_owned());
        let compress = move || {
            let (_, mut tar) = store.layer_tar(&diff_id)?;
            let failed = |error: io::Error| RuntimeError::Io {
                what: format!("compress layer {diff_id}"),
                cause: error.to_string(),
            };
            let file = tempfile::tempfile_in(store.root.join("new")).map_err(failed)?;
            let digest = ring::digest::Context::new(&ring::digest::SHA256);
            let counted = Counted { out: file.try_clone().map_err(failed)?, digest, size: 0 };
            let mut gzip = GzEncoder::new(io::BufWriter::with_capacity(PIECE, counted), Compression::fast());
            io::copy(&mut tar, &mut gzip).map_err(failed)?;
            let counted =
                gzip.finish().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
            let counted = counted.map_err(failed)?;
            let digest = format!("sha256:{}", hex(counted.digest.finish().as_ref()));
            let layer = LayerDescriptor { media_type: LAYER.to_owned(), digest, size: counted.size };
            Ok((file, layer))
        };
        spawn_blocking(compress)
            .await
            .map_err(|e| RuntimeError::Io { what: "compress a layer".to_owned(), cause: e.to_string() })?
    }
}

impl Session {
    async fn allow_push(&self) -> Result<()> {
        let target = remote(&self.image)?;
        let allowed = self.client.auth(&target, &self.auth, RegistryOperation::Push).await;
        allowed.map(drop).map_err(|error| self.explain_push(error))
    }

    async fn has_blob(&self, digest: &str) -> Result<bool> {
        let there = self.client.blob_exists(&remote(&self.image)?, digest).await;
        there.map_err(|error| self.explain_push(error))
    }

    async fn push_blob(&self, file: File, layer: &LayerDescriptor, sent: watch::Sender<u64>) -> Result<()> {
        use std::io::Seek;
        let mut file = file;
        let failed = |error: io::Error| RuntimeError::Io {
            what: "read a compressed layer".to_owned(),
            cause: error.to_string(),
        };
        file.rewind().map_err(failed)?;
        let pieces = stream::try_unfold(
            (tokio::fs::File::from_std(file), sent, 0),
            |(mut file, sent, at)| async move {
                let mut piece = vec![0; PIECE];
                let len = file.read(&mut piece).await.map_err(OciDistributionError::IoError)?;
                if len == 0 {
                    return Ok(None);
                }
                piece.truncate(len);
                let at = at + u64::try_from(len).unwrap_or_default();
                sent.send_replace(at);
                Ok(Some((bytes::Bytes::from(piece), (file, sent, at))))
            },
        );
        let target = remote(&self.image)?;
        let pushed = self.client.push_blob_stream(&target, pieces, &layer.digest, Some(layer.size)).await;
        pushed.map(drop).map_err(|error| self.explain_push(error))
    }

    async fn push_manifest(&self, image: &Image, layers: &[LayerDescriptor]) -> Result<Pushed> {
        let target = remote(&self.image)?;
        let explain = |error| self.explain_push(error);
        if !self.has_blob(&image.id).await? {
            let config = image.config_json.clone().into_bytes();
            self.client.push_blob(&target, config, &image.id).await.map_err(explain)?;
        }
        let one =
            |l: &LayerDescriptor| json!({"mediaType": l.media_type, "size": l.size, "digest": l.digest});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": image.config_json.len(), "digest": image.id},
            "layers": layers.iter().map(one).collect::<Vec<_>>(),
        });
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        let (digest, size) = (digest_of(&text), u64::try_from(text.len()).unwrap_or(u64::MAX));
        let kind = MANIFEST.parse().map_err(|_| RuntimeError::BadImage("no media type".to_owned()))?;
        self.client.push_manifest_raw(&target, text, kind).await.map_err(explain)?;
        Ok(Pushed { digest, size })
    }

    /// The registry's refusal, in terms of a push.
    fn explain_push(&self, error: OciDistributionError) -> RuntimeError {
        if super::explain::is_unauthorized(&error) {
            let message = format!(
                "push access denied for {}, repository does not exist or may require 'rnctl login {}'",
                self.image.name(),
                self.image.registry()
            );
            return RuntimeError::Registry { message, denied: true };
        }
        self.explain(error)
    }
}

fn short(diff_id: &str) -> String {
    hex_of(diff_id).get(..12).unwrap_or(diff_id).to_owned()
}
