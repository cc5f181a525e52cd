//! What containers write and read: logs, and their own streams.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{body::Body, extract::State};
use docker_api::{
    detach_keys::DetachKeys,
    frames::{self, Output as To},
    log_line::{self, Origin, Shown},
    version::ApiVersion,
};
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use node::containers::ContainerStatus;
use proto::{
    error::ApiError,
    model::ContainerId,
    pb::{self, local_server::Local as _},
};
use runtime::{AttachOptions, Attached, AttachedInput, Output, Runtime};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
};

use super::{
    Answer, Api,
    request::{Key, Params, Version},
    respond,
};

/// The version that gave pieces a media type of their own.
const OWN_MEDIA_TYPE: ApiVersion = ApiVersion::minor(42);

/// Bytes read at once.
const CHUNK: usize = 32 << 10;

/// Rows and columns that terminals are to begin with.
#[derive(Debug, Clone, Default)]
pub struct Consoles(Arc<Mutex<BTreeMap<ContainerId, (u16, u16)>>>);

impl Consoles {
    /// Remembers it until the container starts.
    pub fn put(&self, id: ContainerId, size: (u16, u16)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, size);
    }

    /// What was remembered.
    pub fn get(&self, id: &ContainerId) -> Option<(u16, u16)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// The same, for the last time.
    pub fn take(&self, id: &ContainerId) -> Option<(u16, u16)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

impl Api {
    /// Whether a container has a terminal.
    fn has_terminal(&self, id: &ContainerId) -> bool {
        match self.daemon.containers.watch(id) {
            Some(seen) => seen.borrow().definition.spec.tty,
            None => self.daemon.runtime.list().into_iter().any(|c| c.record.id == *id && c.record.tty),
        }
    }
}

/// The media type of a stream.
pub(super) fn media_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || version < OWN_MEDIA_TYPE { frames::RAW } else { frames::MULTIPLEXED }
}

/// A piece of output as it goes out.
pub(super) fn piece(tty: bool, to: To, data: Vec<u8>) -> Vec<u8> {
    if tty { data } else { frames::frame(to, &data) }
}

/// Rows and columns: `h` and `w`.
pub(super) fn size(query: &Params) -> Result<(u16, u16), ApiError> {
    let number = |name: &str| {
        query.number::<u16>(name)?.ok_or_else(|| {
            ApiError::invalid(format!(
                "invalid resize {name}: strconv.ParseUint: parsing \"\": invalid syntax"
            ))
        })
    };
    Ok((number("h")?, number("w")?))
}

fn log_options(query: &Params) -> Result<pb::LogOptions, ApiError> {
    let tail = match query.text("tail") {
        "" | "all" => -1,
        // Anything else than a number means all of it, as dockerd has it.
        text => text.parse::<i64>().map_or(-1, |n| n.max(-1)),
    };
    Ok(pb::LogOptions {
        follow: query.flag("follow"),
        tail,
        since: 0,
        since_nanos: query.time("since")?.unwrap_or_default(),
        until_nanos: query.time("until")?.unwrap_or_default(),
    })
}

/// Lines of a container's log as they go out.
async fn lines(
    api: &Api,
    id: &ContainerId,
    options: pb::LogOptions,
    shown: Shown,
    tty: bool,
) -> Result<impl Stream<Item = Result<Vec<u8>, ApiError>> + Send + 'static, respond::Refusal> {
    let request = pb::ContainerLogsRequest { key: id.to_string(), options: Some(options) };
    let chunks = api.local.container_logs(tonic::Request::new(request)).await?.into_inner();
    let origin = Origin { service: "", task: "", node: "" };
    // Whether the last piece of either output was the begin of a line: what follows has no time of its own.
    let mut open = [false; 2];
    Ok(chunks.map(move |chunk| {
        let mut pieces = Vec::new();
        for line in &chunk.map_err(ApiError::from)?.lines {
            let (to, open) =
                if line.stderr { (To::Stderr, &mut open[1]) } else { (To::Stdout, &mut open[0]) };
            let shown = Shown { timestamps: shown.timestamps && !*open, ..shown };
            *open = line.partial;
            if let Some(text) = log_line::text(line, &origin, shown) {
                pieces.extend(piece(tty, to, text));
            }
        }
        Ok(pieces)
    }))
}

/// `GET /containers/{id}/logs`.
pub async fn logs(State(api): State<Api>, Key(key): Key, Version(version): Version, query: Params) -> Answer {
    let id = api.container(&key)?;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream").into());
    }
    if query.flag("details") {
        return Err(ApiError::unsupported(
            "logs have no details in rn: no log option asks for any; leave it out",
        )
        .into());
    }
    let shown = Shown { stdout, stderr, timestamps: query.flag("timestamps"), details: false };
    let tty = api.has_terminal(&id);
    let pieces = lines(&api, &id, log_options(&query)?, shown, tty).await?;
    respond::stream(media_type(tty, version), pieces)
}

/// `POST /containers/{id}/resize`.
pub async fn resize(State(api): State<Api>, Key(key): Key, query: Params) -> Answer {
    let id = api.container(&key)?;
    let (rows, cols) = size(&query)?;
    api.daemon.runtime.resize(&id, rows, cols).await.map_err(ApiError::from)?;
    Ok(axum::response::Response::default())
}

/// Which parts of a container's streams a client wants.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    stream: bool,
    tty: bool,
}

