//! Containers that were there before: at the daemon's start, and each from its making on.

use std::{fs, sync::Arc};

use shim_wire::Status;
use tokio::sync::watch;

use super::{Entry, RECORD_FILE, ShimRuntime, client, container_event, prepare};
use crate::{ContainerRecord, ContainerState, Result, RuntimeError, cgroup};

impl ShimRuntime {
    /// Takes up what the disk remembers: containers that run are followed, half made ones removed, damaged ones set aside.
    pub(super) async fn adopt(&self) -> Result<()> {
        let containers = self.config.data_root.join("containers");
        for entry in fs::read_dir(&containers).map_err(RuntimeError::io("read", &containers))? {
            let dir = entry.map_err(RuntimeError::io("read", &containers))?.path();
            if dir.extension().is_some_and(|ext| ext == "damaged") {
                continue;
            }
            let record = durable::load_as(&dir.join(RECORD_FILE), |text| serde_json::from_slice(text));
            let record: ContainerRecord = match record {
                Ok(Some(record)) => record,
                Ok(None) if let Some((id, image)) = prepare::prepared(&dir) => {
                    self.table().prepared.insert(id, image);
                    continue;
                }
                Ok(None) => {
                    tracing::info!(dir = %dir.display(), "removing a container that was never finished or half deleted");
                    self.shim.reap(&dir).await;
                    let _ = fs::remove_dir_all(&dir);
                    continue;
                }
                // What it has written is its user's: it is not ours to delete because a file of ours is damaged.
                Err(error) => {
                    self.shim.reap(&dir).await;
                    let to = durable::set_aside(&dir).map_err(RuntimeError::io("set aside", &dir))?;
                    tracing::error!(
                        "{error}; the container has been ended and set aside as {}: take from there what you need, and remove it",
                        to.display()
                    );
                    continue;
                }
            };
            let record = Arc::new(record);
            let state = self.watch_over(&record).await;
            let paused = state.borrow().pid().is_some()
                && cgroup::Group::of(&self.config.cgroup(record.id.as_str())).is_frozen();
            let entry = Entry { paused, ..Entry::new(record.clone(), state) };
            self.table().containers.insert(record.id.clone(), entry);
        }
        Ok(())
    }

    /// Follows a container's state from now on.
    pub(super) async fn watch_over(&self, record: &Arc<ContainerRecord>) -> watch::Sender<ContainerState> {
        let id = &record.id;
        let (dir, run_dir) = (self.config.dir(id.as_str()), self.config.run_dir(id.as_str()));
        let (first, watcher) = match client::Watch::open(&run_dir).await {
            Ok((first, watcher)) => (ContainerState::from(first), Some(watcher)),
            Err(_) => (self.shim.ended(&dir).await, None),
        };
        let (state, _) = watch::channel(first);
        if let Some(mut watcher) = watcher {
            let (sender, shim) = (state.clone(), self.shim.clone());
            let (events, record) = (self.events.clone(), record.clone());
            tokio::spawn(async move {
                loop {
                    let next = match watcher.next().await {
                        Some(status) => ContainerState::from(status),
                        None => shim.ended(&dir).await,
                    };
                    let over = matches!(next, ContainerState::Exited(_));
                    if let ContainerState::Exited(end) = &next {
                        events.publish(container_event("die", &record).with("exitCode", end.code));
                    }
                    sender.send_replace(next);
                    if over {
                        break;
                    }
                }
            });
        }
        state
    }
}

impl From<Status> for ContainerState {
    fn from(status: Status) -> Self {
        match status {
            Status::Created { pid } => ContainerState::Created { pid },
            Status::Running { pid, started_at } => ContainerState::Running { pid, started_at },
            Status::Exited(status) => ContainerState::Exited(status),
        }
    }
}
