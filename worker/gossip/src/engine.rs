//! The task that owns the gossip's state: commands, datagrams and chitchat's news come in, views and notices go out.

mod receive;
mod send;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::model::{NetworkId, NodeId, TaskId};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{
    GossipConfig, GossipError, KeyRing, ListedEndpoint,
    instance::{ChitchatInstance, open_instance},
    liveness::{Limits, Liveness},
    notice::{ChangeHandle, Inbox, Outbox, Retry},
    peer_table::PeerTable,
    record::{self, EndpointRecord, FACT_KEY, NodeFact, Seq, first_seq},
    transport::{DirectMessage, Mux},
    view::PeerView,
};

/// How often deaths are looked for and chitchat is asked for what it does not announce.
const TICK: Duration = Duration::from_millis(250);
/// Nodes asked in one tick, at most: all nodes of a cluster of 64 every second.
const ASKED_PER_TICK: usize = 16;

pub(super) enum Command {
    IngressAddrs(Vec<IpAddr>),
    Join(NetworkId),
    Leave(NetworkId),
    Publish(EndpointRecord, oneshot::Sender<ChangeHandle>),
    Withdraw(NetworkId, TaskId, oneshot::Sender<ChangeHandle>),
    Settled,
    Applied(u64, BTreeSet<NetworkId>),
    Seeds(Vec<SocketAddr>),
    ManagerListed(NetworkId, Vec<ListedEndpoint>),
    LeaveCluster(oneshot::Sender<()>),
    Shutdown,
}

pub(super) struct Engine {
    config: GossipConfig,
    commands: mpsc::UnboundedReceiver<Command>,
    direct: mpsc::Receiver<DirectMessage>,
    keys: watch::Receiver<KeyRing>,
    mux: Arc<Mux>,
    /// Notified by chitchat when a peer's record changes.
    bell: Arc<Notify>,
    cluster: ChitchatInstance,
    networks: BTreeMap<NetworkId, ChitchatInstance>,
    peers: PeerTable,
    liveness: Liveness,
    outbox: Outbox,
    inbox: Inbox,
    fact: NodeFact,
    seq: Seq,
    seeds: Vec<SocketAddr>,
    next_seed: usize,
    /// Restarted nodes: when what they said before is void even if they do not say so.
    settling: BTreeMap<NodeId, (u64, Instant)>,
    view: watch::Sender<Arc<PeerView>>,
}

impl Engine {
    pub(super) async fn start(
        config: GossipConfig,
        keys: watch::Receiver<KeyRing>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<(Self, watch::Receiver<Arc<PeerView>>, SocketAddr), GossipError> {
        let (mux, direct) = Mux::bind(config.bind, config.node.clone(), config.generation, keys.clone())
            .await
            .map_err(|source| GossipError::Bind { addr: config.bind, source })?;
        let local = mux.local_addr();
        let bell = Arc::new(Notify::new());
        let fact = NodeFact {
            node: config.node.clone(),
            hostname: config.hostname.clone(),
            vtep: config.vtep,
            gossip_addr: config.advertise,
            ingress_addrs: config.ingress_addrs.clone(),
            host_addrs: config.host_addrs.clone(),
            networks: BTreeSet::new(),
            generation: config.generation,
            version: 1,
            settled: false,
            left: false,
            alive: true,
        };
        let mut peers = PeerTable::new(config.node.clone());
        peers.fact(fact.clone());
        let first = vec![(FACT_KEY.to_owned(), record::encode(&fact))];
        let cluster = open_instance(&config, &mux, &bell, None, config.seeds.clone(), first).await?;
        let now = Instant::now();
        let limits = Limits {
            dead_after: config.timing.dead_after,
            ask_after: config.timing.dead_after / 3,
            asked_per_tick: ASKED_PER_TICK,
            forget_after: config.timing.forget_after,
            tick: TICK,
        };
        let (first_pause, max_pause) = config.timing.retry;
        let (view, view_rx) = watch::channel(Arc::new(peers.view()));
        let engine = Self {
            liveness: Liveness::new(limits, now),
            outbox: Outbox::new(Retry { first: first_pause, max: max_pause, give_up: config.timing.give_up }),
            inbox: Inbox::default(),
            seq: first_seq(config.generation),
            seeds: config.seeds.clone(),
            next_seed: 0,
            settling: BTreeMap::new(),
            networks: BTreeMap::new(),
            config,
            commands,
            direct,
            keys,
            mux,
            bell,
            cluster,
            peers,
            fact,
            view,
        };
        Ok((engine, view_rx, local))
    }

    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = interval(self.config.timing.round);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keys = self.keys.clone();
        let mut batch = Vec::new();
        loop {
            let wake = self.outbox.next();
            let retry = async {
                match wake {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(command) = command else { break };
                    if !self.command(command).await {
                        break;
                    }
                }
                // A burst of notices makes one view.
                n = self.direct.recv_many(&mut batch, 64) => {
                    if n == 0 {
                        break;
                    }
                    for direct in std::mem::take(&mut batch) {
                        self.receive(direct).await;
                    }
                }
                () = self.bell.notified() => self.read_instances().await,
                _ = tick.tick() => self.tick().await,
                _ = round.tick() => self.poke(),
                Ok(()) = keys.changed() => {
                    tracing::info!(keys = ?keys.borrow_and_update().clone(), "gossip keys");
                    self.poke();
                }
                () = retry => {}
            }
            self.post_due().await;
            self.publish_view();
        }
        for chat in std::mem::take(&mut self.networks).into_values().chain([self.cluster]) {
            chat.handle.abort();
        }
    }

