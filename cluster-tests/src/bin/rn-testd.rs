//! The server that test tasks run: HTTP/1.1 with keep-alive on TCP, an echo on UDP, both on [::]:80 (or the port given).
//!
//! Every answer is the host name and the client's address. On SIGTERM it ends as a well-behaved server does: it serves what has
//! connected so far, takes no more, and answers each connection's next request with `Connection: close`. One that stays
//! silent for a second is closed: at once would cross with a request that is on its way (nginx has `keepalive_min_timeout`
//! for that).
//!
//! `GET /bytes/N` answers N bytes, `GET /slow/MS` after a while, `GET /since` with the time at which the process began, in
//! microseconds of the epoch. `rn-testd get HOST:PORT` is the client. `FAIL=SECONDS` in the
//! environment makes it end with code 3 after that time, `LISTEN_AFTER=SECONDS` makes it listen that late; `SICK=FILE` answers `/health` with 500 once that file exists.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::EventFd,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
};

static ENDING: AtomicBool = AtomicBool::new(false);
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// Becomes readable at the end, and stays so.
static WAKE: OnceLock<EventFd> = OnceLock::new();

/// How long a silent connection is kept at the end.
const LINGER: u16 = 1000;

extern "C" fn on_term(_: libc::c_int) {
    ENDING.store(true, Ordering::SeqCst);
    if let Some(wake) = WAKE.get() {
        // write(2), which a signal handler may call.
        let _ = wake.write(1);
    }
}

static SINCE: OnceLock<u128> = OnceLock::new();

fn main() -> Result<()> {
    SINCE.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros()));
    if std::env::args().nth(1).as_deref() == Some("get") {
        return get(&std::env::args().nth(2).context("rn-testd get HOST:PORT")?);
    }
    let port: u16 = std::env::args().nth(1).map_or(Ok(80), |p| p.parse())?;
    if WAKE.set(EventFd::new()?).is_err() {
        anyhow::bail!("set twice");
    }
    if let Some(seconds) = std::env::var("FAIL").ok().and_then(|s| s.parse().ok()) {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            std::process::exit(3);
        });
    }
    if let Some(seconds) = std::env::var("LISTEN_AFTER").ok().and_then(|s| s.parse().ok()) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
    let action = SigAction::new(SigHandler::Handler(on_term), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores to an atomic and writes to a descriptor.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let any: SocketAddr = ([0u16; 8], port).into();
    let udp = UdpSocket::bind(any).context("udp")?;
    let name = host.clone();
    std::thread::spawn(move || echo(&udp, &name));
    let listener = TcpListener::bind(any).context("tcp")?;
    listener.set_nonblocking(true)?;
    println!("{host} serves port {port}");
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                let host = host.clone();
                OPEN.fetch_add(1, Ordering::SeqCst);
                std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
                    if let Err(error) = serve(stream, peer, &host) {
                        eprintln!("{peer}: {error:#}");
                    }
                    OPEN.fetch_sub(1, Ordering::SeqCst);
                })?;
            }
            // All that had connected is served.
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && ENDING.load(Ordering::SeqCst) => break,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => wait_readable(&listener, true, None),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    drop(listener);
    while OPEN.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{host} ends");
    Ok(())
}

/// The other side: resolves by the C library, as most programs do, and prints what a server answers.
fn get(target: &str) -> Result<()> {
    use std::net::ToSocketAddrs;
    let addr = target.to_socket_addrs().with_context(|| format!("cannot resolve {target}"))?.next();
    let mut stream = TcpStream::connect_timeout(&addr.context("no address")?, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    print!("{}", text.split("\r\n\r\n").nth(1).context("no body")?);
    Ok(())
}

/// Waits until there is something to read, or (`end`) the server is ending, or so many ms have passed.
fn wait_readable(fd: &impl AsFd, end: bool, limit: Option<u16>) {
    let mut fds = vec![PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    if let Some(wake) = WAKE.get().filter(|_| end) {
        fds.push(PollFd::new(wake.as_fd(), PollFlags::POLLIN));
    }
    // A signal only makes the caller look again.
    let _ = poll(&mut fds, limit.map_or(PollTimeout::NONE, PollTimeout::from));
}

fn plain(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(a) => a.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        IpAddr::V4(_) => addr,
    }
}

fn echo(socket: &UdpSocket, host: &str) {
    let mut buffer = [0; 2048];
    while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(format!("{host} {}\n", plain(peer.ip())).as_bytes(), peer);
    }
}

fn serve(stream: TcpStream, peer: SocketAddr, host: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let Some(path) = request(&mut reader)? else { return Ok(()) };
        let ending = ENDING.load(Ordering::SeqCst) || path.close;
        let size = path.path.strip_prefix("/bytes/").and_then(|n| n.parse::<usize>().ok());
        if let Some(ms) = path.path.strip_prefix("/slow/").and_then(|n| n.parse().ok()) {
            std::thread::sleep(Duration::from_millis(ms));
        }
        let body = match size {
            Some(n) => vec![b'x'; n],
            None if path.path == "/since" => {
                format!("{}\n", SINCE.get().copied().unwrap_or_default()).into_bytes()
            }
            None => format!("{host} {}\n", plain(peer.ip())).into_bytes(),
        };
        let sick = path.path == "/health"
            && std::env::var("SICK").is_ok_and(|file| std::path::Path::new(&file).exists());
        let status = if sick { "500 Internal Server Error" } else { "200 OK" };
        let connection = if ending { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/plain\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&body);
        reader.get_ref().set_nonblocking(false)?;
        reader.get_mut().write_all(&answer)?;
        reader.get_ref().set_nonblocking(true)?;
        if ending {
            return Ok(());
        }
    }
}

struct Request {
    path: String,
    close: bool,
}

/// The next request; none when the client has closed, or when nothing came and the server is ending.
fn request(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut head = String::new();
    let mut waited = false;
    loop {
        match reader.read_line(&mut head) {
            Ok(0) => return Ok(None),
            Ok(_) if head.ends_with("\r\n\r\n") || head == "\r\n" => break,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                let ending = ENDING.load(Ordering::SeqCst);
                if ending && head.is_empty() && waited {
                    return Ok(None);
                }
                wait_readable(reader.get_ref(), !ending, ending.then_some(LINGER));
                waited = ending;
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        anyhow::ensure!(head.len() < 65_536, "request head too long");
    }
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let lower = head.to_ascii_lowercase();
    if let Some(length) =
        lower.split("content-length:").nth(1).and_then(|r| r.split_whitespace().next()?.parse().ok())
    {
        let mut body = vec![0; length];
        reader.get_ref().set_nonblocking(false)?;
        reader.read_exact(&mut body)?;
    }
    Ok(Some(Request { path, close: lower.contains("connection: close") }))
}
