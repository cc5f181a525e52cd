//! One UDP socket for all gossip of a node: channels multiplexed, everything sealed.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Error as AnyError;
use async_trait::async_trait;
use chitchat::{
    ChitchatEnvelope,
    transport::{RecvOutcome, SendOutcome, Socket, Transport},
};
use proto::model::NodeId;
use tokio::{
    net::UdpSocket,
    sync::{Mutex as AsyncMutex, mpsc, watch},
    task::JoinHandle,
};

use super::{
    codec::Codec,
    keyring::KeyRing,
    record::Generation,
    sealed::{Channel, DatagramOpener, DropReason, Sealer},
};

/// Messages waiting for one chitchat instance; gossip is lossy by design, so a full queue drops.
const QUEUE: usize = 256;

/// A message for the node itself rather than for a chitchat instance.
#[derive(Debug)]
pub(super) struct DirectMessage {
    pub(super) from: SocketAddr,
    pub(super) node: NodeId,
    pub(super) generation: Generation,
    pub(super) message: Vec<u8>,
}

/// When each node, in which of its starts, was last heard itself.
pub(super) type LastHeard = BTreeMap<NodeId, (Generation, Instant)>;

type Channels = Mutex<HashMap<Channel, mpsc::Sender<RecvOutcome>>>;

/// The socket and what is multiplexed on it. The reading task ends with the last handle.
pub(super) struct Mux {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    keys: watch::Receiver<KeyRing>,
    sealer: Mutex<Sealer>,
    encoder: AsyncMutex<Codec>,
    channels: Arc<Channels>,
    dropped: Arc<Mutex<BTreeMap<DropReason, u64>>>,
    last_heard: Arc<Mutex<LastHeard>>,
    reader: JoinHandle<()>,
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Mux {
    /// Binds. Where `bind` is `0.0.0.0` both families are served, if the machine has IPv6.
    pub(super) async fn bind(
        bind: SocketAddr,
        node: NodeId,
        generation: Generation,
        keys: watch::Receiver<KeyRing>,
    ) -> io::Result<(Arc<Self>, mpsc::Receiver<DirectMessage>)> {
        let socket = Arc::new(open_socket(bind)?);
        let (direct, direct_rx) = mpsc::channel(4096);
        let channels = Arc::new(Channels::default());
        let dropped = Arc::new(Mutex::default());
        let last_heard = Arc::new(Mutex::default());
        let reader = Reader {
            socket: socket.clone(),
            opener: DatagramOpener::new(node.clone()),
            keys: keys.clone(),
            channels: channels.clone(),
            direct,
            dropped: Arc::clone(&dropped),
            last_heard: Arc::clone(&last_heard),
        };
        let mux = Self {
            local: socket.local_addr()?,
            socket,
            keys,
            sealer: Mutex::new(Sealer::new(node, generation)),
            encoder: AsyncMutex::default(),
            channels,
            dropped,
            last_heard,
            reader: tokio::spawn(reader.run()),
        };
        Ok((Arc::new(mux), direct_rx))
    }

    /// Where the socket is bound, with the port that the kernel chose if none was given.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams not taken, by reason.
    pub(super) fn dropped(&self) -> BTreeMap<DropReason, u64> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose datagrams have come since this was last asked.
    pub(super) fn last_heard(&self) -> LastHeard {
        std::mem::take(&mut self.last_heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a message to another node. Gossip is lossy: what cannot be sent is lost, and repeated by whoever needs it.
    pub(super) async fn send(&self, to: SocketAddr, channel: &Channel, message: &[u8]) -> usize {
        let datagrams = {
            let keys = self.keys.borrow();
            self.sealer.lock().unwrap_or_else(PoisonError::into_inner).seal(&keys, channel, message)
        };
        let to = match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
                SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
            }
            _ => to,
        };
        let mut sent = 0;
        for datagram in datagrams {
            match self.socket.send_to(&datagram, to).await {
                Ok(n) => sent += n,
                Err(error) => tracing::debug!(%error, %to, "gossip datagram not sent"),
            }
        }
        sent
    }

    /// A chitchat transport on one channel.
    pub(super) fn transport(self: &Arc<Self>, channel: Channel) -> ChannelTransport {
        ChannelTransport { mux: self.clone(), channel }
    }
}

fn open_socket(bind: SocketAddr) -> io::Result<UdpSocket> {
    let open = |addr: SocketAddr| -> io::Result<UdpSocket> {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A burst of notices from a thousand nodes has to wait here; the kernel caps this at net.core.rmem_max.
        socket.set_recv_buffer_size(4 << 20)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        UdpSocket::from_std(socket.into())
    };
    match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, bind.port()))).or_else(|_| open(bind))
        }
        _ => open(bind),
    }
}

