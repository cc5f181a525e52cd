//! Waiting for a container's end.

use proto::{error::ApiError, model::ContainerId};
use tokio::time::timeout;

use super::{ContainerStatus, Containers, PATIENCE, run};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It does not run, be it for the moment before it starts again by itself. So it is at once where it has not been started.
    NotRunning,
    /// It has come to an end from here on.
    NextExit,
    /// It is no more.
    Removed,
}

impl Containers {
    /// Its exit code, once what is waited for has come. Nothing that happens after this call is missed.
    ///
    /// # Errors
    /// There is no such container.
    pub fn ending(
        &self,
        id: &ContainerId,
        until: Until,
    ) -> Result<impl Future<Output = i32> + Send + 'static + use<>, ApiError> {
        let gone = || ApiError::not_found(format!("No such container: {id}"));
        let mut seen = self.watch(id).ok_or_else(gone)?;
        let first = seen.borrow_and_update().clone();
        let (runtime, id) = (self.0.runtime.clone(), id.clone());
        Ok(async move {
            let mut last = first.clone();
            let mut began = !first.resting;
            let again = loop {
                let ended = last.resting && last.status.is_some();
                // As with Docker, a policy that starts it again does not hide that it has ended.
                let again = ends(&last) > ends(&first);
                let over = match until {
                    Until::NotRunning => last.resting || again,
                    Until::NextExit if again => true,
                    Until::NextExit => ended && (began || last.status != first.status),
                    // It goes as soon as nobody looks any more.
                    Until::Removed => ended && last.definition.auto_remove,
                };
                if over {
                    break again;
                }
                if seen.changed().await.is_err() {
                    return code(&last, false);
                }
                last = seen.borrow_and_update().clone();
                began |= !last.resting;
            };
            drop(seen);
            if until == Until::Removed
                && let Ok(mut state) = runtime.watch(&id)
            {
                // Its name is free when this returns.
                let removed = async { while state.changed().await.is_ok() {} };
                let _ = timeout(PATIENCE, removed).await;
            }
            code(&last, again)
        })
    }
}

/// How often it has ended and was, or will be, started again by itself. A restart is counted when it begins.
fn ends(seen: &ContainerStatus) -> u32 {
    seen.definition.restarts + u32::from(seen.restarting)
}

/// How it has ended, be it that it starts `again`; of one that was removed while it ran, that it was killed.
fn code(seen: &ContainerStatus, again: bool) -> i32 {
    match &seen.status {
        Some(status) if again => run::exit_code(status),
        _ if !seen.resting => 128 + libc::SIGKILL,
        Some(status) => run::exit_code(status),
        None => 0,
    }
}
