//! One session with a manager after another.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use certs::{ConnectError, Connector, SharedIdentity, Target, transport::explain};
use gossip::{Gossip, KeyRing};
use network::assigned::Assigned;
use node::managers::{AgentStatus, Reports, TaskLogs, attachments};
use proto::{
    convert::Malformed,
    error::ApiError,
    model::{NetworkKey, NodeDescription, Timestamp},
    pb::{self, dispatcher_client::DispatcherClient},
};
use rand::{Rng, seq::IndexedRandom};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{Status, transport::Channel};

use super::{
    assignments::{Fold, FoldError},
    attach,
    digest::{self, Mismatches},
    leave_notice, logs,
    persist::WorkerDir,
    progress::Progress,
};

/// Pause after the first failure; doubles up to the second (swarmkit `agent/session.go`), or up to two heartbeats where they are short.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(8));
/// For one call that is not a stream (swarmkit's agent).
const CALL: Duration = Duration::from_secs(5);
/// Heartbeats until a manager has said otherwise: the default period.
const PERIOD: Duration = Duration::from_secs(5);
/// Shortest time that a manager gets for a heartbeat, however short the period.
const MIN_BEAT_CALL: Duration = Duration::from_secs(1);
/// And to take a node into a session.
const MIN_ENTRY: Duration = Duration::from_secs(2);
/// A node's assignments in one message: tens of thousands of tasks.
const MAX_MESSAGE: usize = 64 << 20;
/// Between a heartbeat and the next one, when there is news.
const EARLY_BEAT: Duration = Duration::from_millis(100);
/// How often the digests are compared with the view.
const DIGEST_TICK: Duration = Duration::from_secs(1);
/// Statuses in one call.
const REPORT_BATCH: usize = 1000;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No manager's address is known.
    #[error("no manager is known")]
    NoManagers,
    /// Not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Refused or broken off.
    #[error("{0}")]
    Call(ApiError),
    /// No answer.
    #[error("the manager did not answer {0} in time")]
    Timeout(&'static str),
    /// A stream came to its end.
    #[error("the manager has closed the {0} stream")]
    Ended(&'static str),
    /// Assignments that make no sense.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// A message that makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        SessionError::Call(explain(&status))
    }
}

/// Time limits of requests to managers, from the heartbeat period: a node is given up after three, and has to have found another manager by
/// then where its own hangs (it is stopped, or cut off).
#[derive(Debug)]
pub(super) struct RequestTimeouts(AtomicU64);

impl Default for RequestTimeouts {
    fn default() -> Self {
        let pace = Self(AtomicU64::default());
        pace.set(PERIOD);
        pace
    }
}

