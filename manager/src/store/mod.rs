//! The replicated store.
//!
//! ```text
//! propose ─▶ raft log (flushed) ─▶ majority ─▶ apply (pure) ─▶ rows on disk ─▶ published state ─▶ watch, changes
//! ```
//!
//! * [`command`]: every way in which the state changes. [`apply`](mod@apply): what each does. [`state`]: what there is.
//! * [`kind`]: the kinds of objects, which all of this is written over.
//! * [`Store`]: the handle. Reads are a pointer load; a write returns once it is on the disks of a majority and applied.

pub mod apply;
pub mod change;
pub mod command;
pub(crate) mod convert;
pub mod database;
pub(crate) mod disk;
pub mod error;
#[cfg(test)]
pub(crate) mod fixtures;
mod force_new_cluster;
pub mod index;
pub mod kind;
mod leadership;
mod lookup;
mod open;
mod propose;
pub(crate) mod publisher;
mod rocks;
pub(crate) mod seal;
pub(crate) mod snapshot;
pub mod state;
mod state_machine;
mod status;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::model::{Millis, NodeId, Revision};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What each entry has changed, one after the other.
pub type Changes = broadcast::Receiver<Arc<Vec<Change>>>;

pub use self::{
    change::{Change, Edit},
    command::{Command, Outcome, Rejected},
    database::OpenDatabase,
    error::{CommandError, OpenError, ProposeError},
    index::Owner,
    leadership::Leadership,
    seal::rewrap,
    state::State,
    status::{MemberStatus, RaftStatus},
};
use self::{propose::Pending, publisher::StatePublisher};
use crate::raft::{
    Membership, Network, PeerServer, Raft, Threads, contact::LeaderContact, election::RelayPeers,
};

/// Longest wait for a majority to answer a proposal (swarmkit: 5 s and two elections).
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(25);

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `<data-root>/swarm/raft`: made 0700 if absent.
    pub dir: PathBuf,
    /// This node.
    pub node_id: NodeId,
    /// The raft id that the leader gave to a joiner. None: the one in `dir`, or a new one for the first manager.
    pub raft_id: Option<u64>,
    /// Where other managers reach this one.
    pub addr: SocketAddr,
    /// Go on as the only manager: `--force-new-cluster`.
    pub alone: bool,
    /// What unwraps the key in `dir`.
    pub unlock: Option<certs::UnlockKey>,
    /// What opens the database in `dir`.
    pub database: OpenDatabase,
    /// Where raft runs. None: on the runtime that opens the store.
    pub threads: Option<Threads>,
    /// Instead of the cluster's setting.
    pub heartbeat_tick: Option<Millis>,
    /// Instead of the cluster's setting.
    pub election_tick: Option<Millis>,
}

impl StoreConfig {
    /// With the cluster's settings.
    pub fn new(dir: impl Into<PathBuf>, node_id: NodeId, addr: SocketAddr) -> Self {
        Self {
            dir: dir.into(),
            node_id,
            raft_id: None,
            addr,
            alone: false,
            unlock: None,
            database: OpenDatabase::default(),
            threads: None,
            heartbeat_tick: None,
            election_tick: None,
        }
    }
}

/// The replicated store of this manager. Clones are handles of one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// What is proposed through this handle is of this term's work.
    term: Option<u64>,
}

struct Inner {
    node_id: NodeId,
    raft_id: u64,
    addr: SocketAddr,
    raft: Raft,
    network: Network,
    server: PeerServer,
    published: Arc<StatePublisher>,
    proposals: mpsc::Sender<Pending>,
    leadership: watch::Receiver<Leadership>,
    contact: LeaderContact,
    /// The term in which this manager was last certain to lead, with all that earlier leaders committed applied.
    confirmed: AtomicU64,
    relay_peers: RelayPeers,
    threads: Threads,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Store {
    /// The same store for the work of raft's term `term`: what is proposed through it is refused unless this manager leads in that term
    /// when the proposal's turn has come. What was decided in one term is not carried out in another.
    pub fn of_term(&self, term: u64) -> Self {
        Self { inner: self.inner.clone(), term: Some(term) }
    }

    /// The newest state. Cheap; hold it for as long as one consistent view is needed.
    pub fn read(&self) -> Arc<State> {
        self.inner.published.read()
    }

    /// Proposes commands as one entry and waits until it is applied: one outcome for each, in order.
    ///
    /// # Errors
    /// See [`ProposeError`]. After [`ProposeError::Unavailable`] the commands may still be carried out.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, outcomes) = oneshot::channel();
        let stopping = || ProposeError::Fatal("the manager is stopping".into());
        let asked = async {
            self.inner
                .proposals
                .send(Pending::new(commands, self.term, reply))
                .await
                .map_err(|_| stopping())?;
            outcomes.await.map_err(|_| stopping())?
        };
        tokio::time::timeout(PROPOSE_TIMEOUT, asked).await.unwrap_or_else(|_| Err(ProposeError::no_quorum()))
    }