/// `POST /containers/{id}/attach`.
pub async fn attach(
    State(api): State<Api>,
    Key(key): Key,
    Version(version): Version,
    query: Params,
    mut request: Request<Body>,
) -> Answer {
    let id = api.container(&key)?;
    let keys = DetachKeys::parse(query.text("detachKeys"))?;
    if api.daemon.runtime.is_paused(&id) {
        let why = format!("Container {id} is paused, unpause the container before attach");
        return Err(ApiError::conflict(why).into());
    }
    let tty = api.has_terminal(&id);
    let wanted = Wanted {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        stream: query.flag("stream"),
        tty,
    };
    let past = if query.flag("logs") {
        let shown = Shown { stdout: wanted.stdout, stderr: wanted.stderr, timestamps: false, details: false };
        let options = pb::LogOptions { tail: -1, ..Default::default() };
        lines(&api, &id, options, shown, tty).await?.boxed()
    } else {
        stream::empty().boxed()
    };
    // Whoever answers has to have seen to it before that no byte is missed: clients start the container next.
    let options =
        AttachOptions { stdin: wanted.stdin && wanted.stream, size: api.consoles.get(&id).filter(|_| tty) };
    let seen = api.daemon.containers.watch(&id);
    let attached = match wanted.stream {
        true => Some(api.daemon.runtime.attach(&id, options).await),
        false => None,
    };
    let keys = (tty && wanted.stdin).then_some(keys);
    let connection = Connection::of(&mut request);
    connection.stream(media_type(tty, version), move |reader, mut writer| async move {
        let mut past = past;
        while let Some(Ok(pieces)) = past.next().await {
            if writer.write_all(&pieces).await.is_err() {
                return;
            }
        }
        let attached = match attached {
            Some(attached) => tokio::select! {
                biased;
                attached = attached => attached,
                () = not_started(seen) => return,
            },
            None => return,
        };
        if let Ok(Ok(attached)) = attached {
            carry(attached, wanted, keys, reader, writer).await;
        }
    })
}

/// Returns once a start of the container has come to nothing, or it is gone.
async fn not_started(seen: Option<watch::Receiver<Arc<ContainerStatus>>>) {
    let Some(mut seen) = seen else { return std::future::pending().await };
    let first = seen.borrow_and_update().clone();
    while seen.changed().await.is_ok() {
        let now = seen.borrow_and_update();
        if now.resting && now.status.is_some() && now.status != first.status {
            return;
        }
    }
}

/// Both directions, until the program has ended, the user has detached, or the client has gone.
async fn carry(
    attached: Attached,
    wanted: Wanted,
    keys: Option<DetachKeys>,
    reader: Reader,
    mut writer: Writer,
) {
    let Attached { mut output, input, state: _state } = attached;
    let out = async {
        while let Ok(Some(output)) = output.next().await {
            let (to, data, asked) = match output {
                Output::Stdout(data) => (To::Stdout, data, wanted.stdout),
                Output::Stderr(data) => (To::Stderr, data, wanted.stderr),
            };
            if asked && writer.write_all(&piece(wanted.tty, to, data)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = feed(reader, input, wanted.stdin, keys) => {}
    }
    let _ = writer.shutdown().await;
}

/// Passes on what the client sends. Returns when the user types the keys to detach.
async fn feed(mut reader: Reader, mut input: AttachedInput, wanted: bool, mut keys: Option<DetachKeys>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        let data = buffer.get(..n).unwrap_or_default();
        if !wanted {
            continue;
        }
        let (passed, detach) = match &mut keys {
            Some(keys) => keys.pass(data),
            None => (data.to_vec(), false),
        };
        let written = input.write(&passed).await;
        if detach {
            return;
        }
        if written.is_err() {
            break;
        }
    }
    if wanted {
        let _ = input.close().await;
    }
    // What the program says is still to be shown.
    let _input = input;
    std::future::pending::<()>().await;
}

/// What a client reads from.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What goes to a client.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A request's connection, which its client may want for bytes in both directions.
pub(super) struct Connection(Option<hyper::upgrade::OnUpgrade>);

impl Connection {
    /// Of a request, before its body is read.
    pub(super) fn of(request: &mut Request<Body>) -> Self {
        let wants = request.headers().contains_key(header::UPGRADE);
        Self(wants.then(|| hyper::upgrade::on(request)))
    }

    /// Turns it into a stream of bytes in both directions. A client that has not asked for that gets the same bytes as a body, and
    /// can send nothing.
    pub(super) fn stream<F, W>(self, media_type: &'static str, work: W) -> Answer
    where
        F: Future<Output = ()> + Send + 'static,
        W: FnOnce(Reader, Writer) -> F + Send + 'static,
    {
        let Some(upgrading) = self.0 else {
            let (ours, theirs) = tokio::io::duplex(CHUNK);
            tokio::spawn(work(Box::new(tokio::io::empty()), Box::new(ours)));
            let pieces = tokio_util::io::ReaderStream::new(theirs);
            return respond::stream(media_type, pieces.map(|piece| piece.map(Vec::from)));
        };
        tokio::spawn(async move {
            // A client that goes away is no news.
            let Ok(upgraded) = upgrading.await else { return };
            let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
            work(Box::new(reader), Box::new(writer)).await;
        });
        let mut response = axum::response::Response::default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        Ok(response)
    }
}
