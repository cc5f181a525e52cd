//! Images: what is here, and how it comes and goes.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use proto::{error::ApiError, parse::InvalidReference, pb};
use runtime::{
    Chunks, Credentials, Event, Image, ImportOptions, LayerStep, Loaded, Platform, Progress, PruneFilter,
    Reference, Removed,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Local, Reply, refused};

/// Chunks of an archive on their way to the disk.
const AHEAD: usize = 8;

pub(super) fn to_pb(image: Image) -> pb::Image {
    pb::Image {
        id: image.id,
        tags: image.tags,
        created_at: image.created_at,
        size: image.size,
        config_json: image.config_json,
        layers: image.layers.iter().map(|l| l.display().to_string()).collect(),
        digests: image.digests,
    }
}

/// Feeds an archive that arrives in messages to a reader on another thread.
fn feed<M: Send + 'static>(
    first: Vec<u8>,
    mut stream: Streaming<M>,
    data: fn(M) -> Vec<u8>,
) -> (Chunks, impl Future<Output = ()>) {
    let (chunks, archive) = mpsc::channel(AHEAD);
    let feed = async move {
        if !first.is_empty() && chunks.send(Ok(first.into())).await.is_err() {
            return;
        }
        loop {
            let next = match stream.message().await {
                Ok(Some(message)) => Ok(data(message).into()),
                Ok(None) => return,
                // Cut off: what came so far is not the archive.
                Err(status) => Err(std::io::Error::other(status.message().to_owned())),
            };
            let last = next.is_err();
            if chunks.send(next).await.is_err() || last {
                return;
            }
        }
    };
    (archive.into(), feed)
}

/// `os/arch[/variant]`; empty = this machine's.
fn platform(text: &str) -> Result<Platform, Status> {
    if text.is_empty() { Ok(Platform::own()) } else { Platform::parse(text).map_err(refused) }
}

fn renamed(list: Vec<(String, String)>) -> Vec<pb::RenamedImage> {
    list.into_iter().map(|(tag, id)| pb::RenamedImage { tag, id }).collect()
}

impl Local {
    pub(super) async fn import_image(
        &self,
        mut stream: Streaming<pb::ImportRequest>,
    ) -> Reply<pb::ImportReply> {
        let Some(first) = stream.message().await? else {
            return Err(ApiError::invalid("nothing to import").into());
        };
        let reference = first.reference.clone();
        let options =
            ImportOptions { reference: first.reference, message: first.message, changes: first.changes };
        let (archive, feed) = feed(first.data, stream, |m: pb::ImportRequest| m.data);
        let (id, ()) = tokio::join!(self.daemon.runtime.import(archive, options), feed);
        let id = id.map_err(refused)?;
        self.image_event("import", &id, &reference);
        Ok(Response::new(pb::ImportReply { id }))
    }

    pub(super) async fn load_images(&self, mut stream: Streaming<pb::LoadRequest>) -> Reply<pb::LoadReply> {
        let Some(first) = stream.message().await? else {
            return Err(ApiError::invalid("nothing to load").into());
        };
        let platform = platform(&first.platform)?;
        let (archive, feed) = feed(first.data, stream, |m: pb::LoadRequest| m.data);
        let (loaded, ()) = tokio::join!(self.daemon.runtime.load(archive, platform), feed);
        let loaded = loaded.map_err(refused)?;
        for image in &loaded {
            self.image_event("load", &image.id, image.tags.first().unwrap_or(&image.id));
        }
        let images = loaded.into_iter().map(|Loaded { id, tags, renamed: old }| pb::LoadedImage {
            id,
            tags,
            renamed: renamed(old),
        });
        Ok(Response::new(pb::LoadReply { images: images.collect() }))
    }

    pub(super) fn tag_image(&self, request: pb::TagImageRequest) -> Reply<pb::TagImageReply> {
        let images = self.daemon.runtime.images();
        images.tag(&request.source, &request.target).map_err(refused)?;
        if let Ok(image) = images.resolve(&request.target) {
            self.image_event("tag", &image.id, &request.target);
        }
        Ok(Response::new(pb::TagImageReply {}))
    }

    pub(super) async fn remove_image(&self, request: pb::RemoveImageRequest) -> Reply<pb::RemoveImageReply> {
        let removed = self.daemon.runtime.remove_image(&request.key, request.force).await.map_err(refused)?;
        self.removal_events(&removed);
        Ok(Response::new(pb::RemoveImageReply { untagged: removed.untagged, deleted: removed.deleted }))
    }

