//! Connections to the daemon's socket.
//!
//! gRPC begins with HTTP/2's preface, which is no request of HTTP/1.1: the first bytes of a connection tell the two apart.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tower::{Service, ServiceExt, service_fn};

use super::listener::{self, Listener};

/// The head of a request has to be there this long after its connection was opened, or after the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The most that the head of a request may have, in bytes: filters and credentials stand there. A hundred fields at most, hyper's
/// own bound.
const HEAD_LIMIT: usize = 256 << 10;

/// Connections at a time, on each socket. A client has one or a few; each costs the daemon a descriptor and some memory.
const CONNECTIONS: usize = 1024;

/// How long a client that is turned away may take to read why.
const GOODBYE: Duration = Duration::from_secs(1);

/// How HTTP/2 begins (RFC 9113, 3.4). No method of HTTP/1.1 begins like this.
const PREFACE: &[u8; 3] = b"PRI";

/// What is answered where there is no room for another connection.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 48\r\n\r\n\
                    {\"message\":\"too many connections to the daemon\"}\n";

/// Serves a socket until the daemon ends: HTTP/1.1 by `docker` and, in the file system only, gRPC by `grpc`.
pub async fn serve<G>(listener: Listener, docker: Router, grpc: G)
where
    G: Service<Request<tonic::body::Body>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    G::Future: Send,
{
    // Each socket has places of its own: strangers on TCP keep nobody on the machine out.
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = match &listener {
            Listener::Unix(unix) => unix.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Listener::Tcp(tcp, _) => tcp.accept().await.map(|(stream, peer)| Stream::Tcp(stream, peer)),
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "the daemon's socket");
                // Out of descriptors, say: breathe rather than spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let tls = match &listener {
            Listener::Tcp(_, tls) => tls.clone(),
            Listener::Unix(_) => None,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tokio::spawn(async move {
                match (stream, tls) {
                    (Stream::Unix(stream), _) => _ = timeout(GOODBYE, turn_away(stream)).await,
                    (Stream::Tcp(stream, _), None) => _ = timeout(GOODBYE, turn_away(stream)).await,
                    // A handshake costs more than an answer is worth.
                    (Stream::Tcp(..), Some(_)) => {}
                }
            });
            continue;
        };
        let (docker, grpc) = (docker.clone(), grpc.clone());
        tokio::spawn(async move {
            // A client that goes away is no news.
            match (stream, tls) {
                (Stream::Unix(stream), _) => _ = connection(stream, docker, grpc).await,
                (Stream::Tcp(stream, _), None) => _ = http1(stream, docker).await,
                (Stream::Tcp(stream, peer), Some(tls)) => {
                    match timeout(listener::HANDSHAKE, listener::handshake(&tls, stream)).await {
                        Ok(Ok(stream)) => _ = http1(stream, docker).await,
                        Ok(Err(error)) => tracing::info!(%peer, %error, "a client of the API is not let in"),
                        Err(_) => tracing::info!(%peer, "a client of the API does not finish its handshake"),
                    }
                }
            }
            drop(place);
        });
    }
}

/// A client that has connected.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Says that there is no room. What the client has sent is read first: closing over it would be a reset, and the answer lost.
async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(FULL.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

async fn connection<G>(mut stream: UnixStream, docker: Router, grpc: G) -> Served
where
    G: Service<Request<tonic::body::Body>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    G::Future: Send,
{
    let begin = timeout(HEAD_TIMEOUT, begin(&mut stream)).await??;
    let is_grpc = begin == PREFACE;
    let (reader, writer) = stream.into_split();
    let stream = tokio::io::join(io::Cursor::new(begin).chain(reader), writer);
    if is_grpc {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            grpc.clone().oneshot(request.map(tonic::body::Body::new))
        });
        let server = auto::Builder::new(TokioExecutor::new()).http2_only();
        return server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
    }
    http1(stream, docker).await
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, docker: Router) -> Served {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        super::routes::answer(docker.clone(), request.map(Body::new))
    });
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
    server.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service)).await
}

/// As many of the first bytes as it takes to know the protocol.
async fn begin(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut begin = Vec::with_capacity(PREFACE.len());
    while begin.len() < PREFACE.len() && PREFACE.starts_with(&begin) {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        begin.extend(byte);
    }
    Ok(begin)
}
