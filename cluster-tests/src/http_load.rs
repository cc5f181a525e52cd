//! Many HTTP clients in one thread per namespace: keep-alive clients that reuse their connections, and a steady rate of new
//! connections. Every request is accounted for: answered, or failed with its reason.
//!
//! The clients are well-behaved and no more than that: a kept connection that the server has closed before the next request
//! is opened anew, which is no failure; a request that was sent and not answered is one. Nothing is tried again.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::lan::enter;

/// Longest time for one request, its connection included: a SYN is sent again after 1, 3 and 7 s.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients of one namespace do.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Where they are.
    pub ns: PathBuf,
    /// What they ask, in turn.
    pub targets: Vec<SocketAddr>,
    /// Clients that keep their connections.
    pub keep_alive: usize,
    /// Between an answer and the next request of such a client.
    pub think: Duration,
    /// New connections with one request each, a second.
    pub new_per_second: u32,
}

/// A request that was not answered.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When it began, since the start.
    pub began: Duration,
    /// When it failed.
    pub at: Duration,
    /// Whom it asked.
    pub target: SocketAddr,
    /// The task that had answered on this connection before; none on a new one.
    pub task: Option<String>,
    /// By a client that keeps its connections.
    pub keep_alive: bool,
    /// Why.
    pub why: String,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Requests answered, by the address that was asked.
    pub answered: BTreeMap<SocketAddr, u64>,
    /// Requests answered, by task.
    pub tasks: BTreeMap<String, u64>,
    /// Connections opened.
    pub connections: u64,
    /// Those not answered.
    pub failures: Vec<Failure>,
    /// The longest answer.
    pub slowest: Duration,
    /// Answers that took longer than a second: what a lost SYN costs.
    pub over_a_second: u64,
}

impl Report {
    /// Requests answered.
    pub fn done(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Failures in a million requests.
    pub fn failed_per_million(&self) -> f64 {
        let failed = self.failures.len() as f64;
        failed * 1e6 / (failed + self.done() as f64).max(1.0)
    }

    fn add(&mut self, other: Report) {
        for (target, n) in other.answered {
            *self.answered.entry(target).or_default() += n;
        }
        for (task, n) in other.tasks {
            *self.tasks.entry(task).or_default() += n;
        }
        self.connections += other.connections;
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
        self.over_a_second += other.over_a_second;
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
}

/// Clients at work.
pub struct HttpLoad {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Report>>>,
    start: Instant,
}

impl HttpLoad {
    /// Lets them loose.
    pub fn start(clients: Vec<Clients>) -> Self {
        let (shared, start) = (Arc::new(Shared::default()), Instant::now());
        let threads = clients
            .into_iter()
            .map(|clients| {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let ns = clients.ns.clone();
                    enter(&ns, || Loop::new(clients, shared, start)?.run())?
                })
            })
            .collect();
        Self { shared, threads, start }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Requests answered and failed so far.
    pub fn count(&self) -> (u64, u64) {
        (self.shared.done.load(Ordering::Relaxed), self.shared.failed.load(Ordering::Relaxed))
    }

    /// Waits until `n` more requests have been answered or have failed.
    pub fn wait_for(&self, n: u64) {
        let total = || self.count().0 + self.count().1;
        let goal = total() + n;
        while total() < goal && !self.threads.iter().any(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it: no new requests; those that are under way are waited for.
    pub fn stop(self) -> Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for thread in self.threads {
            let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            report.add(part.context("load")?);
        }
        report.failures.sort_by_key(|f| f.at);
        Ok(report)
    }
}

/// Whose turn it is, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A keep-alive client sends its next request.
    Client(usize),
    /// The next new connection.
    New,
    /// A connection's request has taken too long.
    Late(usize, u64),
}

struct Connection {
    stream: TcpStream,
    target: SocketAddr,
    /// The keep-alive client that it belongs to.
    client: Option<usize>,
    /// Bytes of the request that are still to go; none once they have gone.
    unsent: Vec<u8>,
    /// The answer so far.
    answer: Vec<u8>,
    /// A request is under way since then.
    began: Option<Instant>,
    task: Option<String>,
    /// Distinguishes requests, for their deadlines.
    serial: u64,
}

struct Loop {
    clients: Clients,
    shared: Arc<Shared>,
    start: Instant,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// The connection that a keep-alive client has.
    kept: Vec<Option<usize>>,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    next_target: usize,
    serial: u64,
    report: Report,
}

impl Loop {
    fn new(clients: Clients, shared: Arc<Shared>, start: Instant) -> Result<Self> {
        let mut due = BinaryHeap::new();
        let now = Instant::now();
        let count = u32::try_from(clients.keep_alive.max(1))?;
        for client in 0..clients.keep_alive {
            // Spread over one think time.
            let offset = clients.think * u32::try_from(client)? / count;
            due.push(Reverse((now + offset, Due::Client(client))));
        }
        if clients.new_per_second > 0 {
            due.push(Reverse((now, Due::New)));
        }
        Ok(Self {
            kept: vec![None; clients.keep_alive],
            clients,
            shared,
            start,
            poll: Poll::new()?,
            connections: Vec::new(),
            free: Vec::new(),
            due,
            next_target: 0,
            serial: 0,
            report: Report::default(),
        })
    }

