//! What connections run over: the kernel's TCP, unless this thread has been given another [`NetworkStack`].
//!
//! The other one is the simulation's, where all hosts live in one thread and the network between them is made of seeded
//! decisions. Handshakes, certificates and everything above are the same over both.

use std::{
    cell::RefCell,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// A connection of another stack.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A listening socket of another stack.
pub trait Accept: Send {
    /// The next connection and where it comes from.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn ByteStream>, SocketAddr)>>;
}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// Another network than the kernel's.
pub trait NetworkStack: Send + Sync {
    /// Listens on `addr`, and says where that is.
    ///
    /// # Errors
    /// The address is taken.
    fn listen(&self, addr: SocketAddr) -> io::Result<(Box<dyn Accept>, SocketAddr)>;

    /// Connects to `addr`.
    fn dial(&self, addr: SocketAddr) -> Connecting;
}

thread_local! {
    static STACK: RefCell<Option<Arc<dyn NetworkStack>>> = const { RefCell::new(None) };
}

/// From now on this thread listens and dials on `stack`, or, with none, on the kernel's TCP again.
pub fn use_stack(stack: Option<Arc<dyn NetworkStack>>) {
    STACK.set(stack);
}

fn stack() -> Option<Arc<dyn NetworkStack>> {
    STACK.with_borrow(Clone::clone)
}

/// Whether somebody accepts connections at `addr`.
///
/// # Errors
/// Why a connection cannot be made.
pub async fn can_connect(addr: SocketAddr) -> io::Result<()> {
    Socket::dial(addr).await.map(drop)
}

/// A connection.
pub(super) enum Socket {
    Tcp(TcpStream),
    /// Between two runtimes.
    Detached(std::net::TcpStream),
    Other(Box<dyn ByteStream>),
    /// Lost on the way between two runtimes.
    Gone,
}

impl Socket {
    pub(super) async fn dial(addr: SocketAddr) -> io::Result<Self> {
        let other = stack().map(|stack| stack.dial(addr));
        match other {
            Some(dialling) => dialling.await.map(Socket::Other),
            None => TcpStream::connect(addr).await.map(Socket::Tcp),
        }
    }

    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(tcp) => tcp.set_nodelay(true),
            Socket::Detached(_) | Socket::Other(_) | Socket::Gone => Ok(()),
        }
    }

    /// After how long without an acknowledgement the kernel gives the connection up.
    pub(super) fn set_user_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(tcp) => socket2::SockRef::from(tcp).set_tcp_user_timeout(Some(limit)),
            Socket::Detached(_) | Socket::Other(_) | Socket::Gone => Ok(()),
        }
    }

    /// Leaves the runtime whose events it waits for.
    pub(super) fn detach(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Socket::Gone) {
            Socket::Tcp(tcp) => Socket::Detached(tcp.into_std()?),
            other => other,
        };
        Ok(())
    }

    /// Waits for the events of the current runtime.
    pub(super) fn attach(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Socket::Gone) {
            Socket::Detached(tcp) => Socket::Tcp(TcpStream::from_std(tcp)?),
            other => other,
        };
        Ok(())
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Tcp(tcp) => tcp.fmt(f),
            Socket::Detached(tcp) => tcp.fmt(f),
            Socket::Gone => f.write_str("no connection"),
            Socket::Other(_) => f.write_str("a connection of another stack"),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Socket::Other(other) => Pin::new(other).poll_read(cx, buffer),
            Socket::Detached(_) | Socket::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write(cx, data),
            Socket::Other(other) => Pin::new(other).poll_write(cx, data),
            Socket::Detached(_) | Socket::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, data),
            Socket::Other(other) => Pin::new(other).poll_write_vectored(cx, data),
            Socket::Detached(_) | Socket::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(tcp) => tcp.is_write_vectored(),
            Socket::Other(other) => other.is_write_vectored(),
            Socket::Detached(_) | Socket::Gone => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Other(other) => Pin::new(other).poll_flush(cx),
            Socket::Detached(_) | Socket::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Other(other) => Pin::new(other).poll_shutdown(cx),
            Socket::Detached(_) | Socket::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// A listening socket.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Other(Box<dyn Accept>, SocketAddr),
}

impl Acceptor {
    pub(super) async fn bind(addr: SocketAddr) -> io::Result<Self> {
        match stack() {
            Some(stack) => stack.listen(addr).map(|(accept, at)| Acceptor::Other(accept, at)),
            None => TcpListener::bind(addr).await.map(Acceptor::Tcp),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Acceptor::Tcp(tcp) => tcp.local_addr(),
            Acceptor::Other(_, at) => Ok(*at),
        }
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        match self {
            Acceptor::Tcp(tcp) => tcp.poll_accept(cx).map_ok(|(tcp, from)| (Socket::Tcp(tcp), from)),
            Acceptor::Other(other, _) => {
                other.poll_accept(cx).map_ok(|(pipe, from)| (Socket::Other(pipe), from))
            }
        }
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Acceptor::Tcp(tcp) => tcp.fmt(f),
            Acceptor::Other(_, at) => write!(f, "{at} of another stack"),
        }
    }
}
