//! Opening a store and starting what drives it.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use openraft::{Config, RaftMetrics, SnapshotPolicy, error::RaftError};
use proto::model::{ClusterSpec, Millis};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Inner, Store, StoreConfig,
    command::Command,
    disk::Disk,
    error::{CommandError, OpenError, ProposeError},
    force_new_cluster,
    leadership::{self, Leadership},
    propose,
    publisher::StatePublisher,
    state_machine::StateMachine,
};
use crate::{
    blocking,
    raft::{
        AddressLookup, Member, Network, PeerServer, PeerTransport, Raft, Threads, compaction,
        contact::{LeaderContact, RaftHealth},
        election::{self, ElectionContext, RelayPeers},
        heartbeat::{self, Acknowledged},
        log_store::LogStore,
        membership, no_hints,
        peer::LastReplies,
        peer_addresses::PeerAddresses,
        reachability::PeerReachability,
        timing::RaftTiming,
    },
};

/// Proposals that may wait for the one before them.
const QUEUE: usize = 1024;

/// Raft's times.
#[derive(Debug, Clone, Copy)]
struct Timing {
    heartbeat: Duration,
    /// A follower that has not heard from its leader for so long stands for election.
    election: Duration,
}

impl Timing {
    fn new(config: &StoreConfig, spec: &ClusterSpec) -> Self {
        let heartbeat = Duration::from(config.heartbeat_tick.unwrap_or(Millis(spec.heartbeat_tick.max(1))));
        let election = Duration::from(config.election_tick.unwrap_or(Millis(spec.election_tick)));
        // Below three heartbeats a single late one would unseat a leader.
        Self { heartbeat, election: election.max(heartbeat * 3) }
    }

    fn raft(self) -> Result<Config, OpenError> {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        // What the time limits of messages and of silence are is `RaftTiming`'s to say, and who stands for election `election`'s.
        // These heartbeats carry what is committed to members that get no entries; that the leader is there, ours say.
        // The longest of these times is for how long a voter refuses all others whatever we say: less than the shortest lease.
        let heartbeat = ms(self.heartbeat);
        let config = Config {
            cluster_name: "rn".into(),
            heartbeat_interval: heartbeat,
            election_timeout_min: heartbeat + 1,
            election_timeout_max: ms(self.election.mul_f32(0.6)).max(heartbeat + 2),
            install_snapshot_timeout: 10_000,
            snapshot_max_chunk_size: 1 << 20,
            // `compaction` does both, by the cluster's settings of the moment.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: 5_000,
            enable_elect: false,
            ..Config::default()
        };
        config.validate().map_err(|e| OpenError::Raft(e.to_string()))
    }
}

impl Store {
    /// Opens the store in `config.dir` and starts raft on what it holds; a manager that was alone leads again at once.
    ///
    /// # Errors
    /// The directory or database cannot be opened or read, or is another node's.
    pub async fn open(config: StoreConfig, peers: impl PeerTransport) -> Result<Self, OpenError> {
        Self::open_over(config, Arc::new(peers), no_hints()).await
    }

