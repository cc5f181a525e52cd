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
use shim_wire::{
    EXIT_FILE, ExitStatus, LOG_FILE, Reply, Request, STARTED_FILE, ShimSpec, Status, Stream,
    attach::{FrameKind, size_of},
};

use crate::{
    attach::{Client, Input},
    cgroup,
    control::{Connection, Incoming},
    create::STATE_DIR,
    logfile::{Lines, LogFile, now_nanos},
};

/// How long output may still arrive after the last process has ended, in ms.
const DRAIN: u8 = 200;

/// The shim's ends of a container's standard streams.
pub enum Streams {
    /// Standard output and error, and input if it is kept open.
    Pipes {
        /// Standard input.
        stdin: Option<OwnedFd>,
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
    kind: FrameKind,
    lines: Lines,
}

impl Source {
    fn new(fd: OwnedFd, stream: Stream) -> Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl")?;
        let kind = match stream {
            Stream::Stdout => FrameKind::Stdout,
            Stream::Stderr => FrameKind::Stderr,
        };
        Ok(Self { file: File::from(fd), kind, lines: Lines::new(stream) })
    }

    /// Reads what is there, for the log and for all who are attached; false at the end.
    fn read(&mut self, log: &mut LogFile, clients: &mut Vec<Client>) -> bool {
        let mut chunk = [0; 32 * 1024];
        let open = loop {
            match self.file.read(&mut chunk) {
                Ok(0) => break false,
                Ok(count) => {
                    let bytes = chunk.get(..count).unwrap_or_default();
                    clients.retain_mut(|client| client.send(self.kind, bytes));
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
    /// The program's standard input, while it is open.
    input: Option<Input>,
    /// It ends with the last one who was attached to it; one has been.
    input_once: bool,
    fed: bool,
    clients: Vec<Client>,
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
        streams: Streams,
    ) -> Result<Self> {
        listener.set_nonblocking(true).context("fcntl")?;
        let (input, sources) = match streams {
            Streams::Pipes { stdin, stdout, stderr } => {
                let input = stdin.map(|fd| Input::new(fd, false)).transpose().context("fcntl")?;
                (input, vec![Source::new(stdout, Stream::Stdout)?, Source::new(stderr, Stream::Stderr)?])
            }
            Streams::Terminal(master) => {
                let input = master.try_clone().context("dup")?;
                (Some(Input::new(input, true).context("fcntl")?), vec![Source::new(master, Stream::Stdout)?])
            }
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
            input,
            input_once: spec.stdin_once,
            fed: false,
            clients: Vec::new(),
            connections: Vec::new(),
            parked: BTreeMap::new(),
        })
    }

    /// Until the container has ended and everybody knows. Returns those who have yet to take some of its output.
    pub fn run(mut self) -> Result<Vec<Client>> {
        loop {
            let events = self.poll()?;
            self.hear(&events.clients);
            self.read_output(&events.sources);
            if events.exited
                && let Some(status) = self.reap()?
            {
                return self.finish(status);
            }
            self.answer(&events.connections);
            self.feed();
            if events.accept {
                while let Ok((stream, _)) = self.listener.accept() {
                    self.connections.extend(Connection::new(stream));
                }
            }
        }
    }

    fn poll(&self) -> Result<Events> {
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> = vec![wanted(self.pidfd.as_fd()), wanted(self.listener.as_fd())];
        fds.extend(self.connections.iter().map(|connection| wanted(connection.as_fd())));
        let room = self.input.as_ref().is_none_or(Input::has_room);
        fds.extend(self.clients.iter().map(|client| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, room || !client.stdin);
            flags.set(PollFlags::POLLOUT, client.is_behind());
            PollFd::new(client.as_fd(), flags)
        }));
        // Left out, not merely asked for nothing: the end of a stream would be told again and again.
        let behind = self.clients.iter().any(Client::is_behind);
        let sources: &[Source] = if behind { &[] } else { self.sources.as_slice() };
        fds.extend(sources.iter().map(|source| wanted(source.file.as_fd())));
        let input = self.input.as_ref().filter(|input| input.is_behind());
        fds.extend(input.map(|input| PollFd::new(input.as_fd(), PollFlags::POLLOUT)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Events::default()),
            Err(error) => return Err(error).context("poll"),
        }
        let mut ready = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let any = |flags: PollFlags| !flags.is_empty();
        Ok(Events {
            exited: ready.next().is_some_and(any),
            accept: ready.next().is_some_and(any),
            connections: ready.by_ref().take(self.connections.len()).map(any).collect(),
            clients: ready.by_ref().take(self.clients.len()).collect(),
            sources: ready.by_ref().take(sources.len()).map(any).collect(),
        })
    }

