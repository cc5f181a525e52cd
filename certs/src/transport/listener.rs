//! Accepting connections.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::{Server, server::Connected};

use super::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    stack::{Acceptor, Socket},
};
use crate::{Peer, SharedIdentity};

/// A client that has not finished its handshake by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the connection of a member with an expired certificate lasts: long enough to get a new one. The peer then dials again, with
/// that one; else its every call on this connection would be refused for as long as it stands.
const EXPIRED_CONNECTION: Duration = Duration::from_secs(2);
/// Handshakes under way at once; beyond, clients wait in the kernel's backlog.
const MAX_HANDSHAKES: usize = 256;
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
}

impl ConnInfo {
    fn new(presented: Option<Peer>, remote: SocketAddr, now: SystemTime) -> Self {
        let (expired_peer, peer) = match presented {
            Some(peer) if peer.is_expired(now) => (Some(peer), None),
            presented => (None, presented),
        };
        // A dual-stack socket reports IPv4 clients as ::ffff:a.b.c.d; nobody else calls them so.
        Self { peer, expired_peer, remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()) }
    }
}

/// A listening socket whose connections are authenticated.
#[derive(Debug)]
pub struct Listener {
    tcp: Acceptor,
    identity: SharedIdentity,
}

impl Listener {
    /// Listens on `addr`. Port 0 takes a free one; `[::]` takes IPv4 clients too.
    pub async fn bind(addr: SocketAddr, identity: SharedIdentity) -> io::Result<Self> {
        let tcp = Acceptor::bind(addr)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}/tcp: {e}")))?;
        Ok(Self { tcp, identity })
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
        Incoming { tcp: self.tcp, identity: self.identity, cut, handshakes: JoinSet::new(), pause: None }
    }
}

/// The tonic server builder with our keep-alive: a peer that vanished without a word is noticed in 10 s.
pub fn server_builder() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Connections whose handshake is done.
#[derive(Debug)]
pub struct Incoming {
    tcp: Acceptor,
    identity: SharedIdentity,
    cut: CancellationToken,
    /// One task each, so that a stalled client holds up nobody.
    handshakes: JoinSet<Option<Conn>>,
    pause: Option<Pin<Box<Sleep>>>,
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
    /// Starts a handshake for each client that waits, up to [`MAX_HANDSHAKES`]; a finished one polls again.
    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        while self.handshakes.len() < MAX_HANDSHAKES {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.tcp.poll_accept(cx) {
                Poll::Ready(Ok((stream, remote))) => {
                    let (identity, cut) = (self.identity.clone(), self.cut.clone());
                    self.handshakes.spawn(async move { authenticated(stream, remote, &identity, cut).await });
                }
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "accept failed");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                Poll::Pending => return,
            }
        }
    }
}

async fn authenticated(
    stream: Socket,
    remote: SocketAddr,
    identity: &SharedIdentity,
    cut: CancellationToken,
) -> Option<Conn> {
    match timeout(HANDSHAKE_TIMEOUT, handshake(stream, remote, identity, cut)).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::info!(%remote, %error, "connection refused");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "handshake timed out");
            None
        }
    }
}

async fn handshake(
    stream: Socket,
    remote: SocketAddr,
    identity: &SharedIdentity,
    cut: CancellationToken,
) -> io::Result<Conn> {
    stream.set_nodelay()?;
    let acceptor = TlsAcceptor::from(identity.current().server_config());
    let io = acceptor.accept(stream).await?;
    let leaf = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
    // Signed by our root, and yet not a member's: nothing that we issue.
    let presented = leaf.map(|der| Peer::from_der(der)).transpose().map_err(io::Error::other)?;
    let now = SystemTime::now();
    let info = ConnInfo::new(presented, remote, now);
    let life = match &info.expired_peer {
        Some(_) => Some(EXPIRED_CONNECTION),
        None => info.peer.as_ref().and_then(|peer| peer.not_after.duration_since(now).ok()),
    };
    Ok(Conn { io, info, end: life.map(|life| Box::pin(sleep(life))), cut: Box::pin(cut.cancelled_owned()) })
}

/// An accepted connection. It ends with the certificate that opened it, so that each request on it comes from a member in force.
#[derive(Debug)]
pub struct Conn {
    io: TlsStream<Socket>,
    info: ConnInfo,
    end: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
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
                "the manager has stopped",
            )));
        }
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.end = None;
            self.info.peer = None;
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer's certificate expired",
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
