//! How the bytes get to a daemon.

use std::{
    error::Error,
    io,
    path::PathBuf,
    pin::Pin,
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
    net::UnixStream,
};

use super::DEFAULT_HOST;
use crate::exit::Failure;

/// Ways to a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A socket of this machine, by its path.
    Unix(PathBuf),
}

impl Transport {
    /// The way that `-H` names.
    pub fn of(host: &str) -> Result<Self, Failure> {
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            None if host.starts_with('/') => Ok(Self::Unix(host.into())),
            _ => Err(Failure::local(format!("cannot use host {host:?}: rnd listens on a unix socket only"))
                .with_help(format!("give an absolute path: rnctl -H {DEFAULT_HOST} …"))),
        }
    }

    async fn connect(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix(path) => Stream(Box::new(UnixStream::connect(path).await?)),
        })
    }
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

    #[test]
    fn hosts_are_unix_sockets() {
        let unix = |path: &str| Some(Transport::Unix(path.into()));
        assert_eq!(Transport::of("unix:///run/rn/rn.sock").ok(), unix("/run/rn/rn.sock"));
        assert_eq!(Transport::of("/tmp/x.sock").ok(), unix("/tmp/x.sock"));
        for bad in ["tcp://10.0.0.1:2375", "rn.sock", "", "unix://rn.sock"] {
            assert!(Transport::of(bad).is_err(), "{bad}");
        }
    }
}
