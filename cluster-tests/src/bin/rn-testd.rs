//! The server that test tasks run: HTTP/1.1 with keep-alive on TCP, an echo on UDP, both on [::]:80 (or the port given).
//!
//! Every answer is the host name and the client's address; `/bytes/N` answers N bytes, `/slow/MS` after a while, `/since` with the
//! time at which the process began, in microseconds of the epoch. On SIGTERM it ends as a well-behaved server does: no new
//! connections, `Connection: close` on what is still asked, idle connections closed, then out.
//!
//! `rn-testd get HOST:PORT` is the client.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ENDING: AtomicBool = AtomicBool::new(false);
static OPEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_term(_: libc::c_int) {
    ENDING.store(true, Ordering::SeqCst);
}

static SINCE: OnceLock<u128> = OnceLock::new();

fn main() -> Result<()> {
    SINCE.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros()));
    if std::env::args().nth(1).as_deref() == Some("get") {
        return get(&std::env::args().nth(2).context("rn-testd get HOST:PORT")?);
    }
    let port: u16 = std::env::args().nth(1).map_or(Ok(80), |p| p.parse())?;
    let action = SigAction::new(SigHandler::Handler(on_term), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores to an atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let any: SocketAddr = ([0u16; 8], port).into();
    let udp = UdpSocket::bind(any).context("udp")?;
    let name = host.clone();
    std::thread::spawn(move || echo(&udp, &name));
    let listener = TcpListener::bind(any).context("tcp")?;
    listener.set_nonblocking(true)?;
    println!("{host} serves port {port}");
    while !ENDING.load(Ordering::SeqCst) {
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
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => wait_readable(&listener),
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

fn wait_readable(listener: &TcpListener) {
    use std::os::fd::AsFd;
    let mut fds = [nix::poll::PollFd::new(listener.as_fd(), nix::poll::PollFlags::POLLIN)];
    // A signal or the timeout only makes the caller look again.
    let _ = nix::poll::poll(&mut fds, 200u16);
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
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
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
        let connection = if ending { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: text/plain\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&body);
        reader.get_mut().write_all(&answer)?;
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
    loop {
        match reader.read_line(&mut head) {
            Ok(0) => return Ok(None),
            Ok(_) if head.ends_with("\r\n\r\n") || head == "\r\n" => break,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if head.is_empty() && ENDING.load(Ordering::SeqCst) {
                    return Ok(None);
                }
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
        reader.read_exact(&mut body)?;
    }
    Ok(Some(Request { path, close: lower.contains("connection: close") }))
}
