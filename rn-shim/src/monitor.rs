//! The shim's life while its container lives: one thread around one `poll`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use shim_wire::{EXIT_FILE, ExitStatus, LOG_FILE, Reply, Request, ShimSpec, Status, Stream};

use crate::{
    cgroup,
    control::{Connection, Incoming},
    create::STATE_DIR,
    logfile::{Lines, LogFile, now_nanos},
};

/// How long output may still arrive after the last process has ended, in ms.
const DRAIN: u8 = 200;

/// Where a container's output is read.
pub enum Output {
    /// Standard output and error.
    Pipes {
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// Its terminal.
    Terminal(OwnedFd),
}

struct Source {
    file: File,
    lines: Lines,
}

impl Source {
    fn new(fd: OwnedFd, stream: Stream) -> Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl")?;
        Ok(Self { file: File::from(fd), lines: Lines::new(stream) })
    }

    /// Reads what is there; false at the end.
    fn read(&mut self, log: &mut LogFile) -> bool {
        let mut chunk = [0; 16 * 1024];
        let open = loop {
            match self.file.read(&mut chunk) {
                Ok(0) => break false,
                Ok(count) => {
                    let bytes = chunk.get(..count).unwrap_or_default();
                    self.lines.push(now_nanos(), bytes, |record| log.record(&record));
                    // One chunk a turn, so that a chatty container cannot keep the daemon waiting.
                    break true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                // A terminal's master reports EIO once the last slave is closed.
                Err(_) => break false,
            }
        };
        log.flush();
        open
    }
}

/// A container, its output and those who ask about it.
pub struct Monitor {
    dir: PathBuf,
    cgroup: String,
    notify: PathBuf,
    listener: UnixListener,
    pid: Pid,
    pidfd: OwnedFd,
    status: Status,
    sources: Vec<Source>,
    log: LogFile,
    connections: Vec<Connection>,
    parked: BTreeMap<String, Vec<OwnedFd>>,
}

impl Monitor {
    /// Watches over a created container.
    pub fn new(
        dir: &Path,
        spec: &ShimSpec,
        listener: UnixListener,
        pid: Pid,
        output: Output,
    ) -> Result<Self> {
        listener.set_nonblocking(true).context("fcntl")?;
        let sources = match output {
            Output::Pipes { stdout, stderr } => {
                vec![Source::new(stdout, Stream::Stdout)?, Source::new(stderr, Stream::Stderr)?]
            }
            Output::Terminal(master) => vec![Source::new(master, Stream::Stdout)?],
        };
        let log = LogFile::open(dir.join(LOG_FILE), spec.log.clone())
            .with_context(|| format!("open {}", dir.join(LOG_FILE).display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            cgroup: spec.cgroup.clone(),
            notify: spec.run_dir.join(STATE_DIR).join(&spec.id).join(NOTIFY_FILE),
            listener,
            pid,
            pidfd: pidfd_open(pid)?,
            status: Status::Created { pid: pid.as_raw() },
            sources,
            log,
            connections: Vec::new(),
            parked: BTreeMap::new(),
        })
    }

    /// Until the container has ended and everybody knows.
    pub fn run(mut self) -> Result<()> {
        loop {
            let events = self.poll(PollTimeout::NONE)?;
            self.read_output(&events.sources);
            if events.exited
                && let Some(status) = self.reap()?
            {
                return self.finish(status);
            }
            self.answer(&events.connections);
            if events.accept {
                while let Ok((stream, _)) = self.listener.accept() {
                    self.connections.extend(Connection::new(stream));
                }
            }
        }
    }

    fn poll(&self, timeout: PollTimeout) -> Result<Events> {
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> = vec![wanted(self.pidfd.as_fd()), wanted(self.listener.as_fd())];
        fds.extend(self.sources.iter().map(|source| wanted(source.file.as_fd())));
        fds.extend(self.connections.iter().map(|connection| wanted(connection.as_fd())));
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Events::default()),
            Err(error) => return Err(error).context("poll"),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        Ok(Events {
            exited: ready.next().unwrap_or(false),
            accept: ready.next().unwrap_or(false),
            sources: ready.by_ref().take(self.sources.len()).collect(),
            connections: ready.collect(),
        })
    }

    fn read_output(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        let log = &mut self.log;
        self.sources.retain_mut(|source| match ready.next() {
            Some(true) => {
                let open = source.read(log);
                if !open {
                    source.lines.finish(now_nanos(), |record| log.record(&record));
                    log.flush();
                }
                open
            }
            _ => true,
        });
    }