impl RequestTimeouts {
    fn set(&self, period: Duration) {
        self.0.store(u64::try_from(period.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn period(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// For the answer to a heartbeat.
    fn beat(&self) -> Duration {
        self.period().clamp(MIN_BEAT_CALL, CALL)
    }

    /// For the connection, and for each step of the registration.
    fn entry(&self) -> Duration {
        (self.period() * 2).clamp(MIN_ENTRY, CALL)
    }

    /// Longest pause between attempts.
    fn pause(&self) -> Duration {
        (self.period() * 2).clamp(BACKOFF.0, BACKOFF.1)
    }
}

/// Everything that sessions need and leave behind.
pub(super) struct Sessions {
    pub(super) dir: WorkerDir,
    pub(super) identity: SharedIdentity,
    pub(super) description: NodeDescription,
    /// Managers named when the node joined; used besides those that the managers themselves name.
    pub(super) managers: Vec<SocketAddr>,
    pub(super) assigned: watch::Sender<Arc<Assigned>>,
    pub(super) session: watch::Sender<Option<Arc<pb::SessionMessage>>>,
    pub(super) keys: watch::Sender<KeyRing>,
    pub(super) status: watch::Sender<AgentStatus>,
    pub(super) reports: Reports,
    pub(super) attachments: attachments::Inbox,
    pub(super) leave_notice: leave_notice::Inbox,
    pub(super) gossip: Gossip,
    pub(super) logs: Arc<dyn TaskLogs>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) pace: RequestTimeouts,
}

/// What has been tried since the last session.
struct Attempts {
    backoff: Backoff,
    failed: BTreeSet<SocketAddr>,
    last: Option<SocketAddr>,
}

/// Pauses between attempts.
struct Backoff(Duration);

impl Backoff {
    fn next(&mut self, most: Duration) -> Duration {
        let limit = self.0.min(most);
        self.0 = (self.0 * 2).min(BACKOFF.1);
        // At random below the limit, so that the nodes of a cluster do not come back all at once.
        limit.mul_f64(rand::rng().random_range(0.1..1.0))
    }
}

impl Sessions {
    /// Never ends by itself.
    pub(super) async fn run(self) -> Infallible {
        let mut attempts = Attempts { backoff: Backoff(BACKOFF.0), failed: BTreeSet::new(), last: None };
        loop {
            let manager = self.pick(&mut attempts);
            let error = match manager {
                Some(addr) => self.session(addr, &mut attempts).await,
                None => Err(SessionError::NoManagers),
            };
            attempts.failed.extend(manager);
            attempts.last = manager;
            let Err(error) = error;
            let text = error.to_string();
            self.status.send_modify(|status| {
                if status.error != text {
                    tracing::warn!(manager = ?manager, error = %text, "no session with the managers");
                }
                (status.manager, status.error) = (None, text);
            });
            sleep(attempts.backoff.next(self.pace.pause())).await;
        }
    }

    /// Any manager that has not failed since the last session; when all have, any but the last one, unless there is no other.
    fn pick(&self, attempts: &mut Attempts) -> Option<SocketAddr> {
        let session = self.session.borrow();
        let view = self.gossip.view();
        let told = |m: &pb::ManagerPeer| m.addr.parse::<SocketAddr>().ok();
        // One that has moved is still heard of in the gossip.
        let moved = |m: &pb::ManagerPeer| {
            let view = view.borrow();
            let fact = view.nodes.get(m.node_id.as_str()).filter(|fact| fact.alive)?;
            Some(SocketAddr::new(fact.gossip_addr.ip(), told(m)?.port()))
        };
        let peers = session.iter().flat_map(|s| &s.managers);
        let mut all: BTreeSet<SocketAddr> = peers.filter_map(|m| moved(m).or_else(|| told(m))).collect();
        all.extend(&self.managers);
        let mut fresh: Vec<_> = all.difference(&attempts.failed).copied().collect();
        if fresh.is_empty() {
            attempts.failed.clear();
            fresh = all.iter().filter(|a| Some(**a) != attempts.last).copied().collect();
        }
        fresh.choose(&mut rand::rng()).copied().or(attempts.last.filter(|l| all.contains(l)))
    }

    async fn session(&self, addr: SocketAddr, attempts: &mut Attempts) -> Result<Infallible, SessionError> {
        let connector = Connector::member(self.identity.clone());
        let entry = self.pace.entry();
        let connecting = timeout(entry, connector.connect(Target::manager(addr))).await;
        let channel = connecting.map_err(|_| SessionError::Timeout("the connection"))??;
        let mut client = DispatcherClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let previous = self.session.borrow().as_ref().map(|s| s.session_id.clone()).unwrap_or_default();
        let request =
            pb::SessionRequest { description: Some((&self.description).into()), previous_session: previous };
        let mut stream = within_time(entry, "the registration", client.session(request)).await?.into_inner();
        let first = within_time(entry, "the registration", stream.message()).await?;
        let first = first.ok_or(SessionError::Ended("session"))?;
        let session = first.session_id.clone();
        self.learn(first)?;
        tracing::info!(manager = %addr, "in session");
        self.status.send_modify(|status| {
            (status.manager, status.error) = (Some(addr), String::new());
        });
        attempts.backoff.0 = BACKOFF.0;
        attempts.failed.clear();
        let news = async {
            while let Some(message) = stream.message().await? {
                self.learn(message)?;
            }
            Err(SessionError::Ended("session"))
        };
        // Any of them that fails ends all: the next session starts from nothing.
        let (never, ..) = tokio::try_join!(
            news,
            self.heartbeats(client.clone(), &session, self.progress.clone()),
            self.assignments(client.clone(), &session),
            self.report(client.clone(), &session),
            async { Ok(attach::serve(&self.attachments, client.clone(), &session, CALL).await?) },
            async { Ok(self.leave_notice.serve(client.clone(), &session, CALL).await?) },
            self.settle_doubts(client.clone(), &session),
            logs::serve(channel, session.clone(), self.logs.clone()),
        )?;
        never
    }

    /// Takes what the managers say of the cluster, and keeps it.
    fn learn(&self, message: pb::SessionMessage) -> Result<(), SessionError> {
        let keys: Vec<NetworkKey> =
            message.network_keys.iter().cloned().map(NetworkKey::try_from).collect::<Result<_, _>>()?;
        let before = self.session.borrow().clone();
        if before.as_ref().is_none_or(|b| b.network_keys != message.network_keys) {
            self.keys.send_replace(KeyRing::new(&keys));
        }
        self.gossip.add_seeds(message.gossip_seeds.iter().filter_map(|s| s.parse().ok()).collect());
        if !message.root_ca_pem.is_empty() && message.root_ca_pem != self.identity.current().root_pem() {
            match self.identity.current().with_roots(&message.root_ca_pem) {
                Ok(identity) => self.identity.replace(identity),
                Err(error) => tracing::error!(%error, "the managers' root certificate is of no use"),
            }
        }
        if let Err(error) = self.dir.save_session(&message) {
            tracing::error!(%error, "the managers' addresses could not be kept");
        }
        self.session.send_replace(Some(Arc::new(message)));
        Ok(())
    }

    async fn assignments(
        &self,
        mut client: DispatcherClient<Channel>,
        session: &str,
    ) -> Result<Infallible, SessionError> {
        let request = pb::AssignmentsRequest { session_id: session.to_owned() };
        let mut stream = within("the assignments", client.assignments(request)).await?.into_inner();
        let mut fold = Fold::new(Assigned::clone(&self.assigned.borrow()));
        while let Some(message) = stream.message().await? {
            fold.apply(message)?;
            let assigned = Arc::new(fold.assigned().clone());
            if let Some(node) = &assigned.node {
                self.gossip.set_ingress_addrs(node.ingress_addrs.clone());
            }
            let fence = assigned.fence();
            // Before anyone acts on it: a container must never be found at the next start whose task the disk does not know.
            if let Err(error) = self.dir.save_assigned(&assigned) {
                tracing::error!(%error, "the assignments could not be kept: after a reboot this node needs a manager");
            }
            self.assigned.send_replace(assigned);
            self.status.send_if_modified(|status| {
                let first = !status.synced;
                if first {
                    (status.synced, status.since) = (true, fence);
                }
                first
            });
        }
        Err(SessionError::Ended("assignment"))
    }

    async fn report(
        &self,
        mut client: DispatcherClient<Channel>,
        session: &str,
    ) -> Result<Infallible, SessionError> {
        loop {
            let mut batch = self.reports.next().await;
            batch.truncate(REPORT_BATCH);
            let update = |(task, status): &(_, _)| pb::update_task_status_request::Update {
                task_id: ToString::to_string(task),
                status: Some(pb::TaskStatus::from(status)),
            };
            let updates = batch.iter().map(update).collect();
            let request = pb::UpdateTaskStatusRequest {
                session_id: session.to_owned(),
                updates,
                now: Timestamp::now().0,
            };
            within("the status report", client.update_task_status(request)).await?;
            self.reports.taken(&batch);
        }
    }

    async fn heartbeats(
        &self,
        mut client: DispatcherClient<Channel>,
        session: &str,
        mut progress: watch::Receiver<Progress>,
    ) -> Result<Infallible, SessionError> {
        loop {
            let root = self.identity.current().issuer().map(|d| d.to_string()).unwrap_or_default();
            let Progress { applied, lag, faults } = progress.borrow_and_update().clone();
            let faults = faults.into_iter().map(|f| pb::Fault { kind: f.kind(), message: f.to_string() });
            let request = pb::HeartbeatRequest {
                session_id: session.to_owned(),
                root,
                applied: applied.generation,
                epoch: applied.epoch,
                lag: lag.as_ref().map(ToString::to_string).unwrap_or_default(),
                now: Timestamp::now().0,
                faults: faults.collect(),
            };
            let limit = self.pace.beat();
            let reply = within_time(limit, "a heartbeat", client.heartbeat(request)).await?.into_inner();
            let period = Duration::from_millis(reply.period.max(10));
            self.pace.set(period);
            // Whoever waits for this node to get on need not wait for the next beat.
            let news = async {
                sleep(EARLY_BEAT.min(period)).await;
                if progress.changed().await.is_err() {
                    pending().await
                }
            };
            let _ = timeout(period, news).await;
        }
    }

    async fn settle_doubts(
        &self,
        mut client: DispatcherClient<Channel>,
        session: &str,
    ) -> Result<Infallible, SessionError> {
        let mut mismatches = Mismatches::default();
        let mut tick = interval(DIGEST_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let view = self.gossip.view();
        loop {
            tick.tick().await;
            let (assigned, now) = (self.assigned.borrow().clone(), view.borrow().clone());
            for network in mismatches.check(&assigned, &now, Instant::now()) {
                let request = pb::ListEndpointsRequest {
                    session_id: session.to_owned(),
                    network_id: network.to_string(),
                };
                let reply =
                    within("the list of endpoints", client.list_endpoints(request)).await?.into_inner();
                tracing::debug!(%network, endpoints = reply.endpoints.len(), "gossip and managers differ");
                let records = digest::records(&network, reply, &assigned);
                self.gossip.listed(network, records);
            }
        }
    }
}

async fn within<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, SessionError> {
    within_time(CALL, what, call).await
}

async fn within_time<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, SessionError> {
    Ok(timeout(limit, call).await.map_err(|_| SessionError::Timeout(what))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_get_as_long_as_the_heartbeats_allow() {
        let pace = RequestTimeouts::default();
        let limits = |pace: &RequestTimeouts| [pace.beat(), pace.entry(), pace.pause()].map(|d| d.as_secs());
        assert_eq!(limits(&pace), [5, 5, 8]);
        pace.set(Duration::from_secs(1));
        assert_eq!(limits(&pace), [1, 2, 2]);
        pace.set(Duration::from_secs(60));
        assert_eq!(limits(&pace), [5, 5, 8]);
    }
}
