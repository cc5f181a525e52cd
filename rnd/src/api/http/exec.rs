//! Further processes in containers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{body::Body, extract::FromRequest, extract::State};
use docker_api::{detach_keys::DetachKeys, frames::Output as To};
use http::{Request, StatusCode};
use proto::{error::ApiError, model::ContainerId};
use runtime::{ContainerState, ExecConfig, ExecIo, ExecSession, Resizer, Runtime, ShimRuntime};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use super::{
    Answer, Api,
    request::{Json, Key, Params, Version},
    respond::{json as answer, json_with},
    streams::{Connection, Reader, Writer, media_type, piece, size},
};

/// How long it can be asked how a process has ended (dockerd's time).
const REMEMBERED: Duration = Duration::from_secs(300);

/// Bytes read at once.
const CHUNK: usize = 32 << 10;

/// The terminal of a process without a size of its own.
const USUAL: (u16, u16) = (24, 80);

/// The body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Wanted {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    tty: bool,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: String,
    user: String,
    privileged: bool,
    console_size: Vec<u16>,
}

/// The body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    detach: bool,
    console_size: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Created,
    Running,
    Exited(i32, Instant),
}

#[derive(Debug)]
struct Exec {
    container: ContainerId,
    wanted: Wanted,
    state: Stage,
    resizer: Option<Resizer>,
    /// The process that keeps the one that was asked for.
    keeper: Option<u32>,
}

impl Exec {
    /// As events and `docker events` name it.
    fn words(&self) -> String {
        self.wanted.cmd.join(" ")
    }

    /// The process on this machine; 0 where it does not run.
    fn pid(&self) -> u32 {
        let Some(keeper) = self.keeper.filter(|_| self.state == Stage::Running) else { return 0 };
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        children
            .unwrap_or_default()
            .split_whitespace()
            .last()
            .and_then(|pid| pid.parse().ok())
            .unwrap_or_default()
    }
}

/// What was asked for, and what has become of it: as long as the daemon lives.
#[derive(Debug, Clone, Default)]
pub struct Execs(Arc<Mutex<BTreeMap<String, Exec>>>);

impl Execs {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Exec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what has ended long ago, and what was never started in containers that do not run any more.
    fn sweep(&self, runs: impl Fn(&ContainerId) -> bool) {
        self.table().retain(|_, exec| match exec.state {
            Stage::Created => runs(&exec.container),
            Stage::Running => true,
            Stage::Exited(_, at) => at.elapsed() < REMEMBERED,
        });
    }

    fn ended(&self, id: &str, code: i32, runtime: &ShimRuntime) {
        let container = {
            let mut table = self.table();
            let Some(exec) = table.get_mut(id) else { return };
            (exec.state, exec.resizer) = (Stage::Exited(code, Instant::now()), None);
            exec.container.clone()
        };
        runtime.container_event(&container, "exec_die", &[("execID", id), ("exitCode", &code.to_string())]);
    }
}

fn no_such(id: &str) -> ApiError {
    ApiError::not_found(format!("No such exec instance: {id}"))
}

fn pair(size: &[u16]) -> Option<(u16, u16)> {
    match size {
        [rows, cols] if *rows > 0 && *cols > 0 => Some((*rows, *cols)),
        _ => None,
    }
}

impl Api {
    fn runs(&self, id: &ContainerId) -> bool {
        let state = self.daemon.runtime.watch(id);
        state.is_ok_and(|state| matches!(&*state.borrow(), ContainerState::Running { .. }))
    }

    fn must_run(&self, id: &ContainerId) -> Result<(), ApiError> {
        match self.runs(id) {
            true if self.daemon.runtime.is_paused(id) => Err(ApiError::conflict(format!(
                "Container {id} is paused, unpause the container before exec"
            ))),
            true => Ok(()),
            false => Err(ApiError::conflict(format!("Container {id} is not running"))),
        }
    }
}

