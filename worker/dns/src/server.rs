//! Sockets in the tasks' namespaces, served from the daemon.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, ResponseCode};
use network::{desired::DnsPorts, services::ServiceTable, workload::WorkloadId};
use proto::model::NetworkId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Handle,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::{self, Answer},
    datagrams::{self, Batch, Datagram},
    upstream::{Client, Forwarder},
};

/// Where containers find their resolver, as Docker's do.
pub const ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A TCP client that says nothing for so long is let go (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// TCP clients of one sandbox at once.
const TCP_CLIENTS: usize = 32;

/// A sandbox's sockets.
#[derive(Debug)]
pub struct DnsSockets {
    /// For datagrams.
    pub udp: std::net::UdpSocket,
    /// For longer answers.
    pub tcp: std::net::TcpListener,
}

impl DnsSockets {
    /// Opens them in the calling thread's network namespace, whose loopback must be up.
    pub fn open() -> io::Result<Self> {
        Ok(Self { udp: std::net::UdpSocket::bind((ADDR, 0))?, tcp: std::net::TcpListener::bind((ADDR, 0))? })
    }

    /// The ports that the kernel chose.
    pub fn ports(&self) -> io::Result<DnsPorts> {
        Ok(DnsPorts { udp: self.udp.local_addr()?.port(), tcp: self.tcp.local_addr()?.port() })
    }

    /// Further handles on the same sockets, to park with the shim.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }
}

/// Who asks through a sandbox's sockets.
#[derive(Debug, Clone)]
pub struct Requester {
    /// Its networks, in the order in which names are looked up.
    pub networks: Vec<NetworkId>,
    /// Servers to forward to instead of the host's (`--dns`).
    pub servers: Vec<SocketAddr>,
    /// Whether anything is forwarded: not for a task that has internal networks only.
    pub forward: bool,
}

struct Sandbox {
    requester: Requester,
    client: Client,
    turn: AtomicUsize,
}

/// Requests since the daemon started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered from what this node knows, refusals among them.
    pub answered: AtomicU64,
    /// Passed on to the host's name servers.
    pub forwarded: AtomicU64,
}

/// The node's resolver. It has a thread of its own: an answer takes microseconds, and is neither to wait for the daemon's other
/// work nor to wake one thread after the other.
pub struct DnsServer {
    counts: Arc<Counts>,
    table: Arc<ArcSwap<ServiceTable>>,
    forwarder: Arc<Forwarder>,
    attached: Mutex<HashMap<WorkloadId, CancellationToken>>,
    thread: Handle,
    ended: CancellationToken,
}

impl DnsServer {
    /// A resolver that answers from whatever `table` holds at the moment; an error when its thread cannot be started.
    pub fn new(table: Arc<ArcSwap<ServiceTable>>, forwarder: Arc<Forwarder>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (thread, ended) = (runtime.handle().clone(), CancellationToken::new());
        let end = ended.clone().cancelled_owned();
        std::thread::Builder::new().name("dns".to_owned()).spawn(move || runtime.block_on(end))?;
        Ok(Self { counts: Arc::default(), table, forwarder, attached: Mutex::default(), thread, ended })
    }

