//! Datagrams by the batch: one call of the kernel reads all that wait, another sends all answers, and who asks in a hurry is woken
//! once for several of them.

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddrV4,
    os::fd::AsRawFd,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

/// Datagrams of one batch.
const COUNT: usize = 32;
/// Bytes of the longest request.
const SIZE: usize = 4096;

/// A request, or an answer, and whose it is.
pub struct Datagram {
    /// The client.
    pub peer: SocketAddrV4,
    /// What it says, or is told.
    pub bytes: Vec<u8>,
}

thread_local! {
    /// One for all sockets of the resolver's thread.
    static BATCH: RefCell<Batch> = RefCell::default();
}

/// Lends this thread's batch.
pub fn with<T>(work: impl FnOnce(&mut Batch) -> T) -> T {
    BATCH.with_borrow_mut(work)
}

/// What a batch is read into; serves one socket after the other.
pub struct Batch {
    buffers: Vec<[u8; SIZE]>,
    received: MultiHeaders<SockaddrIn>,
    sent: MultiHeaders<SockaddrIn>,
}

impl Default for Batch {
    fn default() -> Self {
        let headers = || MultiHeaders::preallocate(COUNT, None);
        Self { buffers: vec![[0; SIZE]; COUNT], received: headers(), sent: headers() }
    }
}

impl Batch {
    /// Whether as much was read as fits, so that more may wait.
    pub const fn is_full(count: usize) -> bool {
        count == COUNT
    }

    /// All that waits, as far as it fits. `WouldBlock` if there is nothing.
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<Vec<(SocketAddrV4, &[u8])>> {
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let got = recvmmsg(socket.as_raw_fd(), &mut self.received, slices.iter_mut(), flags, None)?;
        let got: Vec<_> = got.map(|message| (message.address, message.bytes)).collect();
        Ok(got
            .into_iter()
            .zip(&self.buffers)
            .filter_map(|((from, length), buffer)| Some((from?.into(), buffer.get(..length)?)))
            .collect())
    }

    /// Sends these. What finds no room is dropped, as any network may; the client asks again.
    pub fn send(&mut self, socket: &impl AsRawFd, answers: &[Datagram]) {
        let mut rest = answers;
        while !rest.is_empty() {
            let slices: Vec<_> = rest.iter().map(|a| [IoSlice::new(&a.bytes)]).collect();
            let peers: Vec<_> = rest.iter().map(|a| Some(SockaddrIn::from(a.peer))).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let sent = sendmmsg(socket.as_raw_fd(), &mut self.sent, &slices, peers, [], flags);
            // An error is that of the first.
            rest = rest.get(sent.map_or(1, |sent| sent.count().max(1))..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::net::{SocketAddr, UdpSocket};

    use super::*;

    #[test]
    fn more_than_one_batch_comes_and_goes() {
        let (server, client) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        client.connect(server.local_addr().unwrap()).unwrap();
        let mut batch = Batch::default();
        assert_eq!(batch.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let lengths = |n: usize| 1 + n * 40;
        for n in 0..COUNT + 3 {
            client.send(&vec![n as u8; lengths(n)]).unwrap();
        }
        let mut answers = Vec::new();
        for expected in [COUNT, 3] {
            let got = batch.receive(&server).unwrap();
            assert_eq!(got.len(), expected);
            answers.extend(got.into_iter().map(|(peer, bytes)| Datagram { peer, bytes: bytes.to_vec() }));
        }
        // One that cannot be sent keeps none of the others from it.
        answers.insert(1, Datagram { peer: "127.0.0.1:0".parse().unwrap(), bytes: vec![1] });
        assert!(answers.iter().skip(2).all(|a| SocketAddr::V4(a.peer) == client.local_addr().unwrap()));
        batch.send(&server, &answers);
        let mut buffer = [0; SIZE];
        for n in 0..COUNT + 3 {
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], vec![n as u8; lengths(n)]);
        }
    }
}
