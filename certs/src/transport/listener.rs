//! Accepting connections.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::{Server, server::Connected};

use super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use crate::{Peer, SharedIdentity};

/// A client that has not finished its handshake by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
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
    tcp: TcpListener,
    identity: SharedIdentity,
}

impl Listener {
    /// Listens on `addr`. Port 0 takes a free one; `[::]` takes IPv4 clients too.
    pub async fn bind(addr: SocketAddr, identity: SharedIdentity) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}/tcp: {e}")))?;
        Ok(Self { tcp, identity })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Starts accepting; for `Server::serve_with_incoming`. Dropping the stream closes the socket.
    pub fn incoming(self) -> Incoming {
        let (sender, connections) = mpsc::channel(16);
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(self.tcp, self.identity, sender));
        Incoming { connections, _acceptor: acceptor }
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
    connections: mpsc::Receiver<Conn>,
    /// Aborted on drop, handshakes under way included.
    _acceptor: JoinSet<()>,
}

impl Stream for Incoming {
    type Item = io::Result<Conn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

async fn accept(tcp: TcpListener, identity: SharedIdentity, connections: mpsc::Sender<Conn>) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = handshakes.join_next() => {}
            () = connections.closed() => return,
            accepted = tcp.accept(), if handshakes.len() < MAX_HANDSHAKES => match accepted {
                Ok((stream, remote)) => {
                    // A stalled client must hold up nobody: each handshake has its own task.
                    let (identity, connections) = (identity.clone(), connections.clone());
                    handshakes.spawn(async move {
                        match timeout(HANDSHAKE_TIMEOUT, handshake(stream, remote, &identity)).await {
                            // The receiver is gone only when the server is.
                            Ok(Ok(connection)) => connections.send(connection).await.unwrap_or_default(),
                            Ok(Err(error)) => tracing::info!(%remote, %error, "connection refused"),
                            Err(_) => tracing::debug!(%remote, "handshake timed out"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn handshake(stream: TcpStream, remote: SocketAddr, identity: &SharedIdentity) -> io::Result<Conn> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(identity.current().server_config());
    let io = acceptor.accept(stream).await?;
    let leaf = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
    // Signed by our root, and yet not a member's: nothing that we issue.
    let presented = leaf.map(|der| Peer::from_der(der)).transpose().map_err(io::Error::other)?;
    let now = SystemTime::now();
    let info = ConnInfo::new(presented, remote, now);
    let life = info.peer.as_ref().and_then(|peer| peer.not_after.duration_since(now).ok());
    Ok(Conn { io, info, end: life.map(|life| Box::pin(sleep(life))) })
}

/// An accepted connection. It ends with the certificate that opened it, so that each request on it comes from a member in force.
#[derive(Debug)]
pub struct Conn {
    io: TlsStream<TcpStream>,
    info: ConnInfo,
    end: Option<Pin<Box<Sleep>>>,
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
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}