    pub(super) async fn prune_images(&self, request: pb::PruneImagesRequest) -> Reply<pb::PruneImagesReply> {
        let label = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text, None),
        };
        let filter = PruneFilter {
            all: request.all,
            until: (request.until != 0).then_some(request.until),
            labels: request.labels.into_iter().map(label).collect(),
            not_labels: request.not_labels.into_iter().map(label).collect(),
        };
        let removed = self.daemon.runtime.prune_images(filter).await.map_err(refused)?;
        self.removal_events(&removed);
        let event = Event::local("image", "prune", "").with("reclaimed", removed.reclaimed);
        self.daemon.runtime.events().publish(event);
        Ok(Response::new(pb::PruneImagesReply {
            untagged: removed.untagged,
            deleted: removed.deleted,
            reclaimed: removed.reclaimed,
        }))
    }

    /// Streams what goes on. Whoever stops listening stops the pull; what has arrived stays for the next one.
    pub(super) fn pull_image(
        &self,
        request: pb::PullImageRequest,
    ) -> Reply<BoxStream<'static, Result<pb::PullProgress, Status>>> {
        let reference: Reference =
            request.reference.parse().map_err(|e: InvalidReference| refused(e.into()))?;
        let platform = platform(&request.platform)?;
        let credentials = credentials(request.auth, &reference);
        let (sender, receiver) = mpsc::channel(64);
        let daemon = Arc::clone(&self.daemon);
        tokio::spawn(async move {
            let told = sender.clone();
            let hear = move |progress| {
                if let Some(message) = shown(progress) {
                    // Steps are few; of what arrives in between, a slow reader may miss some.
                    let _ = told.try_send(Ok(message));
                }
            };
            let pulling =
                daemon.runtime.registries().pull(&reference, credentials.as_ref(), &platform, &hear);
            let result = tokio::select! {
                result = pulling => result,
                () = sender.closed() => return,
            };
            let last = match result {
                Ok(pulled) => {
                    let name = reference.to_string();
                    daemon
                        .runtime
                        .events()
                        .publish(Event::local("image", "pull", &name).with("name", reference.name()));
                    Ok(pb::PullProgress {
                        kind: Some(pb::pull_progress::Kind::Done(pb::pull_progress::Done {
                            id: pulled.id,
                            digest: pulled.digest,
                            newer: pulled.newer,
                            name,
                        })),
                    })
                }
                Err(error) => Err(refused(error)),
            };
            let _ = sender.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    /// What a name means to its registry. A name without a registry that is here by `load` or `import` is our own: no
    /// registry knows better.
    pub(super) async fn resolve_image(
        &self,
        request: pb::ResolveImageRequest,
    ) -> Reply<pb::ResolveImageReply> {
        let reference: Reference =
            request.reference.parse().map_err(|e: InvalidReference| refused(e.into()))?;
        let here = self.daemon.runtime.images().resolve(&request.reference).ok();
        let ours = here.is_some_and(|image| image.digests.is_empty());
        if reference.digest().is_some() || (ours && !reference.names_registry()) {
            return Ok(Response::new(pb::ResolveImageReply::default()));
        }
        let credentials = credentials(request.auth, &reference);
        let resolved = self
            .daemon
            .runtime
            .registries()
            .resolve(&reference, credentials.as_ref())
            .await
            .map_err(refused)?;
        Ok(Response::new(pb::ResolveImageReply {
            reference: format!("{reference}@{}", resolved.digest),
            platforms: resolved.platforms.iter().map(ToString::to_string).collect(),
        }))
    }

    pub(super) async fn login(&self, auth: pb::RegistryAuth) -> Reply<pb::LoginReply> {
        let credentials = Credentials { username: auth.username, password: auth.password };
        self.daemon.runtime.registries().login(&auth.server, &credentials).await.map_err(refused)?;
        Ok(Response::new(pb::LoginReply { status: "Login Succeeded".into() }))
    }

    pub(crate) fn image_event(&self, action: &str, id: &str, name: &str) {
        let event = Event::local("image", action, id);
        self.daemon.runtime.events().publish(if name.is_empty() { event } else { event.with("name", name) });
    }

    fn removal_events(&self, removed: &Removed) {
        for name in &removed.untagged {
            self.image_event("untag", name, name);
        }
        for id in &removed.images {
            self.image_event("delete", id, id);
        }
    }
}

/// Credentials are for the registry they were given for.
fn credentials(auth: Option<pb::RegistryAuth>, reference: &Reference) -> Option<Credentials> {
    let auth = auth.filter(|a| !a.username.is_empty() && a.server == reference.registry())?;
    Some(Credentials { username: auth.username, password: auth.password })
}

fn shown(progress: Progress) -> Option<pb::PullProgress> {
    use pb::pull_progress::{Kind, Layer, Started, layer::Step};
    let kind = match progress {
        Progress::Started { what, from } => Kind::Started(Started { what, from }),
        Progress::Layer { id, step } => {
            let (step, current, total) = match step {
                LayerStep::Waiting => (Step::Waiting, 0, 0),
                LayerStep::Exists => (Step::Exists, 0, 0),
                LayerStep::Downloading { current, total } => (Step::Downloading, current, total),
                LayerStep::Downloaded => (Step::Downloaded, 0, 0),
                LayerStep::Complete => (Step::Complete, 0, 0),
            };
            Kind::Layer(Layer { id, step: step.into(), current, total })
        }
        // Comes with the result.
        Progress::Digest(_) => return None,
    };
    Some(pb::PullProgress { kind: Some(kind) })
}
