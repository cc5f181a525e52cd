//! Places on attachable networks, which the managers give to containers that users run.

use std::time::Duration;

use proto::{
    error::ApiError,
    model::{ContainerId, EndpointSettings, PortConfig, TaskId},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

/// How long a container waits for its place (dockerd: `networkAllocationTimeout`, 20 s).
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests that wait for a session.
const WAITING: usize = 64;

/// What a container needs of the managers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentRequest {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its networks, by name or id.
    pub networks: Vec<EndpointSettings>,
    /// Its ports on this node.
    pub ports: Vec<PortConfig>,
}

/// A request on its way.
#[derive(Debug)]
pub struct PendingAttachment {
    /// What is wanted.
    pub request: AttachmentRequest,
    /// To whom the answer goes.
    pub answer: oneshot::Sender<Result<TaskId, ApiError>>,
}

/// Where containers ask. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Attachments(mpsc::Sender<PendingAttachment>);

/// Where sessions find what was asked.
#[derive(Debug)]
pub struct Inbox(Mutex<mpsc::Receiver<PendingAttachment>>);

/// Both ends.
pub fn channel() -> (Attachments, Inbox) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Attachments(sender), Inbox(Mutex::new(receiver)))
}

impl Attachments {
    /// The task that holds the container's addresses; it comes with the assignments.
    ///
    /// # Errors
    /// What the managers say; or none of them was heard of in time.
    pub async fn attach(&self, request: AttachmentRequest) -> Result<TaskId, ApiError> {
        let (answer, answered) = oneshot::channel();
        let networks: Vec<String> = request.networks.iter().map(|n| n.network.clone()).collect();
        let unheard = || {
            ApiError::timeout(format!(
                "attaching to network {} failed: no manager answered in {} s",
                networks.join(", "),
                PATIENCE.as_secs()
            ))
            .help("rnctl info shows how this node stands with its managers")
        };
        let asked = async {
            self.0.send(PendingAttachment { request, answer }).await.map_err(|_| unheard())?;
            answered.await.map_err(|_| unheard())?
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(unheard()))
    }
}

impl Inbox {
    /// The requests, for one session at a time.
    pub async fn requests(&self) -> tokio::sync::MutexGuard<'_, mpsc::Receiver<PendingAttachment>> {
        self.0.lock().await
    }
}