    /// [`Self::open`], with what is known otherwise of where the peers are.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_over(
        config: StoreConfig,
        peers: Arc<dyn PeerTransport>,
        hints: AddressLookup,
    ) -> Result<Self, OpenError> {
        let dir = config.dir.clone();
        let (node_id, wanted) = (config.node_id.clone(), config.raft_id);
        let (unlock, database) = (config.unlock.clone(), config.database.clone());
        let alone = config.alone.then(|| Member { node_id: Some(node_id.clone()), addr: Some(config.addr) });
        let loaded = blocking::run(move || {
            let disk = Disk::open(&dir, &database, unlock.as_ref())?;
            let raft_id = match alone {
                Some(member) => force_new_cluster::rewrite(&disk, &node_id, member)?,
                None => disk.identity(&node_id, wanted)?,
            };
            let state = disk.load().map_err(|e| OpenError::Content(e.to_string()))?;
            Ok::<_, OpenError>((Arc::new(disk), raft_id, state))
        });
        let (disk, raft_id, (state, applied, members)) =
            loaded.await.map_err(|e| OpenError::Content(e.to_string()))??;

        let spec = state.cluster.as_ref().map(|c| c.spec.clone()).unwrap_or_default();
        let timing = Timing::new(&config, &spec);
        let pace = RaftTiming::new(timing.heartbeat, timing.election);
        let threads = config.threads.unwrap_or_else(Threads::current);
        let published = Arc::new(StatePublisher::new(state.clone()));
        let cluster = {
            let published = published.clone();
            Arc::new(move || published.read().cluster.as_ref().map(|c| c.id.clone()))
        };
        let left_behind = {
            let (published, node_id) = (published.clone(), config.node_id.clone());
            Arc::new(move |from| {
                let state = published.read();
                let member = state.nodes.get(&node_id).is_some_and(|n| n.raft_id == raft_id);
                member && !state.nodes.values().any(|n| n.raft_id == from)
            })
        };
        let network = Network {
            transport: peers,
            own_id: raft_id,
            own_addr: config.addr,
            heard: LastReplies::default(),
            reach: PeerReachability::default(),
            pace: pace.clone(),
            peer_addresses: PeerAddresses::new(hints),
            superseded: Arc::default(),
            cluster: cluster.clone(),
        };
        let log = LogStore::new(disk.clone(), raft_id);
        let machine = StateMachine::new(disk, published.clone(), state, applied, members);
        let settings = Arc::new(timing.raft()?);
        let raft = threads.core().spawn(Raft::new(raft_id, settings, network.clone(), log.clone(), machine));
        let raft = raft
            .await
            .map_err(|e| OpenError::Raft(e.to_string()))?
            .map_err(|e| OpenError::Raft(e.to_string()))?;

        let contact = LeaderContact::new(pace.clone());
        let (core, acknowledged, relay_peers) =
            (RaftHealth::default(), Acknowledged::default(), RelayPeers::default());
        let (proposals, queue) = mpsc::channel(QUEUE);
        let (lead, leadership) = watch::channel(Leadership::None);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = PeerServer {
            raft: raft.clone(),
            log: log.clone(),
            own_id: raft_id,
            own_addr: config.addr,
            peer_addresses: network.peer_addresses.clone(),
            contact: contact.clone(),
            core: core.clone(),
            acknowledged: acknowledged.clone(),
            pace: pace.clone(),
            cluster,
            left_behind,
        };
        network.transport.answered_by(server.clone());
        let peer_addresses = network.peer_addresses.clone();
        tasks.spawn_on(
            leadership::run(
                raft.clone(),
                lead,
                peer_addresses,
                contact.clone(),
                acknowledged.clone(),
                pace.clone(),
                stop.clone(),
            ),
            threads.pulse(),
        );
        let heartbeats =
            heartbeat::run(raft.clone(), network.clone(), contact.clone(), core, acknowledged, stop.clone());
        tasks.spawn_on(heartbeats, threads.pulse());
        let booth = ElectionContext {
            raft: raft.clone(),
            log,
            network: network.clone(),
            contact: contact.clone(),
            relay_peers: relay_peers.clone(),
        };
        tasks.spawn_on(election::run(booth, stop.clone()), threads.pulse());
        let proposing = propose::run(raft.clone(), queue, leadership.clone(), pace, stop.clone());
        tasks.spawn_on(proposing, threads.core());
        tasks.spawn_on(compaction::run(raft.clone(), published.clone(), stop.clone()), threads.core());
        let inner = Inner {
            node_id: config.node_id,
            raft_id,
            addr: config.addr,
            raft: raft.clone(),
            network,
            server,
            published: published.clone(),
            proposals: proposals.clone(),
            leadership: leadership.clone(),
            contact,
            confirmed: AtomicU64::new(u64::MAX),
            relay_peers,
            threads: threads.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let store = Self { inner: Arc::new(inner), term: None };
        tasks.spawn_on(membership::run(raft.clone(), published, leadership, stop), threads.core());
        // Alone, there is nobody to wait for. Raft itself is asked: its metrics may not have come yet.
        let alone = raft.with_raft_state(move |s| s.membership_state.effective().voter_ids().eq([raft_id]));
        if alone.await.map_err(|e| OpenError::Raft(e.to_string()))? {
            raft.trigger().elect().await.map_err(|e| OpenError::Raft(e.to_string()))?;
            // Until its term's first entry is there, as its disk alone decides; one that fails shows in whatever is asked next.
            let begun = |m: &RaftMetrics<u64, Member>| {
                m.state.is_leader()
                    && m.last_applied.is_some_and(|last| last.leader_id.term == m.current_term)
            };
            let _ = raft.wait(Some(timing.election)).metrics(begun, "it leads alone").await;
        }
        Ok(store)
    }

    /// Makes this manager the first of a new cluster, and applies `commands` (the cluster and its first node) as its first
    /// entry. The node among them that is this one gets its raft id and address.
    ///
    /// # Errors
    /// This store is part of a cluster already, or a command was refused.
    pub async fn initialise(&self, mut commands: Vec<Command>) -> Result<(), CommandError> {
        let unavailable = |e: String| CommandError::from(ProposeError::Unavailable(e));
        let me = Member { node_id: Some(self.inner.node_id.clone()), addr: Some(self.inner.addr) };
        match self.inner.raft.initialize(std::collections::BTreeMap::from([(self.inner.raft_id, me)])).await {
            Ok(()) => {}
            // Raft was begun, but the process ended before the first entry: go on from there.
            Err(RaftError::APIError(_)) if self.read().cluster.is_none() => {}
            Err(RaftError::APIError(e)) => {
                return Err(unavailable(format!("this manager has a cluster already: {e}")));
            }
            Err(RaftError::Fatal(e)) => return Err(ProposeError::Fatal(e.to_string()).into()),
        }
        let mut leadership = self.leadership();
        let leads = async { leadership.wait_for(Leadership::is_leader).await.is_ok() };
        if timeout(Duration::from_secs(5), leads).await != Ok(true) {
            return Err(unavailable("this manager did not become the leader of its new cluster".into()));
        }
        for command in &mut commands {
            if let Command::CreateNode(node) = command
                && node.id == self.inner.node_id
            {
                node.raft_id = self.inner.raft_id;
                node.raft_addr = Some(self.inner.addr);
            }
        }
        for outcome in self.propose(commands).await? {
            outcome?;
        }
        Ok(())
    }

    /// A manager of its own over `dir`, ready to be proposed to: what the tests of loops and servers stand on.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::initialise`].
    #[cfg(test)]
    pub(crate) async fn for_tests(dir: &std::path::Path) -> Result<Self, Box<dyn std::error::Error>> {
        let node_id = proto::model::NodeId::random();
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 2377));
        let store = Self::open(StoreConfig::new(dir, node_id, addr), crate::raft::NoPeers).await?;
        store.initialise(Vec::new()).await?;
        Ok(store)
    }
}
