//! How the bytes get to a daemon.

use std::{
    error::Error,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{ssh, tls};
use crate::{context::endpoint::Endpoint, exit::Failure};

/// Ways to a daemon.
#[derive(Debug, Clone)]
pub enum Transport {
    /// A socket of this machine, by its path.
    Unix(PathBuf),
    /// A port of a machine.
    Tcp {
        /// The machine's name or address.
        host: String,
        /// The port.
        port: u16,
        /// With TLS.
        tls: Option<Arc<rustls::ClientConfig>>,
    },
    /// A socket of a machine that ssh reaches.
    Ssh(ssh::Target),
}

/// Ports of daemons without TLS and with it, as Docker's.
const PORTS: (u16, u16) = (2375, 2376);

impl Transport {
    /// The way that an endpoint names.
    pub fn of(endpoint: &Endpoint) -> Result<Self, Failure> {
        let host = endpoint.host.as_str();
        let bad = |why: String| {
            Failure::local(format!("cannot use host {host:?}: {why}"))
                .with_help("write unix:///path, tcp://host:port or ssh://user@host")
        };
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            None if host.starts_with('/') => Ok(Self::Unix(host.into())),
            Some(("tcp", address)) => {
                let tls = endpoint.tls.as_ref().map(tls::config).transpose()?;
                let usual = if tls.is_some() { PORTS.1 } else { PORTS.0 };
                let (host, port) =
                    address_of(address, usual).ok_or_else(|| bad("it is no address".into()))?;
                Ok(Self::Tcp { host, port, tls })
            }
            Some(("ssh", target)) => ssh::Target::parse(target).map(Self::Ssh).map_err(bad),
            Some(("unix", _)) | None => Err(bad("a socket's path is absolute".into())),
            Some((scheme, _)) => Err(bad(format!("there is no way {scheme:?} to a daemon"))),
        }
    }

    pub(super) async fn connect(self) -> io::Result<Stream> {
        Ok(Stream(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp { host, port, tls } => {
                let tcp = TcpStream::connect((host.as_str(), port)).await?;
                tcp.set_nodelay(true)?;
                match tls {
                    Some(config) => Box::new(tls::connect(config, &host, tcp).await?),
                    None => Box::new(tcp),
                }
            }
            Self::Ssh(target) => Box::new(target.connect()?),
        }))
    }
}

/// `host`, `host:port`, `[address]:port`.
fn address_of(text: &str, usual: u16) -> Option<(String, u16)> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(usual), str::parse).ok()?;
    let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
    is_host.then(|| (host.to_owned(), port))
}

impl tower::Service<Uri> for Transport {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    // Whatever the URI says: a client has one daemon.
    fn call(&mut self, _: Uri) -> Self::Future {
        let connect = self.clone().connect();
        Box::pin(async move { Ok(TokioIo::new(connect.await?)) })
    }
}

/// What a connection has to be able to do.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection of any kind.
pub struct Stream(Box<dyn Duplex>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Why there is no answer.
pub fn failure(host: &str, error: &legacy::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut kind = None;
    let mut text = error.to_string();
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        text = e.to_string();
        cause = e.source();
    }
    if !error.is_connect() {
        return lost(host, &text);
    }
    match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            Failure::local(format!("permission denied while trying to connect to the rn daemon at {host}"))
                .with_help("run rnctl as root, or as a member of the group that owns the socket")
        }
        Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Failure::local(format!("Cannot connect to the rn daemon at {host}. Is rnd running?"))
                .with_help("start it with `systemctl start rnd`, or name another socket with -H or RN_HOST")
        }
        _ => Failure::local(format!("Cannot connect to the rn daemon at {host}: {text}")),
    }
}

/// A connection that ended in the middle.
pub fn lost(host: &str, cause: &str) -> Failure {
    Failure::local(format!("the connection to the rn daemon at {host} was lost: {cause}"))
        .with_help("has rnd been stopped? `rnctl version` says whether it answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str) -> Result<Transport, String> {
        Transport::of(&Endpoint::new(host, None)).map_err(|e| e.to_string())
    }

    #[test]
    fn hosts_are_sockets_ports_or_reached_by_ssh() {
        let unix = |host: &str| match of(host) {
            Ok(Transport::Unix(path)) => path.display().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(unix("unix:///run/rn/rn.sock"), "/run/rn/rn.sock");
        assert_eq!(unix("/tmp/x.sock"), "/tmp/x.sock");
        let tcp = |host: &str| match of(host) {
            Ok(Transport::Tcp { host, port, tls: None }) => format!("{host} {port}"),
            other => format!("{other:?}"),
        };
        assert_eq!(tcp("tcp://10.0.0.1:1"), "10.0.0.1 1");
        assert_eq!(tcp("tcp://[fd00::1]:1"), "fd00::1 1");
        assert_eq!((tcp("tcp://host"), tcp("tcp://[::1]/")), ("host 2375".into(), "::1 2375".into()));
        assert!(matches!(of("ssh://me@host"), Ok(Transport::Ssh(_))));
        for bad in ["tcp://", "tcp://:1", "tcp://a:b", "rn.sock", "unix://rn.sock", "npipe:////x", "ssh://-x"]
        {
            assert!(of(bad).is_err_and(|e| e.contains("cannot use host")), "{bad}");
        }
    }
}
