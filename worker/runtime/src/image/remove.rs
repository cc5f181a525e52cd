//! `image rm` and `image prune`, by Docker's rules and in its words.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ImageStore, Reference, hex_of,
    index::{Index, repository},
};
use crate::{Result, RuntimeError};

/// The containers that need images, by image id.
#[derive(Debug, Clone, Default)]
pub struct Users {
    /// Short ids of containers that run, or are about to.
    pub live: BTreeMap<String, Vec<String>>,
    /// Short ids of containers that have ended.
    pub ended: BTreeMap<String, Vec<String>>,
}

/// What a removal has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<String>,
    /// Images deleted.
    pub images: Vec<String>,
    /// Images and layers deleted.
    pub deleted: Vec<String>,
    /// Bytes of the layers deleted.
    pub reclaimed: u64,
}

/// Which images `image prune` removes, of those that no container uses.
#[derive(Debug, Clone, Default)]
pub struct PruneFilter {
    /// Those with a tag too.
    pub all: bool,
    /// Only those made before, ms since the epoch.
    pub until: Option<u64>,
    /// Only those with all of these labels; without a value any will do.
    pub labels: Vec<(String, Option<String>)>,
    /// Only those with none of these.
    pub not_labels: Vec<(String, Option<String>)>,
}

fn short(id: &str) -> &str {
    hex_of(id).get(..12).unwrap_or(id)
}

impl ImageStore {
    /// Takes a name away, and deletes the image with its last name; an id takes all names of one repository away, those of
    /// several if forced.
    pub fn remove(&self, key: &str, force: bool, users: &Users) -> Result<Removed> {
        let mut removed = Removed::default();
        {
            let mut index = self.lock();
            let id = index.find(key).ok_or_else(|| RuntimeError::no_such_image(key))?;
            match named(&index, key, &id) {
                Some(name) => self.remove_name(&mut index, &id, &name, force, users, &mut removed)?,
                None => self.remove_id(&mut index, &id, force, users, &mut removed)?,
            }
        }
        self.remove_unused_layers(users, &mut removed)?;
        Ok(removed)
    }

    fn remove_name(
        &self,
        index: &mut Index,
        id: &str,
        name: &str,
        force: bool,
        users: &Users,
        removed: &mut Removed,
    ) -> Result<()> {
        let single = is_single(index, id);
        if single
            && !force
            && let Some(container) = self.user(users, id)
        {
            return Err(RuntimeError::Conflict(format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its \
                 referenced image {}",
                short(id)
            )));
        }
        let mut going = vec![name.to_owned()];
        // With its last tag a repository has no more use for its digests.
        let left = |n: &&str| *n != name && repository(n) == repository(name);
        if !name.contains('@') && index.names(id).filter(left).all(|n| n.contains('@')) {
            going.extend(index.names(id).filter(left).map(str::to_owned));
        }
        for name in going {
            index.tags.remove(&name);
            removed.untagged.push(name);
        }
        index.save_tags(&self.root)?;
        // What runs keeps its image, now without a name.
        if index.names(id).next().is_none() && self.live_user(users, id).is_none() {
            index.delete(&self.root, id)?;
            removed.images.push(id.to_owned());
            removed.deleted.push(id.to_owned());
        }
        Ok(())
    }

    fn remove_id(
        &self,
        index: &mut Index,
        id: &str,
        force: bool,
        users: &Users,
        removed: &mut Removed,
    ) -> Result<()> {
        let conflict = |how: &str, why: String| {
            Err(RuntimeError::Conflict(format!("conflict: unable to delete {} ({how}) - {why}", short(id))))
        };
        // Not even force takes a layer from under a container.
        if let Some(container) = self.live_user(users, id) {
            return conflict("cannot be forced", format!("image is being used by {container}"));
        }
        if !force && !is_single(index, id) {
            return conflict("must be forced", "image is referenced in multiple repositories".to_owned());
        }
        if !force && let Some(container) = users.ended.get(id).and_then(|c| c.first()) {
            return conflict(
                "must be forced",
                format!("image is being used by stopped container {container}"),
            );
        }
        let names: Vec<String> = index.names(id).map(str::to_owned).collect();
        for name in names {
            index.tags.remove(&name);
            removed.untagged.push(name);
        }
        index.save_tags(&self.root)?;
        index.delete(&self.root, id)?;
        removed.images.push(id.to_owned());
        removed.deleted.push(id.to_owned());
        Ok(())
    }

    /// Removes what no container uses and the filter lets through.
    pub fn prune(&self, filter: &PruneFilter, users: &Users) -> Result<Removed> {
        let mut removed = Removed::default();
        {
            let mut index = self.lock();
            let ids: Vec<String> = index.images.keys().cloned().collect();
            for id in ids {
                let Some(image) = index.image(&id) else { continue };
                let has = |(name, value): &(String, Option<String>)| {
                    let there = image.document.config.labels.get(name);
                    there.is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
                };
                let wanted = (filter.all || image.tags.is_empty())
                    && filter.until.is_none_or(|until| image.created_at <= until)
                    && filter.labels.iter().all(has)
                    && !filter.not_labels.iter().any(has)
                    && self.user(users, &id).is_none();
                if !wanted {
                    continue;
                }
                for name in image.tags.into_iter().chain(image.digests) {
                    index.tags.remove(&name);
                    removed.untagged.push(name);
                }
                index.save_tags(&self.root)?;
                index.delete(&self.root, &id)?;
                removed.images.push(id.clone());
                removed.deleted.push(id);
            }
        }
        self.remove_unused_layers(users, &mut removed)?;
        Ok(removed)
    }
}

impl ImageStore {
    fn live_user(&self, users: &Users, id: &str) -> Option<String> {
        match users.live.get(id).and_then(|c| c.first()) {
            Some(container) => Some(format!("running container {container}")),
            None => self.held.has(id).then(|| "a container that is being created".to_owned()),
        }
    }

    /// Any container that the image is there for.
    fn user(&self, users: &Users, id: &str) -> Option<String> {
        let first = |map: &BTreeMap<String, Vec<String>>| map.get(id).and_then(|c| c.first()).cloned();
        first(&users.live)
            .or_else(|| first(&users.ended))
            .or_else(|| self.held.has(id).then(|| "that is being created".to_owned()))
    }
}

/// The name of the image that a key is, if it is one and not an id.
fn named(index: &Index, key: &str, id: &str) -> Option<String> {
    let reference: Reference = key.parse().ok()?;
    let name = match reference.digest() {
        Some(digest) => reference.canonical(digest).to_string(),
        None => reference.tagged(),
    };
    (index.tags.get(&name).map(String::as_str) == Some(id)).then_some(name)
}

/// At most one tag, and all names within one repository.
fn is_single(index: &Index, id: &str) -> bool {
    let repositories: BTreeSet<&str> = index.names(id).map(repository).collect();
    repositories.len() <= 1 && index.names(id).filter(|name| !name.contains('@')).count() <= 1
}
