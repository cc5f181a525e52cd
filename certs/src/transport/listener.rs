//! Accepting connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::{Server, server::Connected};

use super::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Lane,
    admission::{ConnectionSlot, ConnectionSlots, Rate, Source, TrustedSources},
    stack::{Acceptor, Socket},
};
use crate::{Peer, SharedIdentity};

/// A client that has not finished its handshake by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the connection of a member with an expired certificate lasts: long enough to get a new one. The peer then dials again, with
/// that one; else its every call on this connection would be refused for as long as it stands.
const EXPIRED_CONNECTION: Duration = Duration::from_secs(2);
/// Handshakes under way at once: in total, and for each source. None waits in the kernel's backlog, where it would hold up those
/// behind it: the oldest of who has most is given up.
const HANDSHAKES: (usize, usize) = (256, 32);
/// Handshakes that a source may begin at once, and each second after that, before a member has proved itself from there. One costs
/// about half a millisecond.
const HANDSHAKE_RATE: (u32, u32) = (64, 32);
/// Connections of those who have proved nothing: in total, and for each source. A joiner needs two, one after the other.
const STRANGERS: (usize, usize) = (128, 16);
/// How long such a connection lasts: longer than a token takes to be answered by managers that are busy.
const STRANGERS_CONNECTION: Duration = Duration::from_secs(40);
/// Calls under way on one connection. A manager passes on those of all workers that have found it, three standing ones each; the
/// default of 200 would be full with 66 of them.
const MAX_STREAMS: u32 = 100_000;
/// Clients accepted in one go, before others have their turn.
const ACCEPTED_AT_ONCE: usize = 64;
/// Pause after a failed `accept`, which means that the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection; in the extensions of every request on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnInfo {
    /// The member, by a certificate of this cluster that is in force. None: a joiner, or see `expired_peer`.
    pub peer: Option<Peer>,
    /// A member whose certificate ended less than [`crate::tls::RENEWAL_GRACE`] ago. It may ask for a new one and nothing else.
    pub expired_peer: Option<Peer>,
    /// Where it dials from.
    pub remote: SocketAddr,
    /// Ends the connection of one that is no member.
    pub hang_up: CloseHandle,
}

/// Ends a connection.
#[derive(Debug, Clone, Default)]
pub struct CloseHandle(Option<CancellationToken>);

impl CloseHandle {
    /// Ends it now. Members' connections go on.
    pub fn now(&self) {
        if let Some(ended) = &self.0 {
            ended.cancel();
        }
    }
}

// Says nothing of who is at the other end.
impl PartialEq for CloseHandle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CloseHandle {}

impl ConnInfo {
    fn new(presented: Option<Peer>, remote: SocketAddr, now: SystemTime) -> Self {
        let (expired_peer, peer) = match presented {
            Some(peer) if peer.is_expired(now) => (Some(peer), None),
            presented => (None, presented),
        };
        // A dual-stack socket reports IPv4 clients as ::ffff:a.b.c.d; nobody else calls them so.
        Self {
            peer,
            expired_peer,
            remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            hang_up: CloseHandle::default(),
        }
    }
}

/// A listening socket whose connections are authenticated.
#[derive(Debug)]
pub struct Listener {
    tcp: Acceptor,
    identity: SharedIdentity,
    known: TrustedSources,
}

impl Listener {
    /// Listens on `addr`. Port 0 takes a free one; `[::]` takes IPv4 clients too.
    pub async fn bind(addr: SocketAddr, identity: SharedIdentity) -> io::Result<Self> {
        let tcp = Acceptor::bind(addr)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}/tcp: {e}")))?;
        Ok(Self { tcp, identity, known: TrustedSources::default() })
    }

    /// A member is known to be at this address: nobody has to prove that before those that come from there may be many.
    pub fn vouch(&self, addr: IpAddr) {
        self.known.add(Source::of(addr));
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts as it is polled; for `Server::serve_with_incoming`. Dropping the stream closes the socket, and drops handshakes
    /// under way.
    pub fn incoming(self) -> Incoming {
        self.incoming_until(CancellationToken::new())
    }

    /// The same; `cut` ends the accepted connections too, whatever still goes on in them.
    pub fn incoming_until(self, cut: CancellationToken) -> Incoming {
        Incoming {
            tcp: self.tcp,
            handshakes: JoinSet::new(),
            pause: None,
            rate: Rate::new(HANDSHAKE_RATE.0, HANDSHAKE_RATE.1),
            context: HandshakeContext {
                identity: self.identity,
                cut,
                handshakes: ConnectionSlots::new(HANDSHAKES.0, HANDSHAKES.1),
                strangers: ConnectionSlots::new(STRANGERS.0, STRANGERS.1),
                known: self.known,
            },
        }
    }
}

/// The tonic server builder with our keep-alive: a peer that vanished without a word is noticed in 10 s.
pub fn server_builder() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(MAX_STREAMS))
}

/// Connections whose handshake is done.
#[derive(Debug)]
pub struct Incoming {
    tcp: Acceptor,
    /// One task each, so that a stalled client holds up nobody.
    handshakes: JoinSet<Option<Conn>>,
    pause: Option<Pin<Box<Sleep>>>,
    rate: Rate,
    context: HandshakeContext,
}