    fn answer(&mut self, ready: &[bool]) {
        let connections = std::mem::take(&mut self.connections);
        let mut ready = ready.iter();
        for mut connection in connections {
            let mut keep = true;
            if ready.next() == Some(&true) {
                match connection.receive() {
                    None => keep = false,
                    Some(requests) => {
                        for incoming in requests {
                            let (reply, fds) = self.handle(&mut connection, incoming);
                            keep &= connection.send(&reply, fds.unwrap_or_default());
                        }
                    }
                }
            }
            if keep {
                self.connections.push(connection);
            }
        }
    }

    fn handle(&mut self, connection: &mut Connection, incoming: Incoming) -> (Reply, Option<&[OwnedFd]>) {
        let outcome = match incoming.request {
            Err(message) => Err(format!("not a request: {message}")),
            Ok(Request::Watch) => {
                connection.watching = true;
                return (Reply::Status(self.status.clone()), None);
            }
            Ok(Request::Start) => self.start(),
            Ok(Request::Signal { signal }) => {
                pidfd_send_signal(&self.pidfd, signal).map_err(|error| error.to_string())
            }
            Ok(Request::Park { name, .. }) => {
                self.parked.insert(name, incoming.fds);
                Ok(())
            }
            Ok(Request::Forget { name }) => {
                self.parked.remove(&name);
                Ok(())
            }
            Ok(Request::Unpark { name }) => {
                let fds = self.parked.get(&name).map(Vec::as_slice).unwrap_or_default();
                return (Reply::Parked { count: fds.len() }, Some(fds));
            }
        };
        match outcome {
            Ok(()) => (Reply::Ok, None),
            Err(message) => (Reply::Error { message }, None),
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let Status::Created { pid } = self.status else {
            return Err("it has been started before".to_owned());
        };
        NotifySocket::new(&self.notify).notify_container_start().map_err(|error| error.to_string())?;
        self.status = Status::Running { pid, started_at: now_nanos() / 1_000_000 };
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        let reply = Reply::Status(self.status.clone());
        self.connections.retain(|connection| !connection.watching || connection.send(&reply, &[]));
    }

    /// Collects ended children; the container's status if it is among them.
    fn reap(&self) -> Result<Option<ExitStatus>> {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32, Some(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).context("waitpid"),
            };
            if pid == self.pid {
                let started_at = match &self.status {
                    Status::Running { started_at, .. } => *started_at,
                    _ => 0,
                };
                return Ok(Some(ExitStatus {
                    code,
                    signal,
                    oom: signal.is_some() && cgroup::oom_killed(&self.cgroup),
                    started_at,
                    finished_at: now_nanos() / 1_000_000,
                    error: String::new(),
                }));
            }
        }
    }

    /// First the log, then the status, then the news: who hears of the end finds everything in place.
    fn finish(mut self, status: ExitStatus) -> Result<()> {
        while !self.sources.is_empty() {
            let events = self.poll_output()?;
            if !events.contains(&true) {
                break;
            }
            self.read_output(&events);
        }
        for source in &mut self.sources {
            source.lines.finish(now_nanos(), |record| self.log.record(&record));
        }
        self.log.flush();
        let saved = save(&self.dir, &status);
        self.status = Status::Exited(status);
        self.tell();
        saved
    }

    fn poll_output(&self) -> Result<Vec<bool>> {
        let mut fds: Vec<_> =
            self.sources.iter().map(|source| PollFd::new(source.file.as_fd(), PollFlags::POLLIN)).collect();
        while let Err(error) = poll(&mut fds, DRAIN) {
            if error != Errno::EINTR {
                return Err(error).context("poll");
            }
        }
        Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect())
    }
}

#[derive(Default)]
struct Events {
    exited: bool,
    accept: bool,
    sources: Vec<bool>,
    connections: Vec<bool>,
}

/// Writes the exit status so that it is there whole or not at all, even after a power cut.
pub fn save(dir: &Path, status: &ExitStatus) -> Result<()> {
    let path = dir.join(EXIT_FILE);
    durable::save(&path, &serde_json::to_vec(status)?, durable::PUBLIC)
        .with_context(|| format!("write {}", path.display()))
}

fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: takes two numbers and makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(Errno::result(fd).context("pidfd_open")?).context("pidfd_open")?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pidfd_send_signal(pidfd: &impl AsFd, signal: i32) -> Result<(), Errno> {
    let fd: BorrowedFd<'_> = pidfd.as_fd();
    // SAFETY: no memory is passed (the siginfo pointer is null, which the call allows).
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(sent).map(drop)
}
