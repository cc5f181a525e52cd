//! Making containers, and making them anew.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use shim_wire::EXIT_FILE;
use tokio::task::spawn_blocking;

use super::{Entry, ShimRuntime, Table, lock, panicked, prepare};
use crate::{Container, ContainerConfig, ContainerFile, ContainerRecord, Result, RuntimeError};

impl ShimRuntime {
    /// Makes a container that is not there yet.
    pub(super) async fn make(&self, config: ContainerConfig) -> Result<Container> {
        let reservation = Reservation::take(&self.table, &config.name)?;
        // What somebody has put into it is of the image that it was then.
        let settled = self.table().prepared.get(&config.id).cloned();
        let has_files = settled.is_some();
        let image = self.images.resolve(settled.as_deref().unwrap_or(&config.spec.image))?;
        let (place, images, id) = (Arc::clone(&self.config), Arc::clone(&self.images), config.id.clone());
        let (dir, files) = (place.dir(id.as_str()), config.files.clone());
        let prepared = spawn_blocking(move || {
            if has_files {
                prepare::clear(&place, config.id.as_str())?;
            }
            prepare::prepare(&place, &images, &image, &config)
        })
        .await
        .map_err(panicked)?;
        let record = match self.run(&dir, &files, prepared).await {
            Ok(record) => Arc::new(record),
            Err(error) => {
                self.shim.reap(&dir).await;
                if has_files {
                    let _ = std::fs::remove_file(dir.join(EXIT_FILE));
                } else {
                    prepare::discard(&self.config, id.as_str());
                }
                return Err(error);
            }
        };
        let state = self.watch_over(&record).await;
        self.tell("create", &record);
        let now = state.borrow().clone();
        self.table().prepared.remove(&id);
        self.table().containers.insert(id, Entry::new(Arc::clone(&record), state));
        drop(reservation);
        self.arrivals.send_modify(|count| *count += 1);
        Ok(Container { record: (*record).clone(), state: now, paused: false })
    }

    /// Has the shim make what was prepared; from then on it is a container.
    async fn run(
        &self,
        dir: &Path,
        files: &[ContainerFile],
        prepared: Result<ContainerRecord>,
    ) -> Result<ContainerRecord> {
        let record = prepared?;
        self.shim.run(dir, files).await?;
        prepare::save_record(dir, &record)?;
        Ok(record)
    }

    /// Makes a container that has ended ready again, over what it has written.
    pub(super) async fn renew(&self, config: ContainerConfig) -> Result<Container> {
        let (old, state) = self.record(&config.id)?;
        if state.pid().is_some() {
            let id = config.id.short().to_owned();
            return Err(RuntimeError::WrongState { id, state: state.as_str(), wanted: "exited" });
        }
        // The image that it was made from, whatever its name means by now.
        let image = self.images.resolve(&old.image_id)?;
        let (place, images, id) = (Arc::clone(&self.config), Arc::clone(&self.images), config.id.clone());
        let (dir, created_at, files) = (place.dir(id.as_str()), old.created_at, config.files.clone());
        let ended = durable::load(&dir.join(EXIT_FILE)).ok().flatten();
        let again = move || {
            prepare::clear(&place, config.id.as_str())?;
            let record = prepare::prepare(&place, &images, &image, &config)?;
            Ok(ContainerRecord { created_at, ..record })
        };
        let prepared = spawn_blocking(again).await.map_err(panicked)?;
        let record = match self.run(&dir, &files, prepared).await {
            Ok(record) => Arc::new(record),
            Err(error) => {
                self.shim.reap(&dir).await;
                if let Some(ended) = ended {
                    let _ = durable::save(&dir.join(EXIT_FILE), &ended, durable::PUBLIC);
                }
                return Err(error);
            }
        };
        let state = self.watch_over(&record).await;
        let now = state.borrow().clone();
        self.table().containers.insert(id, Entry::new(Arc::clone(&record), state));
        Ok(Container { record: (*record).clone(), state: now, paused: false })
    }
}

/// A name that is taken while its container is being made.
struct Reservation<'a> {
    table: &'a Mutex<Table>,
    name: String,
}

impl<'a> Reservation<'a> {
    fn take(table: &'a Mutex<Table>, name: &str) -> Result<Self> {
        let mut locked = lock(table);
        let holder = locked
            .containers
            .iter()
            .find(|(_, entry)| entry.record.name == name)
            .map(|(id, _)| id.short().to_owned());
        let taken = holder.or_else(|| locked.reserved.contains(name).then(|| "being created".to_owned()));
        match taken {
            Some(id) => Err(RuntimeError::NameInUse { name: name.to_owned(), id }),
            None => {
                locked.reserved.insert(name.to_owned());
                Ok(Self { table, name: name.to_owned() })
            }
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        lock(self.table).reserved.remove(&self.name);
    }
}
