//! The network: who can reach whom, after how long, and what gets lost. All of it drawn from the seed.
//!
//! Raft's messages travel as messages here, so that they can be lost and overtake each other; everything else goes over
//! connections ([`super::tcp`]), which may be slow or break, but keep their order as TCP does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use manager::raft::{Peer, PeerCall, PeerError, PeerServer, PeerTransport};
use proto::pb;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::{mpsc, oneshot};

use crate::{
    tcp::{Connections, Dialled, End},
    trace::Trace,
};

/// The port that managers listen on.
const PORT: u16 = 2377;
/// How long TCP waits before it sends again what was not acknowledged.
pub const RETRANSMISSION: u64 = 200_000;

type Answer = Result<pb::RaftMessage, PeerError>;

/// A message that has arrived.
pub struct Arrived {
    from: usize,
    call: PeerCall,
    message: pb::RaftMessage,
    reply: oneshot::Sender<Answer>,
}

/// Something on its way.
pub enum Event {
    /// A message of raft's.
    Request {
        from: usize,
        to: usize,
        call: PeerCall,
        message: pb::RaftMessage,
        reply: oneshot::Sender<Answer>,
    },
    /// Its answer.
    Reply { from: usize, to: usize, answer: Answer, reply: oneshot::Sender<Answer> },
    /// Somebody wants a connection.
    Syn { from: usize, to: usize, addr: SocketAddr, dialled: Dialled },
    /// And hears whether he has one.
    Connected { from: usize, to: usize, end: std::io::Result<End>, dialled: Dialled },
    /// Bytes of a connection may have arrived at this side.
    Pump { conn: u64, side: usize },
    /// Only when it was lost: kept, so that the caller waits as one does for what never comes.
    Nothing { reply: oneshot::Sender<Answer> },
}

/// What the network knows of a host.
#[derive(Default)]
pub struct NetHost {
    /// Whether the machine is on.
    pub on: bool,
    /// Who takes its raft messages.
    pub raft: Option<mpsc::UnboundedSender<Arrived>>,
    /// Who takes its connections.
    pub listener: Option<(SocketAddr, mpsc::UnboundedSender<(End, SocketAddr)>)>,
    /// Longest additional time on its lines, in microseconds.
    pub slow: u64,
}

/// The simulated network. Clones are handles of the same one.
#[derive(Clone)]
pub struct Net(Arc<Mutex<Inner>>);

/// What is behind the lock.
pub struct Inner {
    pub now: u64,
    /// Whose code runs now.
    pub current: usize,
    pub rng: StdRng,
    pub places: Vec<NetHost>,
    pub connections: Connections,
    pub trace: Trace,
    /// From whom to whom nothing gets.
    cut: BTreeSet<(usize, usize)>,
    /// The share of what is lost.
    loss: f64,
    /// The share of messages that take much longer than those after them, and how much.
    stragglers: (f64, u64),
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
}

/// The address of a host.
pub fn addr(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 99, 0, u8::try_from(host + 1).unwrap_or(u8::MAX)], PORT))
}

/// The host at an address.
pub fn host(addr: SocketAddr) -> usize {
    match addr.ip() {
        std::net::IpAddr::V4(ip) => usize::from(ip.octets()[3]).wrapping_sub(1),
        std::net::IpAddr::V6(_) => usize::MAX,
    }
}

impl Inner {
    /// Whether nothing gets from one to the other.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        let on = |h: usize| self.places.get(h).is_some_and(|p| p.on);
        !on(from) || !on(to) || self.cut.contains(&(from, to))
    }

    /// How long something takes.
    pub fn delay(&mut self, from: usize, to: usize) -> u64 {
        let slow =
            [from, to].map(|h| self.places.get(h).map_or(0, |p| p.slow)).into_iter().max().unwrap_or(0);
        let base = if from == to { 50 } else { self.rng.random_range(200..5_000) };
        base + if slow == 0 || from == to { 0 } else { self.rng.random_range(slow / 4..=slow) }
    }

    /// Whether this one is lost.
    pub fn lost(&mut self) -> bool {
        self.loss > 0.0 && self.rng.random_bool(self.loss)
    }

    /// Lets `event` happen at `due`.
    pub fn schedule(&mut self, due: u64, event: Event) {
        self.number += 1;
        self.queue.insert((due, self.number), event);
    }

    fn message_delay(&mut self, from: usize, to: usize) -> u64 {
        let (share, late) = self.stragglers;
        let mut delay = self.delay(from, to);
        if share > 0.0 && self.rng.random_bool(share) {
            delay += self.rng.random_range(late / 8..=late);
            self.trace.count("messages reordered", 1);
        }
        delay
    }

    /// Sends a message of raft's, or its answer.
    fn send(&mut self, from: usize, to: usize, event: Event) {
        let due = self.now + self.message_delay(from, to);
        if self.lost() {
            self.trace.count("messages lost", 1);
            if let Event::Request { reply, .. } | Event::Reply { reply, .. } = event {
                self.schedule(due + 60_000_000, Event::Nothing { reply });
            }
            return;
        }
        self.schedule(due, event);
    }
}

