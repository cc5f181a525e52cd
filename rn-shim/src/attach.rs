//! Those who are attached to a container: its output goes to each of them as it comes, their input goes to it.
//!
//! Nothing is read from the program while one of them has not taken what was read before: a slow reader slows the program, and
//! the shim stays small. One that has gone counts no more.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use shim_wire::attach::{FrameKind, Frames, header};

/// Input that may wait for the program before its senders have to, in bytes.
const INPUT_AHEAD: usize = 64 * 1024;

/// One who is attached.
pub struct Client {
    stream: UnixStream,
    frames: Frames,
    /// Not sent yet.
    pending: Vec<u8>,
    /// Its input is the program's.
    pub stdin: bool,
}

impl Client {
    /// From a connection that asked for it, and has had its answer.
    pub fn new(stream: UnixStream, stdin: bool) -> Self {
        Self { stream, frames: Frames::default(), pending: Vec::new(), stdin }
    }

    /// To poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether it has yet to take what was read.
    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends a frame, or as much of it as goes now; false once the other end is gone.
    pub fn send(&mut self, kind: FrameKind, content: &[u8]) -> bool {
        self.pending.extend(header(kind, content.len()));
        self.pending.extend_from_slice(content);
        self.flush()
    }

    /// Sends what is left; false once the other end is gone.
    pub fn flush(&mut self) -> bool {
        let mut sent = 0;
        let open = loop {
            let rest = self.pending.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break true;
            }
            match self.stream.write(rest) {
                Ok(0) => break false,
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(_) => break false,
            }
        };
        self.pending.drain(..sent);
        open
    }

    /// What has arrived; none once the other end is gone.
    pub fn receive(&mut self) -> Option<Vec<(FrameKind, Vec<u8>)>> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => None,
            Ok(count) => self.frames.push(bytes.get(..count).unwrap_or_default()).ok(),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Some(Vec::new())
            }
            Err(_) => None,
        }
    }
}

/// Sends everyone what is left for him; returns once each has it or is gone.
pub fn deliver(mut clients: Vec<Client>) {
    loop {
        clients.retain_mut(|client| client.flush() && client.is_behind());
        if clients.is_empty() {
            return;
        }
        let mut fds: Vec<_> =
            clients.iter().map(|client| PollFd::new(client.as_fd(), PollFlags::POLLOUT)).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// The program's standard input.
pub struct Input {
    file: File,
    terminal: bool,
    queue: Vec<u8>,
    /// Ends when the queue is empty.
    closing: bool,
}

impl Input {
    /// By this end of a pipe, or this terminal's master.
    pub fn new(fd: OwnedFd, terminal: bool) -> nix::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { file: File::from(fd), terminal, queue: Vec::new(), closing: false })
    }

    /// To poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether something waits to be taken by the program.
    pub fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether more may be taken from those who send.
    pub fn has_room(&self) -> bool {
        self.queue.len() < INPUT_AHEAD
    }

    /// Takes input; [`Input::flush`] hands it over.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.closing {
            self.queue.extend_from_slice(bytes);
        }
    }

    /// No more comes. A terminal has no end of its own: its user types one.
    pub fn close(&mut self) {
        self.closing |= !self.terminal;
    }

    /// Tells the terminal how large its user's window is.
    pub fn resize(&self, rows: u16, cols: u16) {
        if self.terminal {
            let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            // SAFETY: the pointer is to a live value of the type that the request reads.
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        }
    }

    /// Hands over what the program takes; false once it takes no more, or no more comes.
    pub fn flush(&mut self) -> bool {
        let mut written = 0;
        let open = loop {
            let rest = self.queue.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break !self.closing;
            }
            match self.file.write(rest) {
                Ok(0) => break false,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(_) => break false,
            }
        };
        self.queue.drain(..written);
        open
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_slow_reader_is_behind_and_gets_everything() {
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut client = Client::new(near, false);
        let content = vec![7; 60_000];
        let mut sent = 0;
        while !client.is_behind() {
            assert!(client.send(FrameKind::Stdout, &content));
            sent += 1;
        }
        assert!(client.send(FrameKind::End, &[]));
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            Frames::default().push(&all).unwrap()
        });
        deliver(vec![client]);
        let frames = reader.join().unwrap();
        assert_eq!(frames.len(), sent + 1);
        assert!(
            frames.iter().take(sent).all(|(kind, bytes)| *kind == FrameKind::Stdout && *bytes == content)
        );
        assert_eq!(frames.last().unwrap().0, FrameKind::End);
    }

    #[test]
    fn one_who_is_gone_is_waited_for_no_longer() {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut client = Client::new(near, false);
        while !client.is_behind() {
            assert!(client.send(FrameKind::Stdout, &[0; 4096]));
        }
        drop(far);
        assert!(!client.send(FrameKind::Stdout, b"more"));
        deliver(vec![client]);
    }

    #[test]
    fn input_ends_after_its_last_byte() {
        let (out, into) = nix::unistd::pipe().unwrap();
        let mut input = Input::new(into, false).unwrap();
        input.push(&[1; 200_000]);
        input.close();
        input.push(b"too late");
        assert!(!input.has_room() && input.flush() && input.is_behind(), "a pipe holds less than that");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            File::from(out).read_to_end(&mut all).unwrap();
            all.len()
        });
        while input.flush() {
            std::thread::yield_now();
        }
        drop(input);
        assert_eq!(reader.join().unwrap(), 200_000);
    }
}
