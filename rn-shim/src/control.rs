//! One connection from the daemon: lines in, lines out, descriptors beside them.

use std::{
    io::IoSlice,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use shim_wire::{MAX_MESSAGE, MAX_PARKED, Reply, Request};

/// A connection. `watching` is the only thing that it remembers between requests.
pub struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// Wants to be told of every change.
    pub watching: bool,
}

/// A request with the descriptors that came along.
pub struct Incoming {
    /// What is asked for, or why it cannot be understood.
    pub request: Result<Request, String>,
    /// What came along.
    pub fds: Vec<OwnedFd>,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, line: Vec::new(), fds: Vec::new(), watching: false })
    }

    /// To poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The connection itself, for another use.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// What has arrived; none once the connection is over.
    pub fn receive(&mut self) -> Option<Vec<Incoming>> {
        let mut bytes = [0; 4096];
        let mut space = cmsg_space!([RawFd; MAX_PARKED]);
        let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
        let (count, fds) = match recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Some(Vec::new()),
            Err(_) => return None,
            Ok(message) => (message.bytes, descriptors(&message)),
        };
        if count == 0 {
            return None;
        }
        self.fds.extend(fds);
        self.line.extend_from_slice(bytes.get(..count).unwrap_or_default());
        let mut requests = Vec::new();
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let request = serde_json::from_slice(&line).map_err(|error| error.to_string());
            requests.push(Incoming { request, fds: std::mem::take(&mut self.fds) });
        }
        (self.line.len() <= MAX_MESSAGE && self.fds.len() <= MAX_PARKED).then_some(requests)
    }

    /// Sends a line. A peer that does not read its answers loses its connection: false.
    pub fn send(&self, reply: &Reply, fds: &[OwnedFd]) -> bool {
        let Ok(mut line) = serde_json::to_vec(reply) else { return false };
        line.push(b'\n');
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(&line)], control, flags, None) == Ok(line.len())
    }
}

fn descriptors(message: &nix::sys::socket::RecvMsg<'_, '_, ()>) -> Vec<OwnedFd> {
    let mut owned = Vec::new();
    let Ok(controls) = message.cmsgs() else { return owned };
    for control in controls {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these descriptors for us.
            owned.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    owned
}