    fn publish_view(&self) {
        if self.view.borrow().revision != self.peers.revision() {
            self.view.send_replace(Arc::new(self.peers.view()));
        }
    }

    /// False when it was the last one.
    async fn command(&mut self, command: Command) -> bool {
        match command {
            Command::IngressAddrs(addrs) => {
                if self.fact.ingress_addrs != addrs {
                    self.fact.ingress_addrs = addrs;
                    self.tell_fact().await;
                }
            }
            Command::Join(network) => self.join(network).await,
            Command::Leave(network) => self.leave(&network).await,
            Command::Publish(record, reply) => {
                self.join(record.network.clone()).await;
                let _ = reply.send(self.publish(record).await);
            }
            Command::Withdraw(network, task, reply) => {
                let _ = reply.send(self.withdraw(network, task).await);
            }
            Command::Settled => {
                if !self.fact.settled {
                    self.fact.settled = true;
                    self.tell_fact().await;
                }
            }
            Command::Applied(revision, failed) => {
                for (node, id) in self.inbox.applied(revision, &failed) {
                    self.answer(&node, id, None).await;
                }
            }
            Command::Seeds(seeds) => {
                let fresh: Vec<_> = seeds.into_iter().filter(|s| !self.seeds.contains(s)).collect();
                for seed in &fresh {
                    let _ = self.cluster.handle.gossip(*seed);
                }
                self.seeds.extend(fresh);
            }
            Command::ManagerListed(network, endpoints) => self.peers.listed(&network, endpoints),
            Command::LeaveCluster(done) => {
                self.goodbye().await;
                let _ = done.send(());
            }
            Command::Shutdown => return false,
        }
        true
    }

    async fn join(&mut self, network: NetworkId) {
        if self.networks.contains_key(&network) {
            return;
        }
        let seeds =
            self.peers.others().filter(|f| f.networks.contains(&network)).map(|f| f.gossip_addr).collect();
        match open_instance(&self.config, &self.mux, &self.bell, Some(&network), seeds, Vec::new()).await {
            Ok(chat) => {
                self.peers.join(&network);
                self.networks.insert(network.clone(), chat);
                self.fact.networks.insert(network);
                self.tell_fact().await;
            }
            Err(error) => tracing::error!(%network, %error, "no gossip on this network"),
        }
    }

    async fn leave(&mut self, network: &NetworkId) {
        let Some(chat) = self.networks.remove(network) else { return };
        chat.handle.abort();
        self.peers.leave(network);
        for (node, id) in self.inbox.left(network) {
            self.answer(&node, id, None).await;
        }
        self.fact.networks.remove(network);
        self.tell_fact().await;
    }
}
