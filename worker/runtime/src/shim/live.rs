//! What is changed of a container while it is there, and what it uses.

use std::sync::Arc;

use proto::model::{ContainerId, ContainerUsage, Resources};
use tokio::task::spawn_blocking;

use super::{ShimRuntime, container_event, panicked, prepare};
use crate::{ContainerRecord, ContainerState, Result, RuntimeError, cgroup::Group};

impl ShimRuntime {
    /// Its group, for a thread that may block.
    async fn with_group<T: Send + 'static>(
        &self,
        id: &ContainerId,
        work: impl FnOnce(&Group) -> T + Send + 'static,
    ) -> Result<T> {
        let cgroup = self.config.cgroup(id.as_str());
        spawn_blocking(move || work(&Group::of(&cgroup))).await.map_err(panicked)
    }

    /// Whether its processes are stopped by the freezer.
    pub(super) fn has_paused(&self, id: &ContainerId) -> bool {
        self.table()
            .containers
            .get(id)
            .is_some_and(|entry| entry.paused && entry.state.borrow().pid().is_some())
    }

    fn note_paused(&self, id: &ContainerId, paused: bool) -> bool {
        self.table()
            .containers
            .get_mut(id)
            .is_some_and(|entry| std::mem::replace(&mut entry.paused, paused) != paused)
    }

    /// Stops all its processes where they are, until [`ShimRuntime::unpause`]. They notice nothing.
    ///
    /// # Errors
    /// It does not run, is paused already, or cannot be stopped.
    pub async fn pause(&self, id: &ContainerId) -> Result<()> {
        let (record, state) = self.record(id)?;
        if !matches!(state, ContainerState::Running { .. }) {
            return Err(RuntimeError::Conflict(format!("Container {id} is not running")));
        }
        if self.has_paused(id) {
            return Err(RuntimeError::Conflict(format!("Container {id} is already paused")));
        }
        let frozen = self.with_group(id, Group::freeze).await?;
        frozen.map_err(|error| RuntimeError::Io {
            what: format!("Cannot pause container {}", record.name),
            cause: error.to_string(),
        })?;
        if self.note_paused(id, true) {
            self.tell("pause", &record);
        }
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It is not paused.
    pub async fn unpause(&self, id: &ContainerId) -> Result<()> {
        self.record(id)?;
        if !self.has_paused(id) {
            return Err(RuntimeError::Conflict(format!("Container {id} is not paused")));
        }
        self.thaw(id).await
    }

    async fn thaw(&self, id: &ContainerId) -> Result<()> {
        let (record, _) = self.record(id)?;
        let thawed = self.with_group(id, Group::thaw).await?;
        thawed.map_err(|error| RuntimeError::Io {
            what: format!("Cannot unpause container {}", record.name),
            cause: error.to_string(),
        })?;
        if self.note_paused(id, false) {
            self.tell("unpause", &record);
        }
        Ok(())
    }

    /// After a signal: what is to end has to run for that.
    pub(super) async fn wake_for(&self, record: &ContainerRecord, signal: i32) {
        if (signal == libc::SIGKILL || signal == record.stop_signal)
            && self.has_paused(&record.id)
            && let Err(error) = self.thaw(&record.id).await
        {
            tracing::warn!(container = %record.id, %error, "it stays paused");
        }
    }

    /// What it has used up to now; none if it does not run.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn usage(&self, id: &ContainerId) -> Result<Option<ContainerUsage>> {
        let (record, state) = self.record(id)?;
        let ContainerState::Running { pid, .. } = state else { return Ok(None) };
        let own_network = record.netns.is_some();
        self.with_group(id, move |group| group.usage(pid, own_network)).await.map(Some)
    }

    pub(super) async fn rename_container(&self, id: &ContainerId, name: &str) -> Result<()> {
        let (old, _) = self.record(id)?;
        let record = ContainerRecord { name: name.to_owned(), ..(*old).clone() };
        prepare::save_record(&self.config.dir(id.as_str()), &record)?;
        if let Some(entry) = self.table().containers.get_mut(id) {
            entry.record = Arc::new(record);
        }
        Ok(())
    }

    pub(super) async fn limit_container(&self, id: &ContainerId, limits: Resources) -> Result<()> {
        let (record, state) = self.record(id)?;
        if state.pid().is_none() {
            // Its next run begins with them.
            return Ok(());
        }
        let set = self.with_group(id, move |group| group.limit(&limits)).await?;
        set.map_err(|error| RuntimeError::Io {
            what: format!("Cannot update container {}", record.name),
            cause: error.to_string(),
        })
    }

    /// Tells that something was done with a container, and more about it.
    pub fn container_event(&self, id: &ContainerId, action: &str, more: &[(&str, &str)]) {
        let Ok((record, _)) = self.record(id) else { return };
        let event = container_event(action, &record);
        self.events.publish(more.iter().fold(event, |event, (name, value)| event.with(name, value)));
    }
}