    fn read_output(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        let (log, clients) = (&mut self.log, &mut self.clients);
        self.sources.retain_mut(|source| match ready.next() {
            Some(true) => {
                let open = source.read(log, clients);
                if !open {
                    source.lines.finish(now_nanos(), |record| log.record(&record));
                    log.flush();
                }
                open
            }
            _ => true,
        });
    }

    /// What those who are attached send, and whether they take what they are sent.
    fn hear(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter();
        let input = &mut self.input;
        self.clients.retain_mut(|client| {
            let Some(flags) = ready.next() else { return true };
            if flags.contains(PollFlags::POLLOUT) && !client.flush() {
                return false;
            }
            if !flags.contains(PollFlags::POLLIN) {
                return !flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
            }
            let Some(frames) = client.receive() else { return false };
            for (kind, content) in frames {
                match kind {
                    FrameKind::Stdin => {
                        if let Some(input) = input.as_mut().filter(|_| client.stdin) {
                            input.push(&content);
                        }
                    }
                    FrameKind::CloseStdin => client.stdin = false,
                    FrameKind::Resize => {
                        if let (Some(input), Some((rows, cols))) = (&input, size_of(&content)) {
                            input.resize(rows, cols);
                        }
                    }
                    FrameKind::Stdout | FrameKind::Stderr | FrameKind::End => {}
                }
            }
            true
        });
    }

    /// Hands input on, and ends it where it is to end.
    fn feed(&mut self) {
        let Some(input) = &mut self.input else { return };
        if self.input_once && self.fed && !self.clients.iter().any(|client| client.stdin) {
            input.close();
        }
        if !input.flush() {
            self.input = None;
        }
    }

    fn answer(&mut self, ready: &[bool]) {
        let connections = std::mem::take(&mut self.connections);
        let mut ready = ready.iter();
        for mut connection in connections {
            let (mut keep, mut attached) = (true, None);
            if ready.next() == Some(&true) {
                match connection.receive() {
                    None => keep = false,
                    Some(requests) => {
                        for incoming in requests {
                            if let Ok(Request::Attach { stdin }) = incoming.request {
                                keep &= connection.send(&Reply::Ok, &[]);
                                attached = Some(stdin);
                                break;
                            }
                            let (reply, fds) = self.handle(&mut connection, incoming);
                            keep &= connection.send(&reply, fds.unwrap_or_default());
                        }
                    }
                }
            }
            match attached {
                _ if !keep => {}
                Some(stdin) => {
                    self.fed |= stdin;
                    self.clients.push(Client::new(connection.into_stream(), stdin));
                }
                None => self.connections.push(connection),
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
            Ok(Request::Attach { .. }) => Err("attaching is for the connection to do".to_owned()),
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
        let started_at = now_nanos() / 1_000_000;
        // For whoever finds that we were killed; without it the time is unknown, and nothing worse.
        let _ = durable::scratch(
            &self.dir.join(STARTED_FILE),
            started_at.to_string().as_bytes(),
            durable::PUBLIC,
        );
        self.status = Status::Running { pid, started_at };
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

    /// First the log, then the status, then the news: who hears of the end finds everything in place. No reader is waited for: what
    /// is left is as much as the pipes held.
    fn finish(mut self, status: ExitStatus) -> Result<Vec<Client>> {
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
        self.clients.retain_mut(|client| client.send(FrameKind::End, &[]));
        let saved = save(&self.dir, &status);
        self.status = Status::Exited(status);
        self.tell();
        saved.map(|()| self.clients)
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
    clients: Vec<PollFlags>,
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
