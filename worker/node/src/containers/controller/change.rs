//! What is changed of a container that is there.

use proto::error::ApiError;
use runtime::RuntimeError;

use super::{super::definition::DefinitionUpdate, ContainerController};

/// What is told to who starts a container that stands still.
pub(super) fn start_of_paused() -> ApiError {
    ApiError::conflict("cannot start a paused container, try unpause instead")
}

impl ContainerController {
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
