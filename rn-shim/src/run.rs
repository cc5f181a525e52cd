//! Becoming the shim of one container.

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::DirBuilderExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags},
    sys::{
        prctl,
        signal::{SigHandler, Signal, signal},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdout, fork, pipe2, setsid},
};
use shim_wire::{CREATED, EXIT_FILE, ExitStatus, SOCKET_FILE, SPEC_FILE, STARTED_FILE, ShimSpec};

use crate::{attach, cgroup, create, device_filter, files, logfile::now_nanos, monitor};

/// How long making a container may take, in ms; it is 20 when all is well.
const CREATE_LIMIT: u16 = 60_000;

/// Runs a container from its creation to its end. Returns at once in the caller's process: the shim is a child of it.
pub fn run(dir: &Path) -> Result<()> {
    let spec = load(dir)?;
    let contents = files::read(&spec.files)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            let code = match shim(dir, &spec, contents) {
                Ok(()) => 0,
                Err(error) => {
                    // Still the daemon's pipe if the container could not be made, /dev/null afterwards.
                    let _ = writeln!(std::io::stderr(), "{error:#}");
                    1
                }
            };
            std::process::exit(code)
        }
    }
}

/// Cleans up after a container whose shim was killed or whose machine went down: whatever is left of it ends, and its status
/// says so.
pub fn reap(dir: &Path) -> Result<()> {
    let spec = load(dir)?;
    cgroup::remove(&spec.cgroup);
    let _ = fs::remove_dir_all(&spec.run_dir);
    if dir.join(EXIT_FILE).exists() {
        return Ok(());
    }
    let error = "its shim was killed, or the machine went down".to_owned();
    let started_at =
        fs::read_to_string(dir.join(STARTED_FILE)).ok().and_then(|text| text.trim().parse().ok());
    let status = ExitStatus {
        code: 137,
        error,
        started_at: started_at.unwrap_or_default(),
        finished_at: now_nanos() / 1_000_000,
        ..ExitStatus::default()
    };
    monitor::save(dir, &status)
}

fn load(dir: &Path) -> Result<ShimSpec> {
    let path = dir.join(SPEC_FILE);
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not valid", path.display()))
}

fn shim(dir: &Path, spec: &ShimSpec, contents: Vec<Vec<u8>>) -> Result<()> {
    detach()?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&spec.run_dir)
        .with_context(|| format!("create {}", spec.run_dir.display()))?;
    let result = serve(dir, spec, contents);
    // In this order: when the run directory has gone, so has everything else of the container.
    cgroup::remove(&spec.cgroup);
    let _ = fs::remove_dir_all(&spec.run_dir);
    // Nobody but these waits for us any more: the container may be started again meanwhile.
    attach::deliver(result?);
    Ok(())
}

fn serve(dir: &Path, spec: &ShimSpec, contents: Vec<Vec<u8>>) -> Result<Vec<attach::Client>> {
    let listener = listen(&spec.run_dir.join(SOCKET_FILE))?;
    let console = spec.terminal.then(|| listen(&spec.run_dir.join(create::CONSOLE_FILE))).transpose()?;
    let (pid, streams) = make(spec, &contents, console)?;
    // The container has them; this process stays as small as it was.
    drop(contents);
    // Not fatal: these hierarchies limit nothing, they only tell whose process this is.
    cgroup::join_uncontrolled(&spec.cgroup, pid);
    if let Err(error) = device_filter::attach(&spec.cgroup) {
        kill(pid);
        return Err(error.context("restrict access to devices"));
    }
    let monitor = match monitor::Monitor::new(dir, spec, listener, pid, streams) {
        Ok(monitor) => monitor,
        Err(error) => {
            kill(pid);
            return Err(error);
        }
    };
    writeln!(std::io::stdout(), "{CREATED}").context("tell the daemon")?;
    release_standard_streams()?;
    monitor.run()
}

fn kill(pid: Pid) {
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// Leaves the daemon's session, so that nothing that happens to the daemon happens to us.
fn detach() -> Result<()> {
    setsid().context("setsid")?;
    std::env::set_current_dir("/").context("chdir /")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // The container's init is cloned as our child; should a helper in between die early, its children are ours too.
    prctl::set_child_subreaper(true).context("become a subreaper")?;
    let _ = prctl::set_name(c"rn-shim");
    // The shim is tiny and the container depends on it.
    // The kernel's, not a disk's.
    #[allow(clippy::disallowed_methods)]
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: SIG_IGN runs no code.
        unsafe { signal(ignored, SigHandler::SigIgn) }.context("ignore signals")?;
    }
    Ok(())
}

