//! Forwarding: up to three servers in order, with cache, coalescing of equal questions, and a share for each client.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture, future::Shared};
use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::Name,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
};

use super::{
    answer::{self, key},
    cache::{Cache, Key},
};

/// How to forward.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The host's resolv.conf, read again when it changes.
    pub resolv_conf: PathBuf,
    /// Wait for one server.
    pub timeout: Duration,
    /// Questions under way at once, of all sandboxes; more are refused.
    pub concurrent: usize,
    /// The same for one sandbox: more wait their turn.
    pub per_client: usize,
    /// Answers kept.
    pub cache: usize,
}

impl Default for UpstreamConfig {
    /// As Docker's resolver: 4 s a server, 1024 at once.
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            timeout: Duration::from_secs(4),
            concurrent: 1024,
            per_client: 64,
            cache: 4096,
        }
    }
}

/// Servers that are asked at most, in order.
const SERVERS: usize = 3;
/// What we tell upstream servers that we take over UDP (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// One sandbox's share.
#[derive(Debug)]
pub struct Client(Semaphore);

impl Default for Client {
    fn default() -> Self {
        Self(Semaphore::new(UpstreamConfig::default().per_client))
    }
}

type Flight = Shared<BoxFuture<'static, Option<Arc<Message>>>>;

/// The node's way to upstream servers. All sockets are the host's own.
pub struct Forwarder {
    config: UpstreamConfig,
    host: Mutex<HostServers>,
    cache: Mutex<Cache>,
    flights: Mutex<HashMap<Key, Flight>>,
    slots: Semaphore,
}

#[derive(Default)]
struct HostServers {
    modified: Option<std::time::SystemTime>,
    servers: Vec<SocketAddr>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// With these settings.
    pub fn new(config: UpstreamConfig) -> Self {
        Self {
            host: Mutex::default(),
            cache: Mutex::new(Cache::new(config.cache)),
            flights: Mutex::default(),
            slots: Semaphore::new(config.concurrent),
            config,
        }
    }

    /// The reply to a request that is not ours to answer. `servers` empty = the host's.
    pub async fn ask(
        self: &Arc<Self>,
        client: &Client,
        servers: &[SocketAddr],
        request: &Message,
    ) -> Message {
        let refuse = |code| answer::reply(request, code);
        let Ok(query) = answer::question(request) else { return refuse(ResponseCode::FormErr) };
        let servers: Vec<SocketAddr> = if servers.is_empty() {
            self.host_servers()
        } else {
            servers.iter().copied().take(SERVERS).collect()
        };
        if servers.is_empty() {
            return refuse(ResponseCode::ServFail);
        }
        let key = Key {
            name: key(query.name()),
            kind: query.query_type(),
            class: query.query_class(),
            servers: servers.clone(),
        };
        if let Some(found) = locked(&self.cache).get(&key, Instant::now()) {
            return dressed(request, found);
        }
        // One sandbox may fill its own share only; the others' questions go on.
        let Ok(_share) = client.0.acquire().await else { return refuse(ResponseCode::ServFail) };
        let Ok(_slot) = self.slots.try_acquire() else { return refuse(ResponseCode::Refused) };
        let flight = self.flight(key, query.clone(), servers);
        match flight.await {
            Some(found) => dressed(request, (*found).clone()),
            None => refuse(ResponseCode::ServFail),
        }
    }

    /// The answer under way to this very question, or a new attempt. Runs as a task of its own: it ends, and cleans up, even if
    /// every client that waits for it goes away.
    fn flight(self: &Arc<Self>, key: Key, query: Query, servers: Vec<SocketAddr>) -> Flight {
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (me, of) = (Arc::clone(self), key.clone());
        let task = tokio::spawn(async move {
            let found = me.ask_servers(&query, &servers).await.map(Arc::new);
            if let Some(found) = &found {
                locked(&me.cache).put(of.clone(), found, Instant::now());
            }
            locked(&me.flights).remove(&of);
            found
        });
        let flight: Flight = async move { task.await.ok().flatten() }.boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }

    async fn ask_servers(&self, query: &Query, servers: &[SocketAddr]) -> Option<Message> {
        let mut last = None;
        for server in servers {
            match tokio::time::timeout(self.config.timeout, ask_one(*server, query)).await {
                Ok(Ok(reply)) => match reply.metadata.response_code {
                    // This server cannot; another may.
                    ResponseCode::ServFail | ResponseCode::Refused => last = Some(reply),
                    _ => return Some(reply),
                },
                Ok(Err(error)) => tracing::debug!(%server, %error, "upstream"),
                Err(_) => tracing::debug!(%server, "upstream: no answer in time"),
            }
        }
        last
    }

    fn host_servers(&self) -> Vec<SocketAddr> {
        let mut host = locked(&self.host);
        let modified = std::fs::metadata(&self.config.resolv_conf).and_then(|m| m.modified()).ok();
        if modified != host.modified || modified.is_none() {
            let text = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
            *host = HostServers { modified, servers: name_servers(&text) };
        }
        host.servers.clone()
    }
}

/// The servers that a resolv.conf names (resolv.conf(5)); our own address among them would be a loop.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            if words.next() != Some("nameserver") {
                return None;
            }
            let addr: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
            Some(SocketAddr::new(addr, 53))
        })
        .filter(|server| server.ip() != IpAddr::V4(super::server::ADDR))
        .take(SERVERS)
        .collect()
}

/// An upstream's message as the reply to this client's request.
pub(super) fn dressed(request: &Message, mut found: Message) -> Message {
    found.metadata.id = request.metadata.id;
    found.metadata.recursion_desired = request.metadata.recursion_desired;
    found.queries.clone_from(&request.queries);
    found.edns = None;
    found
}

/// One question to one server: UDP from a new socket on a random port, TCP when the answer was cut.
async fn ask_one(server: SocketAddr, query: &Query) -> io::Result<Message> {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;

    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel drops what comes from anywhere else.
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(reply) = Message::from_vec(buffer.get(..length).unwrap_or_default()) else { continue };
        // A wrong id or question is a forger's guess: the real answer may still come.
        if !answers(&reply, message.metadata.id, query) {
            continue;
        }
        if !reply.metadata.truncation {
            return Ok(reply);
        }
        return ask_tcp(server, &bytes, message.metadata.id, query).await;
    }
}

async fn ask_tcp(server: SocketAddr, bytes: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let reply = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(&reply, id, query) { Ok(reply) } else { Err(io::Error::other("answer to another question")) }
}

pub(super) fn answers(reply: &Message, id: u16, query: &Query) -> bool {
    let same = |name: &Name| name.eq_ignore_root(query.name());
    reply.metadata.id == id
        && reply.metadata.message_type == hickory_proto::op::MessageType::Response
        && reply.queries.len() == 1
        && reply.queries.iter().all(|q| same(q.name()) && q.query_type() == query.query_type())
}

#[cfg(test)]
mod tests;