    fn run(mut self) -> Result<Report> {
        let mut events = Events::with_capacity(1024);
        loop {
            let stopping = self.shared.stop.load(Ordering::Relaxed);
            if stopping && !self.connections.iter().flatten().any(|c| c.began.is_some()) {
                return Ok(self.report);
            }
            let now = Instant::now();
            while let Some(Reverse((at, due))) = self.due.peek().copied() {
                if at > now {
                    break;
                }
                self.due.pop();
                self.take_turn(at, due, stopping);
            }
            let until = self.due.peek().map_or(Duration::from_millis(100), |Reverse((at, _))| {
                at.saturating_duration_since(Instant::now()).min(Duration::from_millis(100))
            });
            match self.poll.poll(&mut events, Some(until)) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.move_on(event.token().0);
            }
        }
    }

    fn take_turn(&mut self, at: Instant, due: Due, stopping: bool) {
        match due {
            Due::Client(client) if !stopping => match self.kept[client] {
                Some(index) => self.ask(index),
                None => {
                    let target = self.clients.targets[client % self.clients.targets.len()];
                    self.open(target, Some(client));
                }
            },
            Due::New if !stopping => {
                let target = self.clients.targets[self.next_target % self.clients.targets.len()];
                self.next_target += 1;
                self.open(target, None);
                // From when it was due, so that the rate holds; not to be made up for after a long pause.
                let step = Duration::from_secs(1) / self.clients.new_per_second;
                let next =
                    (at + step).max(Instant::now().checked_sub(Duration::from_millis(50)).unwrap_or(at));
                self.due.push(Reverse((next, Due::New)));
            }
            Due::Client(_) | Due::New => {}
            Due::Late(index, serial) => {
                let late =
                    self.connections[index].as_ref().is_some_and(|c| c.serial == serial && c.began.is_some());
                if late {
                    self.fail(index, &format!("no answer in {PATIENCE:?}"));
                }
            }
        }
    }

