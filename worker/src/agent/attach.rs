//! Places on attachable networks, asked of the managers within whatever session there is.

use std::time::Duration;

use proto::{
    error::{ApiError, Kind},
    model::{ContainerId, EndpointSettings, InvalidId, PortConfig, TaskId},
    pb::{self, dispatcher_client::DispatcherClient},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tonic::{Status, transport::Channel};

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

#[derive(Debug)]
struct Asked {
    request: AttachmentRequest,
    answer: oneshot::Sender<Result<TaskId, ApiError>>,
}

/// Where containers ask. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Attachments(mpsc::Sender<Asked>);

/// Where sessions find what was asked.
#[derive(Debug)]
pub(super) struct Inbox(Mutex<mpsc::Receiver<Asked>>);

/// Both ends.
pub(super) fn channel() -> (Attachments, Inbox) {
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
            self.0.send(Asked { request, answer }).await.map_err(|_| unheard())?;
            answered.await.map_err(|_| unheard())?
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(unheard()))
    }
}

impl Inbox {
    /// Passes requests on until a call fails as a whole.
    pub(super) async fn serve(
        &self,
        mut client: DispatcherClient<Channel>,
        session: &str,
        limit: Duration,
    ) -> Result<std::convert::Infallible, Status> {
        let mut requests = self.0.lock().await;
        loop {
            let Some(Asked { request, answer }) = requests.recv().await else { std::future::pending().await };
            // Who asked has given up, and would not know what to do with a place.
            if answer.is_closed() {
                continue;
            }
            let AttachmentRequest { container, name, networks, ports } = request;
            let call = client.attach(pb::AttachRequest {
                session_id: session.to_owned(),
                container_id: container.to_string(),
                name,
                networks: networks.into_iter().map(Into::into).collect(),
                ports: ports.into_iter().map(Into::into).collect(),
            });
            let status = match timeout(limit, call).await {
                Ok(Ok(reply)) => {
                    let id = reply.into_inner().task_id.parse();
                    let _ = answer.send(id.map_err(|e: InvalidId| ApiError::internal(e.to_string())));
                    continue;
                }
                Ok(Err(status)) => status,
                Err(_) => Status::unavailable("the managers did not answer in time"),
            };
            let error = ApiError::from_status(&status);
            let broken = matches!(error.kind, Kind::Unavailable | Kind::Timeout);
            let _ = answer.send(Err(error));
            if broken {
                return Err(status);
            }
        }
    }
}