    /// What it has done so far.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Serves a sandbox's sockets until [`Self::detach`]; replaces what was attached for the workload before.
    pub fn attach(&self, workload: WorkloadId, sockets: DnsSockets, requester: Requester) -> io::Result<()> {
        sockets.udp.set_nonblocking(true)?;
        sockets.tcp.set_nonblocking(true)?;
        let _there = self.thread.enter();
        let udp = UdpSocket::from_std(sockets.udp)?;
        let tcp = TcpListener::from_std(sockets.tcp)?;
        let sandbox = Arc::new(Sandbox { requester, client: Client::default(), turn: AtomicUsize::new(0) });
        let stop = CancellationToken::new();
        let old = self.lock().insert(workload, stop.clone());
        if let Some(old) = old {
            old.cancel();
        }
        let service = Service {
            counts: self.counts.clone(),
            table: self.table.clone(),
            forwarder: self.forwarder.clone(),
            sandbox,
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve_udp(service.clone(), Arc::new(udp))));
        tokio::spawn(stop.run_until_cancelled_owned(serve_tcp(service, tcp)));
        Ok(())
    }

    /// Stops serving a workload's sockets and closes this process' handles on them.
    pub fn detach(&self, workload: &WorkloadId) {
        if let Some(stop) = self.lock().remove(workload) {
            stop.cancel();
        }
    }

    /// Stops serving all others.
    pub fn retain(&self, keep: impl Fn(&WorkloadId) -> bool) {
        self.lock().retain(|workload, stop| {
            let kept = keep(workload);
            if !kept {
                stop.cancel();
            }
            kept
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkloadId, CancellationToken>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        for stop in self.lock().values() {
            stop.cancel();
        }
        self.ended.cancel();
    }
}

#[derive(Clone)]
struct Service {
    counts: Arc<Counts>,
    table: Arc<ArcSwap<ServiceTable>>,
    forwarder: Arc<Forwarder>,
    sandbox: Arc<Sandbox>,
}

/// What became of a request without asking anyone.
enum Now {
    Reply(Message),
    Forward,
}

impl Service {
    fn now(&self, request: &Message) -> Now {
        let now = self.decide(request);
        let count = match &now {
            Now::Reply(_) => &self.counts.answered,
            Now::Forward => &self.counts.forwarded,
        };
        count.fetch_add(1, Ordering::Relaxed);
        now
    }

    fn decide(&self, request: &Message) -> Now {
        let query = match answer::question(request) {
            Ok(query) => query,
            Err(code) => return Now::Reply(answer::reply(request, code)),
        };
        let turn = self.sandbox.turn.fetch_add(1, Ordering::Relaxed);
        match answer::answer(&self.table.load(), &self.sandbox.requester.networks, query, turn) {
            Answer::Records(data) => Now::Reply(answer::records(request, data)),
            // Nobody to ask: not NXDOMAIN, which would claim to know.
            Answer::Forward if !self.sandbox.requester.forward => {
                Now::Reply(answer::reply(request, ResponseCode::ServFail))
            }
            Answer::Forward => Now::Forward,
        }
    }

    /// Answers what waits at the socket; whether more may wait.
    fn round(&self, socket: &Arc<UdpSocket>, batch: &mut Batch) -> bool {
        let Ok(requests) = socket.try_io(Interest::READABLE, || batch.receive(socket)) else { return false };
        let full = Batch::is_full(requests.len());
        let mut answers = Vec::with_capacity(requests.len());
        for (peer, bytes) in requests {
            let Ok(request) = Message::from_vec(bytes) else { continue };
            match self.now(&request) {
                Now::Reply(reply) => {
                    answers
                        .extend(answer::encode_udp(&request, &reply).map(|bytes| Datagram { peer, bytes }));
                }
                Now::Forward => {
                    let (service, socket) = (self.clone(), socket.clone());
                    tokio::spawn(async move {
                        let reply = service.later(&request).await;
                        if let Some(bytes) = answer::encode_udp(&request, &reply) {
                            let _ = socket.send_to(&bytes, SocketAddr::V4(peer)).await;
                        }
                    });
                }
            }
        }
        batch.send(socket, &answers);
        full
    }

    async fn later(&self, request: &Message) -> Message {
        let Sandbox { requester, client, .. } = &*self.sandbox;
        self.forwarder.ask(client, &requester.servers, request).await
    }
}

async fn serve_udp(service: Service, socket: Arc<UdpSocket>) {
    while socket.readable().await.is_ok() {
        // An empty socket waits anyway; a turn for others before that would only cost a round of the runtime.
        if datagrams::with(|batch| service.round(&socket, batch)) {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve_tcp(service: Service, listener: TcpListener) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < TCP_CLIENTS => {
                if let Ok((stream, _)) = accepted {
                    let service = service.clone();
                    clients.spawn(async move {
                        if let Err(error) = serve_stream(service, stream).await {
                            tracing::debug!(%error, "DNS over TCP");
                        }
                    });
                } else {
                    // Out of descriptors, say: breathe rather than spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn serve_stream(service: Service, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = match tokio::time::timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => length,
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(e)) => return Err(e),
            Err(_) => return Ok(()),
        };
        let mut buffer = vec![0; length.into()];
        tokio::time::timeout(IDLE, stream.read_exact(&mut buffer)).await??;
        let Ok(request) = Message::from_vec(&buffer) else { return Ok(()) };
        let reply = match service.now(&request) {
            Now::Reply(reply) => reply,
            Now::Forward => service.later(&request).await,
        };
        let Some(bytes) = answer::encode_tcp(&request, &reply) else { return Ok(()) };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut framed = Vec::with_capacity(bytes.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&bytes);
        stream.write_all(&framed).await?;
    }
}