/// `POST /containers/{id}/exec`.
pub async fn create(State(api): State<Api>, Key(key): Key, Json(wanted): Json<Wanted>) -> Answer {
    let container = api.container(&key)?;
    if wanted.cmd.is_empty() {
        return Err(ApiError::invalid("No exec command specified").into());
    }
    if wanted.privileged {
        return Err(ApiError::unsupported(
            "Privileged is not supported by rn; make the container with the capabilities that are needed (CapAdd)",
        )
        .into());
    }
    DetachKeys::parse(&wanted.detach_keys)?;
    api.must_run(&container)?;
    api.execs.sweep(|id| api.runs(id));
    // As long as a container's, and as random.
    let id = ContainerId::random().to_string();
    let exec = Exec { container, wanted, state: Stage::Created, resizer: None, keeper: None };
    api.daemon.runtime.container_event(
        &exec.container,
        &format!("exec_create: {}", exec.words()),
        &[("execID", &id)],
    );
    api.execs.table().insert(id.clone(), exec);
    json_with(StatusCode::CREATED, &json!({ "Id": id }))
}

/// `POST /exec/{id}/start`.
pub async fn start(
    State(api): State<Api>,
    Key(id): Key,
    Version(version): Version,
    mut request: Request<Body>,
) -> Answer {
    let connection = Connection::of(&mut request);
    let Json(start) = Json::<Start>::from_request(request, &()).await?;
    let (container, wanted, words) = {
        let mut table = api.execs.table();
        let exec = table.get_mut(&id).ok_or_else(|| no_such(&id))?;
        match exec.state {
            Stage::Created => exec.state = Stage::Running,
            Stage::Running => {
                return Err(ApiError::conflict(format!("Error: Exec command {id} is already running")).into());
            }
            Stage::Exited(..) => {
                return Err(ApiError::conflict(format!("Error: Exec command {id} has already run")).into());
            }
        }
        (exec.container.clone(), exec.wanted.clone(), exec.words())
    };
    let runtime = api.daemon.runtime.clone();
    runtime.container_event(&container, &format!("exec_start: {words}"), &[("execID", &id)]);
    let session = begin(&api, &container, &wanted, &start).await;
    let session = session.inspect_err(|_| api.execs.ended(&id, proto::exit_code::CANNOT_RUN, &runtime))?;
    if let Some(exec) = api.execs.table().get_mut(&id) {
        exec.keeper = session.keeper;
        if let ExecIo::Terminal(terminal) = &session.io {
            exec.resizer = terminal.resizer().ok();
        }
    }
    let execs = api.execs.clone();
    if start.detach {
        // Somebody must read on, or the process would block on a full pipe or die of a closed one.
        tokio::spawn(async move {
            let quiet = Wanted { attach_stdin: false, attach_stdout: false, attach_stderr: false, ..wanted };
            let code = carry(session, &quiet, Box::new(tokio::io::empty()), &mut None).await;
            execs.ended(&id, code, &runtime);
        });
        return Ok(axum::response::Response::default());
    }
    connection.stream(media_type(wanted.tty, version), move |reader, writer| async move {
        let mut writer = Some(writer);
        let code = carry(session, &wanted, reader, &mut writer).await;
        // Clients ask for the code as soon as the stream has ended.
        execs.ended(&id, code, &runtime);
        if let Some(mut writer) = writer {
            let _ = writer.shutdown().await;
        }
    })
}

async fn begin(
    api: &Api,
    container: &ContainerId,
    wanted: &Wanted,
    start: &Start,
) -> Result<ExecSession, ApiError> {
    api.must_run(container)?;
    let size = pair(&start.console_size).or(pair(&wanted.console_size)).unwrap_or(USUAL);
    let config = ExecConfig {
        args: wanted.cmd.clone(),
        env: wanted.env.clone(),
        user: wanted.user.clone(),
        dir: wanted.working_dir.clone(),
        tty: wanted.tty.then_some(size),
        stdin: wanted.attach_stdin,
        kill_on_drop: false,
    };
    Ok(api.daemon.runtime.exec(container, config).await?)
}

/// Both directions until the process has ended; its exit code. It goes on where the client has gone.
async fn carry(session: ExecSession, wanted: &Wanted, reader: Reader, writer: &mut Option<Writer>) -> i32 {
    match session.io {
        ExecIo::Pipes { stdin, stdout, stderr } => {
            let out = tokio::sync::Mutex::new(&mut *writer);
            let both = async {
                tokio::join!(
                    drain(stdout, To::Stdout, wanted.attach_stdout, &out),
                    drain(stderr, To::Stderr, wanted.attach_stderr, &out),
                );
            };
            let stdin = stdin.filter(|_| wanted.attach_stdin);
            tokio::select! {
                () = both => {}
                () = feed_pipe(reader, stdin) => {}
            }
        }
        ExecIo::Terminal(terminal) => {
            let (mut from, to) = tokio::io::split(terminal);
            let keys = DetachKeys::parse(&wanted.detach_keys).ok();
            let detached = {
                let out = tokio::sync::Mutex::new(&mut *writer);
                let mut from = &mut from;
                tokio::select! {
                    () = show(&mut from, wanted.attach_stdout, &out) => false,
                    () = type_in(reader, to, keys, wanted.attach_stdin) => true,
                }
            };
            if detached {
                if let Some(mut writer) = writer.take() {
                    let _ = writer.shutdown().await;
                }
                let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            }
        }
    }
    // Dropped without a word: the process' keeper is gone, and so is the container.
    session.exit.await.unwrap_or(137)
}

