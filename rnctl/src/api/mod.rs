//! The daemon, by Docker's Engine API. How a command uses it:
//!
//! ```text
//! let networks: Vec<NetworkInspect> = rn.get(&["networks"]).filters(&filters).json().await?;   // types of docker-api
//! let object: Row = rn.get(&["networks", key]).object().await?;          // as it came, for `inspect`
//! let made: NetworkCreateResponse = rn.post(&["networks", "create"]).body(&request).json().await?;
//! rn.delete(&["networks", key]).flag("force", true).done().await?;       // 304 is success too
//! let mut events = rn.get(&["events"]).maybe("since", since).lines::<EventMessage>().await?;   // events.next().await?
//! let mut output = rn.get(&["containers", id, "logs"]).flag("follow", true).output(tty).await?;  // output.next().await?
//! let (output, input) = rn.post(&["containers", id, "attach"]).upgrade().await?.split(tty);
//! let tar = rn.get(&["containers", id, "export"]).bytes().await?;        // a stream of bytes; `reader()` of it is an AsyncRead
//! rn.put(&["containers", id, "archive"]).query("path", p).stream("application/x-tar", bytes_of(file)).done().await?;
//! ```
//!
//! * Parts of a path are escaped here; a `/` inside one stays, as image references need it.
//! * A status of 400 and above is [`Failure::Daemon`], with Docker's words and a `Kind`: `failure.is_not_found()`.
//! * [`Client::connect`] has asked `/_ping`: [`Client::version`] is the newest version that both sides know, [`Client::needs`] refuses what
//!   an older daemon has not, and [`Client::needs_rnd`] what dockerd has not.
//! * `next` of lines and of output may be dropped halfway (`select!`) without losing anything.

mod answer;
pub mod dial_stdio;
mod output;
mod request;
mod ssh;
mod tls;
mod transport;

use docker_api::version::ApiVersion;
use http::{Method, header};
use hyper_util::{client::legacy, rt::TokioExecutor};

use self::transport::Transport;
#[allow(unused_imports, reason = "for commands that are about to be moved here")]
pub use self::{
    answer::{ByteStream, JsonLines, Response},
    output::{Pieces, Upgraded},
    request::{Body, Request, bytes_of},
};
use crate::{context::endpoint::Endpoint, exit::Failure};

/// Refuses a host that no daemon can be at.
///
/// # Errors
/// It is of no kind that there is.
pub fn check_host(host: &str) -> Result<(), Failure> {
    Transport::of(&Endpoint::new(host, None)).map(drop)
}

/// A daemon.
#[derive(Clone)]
pub struct Client {
    http: legacy::Client<Transport, Body>,
    host: String,
    version: ApiVersion,
    is_rnd: bool,
}

impl Client {
    /// Connects, and agrees on a version of the API.
    ///
    /// # Errors
    /// The host is of no kind that there is, nobody answers there, or they have no version in common.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Failure> {
        let host = endpoint.host.as_str();
        let http = legacy::Client::builder(TokioExecutor::new()).build(Transport::of(endpoint)?);
        let mut client = Self { http, host: host.to_owned(), version: ApiVersion::OLDEST, is_rnd: false };
        let ping = Request::unversioned(&client, Method::GET, "/_ping").send().await?;
        let header = |name: &str| ping.headers().get(name).and_then(|value| value.to_str().ok());
        let theirs = header("api-version").and_then(|text| text.parse().ok());
        client.version = theirs.unwrap_or(ApiVersion::OLDEST).min(ApiVersion::NEWEST);
        client.is_rnd = header(header::SERVER.as_str()).is_some_and(|server| server.starts_with("rn/"));
        // To its end, so that the next request has this connection.
        ping.text().await?;
        Ok(client)
    }

    /// The version of the API that is spoken.
    pub fn version(&self) -> ApiVersion {
        self.version
    }

    /// Whether this is `rnd`, and not `dockerd`.
    pub fn is_rnd(&self) -> bool {
        self.is_rnd
    }

    /// Refuses what only `rnd` can do.
    ///
    /// # Errors
    /// This is another daemon.
    pub fn needs_rnd(&self, what: &str) -> Result<(), Failure> {
        if self.is_rnd {
            return Ok(());
        }
        Err(Failure::local(format!("{what} needs rnd, and the daemon at {} is another", self.host))
            .with_help("name rnd's socket with -H or RN_HOST"))
    }

    /// Refuses what the daemon is too old for.
    ///
    /// # Errors
    /// It speaks no version `1.minor` of the API.
    pub fn needs(&self, minor: u32, what: &str) -> Result<(), Failure> {
        let needed = ApiVersion::minor(minor);
        if self.version >= needed {
            return Ok(());
        }
        // Docker's words.
        Err(Failure::local(format!(
            "{what} requires API version {needed}, but the Docker daemon API version is {}",
            self.version
        )))
    }

    /// Asks for something.
    pub fn get(&self, path: &[&str]) -> Request<'_> {
        Request::new(self, Method::GET, path)
    }

    /// Asks for the headers of something.
    pub fn head(&self, path: &[&str]) -> Request<'_> {
        Request::new(self, Method::HEAD, path)
    }

    /// Has something done.
    pub fn post(&self, path: &[&str]) -> Request<'_> {
        Request::new(self, Method::POST, path)
    }

    /// Brings something.
    pub fn put(&self, path: &[&str]) -> Request<'_> {
        Request::new(self, Method::PUT, path)
    }

    /// Has something removed.
    pub fn delete(&self, path: &[&str]) -> Request<'_> {
        Request::new(self, Method::DELETE, path)
    }
}