    /// [`Self::propose`] for a single command.
    ///
    /// # Errors
    /// Not answered, or refused by `apply`.
    pub async fn propose_one(&self, command: Command) -> Result<(), CommandError> {
        let outcomes = self.propose(vec![command]).await?;
        match outcomes.into_iter().next() {
            Some(outcome) => Ok(outcome?),
            None => Err(ProposeError::Fatal("an entry came back without its outcome".into()).into()),
        }
    }

    /// Tells of every revision that changed something. Level-triggered: a slow reader sees the newest only.
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.inner.published.watch()
    }

    /// Every change of every entry, in order. A reader that gets `Lagged` starts over from [`Self::read`].
    pub fn changes(&self) -> Changes {
        self.inner.published.changes()
    }

    /// Who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Whether the leader has missed heartbeats: it may be gone, and another about to follow it.
    pub fn leader_is_late(&self) -> bool {
        let pace = &self.inner.network.pace;
        self.inner.contact.silence() > (pace.heartbeat() * 3).max(pace.election() / 2)
    }

    /// Whether the managers have formed a new cluster without this one, which has to join it.
    pub fn is_superseded(&self) -> bool {
        self.inner.network.superseded.load(Ordering::Relaxed)
    }

    /// How long no leader has been heard of.
    pub fn leader_silence(&self) -> Duration {
        self.inner.contact.silence()
    }

    /// Whether this manager leads, and has had a read confirmed since it does: it knows all that earlier leaders committed, and
    /// decides what comes after.
    pub fn is_confirmed(&self) -> bool {
        let confirmed = self.inner.confirmed.load(Ordering::Relaxed);
        matches!(*self.inner.leadership.borrow(), Leadership::Leader { term } if term == confirmed)
    }

    /// Managers that said lately, when they were asked, that they hear a leader: the way round for one that does not.
    pub fn relay_peers(&self) -> Vec<(NodeId, SocketAddr)> {
        self.addresses(|_| self.inner.relay_peers.within(self.inner.network.pace.patience()))
    }

    /// All managers but this one.
    pub(crate) fn other_managers(&self) -> Vec<(NodeId, SocketAddr)> {
        let own = self.inner.network.own_id;
        self.addresses(|membership| membership.voter_ids().filter(|id| *id != own).collect())
    }

    fn addresses(&self, of: impl FnOnce(&Membership) -> Vec<u64>) -> Vec<(NodeId, SocketAddr)> {
        let metrics = self.inner.raft.server_metrics();
        let membership = metrics.borrow().membership_config.membership().clone();
        let address = |id: u64| {
            let member = membership.get_node(&id)?;
            Some((member.node_id.clone()?, self.inner.network.peer_addresses.of(id, member)?))
        };
        of(&membership).into_iter().filter_map(address).collect()
    }

    /// Whom to ask for what only the leader does: the leader, or a manager that passes it on. None: nobody, or this one leads.
    pub(crate) fn way_to_leader(&self) -> Option<(NodeId, SocketAddr)> {
        match self.inner.leadership.borrow().clone() {
            Leadership::Leader { .. } => None,
            Leadership::Follower { leader: Some(leader) } => Some(leader),
            Leadership::Follower { leader: None } | Leadership::None => self.relay_peers().into_iter().next(),
        }
    }

    /// Waits until this manager is certain to lead and has applied everything that was committed before the call, and returns
    /// the state: what a linearizable read, or a leader that takes over, begins with.
    ///
    /// # Errors
    /// It does not lead, or no majority confirms it in time.
    pub async fn read_index(&self) -> Result<Arc<State>, ProposeError> {
        use openraft::error::{CheckIsLeaderError, RaftError};
        let mut leadership = self.leadership();
        let led = leadership.borrow().clone();
        let leads = led.is_leader();
        let lost = async { drop(leadership.wait_for(|now| !leads || !now.is_leader()).await) };
        let confirmed = async {
            tokio::select! {
                biased;
                confirmed = self.inner.raft.ensure_linearizable() => Some(confirmed),
                () = lost, if leads => None,
            }
        };
        let confirmed = tokio::time::timeout(PROPOSE_TIMEOUT, confirmed).await;
        let Ok(Some(confirmed)) = confirmed else { return Err(ProposeError::no_quorum()) };
        match confirmed {
            Ok(_) => {
                if let Leadership::Leader { term } = led {
                    self.inner.confirmed.store(term, Ordering::Relaxed);
                }
                Ok(self.read())
            }
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                let leader = forward.leader_node.and_then(|m| Some((m.node_id?, m.addr?)));
                Err(ProposeError::NotLeader { leader })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(ProposeError::no_quorum())
            }
            Err(RaftError::Fatal(e)) => Err(ProposeError::Fatal(e.to_string())),
        }
    }

    /// This manager's node.
    pub fn node_id(&self) -> &NodeId {
        &self.inner.node_id
    }

    /// This manager's raft id.
    pub fn raft_id(&self) -> u64 {
        self.inner.raft_id
    }

    /// Answers the messages of other managers; to be served as `rn.v1.Raft` to managers only.
    pub fn peer_server(&self) -> PeerServer {
        self.inner.server.clone()
    }

    /// Stops raft and everything that drives it. What was acknowledged is on disk already.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop cleanly");
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.threads.shutdown().await;
    }
}
