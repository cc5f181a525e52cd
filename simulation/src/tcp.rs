//! Connections: bytes in order, sooner or later, until one side is gone.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use certs::transport::stack::{Accept, ByteStream, Connecting, NetworkStack};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot},
};

use crate::net::{Event, Net, RETRANSMISSION, addr, host};

/// Bytes that may be under way in one direction before a writer waits.
const WINDOW: usize = 256 << 10;

/// Where the one who dialled hears of it.
pub type Dialled = oneshot::Sender<io::Result<End>>;

/// All connections.
#[derive(Default)]
pub struct Connections {
    all: BTreeMap<u64, [Side; 2]>,
    made: u64,
}

/// What one end of a connection has before it.
#[derive(Default)]
struct Side {
    host: usize,
    /// The process has let go of it.
    gone: bool,
    /// Arrived and not read.
    ready: VecDeque<u8>,
    /// On its way here, each part with the time at which it arrives; an empty one is the end.
    coming: VecDeque<(u64, Vec<u8>)>,
    ended: bool,
    broken: bool,
    reader: Option<Waker>,
    /// Who writes towards here and waits.
    writer: Option<Waker>,
}

impl Side {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub struct End {
    net: Net,
    conn: u64,
    side: usize,
}

impl Net {
    /// Somebody wants a connection.
    pub(crate) fn syn(&self, from: usize, to: usize, at: SocketAddr, dialled: Dialled) {
        let mut inner = self.inner();
        let now = inner.now;
        if inner.is_cut(from, to) {
            if !dialled.is_closed() {
                inner.schedule(now + 5 * RETRANSMISSION, Event::Syn { from, to, addr: at, dialled });
            }
            return;
        }
        let due = now + inner.delay(to, from);
        let listener =
            inner.places.get(to).and_then(|p| p.listener.clone()).filter(|(listens, _)| *listens == at);
        let Some((_, listener)) = listener else {
            let end = Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            inner.schedule(due, Event::Connected { from: to, to: from, end, dialled });
            return;
        };
        inner.connections.made += 1;
        let conn = inner.connections.made;
        let sides = [from, to].map(|host| Side { host, ..Side::default() });
        inner.connections.all.insert(conn, sides);
        inner.trace.numbers(&[3, from as u64, to as u64, conn]);
        inner.trace.count("connections", 1);
        let [near, far] = [0, 1].map(|side| End { net: self.clone(), conn, side });
        inner.schedule(due, Event::Connected { from: to, to: from, end: Ok(near), dialled });
        drop(inner);
        let refused = listener.send((far, addr(from)));
        drop(refused);
    }

    /// Lets arrive at one side of a connection what has come that far.
    pub(crate) fn pump(&self, conn: u64, at: usize) {
        let mut inner = self.inner();
        let now = inner.now;
        let Some(sides) = inner.connections.all.get(&conn) else { return };
        let (from, to) = (sides[1 - at].host, sides[at].host);
        if inner.is_cut(from, to) {
            // Sent again until it arrives. Who has given up meanwhile says so when it does.
            inner.schedule(now + RETRANSMISSION, Event::Pump { conn, side: at });
            return;
        }
        let Some(sides) = inner.connections.all.get_mut(&conn) else { return };
        let [first, second] = sides;
        let (here, there) = if at == 0 { (first, second) } else { (second, first) };
        let mut bytes = 0;
        while here.coming.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, part)) = here.coming.pop_front() else { break };
            bytes += part.len();
            if part.is_empty() {
                here.ended = true;
            } else if here.gone {
                // Nobody has this connection any more: the other side is told.
                there.broken = true;
            } else {
                here.ready.extend(part);
            }
        }
        here.wake();
        there.wake();
        let over = here.gone && there.gone;
        inner.trace.numbers(&[4, conn, at as u64, bytes as u64]);
        if over {
            inner.connections.all.remove(&conn);
        }
    }

    fn write(&self, conn: u64, side: usize, data: &[u8], waker: Option<&Waker>) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        let Some(sides) = inner.connections.all.get_mut(&conn) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if sides[side].broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (from, to) = (sides[side].host, sides[1 - side].host);
        let far = &mut sides[1 - side];
        let under_way: usize = far.coming.iter().map(|(_, part)| part.len()).sum();
        if under_way > WINDOW && !data.is_empty() {
            far.writer = waker.cloned();
            return Poll::Pending;
        }
        let last = far.coming.back().map_or(0, |(due, _)| *due);
        let mut due = inner.now + inner.delay(from, to);
        if inner.lost() {
            due += RETRANSMISSION;
            inner.trace.count("segments sent again", 1);
        }
        let due = due.max(last);
        if let Some(sides) = inner.connections.all.get_mut(&conn) {
            sides[1 - side].coming.push_back((due, data.to_vec()));
        }
        inner.schedule(due, Event::Pump { conn, side: 1 - side });
        Poll::Ready(Ok(data.len()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let (on, open) = {
            let mut inner = self.net.inner();
            let Some(sides) = inner.connections.all.get_mut(&self.conn) else { return };
            sides[self.side].gone = true;
            let (host, open) = (sides[self.side].host, !sides[1 - self.side].gone);
            (inner.places.get(host).is_some_and(|p| p.on), open)
        };
        // A machine that has lost its power says nothing.
        if on && open {
            let _ = self.net.write(self.conn, self.side, &[], None);
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.net.inner();
        let Some(sides) = inner.connections.all.get_mut(&self.conn) else { return Poll::Ready(Ok(())) };
        let side = &mut sides[self.side];
        if !side.ready.is_empty() {
            let count = buffer.remaining().min(side.ready.len());
            let (bytes, _) = side.ready.as_slices();
            let count = count.min(bytes.len());
            buffer.put_slice(&bytes[..count]);
            side.ready.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if side.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if side.ended {
            return Poll::Ready(Ok(()));
        }
        side.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.net.write(self.conn, self.side, data, Some(cx.waker()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.write(self.conn, self.side, &[], None).map_ok(drop)
    }
}

/// The stack of whichever host runs now.
pub struct Hosts(pub Net);

struct Listening(mpsc::UnboundedReceiver<(End, SocketAddr)>);

impl Accept for Listening {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some((end, from))) => Poll::Ready(Ok((Box::new(end), from))),
            // The host's process has ended, and this with it.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl NetworkStack for Hosts {
    fn listen(&self, at: SocketAddr) -> io::Result<(Box<dyn Accept>, SocketAddr)> {
        let (tx, rx) = mpsc::unbounded_channel();
        let mut inner = self.0.inner();
        let current = inner.current;
        if let Some(place) = inner.places.get_mut(current) {
            place.listener = Some((at, tx));
        }
        Ok((Box::new(Listening(rx)), at))
    }

    fn dial(&self, at: SocketAddr) -> Connecting {
        let (dialled, connected) = oneshot::channel();
        {
            let mut inner = self.0.inner();
            let (from, to) = (inner.current, host(at));
            let due = inner.now + inner.delay(from, to);
            inner.schedule(due, Event::Syn { from, to, addr: at, dialled });
        }
        Box::pin(async move {
            let end = connected.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))??;
            Ok(Box::new(end) as Box<dyn ByteStream>)
        })
    }
}
