//! Starting a further process in a container.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixListener as StdUnixListener,
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use proto::model::TaskId;
use serde_json::Value;
use shim_wire::ExecSpec;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{UnixListener, UnixStream},
    process::Child,
    sync::oneshot,
};

use super::ShimBinary;
use crate::{ExecConfig, ExecIo, ExecSession, Result, RuntimeError, Terminal, bundle, rootdir, users};

/// A running container.
pub struct Target {
    /// Its OCI bundle.
    pub bundle: PathBuf,
    /// Its run directory.
    pub run_dir: PathBuf,
    /// Its cgroup.
    pub cgroup: String,
    /// Its first process.
    pub pid: i32,
}

/// Starts it.
pub async fn exec(shim: &ShimBinary, target: Target, config: ExecConfig) -> Result<ExecSession> {
    if config.args.is_empty() {
        return Err(RuntimeError::Invalid("no command specified".to_owned()));
    }
    // Any unique name will do.
    let name = TaskId::random();
    let request = target.run_dir.join(format!("exec-{name}.json"));
    let console = target.run_dir.join(format!("exec-{name}.sock"));
    let mut spec = compose(&target, &config)?;
    let listener = match config.tty {
        Some(_) => {
            let listener = listen(&console).map_err(RuntimeError::io("listen on", &console))?;
            spec.console = Some(console.clone());
            Some(listener)
        }
        None => None,
    };
    write_private(&request, &serde_json::to_vec(&spec).unwrap_or_default())?;
    let mut command = shim.command("exec");
    command.arg(&request);
    let terminal = listener.is_some();
    command.stdin(if config.stdin && !terminal { Stdio::piped() } else { Stdio::null() });
    command.stdout(if terminal { Stdio::null() } else { Stdio::piped() }).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(RuntimeError::io("run", shim.path()))?;
    let keeper = child.id();
    let io = match listener {
        None => match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (stdin, Some(stdout), Some(stderr)) => ExecIo::Pipes { stdin, stdout, stderr },
            _ => return Err(RuntimeError::Create("exec: no pipes".to_owned())),
        },
        Some(listener) => {
            let terminal = receive_terminal(&listener, &mut child).await;
            let _ = fs::remove_file(&console);
            ExecIo::Terminal(terminal?)
        }
    };
    let (mut sender, exit) = oneshot::channel();
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = sender.closed(), if config.kill_on_drop => {
                // The program dies with the process that waits for it.
                let _ = child.kill().await;
                return;
            }
        };
        let code = ended.ok().and_then(|status| status.code()).unwrap_or(137);
        let _ = sender.send(code);
    });
    Ok(ExecSession { io, keeper, exit })
}

/// What the container's own process is, with what this one is to have of its own.
fn compose(target: &Target, config: &ExecConfig) -> Result<ExecSpec> {
    let path = target.bundle.join("config.json");
    let text = fs::read(&path).map_err(RuntimeError::io("read", &path))?;
    let document: Value = serde_json::from_slice(&text).map_err(|error| RuntimeError::Io {
        what: format!("read {}", path.display()),
        cause: error.to_string(),
    })?;
    let process = document.get("process").unwrap_or(&Value::Null);
    let number = |key: &str| process["user"][key].as_u64().and_then(|id| u32::try_from(id).ok());
    let strings = |value: &Value| {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let mut env = strings(&process["env"]);
    let (mut uid, mut gid) = (number("uid").unwrap_or(0), number("gid").unwrap_or(0));
    let further = process["user"]["additionalGids"].as_array().into_iter().flatten();
    let mut groups: Vec<u32> =
        further.filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect();
    if !config.user.is_empty() {
        // As the container is now, which may not be what its image was.
        let root = PathBuf::from(format!("/proc/{}/root", target.pid));
        let read = |path: &str| {
            rootdir::read(&root, path)
                .map(Option::unwrap_or_default)
                .map_err(RuntimeError::io("read from the container", Path::new(path)))
        };
        let user = users::resolve(&config.user, &[], &read("/etc/passwd")?, &read("/etc/group")?)?;
        (uid, gid, groups) = (user.uid, user.gid, user.groups);
        bundle::merge_environment(&mut env, &[format!("HOME={}", user.home)]);
    }
    if config.tty.is_some() && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    bundle::merge_environment(&mut env, &config.env);
    let cwd = if config.dir.is_empty() { process["cwd"].as_str().unwrap_or("/") } else { &config.dir };
    if !cwd.starts_with('/') {
        return Err(RuntimeError::Invalid(format!(
            "the working directory {cwd:?} is invalid, it needs to be an absolute path"
        )));
    }
    Ok(ExecSpec {
        bundle: target.bundle.clone(),
        pid: target.pid,
        cgroup: target.cgroup.clone(),
        args: config.args.clone(),
        env,
        cwd: PathBuf::from(cwd),
        uid,
        gid,
        groups,
        console: None,
        size: config.tty.unwrap_or_default(),
    })
}

fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    durable::scratch(path, content, durable::PRIVATE).map_err(RuntimeError::io("write", path))
}

/// Binds a socket whose path may be longer than a socket's address can hold.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::open(parent)?;
    let listener =
        StdUnixListener::bind(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The terminal's master, or why there is none.
async fn receive_terminal(listener: &UnixListener, child: &mut Child) -> Result<Terminal> {
    let arrive = async {
        let (stream, _) = listener.accept().await?;
        loop {
            stream.readable().await?;
            match stream.try_io(Interest::READABLE, || receive_descriptor(&stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    };
    let ended = tokio::select! {
        biased;
        master = arrive => match master {
            Ok(Some(master)) => {
                return Terminal::new(master).map_err(|error| RuntimeError::Create(format!("exec: {error}")));
            }
            Ok(None) => child.wait().await,
            Err(error) => Err(error),
        },
        ended = child.wait() => ended,
    };
    let mut reason = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut reason).await;
    }
    let reason = reason.trim();
    Err(RuntimeError::Create(match (ended, reason) {
        (_, reason) if !reason.is_empty() => reason.to_owned(),
        (Ok(status), _) => format!("exec: ended without a terminal: {status}"),
        (Err(error), _) => format!("exec: {error}"),
    }))
}

fn receive_descriptor(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut bytes = [0; 64];
    let mut space = cmsg_space!([RawFd; 1]);
    let mut iov = [io::IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
    }
    Ok(None)
}
