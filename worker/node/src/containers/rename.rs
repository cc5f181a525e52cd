//! Another name for a container, and other limits.

use std::sync::PoisonError;

use proto::{error::ApiError, model::ContainerId};

use super::{Containers, DefinitionUpdate, controller::ContainerCommand, definition::check_name};

/// Whoever wants this name comes too late.
pub(super) fn taken(name: &str, holder: &ContainerId) -> ApiError {
    ApiError::conflict(format!(
        "Conflict. The container name {name:?} is already in use by container \"{holder}\". You have to remove (or rename) that \
         container to be able to reuse that name."
    ))
}

impl Containers {
    /// Gives it another name; the one that it had. On networks of a swarm it is found by the new one from its next start on.
    ///
    /// # Errors
    /// It is no name, or has a holder.
    pub async fn rename(&self, id: &ContainerId, name: &str) -> Result<String, ApiError> {
        let name = name.strip_prefix('/').unwrap_or(name);
        let gone = || ApiError::not_found(format!("No such container: {id}"));
        let before = self.watch(id).ok_or_else(gone)?.borrow().definition.name.clone();
        if name.is_empty() {
            return Err(ApiError::invalid("Neither old nor new names may be empty"));
        }
        if name == before {
            return Err(ApiError::invalid("Renaming a container with the same name as its current name"));
        }
        check_name(name)?;
        {
            let mut naming = self.0.naming.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(holder) = naming.get(name).cloned().or_else(|| self.holder(name)) {
                return Err(taken(name, &holder));
            }
            naming.insert(name.to_owned(), id.clone());
        }
        let renamed = self.order(id, |reply| ContainerCommand::Rename(name.to_owned(), reply)).await;
        self.0.naming.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        renamed?.map(|()| before)
    }

    /// Changes what it may use, at once if it runs, and when it starts again.
    ///
    /// # Errors
    /// It cannot be so, or the kernel refuses; then nothing is changed.
    pub async fn update(&self, id: &ContainerId, update: DefinitionUpdate) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Update(update, reply)).await?
    }
}
