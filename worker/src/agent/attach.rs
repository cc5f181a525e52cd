//! Places on attachable networks, asked of the managers within whatever session there is.

use std::time::Duration;

use node::managers::{
    AttachmentRequest,
    attachments::{Inbox, PendingAttachment},
};
use proto::{
    error::{ApiError, Kind},
    model::InvalidId,
    pb::{self, dispatcher_client::DispatcherClient},
};
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

/// Passes requests on until a call fails as a whole.
pub(super) async fn serve(
    inbox: &Inbox,
    mut client: DispatcherClient<Channel>,
    session: &str,
    limit: Duration,
) -> Result<std::convert::Infallible, Status> {
    let mut requests = inbox.requests().await;
    loop {
        let Some(PendingAttachment { request, answer }) = requests.recv().await else {
            std::future::pending().await
        };
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
