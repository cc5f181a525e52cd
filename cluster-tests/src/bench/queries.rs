//! A load of DNS queries: a closed loop over a number of sockets.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::cores;
use crate::{interrupt, lan::enter};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Types of records that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// IPv4 address.
    A = 1,
    /// IPv6 address.
    Aaaa = 28,
}

/// A question and how many records answer it.
#[derive(Debug, Clone)]
pub struct Question {
    name: String,
    kind: Type,
    answers: u16,
}

impl Question {
    /// Name, type and number of records of the right answer.
    pub fn new(name: &str, kind: Type, answers: u16) -> Self {
        Self { name: name.into(), kind, answers }
    }

    /// As it goes over the wire, with id 0 (RFC 1035 section 4.1).
    fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in self.name.split('.') {
            packet.push(label.len().min(63) as u8);
            packet.extend_from_slice(label.as_bytes().get(..label.len().min(63)).unwrap_or_default());
        }
        packet.extend_from_slice(&[0, 0, self.kind as u8, 0, 1]);
        packet
    }

    /// Whether these bytes answer it.
    fn check(&self, reply: &[u8], id: u16) -> Result<()> {
        let word = |at: usize| -> Result<u16> {
            let bytes = reply.get(at..at + 2).context("short answer")?;
            Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        ensure!(word(0)? == id, "the answer to another question");
        ensure!(word(2)? & 0x800f == 0x8000, "flags {:#06x} for {}", word(2)?, self.name);
        let answers = word(6)?;
        ensure!(answers == self.answers, "{} answers for {}, not {}", answers, self.name, self.answers);
        Ok(())
    }
}

/// Asks once; fails unless the answer is right.
pub fn ask(server: SocketAddr, question: &Question) -> Result<()> {
    let socket = client(server)?;
    socket.send(&question.packet())?;
    let mut buffer = [0; 1500];
    let n = socket.recv(&mut buffer).context("no answer")?;
    question.check(&buffer[..n], 0)
}

/// Addresses that a name has at the server.
pub fn addresses(server: SocketAddr, name: &str, kind: Type) -> Result<Vec<IpAddr>> {
    let socket = client(server)?;
    socket.send(&Question::new(name, kind, 0).packet())?;
    let mut buffer = [0; 1500];
    let n = socket.recv(&mut buffer).context("no answer")?;
    let reply = &buffer[..n];
    // A record is found by its fixed bytes (type, class IN, time to live, length of the address): a probe, not a parser.
    let length = if kind == Type::A { 4 } else { 16 };
    let record = |w: &[u8]| w[..4] == [0, kind as u8, 0, 1] && w[8..] == [0, length];
    Ok(reply
        .windows(10)
        .enumerate()
        .filter(|(_, window)| record(window))
        .filter_map(|(at, _)| reply.get(at + 10..at + 10 + usize::from(length)))
        .filter_map(|bytes| match kind {
            Type::A => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            Type::Aaaa => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        })
        .collect())
}

fn client(server: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// What a load saw.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Answers per second.
    pub rate: f64,
    /// Median time to an answer in seconds.
    pub p50: f64,
    /// 99th percentile in seconds.
    pub p99: f64,
    /// Queries without an answer.
    pub lost: u64,
}

/// Asks `questions` in turn for `duration`, with one query on each of `sockets` sockets always under way, from inside a namespace
/// and on the generator's core. Every answer is checked.
///
/// The sockets are read in the order in which they were written, which is that of the answers too: no poll between.
pub fn load(
    netns: &Path,
    server: SocketAddr,
    questions: &[Question],
    sockets: usize,
    duration: Duration,
) -> Result<Outcome> {
    enter(netns, || {
        cores::pin_thread(cores::GENERATOR)?;
        run(server, questions, sockets, duration)
    })?
}

struct Lane {
    socket: UdpSocket,
    question: usize,
    id: u16,
    sent: Instant,
}

fn run(server: SocketAddr, questions: &[Question], sockets: usize, duration: Duration) -> Result<Outcome> {
    ensure!(!questions.is_empty() && sockets > 0, "nothing to ask, or nobody to ask it");
    let mut packets: Vec<Vec<u8>> = questions.iter().map(Question::packet).collect();
    let (mut next, mut lost, mut times) = (0usize, 0, Vec::with_capacity(1 << 20));
    let mut send = |lane: &mut Lane| -> Result<()> {
        lane.question = next % questions.len();
        lane.id = (next & 0xffff) as u16;
        next += 1;
        let packet = &mut packets[lane.question];
        packet[..2].copy_from_slice(&lane.id.to_be_bytes());
        lane.sent = Instant::now();
        lane.socket.send(packet).context("send")?;
        Ok(())
    };
    let start = Instant::now();
    let mut lanes = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let mut lane = Lane { socket: client(server)?, question: 0, id: 0, sent: start };
        send(&mut lane)?;
        lanes.push(lane);
    }
    let mut buffer = [0; 1500];
    while start.elapsed() < duration {
        interrupt::check()?;
        for lane in &mut lanes {
            match lane.socket.recv(&mut buffer) {
                Ok(n) => {
                    times.push(lane.sent.elapsed().as_secs_f64());
                    questions[lane.question].check(&buffer[..n], lane.id)?;
                }
                Err(e)
                    if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                {
                    lost += 1;
                }
                Err(e) => return Err(e).context("recv"),
            }
            send(lane)?;
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    Ok(Outcome { rate: times.len() as f64 / elapsed, p50: at(50), p99: at(99), lost })
}
