//! The image of a task: it is here, or it is pulled, and the task's status says how far that is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use network::workload::Workload;
use proto::model::TaskState;
use runtime::{Credentials, ImagePin, LayerStep, Progress, Reference, RuntimeError};
use tokio::sync::watch;

use super::actor::{Actor, Failure};

/// Each report is an entry of the managers' log.
const REPORT: Duration = Duration::from_secs(5);

impl Actor {
    /// Has the image here, and keeps it as long as the answer lives. A pull that nobody wants any more is given up.
    pub(super) async fn image(&mut self) -> Result<Option<ImagePin>, Failure> {
        let (deps, image) = (self.deps.clone(), self.workload.spec.image.clone());
        let credentials = self.workload.spec.pull_auth.clone().filter(|auth| {
            image.parse::<Reference>().is_ok_and(|reference| reference.registry() == auth.server)
        });
        let credentials = credentials.map(|a| Credentials { username: a.username, password: a.password });
        let seen = PullProgress::default();
        let hear = |progress| seen.hear(progress);
        let bringing = deps.runtime.ensure_image(&image, credentials, &hear);
        tokio::pin!(bringing);
        let mut told = tokio::time::interval(REPORT);
        told.reset();
        loop {
            tokio::select! {
                brought = &mut bringing => return match brought {
                    Ok((_, hold)) => Ok(hold),
                    Err(error) => Err(self.no_image(error)),
                },
                _ = told.tick() => {
                    if let Some((current, total)) = seen.bytes() {
                        let message = format!("pulling {image}: {} of {}", megabytes(current), megabytes(total));
                        self.report(TaskState::Preparing, &message);
                    }
                }
                unwanted = unwanted(&mut self.wish) => {
                    if !unwanted {
                        // The supervisor has ended; this task is aborted with it.
                        std::future::pending::<()>().await;
                    }
                    return Err(Failure::Ends(TaskState::Shutdown, String::new()));
                }
            }
        }
    }

    fn no_image(&self, error: RuntimeError) -> Failure {
        let why = error.to_string();
        let host = &self.deps.node.hostname;
        Failure::Ends(
            TaskState::Rejected,
            format!("{why}; it can be brought onto {host} by hand too: rnctl load or rnctl import"),
        )
    }
}

/// Waits until the task is not to run any more; false if nobody is left to say so.
pub(super) async fn unwanted(wish: &mut watch::Receiver<Option<Arc<Workload>>>) -> bool {
    wish.wait_for(|wish| wish.as_ref().is_none_or(|workload| workload.desired > TaskState::Running))
        .await
        .is_ok()
}

/// Bytes of the layers that are being pulled: there, and in all.
#[derive(Default)]
struct PullProgress(Mutex<BTreeMap<String, (u64, u64)>>);

impl PullProgress {
    fn hear(&self, progress: Progress) {
        if let Progress::Layer { id, step: LayerStep::Downloading { current, total } } = progress {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (current, total));
        }
    }

    fn bytes(&self) -> Option<(u64, u64)> {
        let layers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        layers.values().copied().reduce(|a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// As Docker writes sizes.
fn megabytes(bytes: u64) -> String {
    format!("{}.{}MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
