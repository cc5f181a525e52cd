//! Tells the managers that this node leaves: said within whatever session there is, so that its tasks are replaced at once and not when
//! it has been silent for long enough.

use std::{convert::Infallible, future::pending, time::Duration};

use proto::pb::{self, dispatcher_client::DispatcherClient};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tonic::{Status, transport::Channel};

/// Who says it.
#[derive(Debug, Clone)]
pub struct LeaveNotice(mpsc::Sender<oneshot::Sender<()>>);

/// Where sessions find that it is to be said.
#[derive(Debug)]
pub(super) struct Inbox(Mutex<mpsc::Receiver<oneshot::Sender<()>>>);

/// Both ends.
pub(super) fn channel() -> (LeaveNotice, Inbox) {
    let (sender, receiver) = mpsc::channel(1);
    (LeaveNotice(sender), Inbox(Mutex::new(receiver)))
}

impl LeaveNotice {
    /// Says it; returns once a manager has heard it, or the session that was to carry it has ended. Waits for a session as long as
    /// there is none. The agent has to end after it, or it registers again.
    pub async fn send(&self) {
        let (answer, heard) = oneshot::channel();
        if self.0.send(answer).await.is_ok() {
            // An error: the session was ended, as the managers do with one that they have heard it in.
            let _ = heard.await;
        }
    }
}

impl Inbox {
    /// Passes it on.
    pub(super) async fn serve(
        &self,
        mut client: DispatcherClient<Channel>,
        session: &str,
        limit: Duration,
    ) -> Result<Infallible, Status> {
        let mut wanted = self.0.lock().await;
        let Some(answer) = wanted.recv().await else { pending().await };
        let call = client.leave(pb::LeaveRequest { session_id: session.to_owned() });
        let said = timeout(limit, call).await;
        let _ = answer.send(());
        match said {
            Ok(Err(status)) => Err(status),
            Ok(Ok(_)) | Err(_) => pending().await,
        }
    }
}
