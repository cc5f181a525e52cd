//! Named volumes: `<data root>/volumes/<name>`, with its files in `_data` and, where its maker said something of it, `volume.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use proto::{model::ContainerId, rules::mount::is_volume_name};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{ShimRuntime, panicked};
use crate::{Event, Result, RuntimeError, image, private_dir};

const ABOUT: &str = "volume.json";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique on this machine.
    pub name: String,
    /// Where its files are.
    pub path: PathBuf,
    /// When it was made, ms since the epoch.
    pub created_at: u64,
    /// Its labels; none for one that was made with a container.
    pub labels: BTreeMap<String, String>,
    /// The containers that have it.
    pub users: BTreeSet<ContainerId>,
}

/// What its maker said of a volume.
#[derive(Debug, Default, Serialize, Deserialize)]
struct About {
    labels: BTreeMap<String, String>,
}

fn no_such(name: &str) -> RuntimeError {
    RuntimeError::NoSuchVolume(name.to_owned())
}

/// Reads one; none if it is not there.
fn read(root: &Path, name: &str, users: &BTreeMap<String, BTreeSet<ContainerId>>) -> Option<Volume> {
    let dir = root.join(name);
    let path = dir.join("_data");
    let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_dir)?;
    let made = meta.created().or_else(|_| meta.modified()).ok();
    let made = made.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let about = durable::load_as(&dir.join(ABOUT), |text| serde_json::from_slice::<About>(text));
    let about = about.unwrap_or_else(|error| {
        tracing::warn!(%error, volume = name, "what was said of a volume cannot be read");
        None
    });
    Some(Volume {
        name: name.to_owned(),
        path,
        created_at: u64::try_from(made.as_millis()).unwrap_or(u64::MAX),
        labels: about.unwrap_or_default().labels,
        users: users.get(name).cloned().unwrap_or_default(),
    })
}

impl ShimRuntime {
    /// Which containers have which volumes, by what they were last made with.
    fn volume_users(&self) -> BTreeMap<String, BTreeSet<ContainerId>> {
        let root = self.config.volumes();
        let mut users = BTreeMap::<String, BTreeSet<ContainerId>>::new();
        let ids: Vec<ContainerId> = self.table().containers.keys().cloned().collect();
        for id in ids {
            let config =
                fs::read(self.config.dir(id.as_str()).join("bundle/config.json")).unwrap_or_default();
            let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
            for mount in config["mounts"].as_array().into_iter().flatten() {
                let source = Path::new(mount["source"].as_str().unwrap_or_default());
                let inside = source.strip_prefix(&root).ok().and_then(|rest| rest.iter().next()?.to_str());
                if let Some(name) = inside {
                    users.entry(name.to_owned()).or_default().insert(id.clone());
                }
            }
        }
        users
    }

    /// All volumes, by name. Blocks.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let root = self.config.volumes();
        let users = self.volume_users();
        let entries = fs::read_dir(&root).map_err(RuntimeError::io("read", &root))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Volume> = names.filter_map(|name| read(&root, &name, &users)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// One of them. Blocks.
    ///
    /// # Errors
    /// There is no such volume.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let found = is_volume_name(name).then(|| read(&self.config.volumes(), name, &self.volume_users()));
        found.flatten().ok_or_else(|| no_such(name))
    }

    /// Makes one; the one that is there, as it is, where there is one of this name. Blocks.
    ///
    /// # Errors
    /// It is no name, or the disk is full.
    pub fn create_volume(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Volume> {
        if name.len() < 2 || !is_volume_name(name) {
            return Err(RuntimeError::Invalid(format!(
                "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
                 allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        let root = self.config.volumes();
        let users = self.volume_users();
        if let Some(there) = read(&root, name, &users) {
            return Ok(there);
        }
        let dir = root.join(name);
        private_dir(&dir)?;
        if !labels.is_empty() {
            let text = serde_json::to_vec(&About { labels }).unwrap_or_default();
            image::save_record(&dir.join(ABOUT), &text)?;
        }
        let data = dir.join("_data");
        fs::create_dir_all(&data).map_err(RuntimeError::io("create", &data))?;
        self.events.publish(Event::local("volume", "create", name).with("driver", "local"));
        read(&root, name, &users).ok_or_else(|| no_such(name))
    }

    /// Removes one with all its files. `wanted_by`: who will have it and is not made yet.
    ///
    /// # Errors
    /// There is no such volume, or a container has it.
    pub async fn remove_volume(
        &self,
        name: &str,
        wanted_by: impl Fn(&str) -> BTreeSet<ContainerId> + Send,
    ) -> Result<()> {
        // No container is made meanwhile.
        let _alone = self.making.write().await;
        let volume = self.volume(name)?;
        let mut users = volume.users;
        users.extend(wanted_by(name));
        if !users.is_empty() {
            let ids: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
            return Err(RuntimeError::Conflict(format!(
                "remove {name}: volume is in use - [{}]",
                ids.join(", ")
            )));
        }
        let dir = self.config.volumes().join(name);
        let removed =
            spawn_blocking(move || fs::remove_dir_all(&dir).map_err(RuntimeError::io("remove", &dir)));
        removed.await.map_err(panicked)??;
        self.events.publish(Event::local("volume", "destroy", name).with("driver", "local"));
        Ok(())
    }
}
