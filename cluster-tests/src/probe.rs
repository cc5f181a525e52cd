//! Connections from inside a namespace, without a process for each.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::lan::enter;

/// Longest wait for one connection or answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the test server answers: its task's host name and the client's address as it sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// Host name of the task.
    pub task: String,
    /// The client's address, IPv4-mapped ones written as IPv4.
    pub client: IpAddr,
}

impl Answer {
    /// Reads an answer.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let task = words.next().context("empty answer")?.to_owned();
        let client = words.next().with_context(|| format!("no address in {text:?}"))?.parse()?;
        Ok(Self { task, client })
    }
}

/// An HTTP connection that may be kept.
pub struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Http {
    /// Connects from the calling thread's namespace.
    pub fn connect(addr: SocketAddr) -> Result<Self> {
        Self::connect_within(addr, PATIENCE)
    }

    /// The same, when there is not that much time.
    pub fn connect_within(addr: SocketAddr, limit: Duration) -> Result<Self> {
        Self::over(TcpStream::connect_timeout(&addr, limit).context("connect")?, addr)
    }

    /// Connects from this source port, which other connections of the caller may have too.
    pub fn connect_from(port: u16, addr: SocketAddr) -> Result<Self> {
        let socket = bound(port, addr, Type::STREAM)?;
        socket.connect_timeout(&addr.into(), PATIENCE).context("connect")?;
        Self::over(socket.into(), addr)
    }

    fn over(stream: TcpStream, addr: SocketAddr) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: addr.to_string() })
    }

    /// One request; the body and whether the server keeps the connection.
    pub fn get(&mut self, path: &str, keep: bool) -> Result<(String, bool)> {
        let connection = if keep { "keep-alive" } else { "close" };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes()).context("send")?;
        let mut line = String::new();
        self.stream.read_line(&mut line).context("status line")?;
        ensure!(!line.is_empty(), "closed without an answer");
        ensure!(line.split(' ').nth(1) == Some("200"), "status {line:?}");
        let (mut length, mut kept) = (None, keep);
        loop {
            line.clear();
            self.stream.read_line(&mut line).context("headers")?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>()?);
            }
            if header == "connection: close" {
                kept = false;
            }
        }
        let mut body = Vec::new();
        match length {
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body).context("body")?;
            }
            None => drop(self.stream.read_to_end(&mut body).context("body")?),
        }
        Ok((String::from_utf8_lossy(&body).into_owned(), kept))
    }
}

/// One request on a new connection, from the calling thread's namespace.
pub fn get(addr: SocketAddr, path: &str) -> Result<String> {
    Http::connect(addr)?.get(path, false).map(|(body, _)| body)
}

/// One request on a new connection, from inside a namespace.
pub fn get_from(ns: &Path, addr: SocketAddr, path: &str) -> Result<String> {
    enter(ns, || get(addr, path))?
}

/// A socket for `addr` with this source port, which others may have too.
fn bound(port: u16, addr: SocketAddr, kind: Type) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    socket.set_reuse_address(true)?;
    let any: SocketAddr = if addr.is_ipv4() { ([0, 0, 0, 0], port).into() } else { ([0u16; 8], port).into() };
    socket.bind(&any.into()).with_context(|| format!("bind {any}"))?;
    Ok(socket)
}

