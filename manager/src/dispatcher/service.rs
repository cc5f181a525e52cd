//! The RPCs.

use std::{net::IpAddr, sync::Arc, time::Duration};

use certs::RootDigest;
use proto::{
    convert::Malformed,
    error::ApiError,
    model::{
        InvalidId, NodeDescription, NodeId, NodeState, NodeStatus, Revision, SessionId, TaskId, TaskStatus,
        Timestamp,
    },
    pb::{self, dispatcher_server},
};
use rand::Rng;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    BATCH, Dispatcher, GRACE_PERIODS, Nodes, assignments::AssignmentSet, attach, clock::ClockOffset,
    endpoints, faults, grace, heartbeat, session,
};
use crate::{
    api::auth::Caller,
    store::{
        CommandError,
        command::{Command, Rejected},
        state::State,
    },
    term::{Term, no_longer_leads},
};

/// Messages that a slow worker may lag behind; then the stream waits and sends what has gathered as one.
const STREAM_BUFFER: usize = 4;

/// How often a place is planned anew when an address of it went to another one.
const ATTEMPTS: u32 = 5;

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl dispatcher_server::Dispatcher for Dispatcher {
    type SessionStream = Stream<pb::SessionMessage>;
    type AssignmentsStream = Stream<pb::AssignmentsMessage>;

    async fn session(
        &self,
        request: Request<pb::SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?.clone();
        let description = request.into_inner().description;
        let description = description.map(NodeDescription::try_from).transpose()?;
        let term = self.terms.get().await?;
        let (session, ended) =
            term.register(&node, caller.remote.map(|r| r.ip().to_canonical()), description).await?;
        let (tx, rx) = mpsc::channel(STREAM_BUFFER);
        tokio::spawn(stream(term.clone(), tx, ended, move |state, sent: &mut Option<pb::SessionMessage>| {
            let message = session::message(state, &node, &session)?;
            let news = sent.as_ref() != Some(&message);
            *sent = Some(message.clone());
            Some(news.then_some(message))
        }));
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatReply>, Status> {
        let caller = Caller::of(&request)?;
        let term = self.terms.get().await?;
        let state = term.store.read();
        let deadline = Instant::now() + grace(&state, GRACE_PERIODS);
        let (node, request) = (caller.node()?, request.into_inner());
        {
            let mut sessions = term.sessions();
            sessions.beat(node, &request.session_id, deadline)?;
            // What it has applied of an earlier epoch is nothing of this one, whatever its number.
            let epoch = state.cluster.as_ref().map_or(0, |c| c.epoch);
            let applied = if request.epoch == epoch { request.applied } else { 0 };
            let mut news = false;
            sessions.progress(node, &request.session_id, |progress| {
                (progress.applied, progress.lag) = (Revision(applied), request.lag);
                let faults = Some(faults::bounded(request.faults));
                news = progress.faults != faults;
                progress.faults = faults;
            });
            if news {
                term.deadlines.notify_one();
            }
            let ahead = ClockOffset::heard(Timestamp(request.now), Timestamp::now());
            if let Some(remark) = sessions.hear_clock(node, &request.session_id, ahead) {
                match remark.as_str() {
                    "" => tracing::info!(%node, "its clock is right again"),
                    wrong => tracing::warn!(%node, "{wrong}"),
                }
                term.deadlines.notify_one();
            }
        }
        term.note_root(&state, node, &request.root).await;
        // A tenth up or down, so that the nodes of a large cluster do not beat in step.
        let period = heartbeat(&state).0;
        let jitter = rand::rng().random_range(0..=period / 5);
        Ok(Response::new(pb::HeartbeatReply { period: period - period / 10 + jitter }))
    }

    async fn assignments(
        &self,
        request: Request<pb::AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?.clone();
        let session = request.into_inner().session_id;
        let term = self.terms.get().await?;
        let ended = term.sessions().check(&node, &session)?;
        let (tx, rx) = mpsc::channel(STREAM_BUFFER);
        let nodes = term.clone();
        let mut count = 0_u64;
        tokio::spawn(stream(term, tx, ended, move |_, sent: &mut Option<AssignmentSet>| {
            let view = nodes.views.get(nodes.store.read());
            let set = AssignmentSet::of(&view, &node)?;
            let message = match sent {
                None => Some(set.complete()),
                Some(before) => set.since(before),
            };
            let message = message.map(|m| {
                let applies_to = if count == 0 { String::new() } else { count.to_string() };
                count += 1;
                pb::AssignmentsMessage { applies_to, results_in: count.to_string(), ..m }
            });
            nodes.sessions().progress(&node, &session, |progress| {
                progress.seen = set.generation;
                if message.is_some() {
                    progress.sent = set.generation;
                }
            });
            *sent = Some(set);
            Some(message)
        }));
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn update_task_status(
        &self,
        request: Request<pb::UpdateTaskStatusRequest>,
    ) -> Result<Response<pb::UpdateTaskStatusReply>, Status> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?.clone();
        let request = request.into_inner();
        let term = self.terms.get().await?;
        term.sessions().check(&node, &request.session_id)?;
        let state = term.store.read();
        let ahead = ClockOffset::heard(Timestamp(request.now), Timestamp::now());
        let mut statuses = Vec::with_capacity(request.updates.len());
        for update in request.updates {
            let Some(status) = update.status else { continue };
            let mut status = TaskStatus::try_from(status)?;
            status.at = ahead.translate(status.at);
            match state.tasks.get(update.task_id.as_str()) {
                Some(task) if task.node_id.as_ref() == Some(&node) => {
                    statuses.push((task.id.clone(), status))
                }
                Some(task) => {
                    tracing::warn!(%node, task = %task.id, "a node reported on a task that is not its own");
                }
                // Forgotten in the meantime.
                None => {}
            }
        }
        if !statuses.is_empty() {
            term.reports.report(statuses).await?;
        }
        Ok(Response::new(pb::UpdateTaskStatusReply {}))
    }

    async fn attach(&self, request: Request<pb::AttachRequest>) -> Result<Response<pb::AttachReply>, Status> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?.clone();
        let request = request.into_inner();
        let term = self.terms.get().await?;
        term.sessions().check(&node, &request.session_id)?;
        let wanted = attach::Request {
            container: parse(&request.container_id)?,
            name: request.name,
            networks: request
                .networks
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, Malformed>>()?,
            ports: request.ports.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?,
        };
        let task_id = term.place(&node, wanted).await?.to_string();
        Ok(Response::new(pb::AttachReply { task_id }))
    }

    async fn leave(&self, request: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveReply>, Status> {
        let caller = Caller::of(&request)?;
        let node = caller.node()?;
        let term = self.terms.get().await?;
        let mut changed = term.store.watch();
        term.sessions().leave(node, &request.get_ref().session_id)?;
        tracing::info!(%node, "the node leaves");
        term.deadlines.notify_one();
        // The watch over the nodes reports it.
        loop {
            changed.mark_unchanged();
            if term.store.read().nodes.get(node).is_none_or(|n| n.status.state == NodeState::Down) {
                return Ok(Response::new(pb::LeaveReply {}));
            }
            match term.over().run_until_cancelled(changed.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return Err(no_longer_leads().into()),
            }
        }
    }

    async fn list_endpoints(
        &self,
        request: Request<pb::ListEndpointsRequest>,
    ) -> Result<Response<pb::ListEndpointsReply>, Status> {
        let caller = Caller::of(&request)?;
        let term = self.terms.get().await?;
        let node = caller.node()?;
        term.sessions().check(node, &request.get_ref().session_id)?;
        let network = parse(&request.get_ref().network_id)?;
        let endpoints = endpoints::told(&term.store.read(), node, &network);
        Ok(Response::new(pb::ListEndpointsReply { endpoints }))
    }
}

fn parse<T: std::str::FromStr<Err = InvalidId>>(id: &str) -> Result<T, ApiError> {
    id.parse().map_err(|e: InvalidId| ApiError::invalid(e.to_string()))
}

impl Nodes {
    /// Gives a container its place. An address that another one got in the meantime is chosen anew.
    async fn place(&self, node: &NodeId, wanted: attach::Request) -> Result<TaskId, ApiError> {
        let mut attempts = 0;
        loop {
            let state = self.store.read_index().await?;
            let task = attach::plan(&state, node, wanted.clone())?;
            let id = task.id.clone();
            match self.store.propose_one(Command::Attach(Box::new(task))).await {
                Ok(()) => return Ok(id),
                Err(CommandError::Rejected(Rejected::Taken { .. })) if attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn register(
        &self,
        node: &NodeId,
        remote: Option<IpAddr>,
        description: Option<NodeDescription>,
    ) -> Result<(SessionId, CancellationToken), ApiError> {
        // Everything that was acknowledged, so that no node is refused that an earlier leader made.
        let state = self.store.read_index().await?;
        let Some(known) = state.nodes.get(node) else { return Err(gone(node)) };
        // A node that does not know its own address is where the manager sees it.
        let description =
            description.map(|d| NodeDescription { advertise_addr: d.advertise_addr.or(remote), ..d });
        let addr = description.as_ref().and_then(|d| d.advertise_addr).or(remote);
        let status = NodeStatus { state: NodeState::Ready, message: String::new(), addr };
        let news = known.status != status || (description.is_some() && known.description != description);
        let begun = self.sessions().register(node, Instant::now() + grace(&state, GRACE_PERIODS));
        self.deadlines.notify_one();
        if news {
            let description = description.map(Box::new);
            let report = Command::ReportNode { id: node.clone(), status: Some(status), description };
            if let Err(error) = self.store.propose_one(report).await {
                self.sessions().withdraw(node, &begun.0);
                return Err(error.into());
            }
        }
        tracing::info!(%node, remote = ?remote, "node registered");
        Ok(begun)
    }

    /// During a rotation of the root: whether the node has a certificate of the next one.
    async fn note_root(&self, state: &State, node: &NodeId, root: &str) {
        let Some(rotation) = state.cluster.as_ref().and_then(|c| c.root_ca.rotation.as_ref()) else { return };
        let next = RootDigest::of_pem(&rotation.cert_pem).map(|d| d.to_string());
        if rotation.moved.contains(node) || next.ok().as_deref() != Some(root) {
            return;
        }
        let command = Command::MoveToRoot { id: node.clone(), root: root.to_owned() };
        if let Err(error) = self.store.propose_one(command).await {
            tracing::debug!(%node, %error, "the next heartbeat says it again");
        }
    }
}

/// Sends what `next` makes of each new state until the session ends or the worker hangs up. `next` gives the outer
/// `None` when the node is gone, the inner one when there is nothing new for it.
async fn stream<T, S: Default>(
    term: Arc<Term<Nodes>>,
    tx: mpsc::Sender<Result<T, Status>>,
    ended: CancellationToken,
    mut next: impl FnMut(&State, &mut S) -> Option<Option<T>>,
) {
    let mut changed = term.store.watch();
    let mut sent = S::default();
    loop {
        changed.mark_unchanged();
        // Asked before the state is: a session that ends because its node was removed says so.
        let over = ended.is_cancelled();
        let message = match next(&term.store.read(), &mut sent) {
            Some(message) if !over => message,
            known => {
                let why = if known.is_some() {
                    ApiError::unavailable("the session is over").help("register again")
                } else {
                    ApiError::denied("this node was removed from the swarm")
                };
                // Nobody may be left to hear it.
                let _ = tokio::time::timeout(Duration::from_secs(1), tx.send(Err(why.into()))).await;
                return;
            }
        };
        if let Some(message) = message
            && tx.send(Ok(message)).await.is_err()
        {
            return;
        }
        let pause = tokio::time::sleep(BATCH);
        tokio::select! {
            () = tx.closed() => return,
            () = ended.cancelled() => continue,
            alive = changed.changed() => if alive.is_err() { return },
        }
        pause.await;
    }
}

pub(super) fn gone(node: &NodeId) -> ApiError {
    ApiError::denied(format!("node {node} is not a node of this swarm"))
        .help("rnctl swarm leave --force on that node, then join again with a token")
}
