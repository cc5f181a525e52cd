//! The task that owns the gossip's state: commands, datagrams and chitchat's news come in, views and notices go out.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use chitchat::ChitchatId;
use proto::model::{NetworkId, NodeId, TaskId};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};

use super::{
    AckReport, GossipConfig, GossipError, KeyRing, ListedEndpoint,
    book::Book,
    chat::{Chat, open_chat},
    liveness::{Limits, Liveness},
    notice::{Change, ChangeHandle, Inbox, Message, NoticeId, Outbox, Retry},
    record::{self, EndpointRecord, FACT_KEY, Generation, NodeFact, SEQ_KEY, Seq, endpoint_key, first_seq},
    sealed::Channel,
    transport::{Direct, Mux},
    view::PeerView,
};

/// How often deaths are looked for and chitchat is asked for what it does not announce.
const TICK: Duration = Duration::from_millis(250);
/// Silent nodes asked in one tick, at most: all nodes of a cluster of 64 every second.
const ASKED_PER_TICK: usize = 16;
/// Changes in one notice: about eight datagrams.
const CHANGES_PER_NOTICE: usize = 30;
/// A node with more records of its own than this lets a new member pull them by gossip instead of sending them all.
const SNAPSHOT_LIMIT: usize = 600;
/// Seeds asked per round.
const SEEDS_PER_ROUND: usize = 3;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) enum Command {
    IngressAddrs(Vec<IpAddr>),
    Join(NetworkId),
    Leave(NetworkId),
    Publish(EndpointRecord, oneshot::Sender<ChangeHandle>),
    Withdraw(NetworkId, TaskId, oneshot::Sender<ChangeHandle>),
    Settled,
    Applied(u64, BTreeSet<NetworkId>),
    Seeds(Vec<SocketAddr>),
    Listed(NetworkId, Vec<ListedEndpoint>),
    LeaveCluster(oneshot::Sender<()>),
    Shutdown,
}

