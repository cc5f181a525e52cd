//! What is changed of a container that is there.

use std::{sync::Arc, time::Duration};

use network::workload::Workload;
use proto::{
    error::ApiError,
    model::{ContainerId, TaskState},
};
use runtime::RuntimeError;
use tokio::time::Instant;

use super::{
    super::{Containers, definition::DefinitionUpdate},
    Answer, ContainerController,
};

/// What is told to who starts a container that stands still.
pub(super) fn start_of_paused() -> ApiError {
    ApiError::conflict("cannot start a paused container, try unpause instead")
}

/// Starts a container that has been stopped for that, and tells who waits for it.
pub(super) async fn start_for(containers: Containers, id: ContainerId, restarters: Vec<Answer>) {
    if restarters.is_empty() {
        return;
    }
    let started = containers.start(&id).await;
    restarters.into_iter().for_each(|r| _ = r.send(started.clone()));
}

impl ContainerController {
    /// Has it stop; false if nobody supervises it.
    pub(super) fn stop(&mut self, grace: Option<Duration>, why: &str) -> bool {
        (self.definition.stopped, self.again) = (true, None);
        self.keep();
        self.call_off(why);
        let own = self.made().map(|c| Duration::from_millis(c.record.stop_grace_ms));
        let Some(run) = &mut self.run else { return false };
        let mut workload = Workload { desired: TaskState::Shutdown, ..(*run.workload).clone() };
        let now = Instant::now();
        let kill_at = grace.or(own).and_then(|grace| now.checked_add(grace));
        // Who asks again does not give it more time than it has.
        run.kill_at = [run.kill_at, kill_at].into_iter().flatten().min();
        workload.spec.stop_grace_period = run.kill_at.map(|at| (at - now).into());
        run.wish.send_replace(Some(Arc::new(workload)));
        true
    }

    /// Has it stop, and start again. One that goes when it ends does not go by that.
    pub(super) async fn restart(&mut self, grace: Option<Duration>, answer: Answer) {
        self.restarting = true;
        if self.stop(grace, "is restarted") {
            self.restarters.push(answer);
            return;
        }
        if let Err(error) = self.stop_unwatched(grace).await {
            self.restarting = false;
            let _ = answer.send(Err(error));
            return;
        }
        let (containers, id) = (self.containers.clone(), self.definition.id.clone());
        tokio::spawn(start_for(containers, id, vec![answer]));
    }

    /// It has this name from now on, which nobody else has.
    pub(super) async fn rename(&mut self, name: String) -> Result<(), ApiError> {
        let before = std::mem::replace(&mut self.definition.name, name.clone());
        let saved = self.definitions().save(&self.definition);
        let renamed = match saved {
            Ok(()) => match self.runtime().rename(&self.definition.id, &name).await {
                // It has never been started.
                Ok(()) | Err(RuntimeError::NoSuchContainer(_)) => Ok(()),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error),
        };
        if renamed.is_err() {
            self.definition.name = before;
            self.keep();
        }
        self.show();
        renamed
    }

    /// Other limits, another restart policy.
    pub(super) async fn update(&mut self, update: DefinitionUpdate) -> Result<(), ApiError> {
        let mut wanted = self.definition.clone();
        let limits = &mut wanted.limits;
        limits.nano_cpus = update.nano_cpus.unwrap_or(limits.nano_cpus);
        limits.memory_bytes = update.memory_bytes.unwrap_or(limits.memory_bytes);
        limits.pids = update.pids.unwrap_or(limits.pids);
        if let Some(restart) = update.restart {
            if wanted.auto_remove {
                return Err(ApiError::invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            wanted.restart = restart;
        }
        let object = format!("container {}", wanted.name);
        proto::rules::resources(&object, &wanted.limits, &Default::default())?;
        if wanted.limits != self.definition.limits {
            match self.runtime().limit(&self.definition.id, wanted.limits).await {
                Ok(()) | Err(RuntimeError::NoSuchContainer(_)) => {}
                Err(error) => {
                    // What was set of them is taken back.
                    let _ = self.runtime().limit(&self.definition.id, self.definition.limits).await;
                    return Err(error.into());
                }
            }
        }
        self.definitions().save(&wanted)?;
        self.definition = wanted;
        self.show();
        Ok(())
    }
}
