//! Connections to the daemon's socket.
//!
//! gRPC begins with HTTP/2's preface, which is no request of HTTP/1.1: the first bytes of a connection tell the two apart.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tower::{Service, ServiceExt, service_fn};

/// The head of a request has to be there this long after its connection was opened, or after the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The most that the head of a request may have, in bytes: filters and credentials stand there. A hundred fields at most, hyper's
/// own bound.
const HEAD_LIMIT: usize = 256 << 10;

/// Connections at a time. A client has one or a few; each costs the daemon a descriptor and some memory.
const CONNECTIONS: usize = 1024;

/// How long a client that is turned away may take to read why.
const GOODBYE: Duration = Duration::from_secs(1);

/// How HTTP/2 begins (RFC 9113, 3.4). No method of HTTP/1.1 begins like this.
const PREFACE: &[u8; 3] = b"PRI";

/// What is answered where there is no room for another connection.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 48\r\n\r\n\
                    {\"message\":\"too many connections to the daemon\"}\n";

/// Serves a socket until accepting fails for good: HTTP/1.1 by `docker`, gRPC by `grpc`.
pub async fn serve<G>(listener: UnixListener, docker: Router, grpc: G)
where
    G: Service<Request<tonic::body::Body>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    G::Future: Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the daemon's socket");
                // Out of descriptors, say: breathe rather than spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tokio::spawn(async move { timeout(GOODBYE, turn_away(stream)).await });
            continue;
        };
        let (docker, grpc) = (docker.clone(), grpc.clone());
        tokio::spawn(async move {
            // A client that goes away is no news.
            let _ = connection(stream, docker, grpc).await;
            drop(place);
        });
    }
}

/// Says that there is no room. What the client has sent is read first: closing over it would be a reset, and the answer lost.
async fn turn_away(mut stream: UnixStream) -> io::Result<()> {
    stream.write_all(FULL.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

async fn connection<G>(
    mut stream: UnixStream,
    docker: Router,
    grpc: G,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
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
    let io = TokioIo::new(tokio::io::join(io::Cursor::new(begin).chain(reader), writer));
    if is_grpc {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            grpc.clone().oneshot(request.map(tonic::body::Body::new))
        });
        let server = auto::Builder::new(TokioExecutor::new()).http2_only();
        return server.serve_connection(io, TowerToHyperService::new(service)).await;
    }
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        super::routes::answer(docker.clone(), request.map(Body::new))
    });
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
    server.serve_connection_with_upgrades(io, TowerToHyperService::new(service)).await
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