pub(super) struct Engine {
    config: GossipConfig,
    commands: mpsc::UnboundedReceiver<Command>,
    direct: mpsc::Receiver<Direct>,
    keys: watch::Receiver<KeyRing>,
    mux: Arc<Mux>,
    /// Rung by chitchat when a peer's record changes.
    bell: Arc<Notify>,
    cluster: Chat,
    networks: BTreeMap<NetworkId, Chat>,
    book: Book,
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
            ingress_addrs: Vec::new(),
            host_addrs: config.host_addrs.clone(),
            networks: BTreeSet::new(),
            generation: config.generation,
            version: 1,
            settled: false,
            left: false,
            alive: true,
        };
        let mut book = Book::new(config.node.clone());
        book.fact(fact.clone());
        let first = vec![(FACT_KEY.to_owned(), record::encode(&fact))];
        let cluster = open_chat(&config, &mux, &bell, None, config.seeds.clone(), first).await?;
        let now = Instant::now();
        let limits = Limits {
            dead_after: config.timing.dead_after,
            ask_after: config.timing.dead_after / 3,
            asked_per_tick: ASKED_PER_TICK,
            forget_after: config.timing.forget_after,
            tick: TICK,
        };
        let (first_pause, max_pause) = config.timing.retry;
        let (view, view_rx) = watch::channel(Arc::new(book.view()));
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
            book,
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
                () = self.bell.notified() => self.read_chats().await,
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
        if self.view.borrow().revision != self.book.revision() {
            self.view.send_replace(Arc::new(self.book.view()));
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
            Command::Listed(network, endpoints) => self.book.listed(&network, endpoints),
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
            self.book.others().filter(|f| f.networks.contains(&network)).map(|f| f.gossip_addr).collect();
        match open_chat(&self.config, &self.mux, &self.bell, Some(&network), seeds, Vec::new()).await {
            Ok(chat) => {
                self.book.join(&network);
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
        self.book.leave(network);
        for (node, id) in self.inbox.left(network) {
            self.answer(&node, id, None).await;
        }
        self.fact.networks.remove(network);
        self.tell_fact().await;
    }

    async fn publish(&mut self, record: EndpointRecord) -> ChangeHandle {
        self.seq += 1;
        let record = EndpointRecord { node: self.config.node.clone(), seq: self.seq, ..record };
        let (network, task) = (record.network.clone(), record.task.clone());
        self.own_change(&network, Change { task, seq: self.seq, record: Some(record) }).await
    }

    async fn withdraw(&mut self, network: NetworkId, task: TaskId) -> ChangeHandle {
        if !self.book.own(&network).iter().any(|r| r.task == task) {
            return ChangeHandle::nothing();
        }
        self.seq += 1;
        self.own_change(&network, Change { task, seq: self.seq, record: None }).await
    }

    /// Records a change of this node's, in gossip and by notice.
    async fn own_change(&mut self, network: &NetworkId, change: Change) -> ChangeHandle {
        let Some(chat) = self.networks.get(network) else { return ChangeHandle::nothing() };
        let (key, value) = (endpoint_key(&change.task), change.record.as_ref().map(record::encode));
        let seq = change.seq;
        chat.handle
            .with_chitchat(|c| {
                let state = c.self_node_state();
                match &value {
                    Some(value) => state.set(&key, value),
                    None => state.delete(&key),
                }
                // Last, so that who reads this number has all changes up to it.
                state.set(SEQ_KEY, seq);
            })
            .await;
        self.book.change(&self.config.node.clone(), network, &change.task, seq, change.record.clone());
        let mut to: Vec<NodeId> = self.book.members(network).map(|f| f.node.clone()).collect();
        let silent: Vec<NodeId> = self.book.silent(network).map(|f| f.node.clone()).collect();
        // Who hears nobody is the one that is cut off, and may be heard again before it hears: it waits for them all. Others do
        // not wait for the silent, and tell them all the same.
        if to.is_empty() {
            to = silent;
        } else if !silent.is_empty() {
            let id = self.outbox.number();
            self.post(id, Some(network.clone()), vec![change.clone()], silent);
        }
        to.push(self.config.node.clone());
        let id = self.outbox.number();
        let missing = self.post(id, Some(network.clone()), vec![change], to);
        // This node's own kernel counts like everyone else's.
        if self.inbox.owe(network, &self.config.node, id, self.book.changed_at(network)) {
            self.outbox.acked(&self.config.node, id);
        }
        ChangeHandle::new(missing)
    }

    fn post(
        &mut self,
        id: NoticeId,
        network: Option<NetworkId>,
        changes: Vec<Change>,
        to: Vec<NodeId>,
    ) -> watch::Receiver<BTreeSet<NodeId>> {
        let message = record::encode(&Message::Notice { id, fact: self.fact.clone(), network, changes });
        self.outbox.post(id, message.into_bytes(), to, Instant::now())
    }

    /// Tells all nodes about this one, after it has changed.
    async fn tell_fact(&mut self) -> ChangeHandle {
        self.fact.version += 1;
        self.book.fact(self.fact.clone());
        let text = record::encode(&self.fact);
        self.cluster.handle.with_chitchat(|c| c.self_node_state().set(FACT_KEY, &text)).await;
        let to: Vec<_> = self.book.others().filter(|f| f.alive).map(|f| f.node.clone()).collect();
        let id = self.outbox.number();
        ChangeHandle::new(self.post(id, None, Vec::new(), to))
    }

    async fn goodbye(&mut self) {
        self.fact.left = true;
        self.fact.networks.clear();
        let handle = self.tell_fact().await;
        self.post_due().await;
        let end = tokio::time::Instant::now() + GOODBYE;
        loop {
            let AckReport { all, .. } = handle.acknowledged(Duration::ZERO).await;
            let next = self.outbox.next().map_or(end, |n| end.min(n.into()));
            if all || tokio::time::Instant::now() >= end {
                return;
            }
            tokio::select! {
                Some(direct) = self.direct.recv() => self.receive(direct).await,
                () = sleep_until(next) => self.post_due().await,
            }
        }
    }

    /// Sends what is due, first time or again.
    async fn post_due(&mut self) {
        for (node, message) in self.outbox.due(Instant::now()) {
            if node == self.config.node {
                continue;
            }
            if let Some(to) = self.book.fact_of(&node).map(|f| f.gossip_addr) {
                self.mux.send(to, &Channel::Direct, &message).await;
            }
        }
    }

    async fn answer(&mut self, node: &NodeId, id: NoticeId, from: Option<SocketAddr>) {
        if *node == self.config.node {
            self.outbox.acked(node, id);
            return;
        }
        if let Some(to) = from.or_else(|| self.book.fact_of(node).map(|f| f.gossip_addr)) {
            let ack = record::encode(&Message::Ack { id });
            self.mux.send(to, &Channel::Direct, ack.as_bytes()).await;
        }
    }

    async fn receive(&mut self, direct: Direct) {
        let Ok(message) = serde_json::from_slice::<Message>(&direct.message) else {
            tracing::debug!(node = %direct.node, "direct message of an unknown kind");
            return;
        };
        match message {
            Message::Ack { id } => {
                self.heard(&direct.node);
                self.outbox.acked(&direct.node, id);
            }
            Message::Notice { id, fact, network, changes } => {
                // The seal names the sender; what it says must be about itself.
                if fact.node != direct.node || fact.generation != direct.generation {
                    return;
                }
                self.learn(fact);
                self.heard(&direct.node);
                let Some(network) = network.filter(|n| self.networks.contains_key(n)) else {
                    return self.answer(&direct.node, id, Some(direct.from)).await;
                };
                for Change { task, seq, record } in changes {
                    self.book.change(&direct.node, &network, &task, seq, record);
                }
                if self.inbox.owe(&network, &direct.node, id, self.book.changed_at(&network)) {
                    self.answer(&direct.node, id, Some(direct.from)).await;
                }
            }
        }
    }

    /// A sign of life from the node itself.
    fn heard(&mut self, node: &NodeId) {
        if *node != self.config.node && self.liveness.heard(node, Instant::now()) {
            tracing::info!(%node, "node is alive");
            self.book.set_alive(node, true);
        }
    }

    /// A sign of life that another node passed on.
    fn told(&mut self, node: &NodeId) {
        if self.liveness.told(node, Instant::now()) {
            tracing::info!(%node, "node is alive, others say");
            self.book.set_alive(node, true);
        }
    }

    /// Whether a sign of life of this start is one: not of a node that has left, or of a start before the last.
    fn counts(&self, node: &NodeId, generation: Generation) -> bool {
        self.book.fact_of(node).is_some_and(|f| f.generation <= generation && !f.left)
    }

    /// A fact, by whichever way it came.
    fn learn(&mut self, fact: NodeFact) {
        if fact.node == self.config.node {
            return;
        }
        let (node, generation, left, settled) = (fact.node.clone(), fact.generation, fact.left, fact.settled);
        let news = self.book.fact(fact);
        if !news.newer {
            return;
        }
        if left {
            tracing::info!(%node, "node has left the cluster");
            self.outbox.drop_node(&node);
            self.liveness.remove(&node);
            return;
        }
        if settled {
            self.settling.remove(&node);
        } else if news.new_start {
            self.settling.insert(node.clone(), (generation, Instant::now() + self.config.timing.settle));
        }
        if news.new_start {
            self.heard(&node);
            // It may know nobody yet.
            let id = self.outbox.number();
            self.post(id, None, Vec::new(), vec![node.clone()]);
        }
        // A new member wants the endpoints now, not a round later.
        for network in &news.joined {
            let own = self.book.own(network);
            if own.len() > SNAPSHOT_LIMIT {
                continue;
            }
            for chunk in own.chunks(CHANGES_PER_NOTICE) {
                let changes = chunk
                    .iter()
                    .map(|r| Change {
                        task: r.task.clone(),
                        seq: r.seq,
                        record: Some(EndpointRecord::clone(r)),
                    })
                    .collect();
                let id = self.outbox.number();
                self.post(id, Some(network.clone()), changes, vec![node.clone()]);
            }
        }
    }

    /// Reads what has changed in chitchat's copies of the others' states.
    async fn read_chats(&mut self) {
        let news = self.cluster.news(&self.config.node, |state| state.get(FACT_KEY).map(str::to_owned)).await;
        for (id, beats, fact) in news {
            match fact.map(|text| text.map(|t| record::decode::<NodeFact>(FACT_KEY, &t))) {
                Some(Some(Ok(fact))) if fact.node.as_str() == &*id.node_id => self.learn(fact),
                Some(Some(Err(error))) => tracing::warn!(node = %id.node_id, %error, "node fact ignored"),
                _ => {}
            }
            if let Ok(node) = id.node_id.parse::<NodeId>()
                && beats
                && self.counts(&node, id.generation_id)
            {
                self.told(&node);
            }
        }
        let networks: Vec<_> = self.networks.keys().cloned().collect();
        for network in networks {
            let Some(chat) = self.networks.get_mut(&network) else { continue };
            let read = |state: &chitchat::NodeState| {
                let upto = state.get(SEQ_KEY).and_then(|s| s.parse::<Seq>().ok());
                let pairs: Vec<_> = state.key_values().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                Some((upto, pairs))
            };
            for (id, _, state) in chat.news(&self.config.node, read).await {
                let (Some(Some((upto, pairs))), Ok(node)) = (state, id.node_id.parse::<NodeId>()) else {
                    continue;
                };
                let mut records = Vec::new();
                for (key, value) in pairs.iter().filter(|(key, _)| record::task_of_key(key).is_some()) {
                    match record::decode::<EndpointRecord>(key, value) {
                        Ok(r) if endpoint_key(&r.task) == *key => records.push(r),
                        Ok(_) => tracing::warn!(%node, %key, "endpoint record under a foreign key ignored"),
                        Err(error) => tracing::warn!(%node, %error, "endpoint record ignored"),
                    }
                }
                let generation = id.generation_id;
                self.book.synced(&node, generation, &network, upto.unwrap_or(first_seq(generation)), records);
            }
        }
    }

    async fn tick(&mut self) {
        self.read_chats().await;
        for (node, (generation, _)) in self.mux.voices() {
            if self.counts(&node, generation) {
                self.heard(&node);
            }
        }
        let now = Instant::now();
        let verdicts = self.liveness.tick(now);
        for node in verdicts.ask {
            let id = self.outbox.number();
            self.post(id, None, Vec::new(), vec![node]);
        }
        for node in verdicts.died {
            tracing::warn!(%node, "node is silent: no new connections to its endpoints");
            self.book.set_alive(&node, false);
            self.outbox.drop_node(&node);
        }
        for node in verdicts.forgotten {
            tracing::info!(%node, "node forgotten");
            self.book.forget(&node);
        }
        let over: Vec<_> = self
            .settling
            .iter()
            .filter(|(_, (_, at))| *at <= now)
            .map(|(n, (g, _))| (n.clone(), *g))
            .collect();
        for (node, generation) in over {
            self.settling.remove(&node);
            self.book.raise_floor(&node, generation);
        }
        let dropped = self.mux.dropped();
        if !dropped.is_empty() {
            tracing::trace!(?dropped, "gossip datagrams not taken so far");
        }
    }

    /// Once a round: nodes and members that chitchat has not met are greeted.
    fn poke(&mut self) {
        let met: BTreeSet<SocketAddr> =
            self.book.others().filter(|f| f.alive).map(|f| f.gossip_addr).collect();
        let strangers: Vec<_> =
            self.seeds.iter().filter(|s| !met.contains(s) && **s != self.config.advertise).copied().collect();
        for _ in 0..strangers.len().min(SEEDS_PER_ROUND) {
            self.next_seed = (self.next_seed + 1) % strangers.len();
            let _ = self.cluster.handle.gossip(strangers[self.next_seed]);
        }
        for (network, chat) in &self.networks {
            for fact in self.book.members(network) {
                let known = |id: &ChitchatId| {
                    *id.node_id == *fact.node.as_str() && id.generation_id == fact.generation
                };
                if !chat.read.keys().any(known) {
                    let _ = chat.handle.gossip(fact.gossip_addr);
                }
            }
        }
    }
}
