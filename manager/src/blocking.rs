//! Runs blocking work on a thread where it does not delay other tasks.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::JoinError,
};

/// Runs `work` on a thread for such work. Where the runtime has one thread only, it runs at once: nothing is gained by another
/// thread there, and the order of things, on which the simulation's replays rest, would be another one each time.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}