type Out<'a> = tokio::sync::Mutex<&'a mut Option<Writer>>;

/// Passes on output as it comes. Where nobody is interested any more it is still read.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    wrap: impl Fn(Vec<u8>) -> Vec<u8>,
    asked: bool,
    out: &Out<'_>,
) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if !asked {
            continue;
        }
        let data = wrap(buffer.get(..n).unwrap_or_default().to_vec());
        let mut out = out.lock().await;
        let written = match &mut **out {
            Some(writer) => writer.write_all(&data).await.is_ok(),
            None => true,
        };
        if !written {
            **out = None;
        }
    }
}

async fn drain(from: impl AsyncRead + Unpin, to: To, asked: bool, out: &Out<'_>) {
    pass(from, |data| piece(false, to, data), asked, out).await;
}

async fn show(from: impl AsyncRead + Unpin, asked: bool, out: &Out<'_>) {
    pass(from, |data| data, asked, out).await;
}

/// What the client sends, until there is no more; then the process' input ends. Does not return.
async fn feed_pipe(mut reader: Reader, stdin: Option<impl AsyncWrite + Unpin>) {
    if let Some(mut stdin) = stdin {
        let _ = tokio::io::copy(&mut reader, &mut stdin).await;
        let _ = stdin.shutdown().await;
    }
    std::future::pending::<()>().await;
}

/// What the client types. Returns when that are the keys to detach.
async fn type_in(
    mut reader: Reader,
    mut to: impl AsyncWrite + Unpin,
    mut keys: Option<DetachKeys>,
    asked: bool,
) {
    let mut buffer = vec![0; CHUNK];
    while asked && let Ok(n @ 1..) = reader.read(&mut buffer).await {
        let data = buffer.get(..n).unwrap_or_default();
        let (passed, detach) = match &mut keys {
            Some(keys) => keys.pass(data),
            None => (data.to_vec(), false),
        };
        if to.write_all(&passed).await.is_err() {
            break;
        }
        if detach {
            return;
        }
    }
    let _to = to;
    std::future::pending::<()>().await;
}

/// `POST /exec/{id}/resize`.
pub async fn resize(State(api): State<Api>, Key(id): Key, query: Params) -> Answer {
    let (rows, cols) = size(&query)?;
    let table = api.execs.table();
    let exec = table.get(&id).ok_or_else(|| no_such(&id))?;
    let Some(resizer) = &exec.resizer else {
        return Err(ApiError::conflict(format!("exec {id} has no terminal, or does not run")).into());
    };
    resizer.resize(rows, cols).map_err(|error| ApiError::internal(format!("resize: {error}")))?;
    Ok(axum::response::Response::default())
}

/// `GET /exec/{id}/json`.
pub async fn inspect(State(api): State<Api>, Key(id): Key) -> Answer {
    let table = api.execs.table();
    let exec = table.get(&id).ok_or_else(|| no_such(&id))?;
    let wanted = &exec.wanted;
    let (program, arguments) = wanted.cmd.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let code = match exec.state {
        Stage::Exited(code, _) => Some(code),
        Stage::Created | Stage::Running => None,
    };
    answer(&json!({
        "ID": id,
        "Running": exec.state == Stage::Running,
        "ExitCode": code,
        "ProcessConfig": {
            "tty": wanted.tty,
            "entrypoint": program,
            "arguments": arguments,
            "privileged": false,
            "user": wanted.user,
        },
        "OpenStdin": wanted.attach_stdin,
        "OpenStdout": wanted.attach_stdout,
        "OpenStderr": wanted.attach_stderr,
        "CanRemove": code.is_some(),
        "ContainerID": exec.container,
        "DetachKeys": wanted.detach_keys,
        "Pid": exec.pid(),
    }))
}