struct Reader {
    socket: Arc<UdpSocket>,
    opener: DatagramOpener,
    keys: watch::Receiver<KeyRing>,
    channels: Arc<Channels>,
    direct: mpsc::Sender<DirectMessage>,
    dropped: Arc<Mutex<BTreeMap<DropReason, u64>>>,
    last_heard: Arc<Mutex<LastHeard>>,
}

impl Reader {
    async fn run(mut self) {
        let mut decoder = Codec::default();
        let mut buffer = vec![0; 65_536];
        loop {
            let (n, from) = match self.socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // An ICMP error of an earlier send, or memory pressure: never a reason to stop.
                    tracing::debug!(%error, "gossip receive");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let received = {
                let keys = self.keys.borrow();
                self.opener.open(&keys, &mut buffer[..n], Instant::now())
            };
            let Some(received) = received else {
                self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.opener.dropped);
                continue;
            };
            self.last_heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(received.node.clone(), (received.generation, Instant::now()));
            if received.channel == Channel::DirectMessage {
                let direct = DirectMessage {
                    from,
                    node: received.node,
                    generation: received.generation,
                    message: received.message,
                };
                // A full queue drops; the sender repeats until it is answered.
                let _ = self.direct.try_send(direct);
                continue;
            }
            let target =
                self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(&received.channel).cloned();
            // No target: a network that this node is not a member of.
            if let Some(target) = target
                && let Some(envelope) = decoder.decode(&received.message).await
            {
                let _ = target.try_send(RecvOutcome { from_addr: from, envelope, num_bytes_received: n });
            }
        }
    }
}

/// chitchat's view of one channel.
pub(super) struct ChannelTransport {
    mux: Arc<Mux>,
    channel: Channel,
}

#[async_trait]
impl Transport for ChannelTransport {
    async fn open(&self, _: SocketAddr) -> Result<Box<dyn Socket>, AnyError> {
        let (tx, rx) = mpsc::channel(QUEUE);
        self.mux
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.channel.clone(), tx.clone());
        Ok(Box::new(ChannelSocket { mux: self.mux.clone(), channel: self.channel.clone(), tx, rx }))
    }
}

struct ChannelSocket {
    mux: Arc<Mux>,
    channel: Channel,
    tx: mpsc::Sender<RecvOutcome>,
    rx: mpsc::Receiver<RecvOutcome>,
}

#[async_trait]
impl Socket for ChannelSocket {
    fn local_addr(&self) -> Result<SocketAddr, AnyError> {
        Ok(self.mux.local)
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> Result<SendOutcome, AnyError> {
        let bytes = self.mux.encoder.lock().await.encode(envelope).await;
        let num_bytes_sent = match bytes {
            Some(bytes) => self.mux.send(to, &self.channel, &bytes).await,
            None => 0,
        };
        // Never an error: one would end chitchat's task for good.
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> Result<RecvOutcome, AnyError> {
        match self.rx.recv().await {
            Some(received) => Ok(received),
            // Unreachable while `tx` lives, which it does as long as this socket.
            None => std::future::pending().await,
        }
    }
}

impl Drop for ChannelSocket {
    fn drop(&mut self) {
        let mut channels = self.mux.channels.lock().unwrap_or_else(PoisonError::into_inner);
        // The network may have been joined again already.
        if channels.get(&self.channel).is_some_and(|tx| tx.same_channel(&self.tx)) {
            channels.remove(&self.channel);
        }
    }
}
