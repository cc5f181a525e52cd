//! What a daemon answers.

use std::{
    io,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use docker_api::error;
use futures::{Stream, StreamExt, ready};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::{output::Upgraded, transport};
use crate::{
    exit::Failure,
    output::{complain, listing::Row},
};

/// The header of an answer that was given without a leader: for how many milliseconds none has been heard of.
const STALE: &str = "rn-stale";

/// An answer whose body is still to come.
pub struct Response {
    answer: http::Response<Incoming>,
    host: String,
}

impl Response {
    pub(super) fn new(answer: http::Response<Incoming>, host: &str) -> Self {
        let stale = answer.headers().get(STALE).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if let Some(silence) = stale {
            warn_stale(silence);
        }
        Self { answer, host: host.to_owned() }
    }

    /// Itself, or the error that it is.
    pub(super) async fn checked(self) -> Result<Self, Failure> {
        let status = self.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(self);
        }
        let body = self.whole().await?;
        Err(error::read(status.as_u16(), &body).into())
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.answer.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    async fn whole(self) -> Result<Bytes, Failure> {
        let body = self.answer.into_body().collect().await;
        Ok(body.map_err(|error| transport::lost(&self.host, &proto::error::with_causes(&error)))?.to_bytes())
    }

    /// The body as text.
    pub async fn text(self) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.whole().await?).into_owned())
    }

    /// The object or the list in it.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        docker_api::json::answer(&self.whole().await?).map_err(|why| senseless(&why))
    }

    /// The object in it, as it came.
    pub async fn object(self) -> Result<Row, Failure> {
        serde_json::from_slice(&self.whole().await?).map_err(|why| senseless(&why.to_string()))
    }

    /// Objects as they come, one a line.
    pub fn lines<T>(self) -> JsonLines<T> {
        JsonLines { bytes: self.bytes(), buffer: BytesMut::new(), of: PhantomData }
    }

    /// Bytes as they come.
    pub fn bytes(self) -> ByteStream {
        ByteStream { body: self.answer.into_body().into_data_stream(), host: self.host }
    }

    /// The connection itself.
    pub(super) async fn upgraded(self) -> Result<Upgraded, Failure> {
        let upgraded = hyper::upgrade::on(self.answer).await;
        let upgraded = upgraded.map_err(|error| transport::lost(&self.host, &error.to_string()))?;
        Ok(Upgraded::new(TokioIo::new(upgraded), self.host))
    }
}

fn senseless(why: &str) -> Failure {
    Failure::local(format!("the daemon's answer makes no sense: {why}"))
        .with_help("rnctl and the daemon may be of different versions: compare them with `rnctl version`")
}

/// Once, however many requests a command makes.
fn warn_stale(silence_ms: u64) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        complain(&format!(
            "Warning: The swarm does not have a leader. This is what this manager knew {} s ago; it may be outdated.",
            silence_ms.div_ceil(1000)
        ));
    });
}

/// Bytes of a body as they come.
pub struct ByteStream {
    body: BodyDataStream<Incoming>,
    host: String,
}

impl ByteStream {
    /// The next ones; none at the end. May be dropped halfway.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.body.next().await {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(error)) => Err(transport::lost(&self.host, &proto::error::with_causes(&error))),
        }
    }

    /// The same to read from.
    pub fn reader(self) -> impl AsyncRead + Send + Unpin {
        StreamReader::new(self)
    }
}

impl Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(Pin::new(&mut self.body).poll_next(cx));
        Poll::Ready(piece.map(|piece| piece.map_err(io::Error::other)))
    }
}

/// Objects as they come, one a line.
pub struct JsonLines<T> {
    bytes: ByteStream,
    buffer: BytesMut,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// The next one; none at the end. May be dropped halfway. A line that is nothing but an error message is an error.
    pub async fn next(&mut self) -> Result<Option<T>, Failure> {
        loop {
            let line = match self.buffer.iter().position(|b| *b == b'\n') {
                Some(at) => self.buffer.split_to(at + 1),
                None => match self.bytes.next().await? {
                    Some(bytes) => {
                        self.buffer.extend_from_slice(&bytes);
                        continue;
                    }
                    None if self.buffer.is_empty() => return Ok(None),
                    None => self.buffer.split(),
                },
            };
            let line = line.trim_ascii();
            if !line.is_empty() {
                return object(line).map(Some);
            }
        }
    }
}

fn object<T: DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    if let Ok(Value::Object(fields)) = serde_json::from_slice(line)
        && fields.contains_key("message")
        && fields.keys().all(|key| key == "message" || key == "help")
    {
        return Err(error::read(500, line).into());
    }
    docker_api::json::answer(line).map_err(|why| senseless(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_be_an_error() {
        let error = object::<Value>(br#"{"message":"no leader","help":"wait"}"#).err();
        let text = error.map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(text, "Error response from daemon: no leader\nwait");
        assert!(object::<Value>(br#"{"status":"x","message":"y"}"#).is_ok());
        assert!(object::<Value>(b"{").is_err());
    }
}