/// A datagram socket for one server, with this source port, which others may have too.
pub fn udp_from(port: u16, addr: SocketAddr) -> Result<UdpSocket> {
    let socket: UdpSocket = bound(port, addr, Type::DGRAM)?.into();
    socket.connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// One datagram and its answer, on this socket.
pub fn ask(socket: &UdpSocket) -> Result<String> {
    socket.send(b"who\n")?;
    let mut buffer = [0; 512];
    let n = socket.recv(&mut buffer).context("no answer")?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// One datagram and its answer, on a new socket, from the calling thread's namespace.
pub fn udp(addr: SocketAddr) -> Result<String> {
    ask(&udp_from(0, addr)?)
}

/// Answers of many connections, counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often each answer came.
    pub answers: BTreeMap<Answer, u64>,
    /// What went wrong, each.
    pub failures: Vec<String>,
}

impl Tally {
    /// How many requests went to each task.
    pub fn by_task(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for (answer, n) in &self.answers {
            *counts.entry(answer.task.as_str()).or_default() += n;
        }
        counts
    }

    /// The client addresses that tasks saw.
    pub fn clients(&self) -> BTreeMap<IpAddr, u64> {
        let mut counts = BTreeMap::new();
        for (answer, n) in &self.answers {
            *counts.entry(answer.client).or_default() += n;
        }
        counts
    }

    /// Nothing failed.
    pub fn assert_clean(&self, what: &str) -> Result<()> {
        let Some(first) = self.failures.first() else { return Ok(()) };
        bail!(
            "{what}: {} of {} failed, first: {first}",
            self.failures.len(),
            self.failures.len() as u64 + self.answers.values().sum::<u64>()
        )
    }

    fn add(&mut self, result: Result<String>) {
        match result.and_then(|text| Answer::parse(&text)) {
            Ok(answer) => *self.answers.entry(answer).or_default() += 1,
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }
}

/// `n` new TCP connections with one request each, from inside a namespace.
pub fn tcp_many(ns: &Path, addr: SocketAddr, n: usize) -> Result<Tally> {
    enter(ns, || {
        let mut tally = Tally::default();
        for _ in 0..n {
            tally.add(get(addr, "/"));
        }
        tally
    })
}

/// `n` datagrams, each from a new socket.
pub fn udp_many(ns: &Path, addr: SocketAddr, n: usize) -> Result<Tally> {
    enter(ns, || {
        let mut tally = Tally::default();
        for _ in 0..n {
            tally.add(udp(addr));
        }
        tally
    })
}

/// Steady traffic: keep-alive clients and new connections, until stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What a [`Load`] saw.
#[derive(Debug)]
pub struct Report {
    /// Requests answered.
    pub done: u64,
    /// Requests that failed, with time since the start and target.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `keep_alive` clients that hold connections, and as many threads as targets that open a new connection
    /// every `every`, all from inside `ns`.
    pub fn start(ns: PathBuf, targets: Vec<SocketAddr>, keep_alive: usize, every: Duration) -> Self {
        let load = Self {
            stop: Arc::default(),
            done: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        let start = Instant::now();
        let mut threads = Vec::new();
        for n in 0..keep_alive + targets.len() {
            let target = targets[n % targets.len()];
            let keep = n < keep_alive;
            let pause = if keep { Duration::from_millis(20) } else { every };
            let (stop, done, failures) = (load.stop.clone(), load.done.clone(), load.failures.clone());
            let ns = ns.clone();
            threads.push(std::thread::spawn(move || {
                let result = enter(&ns, || {
                    let mut connection = None;
                    while !stop.load(Ordering::Relaxed) {
                        match one(&mut connection, target, keep) {
                            Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => {
                                connection = None;
                                note(
                                    &failures,
                                    format!("{:?} {target} keep={keep}: {error:#}", start.elapsed()),
                                );
                            }
                        }
                        std::thread::sleep(pause);
                    }
                });
                if let Err(error) = result {
                    note(&failures, format!("{error:#}"));
                }
            }));
        }
        Self { threads, ..load }
    }

    /// Requests answered so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `n` more requests have been answered (or failed, so that it ends).
    pub fn wait_for(&self, n: u64) {
        let count = || self.done() + self.failures.lock().map_or(0, |f| f.len() as u64);
        let goal = count() + n;
        while count() < goal {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        let failures = self.failures.lock().map(|f| f.clone()).unwrap_or_default();
        Report { done: self.done.load(Ordering::Relaxed), failures }
    }
}

fn note(failures: &Mutex<Vec<String>>, text: String) {
    if let Ok(mut failures) = failures.lock() {
        failures.push(text);
    }
}

fn one(connection: &mut Option<Http>, target: SocketAddr, keep: bool) -> Result<()> {
    let mut http = match connection.take() {
        Some(http) => http,
        None => Http::connect(target)?,
    };
    let (body, kept) = http.get("/", keep)?;
    Answer::parse(&body)?;
    if kept {
        *connection = Some(http);
    }
    Ok(())
}
