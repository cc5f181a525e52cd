//! The daemon's socket.

use std::{
    error::Error,
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use proto::pb::{control_client::ControlClient, local_client::LocalClient, logs_client::LogsClient};
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    transport::{Channel, Endpoint},
};
use tower::Service;

use crate::{
    context::endpoint::{self, DEFAULT_HOST},
    exit::Failure,
    output::complain,
};

/// Ten thousand tasks are about 20 MB; tonic's own limit is 4 MiB.
const MAX_MESSAGE: usize = 256 << 20;

/// The daemon's three services on one connection.
#[derive(Clone)]
pub struct Daemon {
    channel: Channel,
}

impl Daemon {
    /// Connects to `unix:///path` (or just `/path`).
    pub async fn connect(endpoint: &endpoint::Endpoint) -> Result<Self, Failure> {
        let host = endpoint.host.as_str();
        let path = socket_path(host)?;
        let target = path.clone();
        let connector = tower::service_fn(move |_| {
            let path = target.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The authority is never resolved: the connector above goes to the socket.
        let channel = Endpoint::from_static("http://rn.local")
            .connect_with_connector(connector)
            .await
            .map_err(|e| unreachable(host, &e))?;
        Ok(Self { channel })
    }

    /// What the daemon answers about itself.
    pub fn local(&self) -> LocalClient<Channel> {
        LocalClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The cluster's API.
    pub fn control(&self) -> ControlClient<Attentive> {
        ControlClient::new(Attentive(self.channel.clone())).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Logs of services and tasks.
    pub fn logs(&self) -> LogsClient<Channel> {
        LogsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }
}

/// The header of an answer that was given without a leader: for how many milliseconds none has been heard of.
const STALE: &str = "rn-stale";

/// A channel that tells the user when an answer may be outdated.
#[derive(Clone)]
pub struct Attentive(Channel);

impl Service<Request<Body>> for Attentive {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let stale = answer.headers().get(STALE).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
            if let Some(silence) = stale {
                warn_stale(silence);
            }
            Ok(answer)
        })
    }
}

/// Once, however many calls a command makes.
fn warn_stale(silence_ms: u64) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        complain(&format!(
            "Warning: The swarm does not have a leader. This is what this manager knew {} s ago; it may be outdated.",
            silence_ms.div_ceil(1000)
        ));
    });
}

fn socket_path(host: &str) -> Result<PathBuf, Failure> {
    match host.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(path.into()),
        None if host.starts_with('/') => Ok(host.into()),
        _ => Err(Failure::local(format!(
            "cannot use host {host:?}: this command reaches rnd by a unix socket only"
        ))
        .with_help(format!("give an absolute path: rnctl -H {DEFAULT_HOST} …"))),
    }
}

fn unreachable(host: &str, error: &tonic::transport::Error) -> Failure {
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
    match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            Failure::local(format!("permission denied while trying to connect to the rn daemon at {host}"))
                .with_help("run rnctl as root, or as a member of the group that owns the socket")
        }
        Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) | None => {
            Failure::local(format!("Cannot connect to the rn daemon at {host}. Is rnd running?"))
                .with_help("start it with `systemctl start rnd`, or name another socket with -H or RN_HOST")
        }
        Some(_) => Failure::local(format!("Cannot connect to the rn daemon at {host}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_unix_sockets() {
        assert_eq!(socket_path("unix:///run/rn/rn.sock").ok(), Some("/run/rn/rn.sock".into()));
        assert_eq!(socket_path("/tmp/x.sock").ok(), Some("/tmp/x.sock".into()));
        for bad in ["tcp://10.0.0.1:2375", "rn.sock", "", "unix://rn.sock"] {
            assert!(socket_path(bad).is_err(), "{bad}");
        }
    }
}