impl Net {
    /// A network of `hosts` machines, all off.
    pub fn new(hosts: usize, seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            current: 0,
            rng: StdRng::seed_from_u64(seed),
            places: (0..hosts).map(|_| NetHost::default()).collect(),
            connections: Connections::default(),
            trace,
            cut: BTreeSet::new(),
            loss: 0.0,
            stragglers: (0.0, 0),
            queue: BTreeMap::new(),
            number: 0,
        })))
    }

    /// What is behind the lock. Nothing that locks again must be dropped while it is held.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing gets through in either direction any more, or in one.
    pub fn cut(&self, from: usize, to: usize, both: bool) {
        let mut inner = self.inner();
        inner.cut.insert((from, to));
        if both {
            inner.cut.insert((to, from));
        }
    }

    /// The network is whole again, and loses nothing.
    pub fn heal(&self) {
        let mut inner = self.inner();
        inner.cut.clear();
        inner.loss = 0.0;
        inner.stragglers = (0.0, 0);
        for place in &mut inner.places {
            place.slow = 0;
        }
    }

    /// All connections are cut again as they were before, all lines mended: only partitions end.
    pub fn mend(&self) {
        self.inner().cut.clear();
    }

    /// The share of what is lost.
    pub fn set_loss(&self, share: f64) {
        self.inner().loss = share;
    }

    /// The share of messages that are overtaken, and by how much.
    pub fn set_stragglers(&self, share: f64, late_us: u64) {
        self.inner().stragglers = (share, late_us);
    }

    /// Everything to and from the host takes up to this much longer.
    pub fn set_slow(&self, host: usize, us: u64) {
        if let Some(place) = self.inner().places.get_mut(host) {
            place.slow = us;
        }
    }

    /// Switches a machine on or off.
    pub fn set_on(&self, host: usize, on: bool) {
        if let Some(place) = self.inner().places.get_mut(host) {
            place.on = on;
        }
    }

    /// The host's process has ended: nobody answers there.
    pub fn ended(&self, host: usize) {
        let gone = {
            let mut inner = self.inner();
            let place = inner.places.get_mut(host);
            place.map(|p| (p.raft.take(), p.listener.take()))
        };
        drop(gone);
    }

    /// Lets everything arrive that is due.
    pub fn deliver(&self, now: u64) {
        self.inner().now = now;
        loop {
            let event = {
                let mut inner = self.inner();
                match inner.queue.first_key_value() {
                    Some(((due, _), _)) if *due <= now => inner.queue.pop_first().map(|(_, event)| event),
                    _ => None,
                }
            };
            match event {
                Some(event) => self.happen(event),
                None => return,
            }
        }
    }

    fn happen(&self, event: Event) {
        match event {
            Event::Nothing { reply } => drop(reply),
            Event::Request { from, to, call, message, reply } => {
                let mut inner = self.inner();
                let now = inner.now;
                if inner.is_cut(from, to) {
                    inner.trace.count("messages into the void", 1);
                    inner.schedule(now + 60_000_000, Event::Nothing { reply });
                    return;
                }
                inner.trace.numbers(&[1, from as u64, to as u64, call as u64, message.body.len() as u64]);
                inner.trace.count("messages delivered", 1);
                let arrived = Arrived { from, call, message, reply };
                let refused = match inner.places.get(to).and_then(|p| p.raft.as_ref()) {
                    Some(raft) => raft.send(arrived).err().map(|e| e.0),
                    None => Some(arrived),
                };
                // The machine is there, and nobody listens.
                if let Some(Arrived { reply, .. }) = refused {
                    let answer = Err(PeerError::Unreachable("connection refused".into()));
                    inner.send(to, from, Event::Reply { from: to, to: from, answer, reply });
                }
            }
            Event::Reply { from, to, answer, reply } => {
                let mut inner = self.inner();
                let now = inner.now;
                if inner.is_cut(from, to) {
                    inner.schedule(now + 60_000_000, Event::Nothing { reply });
                    return;
                }
                inner.trace.numbers(&[2, from as u64, to as u64]);
                drop(inner);
                // Who asked may have given up.
                let _ = reply.send(answer);
            }
            Event::Syn { from, to, addr, dialled } => self.syn(from, to, addr, dialled),
            Event::Connected { from, to, end, dialled } => {
                let mut inner = self.inner();
                let now = inner.now;
                if inner.is_cut(from, to) {
                    inner.schedule(now + RETRANSMISSION, Event::Connected { from, to, end, dialled });
                    return;
                }
                drop(inner);
                let _ = dialled.send(end);
            }
            Event::Pump { conn, side } => self.pump(conn, side),
        }
    }
}

/// A host's way to send raft's messages, and to have those that arrive answered.
pub struct Lines {
    /// The network.
    pub net: Net,
    /// Whose.
    pub host: usize,
}

#[async_trait]
impl PeerTransport for Lines {
    async fn call(&self, to: &Peer, call: PeerCall, message: pb::RaftMessage) -> Answer {
        let (reply, answer) = oneshot::channel();
        let to = host(to.addr);
        {
            let mut inner = self.net.inner();
            inner.send(self.host, to, Event::Request { from: self.host, to, call, message, reply });
        }
        answer.await.unwrap_or_else(|_| Err(PeerError::Unreachable("no answer".into())))
    }

    fn answered_by(&self, server: PeerServer) {
        let (tx, mut rx) = mpsc::unbounded_channel::<Arrived>();
        let host = self.host;
        if let Some(place) = self.net.inner().places.get_mut(host) {
            place.raft = Some(tx);
        }
        let net = self.net.clone();
        tokio::spawn(async move {
            while let Some(Arrived { from, call, message, reply }) = rx.recv().await {
                let (server, net) = (server.clone(), net.clone());
                tokio::spawn(async move {
                    let answer = server.answer(call, message).await;
                    net.inner().send(host, from, Event::Reply { from: host, to: from, answer, reply });
                });
            }
        });
    }
}