    fn open(&mut self, target: SocketAddr, client: Option<usize>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.report.connections += 1;
        let mut stream = match TcpStream::connect(target) {
            Ok(stream) => stream,
            Err(error) => {
                self.free.push(index);
                self.failed(Instant::now(), target, None, client, &format!("connect: {error}"));
                return;
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(index), interest) {
            self.free.push(index);
            self.failed(Instant::now(), target, None, client, &format!("epoll: {error}"));
            return;
        }
        self.connections[index] = Some(Connection {
            stream,
            target,
            client,
            unsent: Vec::new(),
            answer: Vec::new(),
            began: None,
            task: None,
            serial: 0,
        });
        if let Some(client) = client {
            self.kept[client] = Some(index);
        }
        self.ask(index);
    }

    /// Begins a request. On a new connection it goes out once that is there.
    fn ask(&mut self, index: usize) {
        self.serial += 1;
        let (serial, now) = (self.serial, Instant::now());
        let Some(c) = &mut self.connections[index] else { return };
        let connection = if c.client.is_some() { "keep-alive" } else { "close" };
        c.unsent =
            format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", c.target).into_bytes();
        c.answer.clear();
        c.began = Some(now);
        c.serial = serial;
        self.due.push(Reverse((now + PATIENCE, Due::Late(index, serial))));
        self.move_on(index);
    }

    /// Does what can be done on a connection.
    fn move_on(&mut self, index: usize) {
        let Some(c) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        if let Ok(Some(error)) = c.stream.take_error() {
            return self.broken(index, &error.to_string());
        }
        while !c.unsent.is_empty() {
            match c.stream.write(&c.unsent) {
                Ok(n) => drop(c.unsent.drain(..n)),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.broken(index, &format!("send: {e}")),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match c.stream.read(&mut buffer) {
                Ok(0) => return self.broken(index, "closed without an answer"),
                Ok(n) => c.answer.extend_from_slice(&buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.broken(index, &format!("receive: {e}")),
            }
            match parse(&c.answer) {
                Ok(None) => {}
                Ok(Some(answer)) => return self.answered(index, answer),
                Err(why) => return self.fail(index, &why),
            }
        }
    }

    fn answered(&mut self, index: usize, answer: Answer) {
        let Some(c) = &mut self.connections[index] else { return };
        let Some(began) = c.began.take() else { return self.close(index) };
        let (took, client) = (began.elapsed(), c.client);
        *self.report.answered.entry(c.target).or_default() += 1;
        match self.report.tasks.get_mut(&answer.task) {
            Some(n) => *n += 1,
            None => drop(self.report.tasks.insert(answer.task.clone(), 1)),
        }
        c.task = Some(answer.task);
        self.report.slowest = self.report.slowest.max(took);
        self.report.over_a_second += u64::from(took > Duration::from_secs(1));
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        if client.is_none() || !answer.kept {
            self.close(index);
        }
        if let Some(client) = client {
            self.due.push(Reverse((Instant::now() + self.clients.think, Due::Client(client))));
        }
    }

    /// The connection is over: a failure only if somebody waits for an answer.
    fn broken(&mut self, index: usize, why: &str) {
        match self.connections[index].as_ref().and_then(|c| c.began) {
            Some(_) => self.fail(index, why),
            None => self.close(index),
        }
    }

    fn fail(&mut self, index: usize, why: &str) {
        let Some(c) = &mut self.connections[index] else { return };
        let (began, target, task, client) =
            (c.began.take().unwrap_or_else(Instant::now), c.target, c.task.take(), c.client);
        self.close(index);
        self.failed(began, target, task, client, why);
    }

    fn failed(
        &mut self,
        began: Instant,
        target: SocketAddr,
        task: Option<String>,
        client: Option<usize>,
        why: &str,
    ) {
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        self.report.failures.push(Failure {
            began: began.saturating_duration_since(self.start),
            at: self.start.elapsed(),
            target,
            task,
            keep_alive: client.is_some(),
            why: why.to_owned(),
        });
        if let Some(client) = client {
            self.due.push(Reverse((Instant::now() + self.clients.think, Due::Client(client))));
        }
    }

    fn close(&mut self, index: usize) {
        if let Some(c) = self.connections[index].take() {
            if let Some(client) = c.client {
                self.kept[client] = None;
            }
            self.free.push(index);
        }
    }
}

struct Answer {
    task: String,
    kept: bool,
}

/// A whole answer, or none yet.
fn parse(bytes: &[u8]) -> std::result::Result<Option<Answer>, String> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("answered {:?}", head.lines().next().unwrap_or_default()));
    }
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let length: usize = header("content-length").and_then(|v| v.parse().ok()).ok_or("no content-length")?;
    let Some(body) = bytes.get(end + 4..end + 4 + length) else { return Ok(None) };
    let body = String::from_utf8_lossy(body);
    let task = body.split_whitespace().next().ok_or("an empty answer")?.to_owned();
    Ok(Some(Answer { task, kept: !header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) }))
}

/// Collects failures for a message: how many, and the first few.
pub fn describe(failures: &[Failure]) -> String {
    let mut kinds: BTreeMap<(SocketAddr, &str), (usize, Duration, Duration)> = BTreeMap::new();
    for f in failures {
        let kind = kinds.entry((f.target, &f.why)).or_insert((0, f.began, f.at));
        *kind = (kind.0 + 1, kind.1.min(f.began), kind.2.max(f.at));
    }
    let kinds = kinds.iter().map(|((target, why), (n, from, to))| {
        format!("{n} to {target}, begun from {from:.3?} on, failed until {to:.3?}: {why}")
    });
    let first = failures.iter().take(8).map(|f| format!("{f:?}"));
    format!("{} requests failed:\n{}", failures.len(), kinds.chain(first).collect::<Vec<_>>().join("\n"))
}
