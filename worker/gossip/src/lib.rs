//! What nodes know first-hand, told to all who need it, with no manager involved.
//!
//! * [`record`]: the records; [`view`]: all of them as one value, [`PeerView`]; `peer_table`: how reports merge into it.
//! * `keyring`, `sealed`: datagrams nobody else can read or make; `transport`: the one UDP socket; `codec`: chitchat's bytes; `instance`: its instances.
//! * `notice`: changes told directly and acknowledged; `liveness`: who is dead; `engine`: the task that runs all this.
//!
//! One chitchat instance spans all nodes (node facts), and one more each network this node is a member of (endpoints), so
//! that only members hold or see a network's endpoints.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod codec;
mod engine;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod instance;
mod keyring;
mod liveness;
mod notice;
mod peer_table;
pub mod record;
mod replay;
mod sealed;
#[cfg(test)]
mod tests;
mod transport;
pub mod view;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use proto::model::{ClusterId, NetworkId, NodeId, TaskId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub use keyring::KeyRing;
pub use notice::{AckReport, ChangeHandle};
pub use record::{EndpointRecord, EndpointState, Generation, NodeFact, Seq};
pub use view::PeerView;

use engine::{Command, Engine};

/// Port of the gossip, UDP (Swarm's).
pub const GOSSIP_PORT: u16 = 7946;

/// What this node is in the gossip.
#[derive(Debug, Clone)]
pub struct GossipConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Its addresses on `ingress`, as far as they are known: they are part of its first word, since a node that comes back without
    /// them would be left out of the mesh until its next one.
    pub ingress_addrs: Vec<IpAddr>,
    /// Where to listen; `0.0.0.0` serves both families.
    pub bind: SocketAddr,
    /// Where others reach that.
    pub advertise: SocketAddr,
    /// Its data-path address.
    pub vtep: IpAddr,
    /// All addresses of this machine.
    pub host_addrs: Vec<IpAddr>,
    /// Nodes to ask for all others.
    pub seeds: Vec<SocketAddr>,
    /// This start of the daemon.
    pub generation: Generation,
    /// Speeds and limits.
    pub timing: Timing,
}

/// Speeds and limits of the gossip.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A gossip round. Changes travel by notice, so a round need not be short.
    pub round: Duration,
    /// Silence that makes a node dead: three rounds.
    pub dead_after: Duration,
    /// Silence after which a node is forgotten. Its addresses are kept until then; the managers decide long before.
    pub forget_after: Duration,
    /// First and longest pause between repetitions of a notice.
    pub retry: (Duration, Duration),
    /// When a notice is given up and left to gossip; also how long a drain waits.
    pub give_up: Duration,
    /// How long what a node said before its restart holds, if it does not say before that it has settled.
    pub settle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            round: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            forget_after: Duration::from_secs(600),
            retry: (Duration::from_millis(50), Duration::from_millis(200)),
            give_up: Duration::from_secs(3),
            settle: Duration::from_secs(5),
        }
    }
}

/// An endpoint as the managers list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEndpoint {
    /// The endpoint.
    pub record: EndpointRecord,
    /// Where its node takes VXLAN, should gossip not know.
    pub vtep: Option<IpAddr>,
}

/// Why the gossip did not start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The socket.
    #[error("cannot listen for gossip on {addr}/udp: {source}")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// chitchat.
    #[error("cannot start gossip: {0}")]
    Start(String),
}

/// The running gossip. Cheap to clone; it ends with [`Gossip::shutdown`] or the last clone.
#[derive(Clone)]
pub struct Gossip {
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<Arc<PeerView>>,
    local: SocketAddr,
    task: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl Gossip {
    /// Starts. Nothing is sent or understood before `keys` holds one.
    pub async fn start(config: GossipConfig, keys: watch::Receiver<KeyRing>) -> Result<Self, GossipError> {
        let (commands, rx) = mpsc::unbounded_channel();
        let (engine, view, local) = Engine::start(config, keys, rx).await?;
        let task = tokio::spawn(engine.run());
        Ok(Self { commands, view, local, task: Arc::new(std::sync::Mutex::new(Some(task))) })
    }

    /// Hears nobody and is heard by nobody: for an agent without a data plane, as in the simulation.
    pub fn silent() -> Self {
        let (commands, _) = mpsc::unbounded_channel();
        let (_, view) = watch::channel(Arc::default());
        let local = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { commands, view, local, task: Arc::default() }
    }

    fn send(&self, command: Command) {
        // After the engine's end there is nobody left to tell.
        let _ = self.commands.send(command);
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What is known, as it changes.
    pub fn view(&self) -> watch::Receiver<Arc<PeerView>> {
        self.view.clone()
    }

    /// This node's addresses on `ingress`, when the managers have given it some.
    pub fn set_ingress_addrs(&self, addrs: Vec<IpAddr>) {
        self.send(Command::IngressAddrs(addrs));
    }

    /// Becomes a member of a network: its endpoints appear in the view.
    pub fn join(&self, network: NetworkId) {
        self.send(Command::Join(network));
    }

    /// Is no member any more: its endpoints vanish from the view.
    pub fn leave(&self, network: NetworkId) {
        self.send(Command::Leave(network));
    }

    /// Tells every live member of the record's network. The node and the number of the change are filled in here. Joins the
    /// network if that has not happened yet.
    pub async fn publish(&self, record: EndpointRecord) -> ChangeHandle {
        let (tx, rx) = oneshot::channel();
        self.send(Command::Publish(record, tx));
        rx.await.unwrap_or_else(|_| ChangeHandle::nothing())
    }

    /// Takes back this node's record of a task. Of a task never published: nothing happens.
    pub async fn withdraw(&self, network: NetworkId, task: TaskId) -> ChangeHandle {
        let (tx, rx) = oneshot::channel();
        self.send(Command::Withdraw(network, task, tx));
        rx.await.unwrap_or_else(|_| ChangeHandle::nothing())
    }

    /// After a restart: all that still runs has been published again.
    pub fn settled(&self) {
        self.send(Command::Settled);
    }

    /// The view of this revision is in the kernel, except for the networks in `failed`.
    pub fn applied(&self, revision: u64, failed: BTreeSet<NetworkId>) {
        self.send(Command::Applied(revision, failed));
    }

    /// More nodes to ask for all others.
    pub fn add_seeds(&self, seeds: Vec<SocketAddr>) {
        self.send(Command::Seeds(seeds));
    }

    /// The managers' list of a network's running endpoints; stands in where their owners are silent.
    pub fn listed(&self, network: NetworkId, endpoints: Vec<ListedEndpoint>) {
        self.send(Command::ManagerListed(network, endpoints));
    }

    /// Says goodbye for good, then ends. Takes a second at most.
    pub async fn leave_cluster(&self) {
        let (tx, rx) = oneshot::channel();
        self.send(Command::LeaveCluster(tx));
        let _ = rx.await;
        self.shutdown().await;
    }

    /// Ends. Others keep what this node last said until it is back, or dead to them.
    pub async fn shutdown(&self) {
        self.send(Command::Shutdown);
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}
