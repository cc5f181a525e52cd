//! What is asked of a daemon.

use std::{fmt::Display, io};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::{
    Client,
    answer::{ByteStream, JsonLines, Response},
    output::{Pieces, Upgraded},
    transport,
};
use crate::{
    exit::Failure,
    output::{filter::Filters, listing::Row},
};

/// What a request carries.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What stays as it is in a path: RFC 3986's unreserved characters, and what references of images are made of.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@');

/// Bytes as they are read from a file or from standard input.
pub fn bytes_of(reader: impl AsyncRead + Send + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send {
    ReaderStream::with_capacity(reader, 64 << 10)
}

/// A request that is being put together.
#[must_use]
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: String,
    has_query: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
    /// What cannot be sent.
    bad: Option<Failure>,
}

impl<'a> Request<'a> {
    pub(super) fn new(client: &'a Client, method: Method, path: &[&str]) -> Self {
        let mut text = format!("/v{}", client.version);
        for part in path {
            text.push('/');
            text.extend(utf8_percent_encode(part, KEPT));
        }
        Self::unversioned(client, method, &text)
    }

    pub(super) fn unversioned(client: &'a Client, method: Method, path: &str) -> Self {
        Self {
            client,
            method,
            path: path.to_owned(),
            query: String::new(),
            has_query: false,
            headers: Vec::new(),
            body: empty(),
            bad: None,
        }
    }

    /// A parameter.
    pub fn query(mut self, name: &str, value: impl Display) -> Self {
        let mut query = form_urlencoded::Serializer::new(std::mem::take(&mut self.query));
        query.append_pair(name, &value.to_string());
        self.query = query.finish();
        self.has_query = true;
        self
    }

    /// A parameter, if there is something to say.
    pub fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// A switch; one that is off is left out.
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, 1) } else { self }
    }

    /// What a list is to be cut down to; nothing where there are none.
    pub fn filters(self, filters: &Filters) -> Self {
        self.maybe("filters", filters.to_json())
    }

    /// A header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.headers.push((HeaderName::from_static(name), value)),
            Err(_) => self.bad = Some(Failure::local(format!("{value:?} cannot be sent as {name}"))),
        }
        self
    }

    /// An object in the body.
    pub fn body(mut self, object: &impl Serialize) -> Self {
        match serde_json::to_vec(object) {
            Ok(text) => self.body = full(text),
            Err(error) => self.bad = Some(Failure::local(format!("cannot write the request: {error}"))),
        }
        self.header(header::CONTENT_TYPE.as_str(), "application/json")
    }

    /// Bytes in the body, as they come; an archive, say.
    pub fn stream(
        mut self,
        media_type: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        self.body = StreamBody::new(bytes.map(|piece| piece.map(hyper::body::Frame::data))).boxed_unsync();
        self.header(header::CONTENT_TYPE.as_str(), media_type)
    }

    /// Sends it, and waits for the head of the answer. A status of 400 and above is an error.
    pub async fn send(self) -> Result<Response, Failure> {
        if let Some(bad) = self.bad {
            return Err(bad);
        }
        let mut uri = format!("http://localhost{}", self.path);
        if self.has_query {
            uri.push('?');
            uri.push_str(&self.query);
        }
        let mut request = http::Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = uri.parse().map_err(|e| Failure::local(format!("cannot ask for {uri}: {e}")))?;
        let headers = request.headers_mut();
        let agent = concat!("rnctl/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.extend(self.headers);
        let answer = self.client.http.request(request).await;
        let answer = answer.map_err(|error| transport::failure(&self.client.host, &error))?;
        Response::new(answer, &self.client.host).checked().await
    }

    /// Has it done; there is nothing to be read in the answer.
    pub async fn done(self) -> Result<(), Failure> {
        self.send().await?.text().await.map(drop)
    }

    /// The object or the list that is answered.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        self.send().await?.json().await
    }

    /// The object that is answered, as it came.
    pub async fn object(self) -> Result<Row, Failure> {
        self.send().await?.object().await
    }

    /// Objects as they come, one a line.
    pub async fn lines<T: DeserializeOwned>(self) -> Result<JsonLines<T>, Failure> {
        Ok(self.send().await?.lines())
    }

    /// Bytes as they come.
    pub async fn bytes(self) -> Result<ByteStream, Failure> {
        Ok(self.send().await?.bytes())
    }

    /// What a program wrote, as it comes; `tty`: on a terminal, where there is one output only.
    pub async fn output(self, tty: bool) -> Result<Pieces<impl AsyncRead + Send + Unpin>, Failure> {
        let answer = self.send().await?;
        let host = answer.host().to_owned();
        Ok(Pieces::new(answer.bytes().reader(), tty, host))
    }

    /// Has the connection become one to a program.
    pub async fn upgrade(self) -> Result<Upgraded, Failure> {
        let request =
            self.header(header::CONNECTION.as_str(), "Upgrade").header(header::UPGRADE.as_str(), "tcp");
        let answer = request.send().await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::local(format!(
                "the daemon answered {} in place of an upgrade",
                answer.status()
            )));
        }
        answer.upgraded().await
    }
}

fn empty() -> Body {
    full(Vec::new())
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}