/// What handshakes have in common.
#[derive(Debug, Clone)]
struct HandshakeContext {
    identity: SharedIdentity,
    cut: CancellationToken,
    handshakes: ConnectionSlots,
    strangers: ConnectionSlots,
    known: TrustedSources,
}

impl Stream for Incoming {
    type Item = io::Result<Conn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.poll_accept(cx);
        // Failed handshakes have logged themselves; an empty set is woken by the next accept.
        while let Poll::Ready(Some(done)) = this.handshakes.poll_join_next(cx) {
            if let Ok(Some(connection)) = done {
                return Poll::Ready(Some(Ok(connection)));
            }
        }
        Poll::Pending
    }
}

impl Incoming {
    /// Starts a handshake for each client that waits; a finished one polls again.
    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        for _ in 0..ACCEPTED_AT_ONCE {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.tcp.poll_accept(cx) {
                Poll::Ready(Ok((stream, remote))) => {
                    let source = Source::of(remote.ip());
                    if !self.context.known.has(source) && !self.rate.allows(source, Instant::now()) {
                        tracing::debug!(%remote, "too many connections from there; refused");
                        continue;
                    }
                    let slot = self.context.handshakes.take(source, &self.context.cut);
                    self.handshakes.spawn(self.context.clone().admit(stream, remote, slot));
                }
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "accept failed");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                Poll::Pending => return,
            }
        }
        // There may be more of them.
        cx.waker().wake_by_ref();
    }
}

impl HandshakeContext {
    async fn admit(self, stream: Socket, remote: SocketAddr, slot: ConnectionSlot) -> Option<Conn> {
        let handshake = timeout(HANDSHAKE_TIMEOUT, self.handshake(stream, remote));
        match slot.ended().run_until_cancelled(handshake).await {
            Some(Ok(Ok(connection))) => Some(connection),
            Some(Ok(Err(error))) => {
                // Of strangers there may be any number.
                match self.known.has(Source::of(remote.ip())) {
                    true => tracing::info!(%remote, %error, "connection refused"),
                    false => tracing::debug!(%remote, %error, "connection refused"),
                }
                None
            }
            Some(Err(_)) => {
                tracing::debug!(%remote, "handshake timed out");
                None
            }
            None => {
                tracing::debug!(%remote, "handshake given up for newer ones");
                None
            }
        }
    }

    async fn handshake(&self, stream: Socket, remote: SocketAddr) -> io::Result<Conn> {
        stream.set_nodelay()?;
        let acceptor = TlsAcceptor::from(self.identity.current().server_config());
        let io = acceptor.accept(stream).await?;
        let leaf = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
        // Signed by our root, and yet not a member's: nothing that we issue.
        let presented = leaf.map(|der| Peer::from_der(der)).transpose().map_err(io::Error::other)?;
        let now = SystemTime::now();
        let mut info = ConnInfo::new(presented, remote, now);
        let source = Source::of(remote.ip());
        let (life, slot) = match (&info.peer, &info.expired_peer) {
            (Some(peer), _) => {
                self.known.add(source);
                (peer.not_after.duration_since(now).ok(), None)
            }
            (None, expired) => {
                let life = if expired.is_some() { EXPIRED_CONNECTION } else { STRANGERS_CONNECTION };
                (Some(life), Some(self.strangers.take(source, &self.cut)))
            }
        };
        let cut = slot.as_ref().map_or(&self.cut, ConnectionSlot::ended).clone();
        info.hang_up = CloseHandle(slot.as_ref().map(|slot| slot.ended().clone()));
        let end = life.map(|life| Box::pin(sleep(life)));
        Ok(Conn { io, info, end, cut: Box::pin(cut.cancelled_owned()), _slot: slot })
    }
}

/// An accepted connection. It ends with the certificate that opened it, so that each request on it comes from a member in force; one
/// without lasts for as long as joining may take.
#[derive(Debug)]
pub struct Conn {
    io: TlsStream<Socket>,
    info: ConnInfo,
    end: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// A stranger's place, free again with the connection.
    _slot: Option<ConnectionSlot>,
}

impl Conn {
    /// Who is at the other end.
    pub fn info(&self) -> &ConnInfo {
        &self.info
    }

    /// The lane that its dialler asked for.
    pub fn lane(&self) -> Option<Lane> {
        Lane::of(self.io.get_ref().1.alpn_protocol())
    }

    /// Takes it from the runtime that accepted it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn detach(mut self) -> io::Result<Self> {
        self.io.get_mut().0.detach()?;
        Ok(self)
    }

    /// Gives it to the runtime that is current.
    ///
    /// # Errors
    /// The kernel's.
    pub fn attach(mut self) -> io::Result<Self> {
        self.io.get_mut().0.attach()?;
        Ok(self)
    }
}

impl Connected for Conn {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        self.info.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the manager has stopped, or has too many connections of strangers",
            )));
        }
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.end = None;
            self.info.peer = None;
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer's certificate expired, or it never showed one",
            )));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