/// Binds a socket whose path may be longer than a socket's address can hold.
fn listen(path: &Path) -> Result<UnixListener> {
    let what = || format!("listen on {}", path.display());
    let parent = path.parent().ok_or_else(|| anyhow!("{} has no directory", path.display()))?;
    let name = path.file_name().ok_or_else(|| anyhow!("{} has no name", path.display()))?;
    let dir = fs::File::open(parent).with_context(what)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    UnixListener::bind(short).with_context(what)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context("pipe")
}

/// Makes the container in a child process, whose memory is not ours to keep: its first process, and its streams.
fn make(
    spec: &ShimSpec,
    contents: &[Vec<u8>],
    console: Option<UnixListener>,
) -> Result<(Pid, monitor::Streams)> {
    let (answer, answer_in) = pipe()?;
    let (stdout, stdout_in) = pipe()?;
    let (stderr, stderr_in) = pipe()?;
    let (stdin_out, stdin) = match spec.stdin && !spec.terminal {
        true => pipe().map(|(out, stdin)| (Some(out), Some(stdin)))?,
        false => (None, None),
    };
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // Its own copy of the input's end would keep the input from ending.
            drop((answer, stdin));
            let result = create::create(spec, contents, stdin_out, [stdout_in, stderr_in]);
            let text = match result {
                Ok(pid) => format!("{pid}\n"),
                Err(error) => format!("{}\n", format!("{error:#}").replace('\n', " ")),
            };
            let _ = fs::File::from(answer_in).write_all(text.as_bytes());
            // SAFETY: ends this process without running what belongs to the parent (buffers, destructors).
            unsafe { libc::_exit(0) }
        }
    };
    drop((answer_in, stdin_out, stdout_in, stderr_in));
    let master = match console {
        Some(listener) => receive_master(&listener, &answer)?,
        None => None,
    };
    let text = read_answer(answer, child)?;
    let _ = waitpid(child, None);
    let pid = match text.parse::<i32>() {
        Ok(pid) if pid > 0 => Pid::from_raw(pid),
        _ if text.is_empty() => bail!("the process that makes the container died"),
        _ => bail!("{text}"),
    };
    match (spec.terminal, master) {
        (false, _) => Ok((pid, monitor::Streams::Pipes { stdin, stdout, stderr })),
        (true, Some(master)) => Ok((pid, monitor::Streams::Terminal(master))),
        (true, None) => {
            kill(pid);
            bail!("the container has sent no terminal")
        }
    }
}

/// Waits for a line, but not for ever. Not for the pipe's end: the container's init holds a copy until it is started.
fn read_answer(answer: OwnedFd, child: Pid) -> Result<String> {
    use std::os::fd::AsFd;
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    let mut file = fs::File::from(answer);
    loop {
        let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, CREATE_LIMIT) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("poll"),
            Ok(0) => {
                kill(child);
                bail!("making the container took more than a minute");
            }
            Ok(_) => {}
        }
        match file.read(&mut chunk).context("read from the process that makes the container")? {
            0 => break,
            n => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
        if text.ends_with(b"\n") {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// The terminal's master, from the container's init; none if making the container fails before it is sent.
fn receive_master(listener: &UnixListener, answer: &OwnedFd) -> Result<Option<OwnedFd>> {
    use std::os::fd::AsFd;
    let mut ready =
        [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
    while let Err(Errno::EINTR) = nix::poll::poll(&mut ready, CREATE_LIMIT) {}
    let connected =
        ready.first().and_then(|fd| fd.revents()).is_some_and(|events| events.contains(PollFlags::POLLIN));
    if !connected {
        return Ok(None);
    }
    let (stream, _) = listener.accept().context("accept on the console socket")?;
    // The init connects first and sends much later; if it fails in between, the stream ends.
    receive_descriptor(&stream)
}

fn receive_descriptor(stream: &UnixStream) -> Result<Option<OwnedFd>> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut bytes = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .context("receive the terminal")?;
    for control in message.cmsgs().context("receive the terminal")? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
    }
    Ok(None)
}

/// The daemon reads our standard streams until they end.
fn release_standard_streams() -> Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").context("open /dev/null")?;
    dup2_stdout(&null).context("dup2")?;
    dup2_stderr(&null).context("dup2")?;
    Ok(())
}
