//! Talking to a shim.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use shim_wire::{MAX_MESSAGE, MAX_PARKED, Reply, Request, SOCKET_FILE, Status};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};

/// A shim answers in microseconds; a stopped one (SIGSTOP, a debugger) should not stop us.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Connects to a socket whose path may be longer than a socket's address can hold.
pub fn connect(run_dir: &Path) -> io::Result<UnixStream> {
    let dir = File::open(run_dir)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(SOCKET_FILE))
}

/// One question and its answer, with descriptors both ways. Blocks.
pub fn ask(run_dir: &Path, request: &Request, fds: &[OwnedFd]) -> io::Result<(Reply, Vec<OwnedFd>)> {
    let stream = connect(run_dir)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent =
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent != line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    receive(&stream)
}

fn receive(stream: &UnixStream) -> io::Result<(Reply, Vec<OwnedFd>)> {
    let mut line = Vec::new();
    let mut fds = Vec::new();
    while !line.ends_with(b"\n") {
        let mut bytes = [0; 4096];
        let mut space = cmsg_space!([RawFd; MAX_PARKED]);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = control {
                // SAFETY: the kernel has just made these descriptors for us.
                fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let count = message.bytes;
        if count == 0 || line.len() > MAX_MESSAGE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
    Ok((serde_json::from_slice(&line)?, fds))
}

/// A container's states as they come.
pub struct Watch {
    lines: Lines<BufReader<tokio::net::UnixStream>>,
}

impl Watch {
    /// Its present state, and those to come.
    pub async fn open(run_dir: &Path) -> io::Result<(Status, Self)> {
        let stream = connect(run_dir)?;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        let mut line = serde_json::to_vec(&Request::Watch)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut watch = Self { lines: BufReader::new(stream).lines() };
        match tokio::time::timeout(ANSWER_LIMIT, watch.next()).await {
            Ok(Some(first)) => Ok((first, watch)),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The next state; none when the shim is gone.
    pub async fn next(&mut self) -> Option<Status> {
        while let Ok(Some(line)) = self.lines.next_line().await {
            // A younger shim may say what we do not know.
            if let Ok(Reply::Status(status)) = serde_json::from_str(&line) {
                return Some(status);
            }
        }
        None
    }
}
