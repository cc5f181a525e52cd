//! Images as commands see them: the store, the registries, and the containers that need images.

use std::{io::Read, sync::Arc};

use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    Pieces, ShimRuntime,
    files::{AHEAD, Sender},
    panicked,
};
use crate::{
    ContainerState, Credentials, Event, Image, ImagePin, ImageStore, ImportOptions, Loaded, Platform,
    Progress, PruneFilter, Reference, Registries, Removed, Result, RuntimeError, Users,
};

impl ShimRuntime {
    /// The images. Removal goes through [`ShimRuntime::remove_image`], which knows who needs them.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    /// Where images are pulled from.
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// Makes an image of a root file system archive; its id.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<String> {
        let images = Arc::clone(&self.images);
        spawn_blocking(move || images.import(archive, &options)).await.map_err(panicked)?
    }

    /// Brings in the images of an archive.
    pub async fn load(&self, archive: impl Read + Send + 'static, platform: Platform) -> Result<Vec<Loaded>> {
        let images = Arc::clone(&self.images);
        spawn_blocking(move || images.load(archive, &platform)).await.map_err(panicked)?
    }

    /// Images as an archive, from which [`ShimRuntime::load`] and `docker load` make the same images.
    ///
    /// # Errors
    /// There is no such image, or a layer of it cannot be given out. What goes wrong later ends the archive.
    pub async fn save(&self, keys: &[String]) -> Result<Pieces> {
        let (images, keys) = (Arc::clone(&self.images), keys.to_vec());
        let chosen = spawn_blocking(move || images.select(&keys)).await.map_err(panicked)??;
        let (pieces, archive) = mpsc::channel(AHEAD);
        let images = Arc::clone(&self.images);
        // Nobody waits for it but who reads the archive.
        drop(spawn_blocking(move || {
            if let Err(error) = images.save(&chosen, Sender::new(pieces.clone())) {
                let _ = pieces.blocking_send(Err(error));
            }
        }));
        Ok(archive)
    }

    /// Takes a name from an image, and deletes it with its last name; refused while a container needs it.
    pub async fn remove_image(&self, key: &str, force: bool) -> Result<Removed> {
        let _alone = self.making.write().await;
        let (images, key, users) = (Arc::clone(&self.images), key.to_owned(), self.users());
        spawn_blocking(move || images.remove(&key, force, &users)).await.map_err(panicked)?
    }

    /// Removes the images that no container needs, as far as the filter lets them through.
    pub async fn prune_images(&self, filter: PruneFilter) -> Result<Removed> {
        let _alone = self.making.write().await;
        let (images, users) = (Arc::clone(&self.images), self.users());
        spawn_blocking(move || images.prune(&filter, &users)).await.map_err(panicked)?
    }

    pub(super) fn users(&self) -> Users {
        let mut users = Users::default();
        let table = self.table();
        for (id, entry) in &table.containers {
            let map = match *entry.state.borrow() {
                ContainerState::Exited(_) => &mut users.ended,
                ContainerState::Created { .. } | ContainerState::Running { .. } => &mut users.live,
            };
            map.entry(entry.record.image_id.clone()).or_default().push(id.short().to_owned());
        }
        for (id, image) in &table.prepared {
            users.ended.entry(image.clone()).or_default().push(id.short().to_owned());
        }
        users
    }

    /// The image, from its registry if it is not here.
    pub(super) async fn bring_image(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Image, ImagePin)> {
        let missing = match self.images.resolve_and_hold(reference) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        // What is no name can only be an id.
        let Ok(name) = reference.parse::<Reference>() else { return Err(missing) };
        match self.registries.ensure(&name, credentials.as_ref(), progress).await {
            Ok(()) => {
                self.events
                    .publish(Event::local("image", "pull", &name.to_string()).with("name", name.name()));
                self.images.resolve_and_hold(reference)
            }
            Err(error @ RuntimeError::NoSuchImage { .. }) => Err(error),
            Err(error) => Err(RuntimeError::NoSuchImage { image: name.to_string(), why: error.to_string() }),
        }
    }
}
