//! Strangers that take up as much of a manager's port as they can, from one namespace.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    intruder::{Intruder, ask, field},
    lan::enter,
};

/// What strangers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connect, and say nothing.
    Silent,
    /// Begin a handshake, and say nothing more.
    Half,
    /// End the handshake, and keep the connection.
    Whole,
    /// Ask for a certificate by a token that is none.
    BadToken,
}

/// How often each kind came to its point.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections made.
    pub connections: AtomicU64,
    /// Handshakes that came to their end.
    pub handshakes: AtomicU64,
    /// Tokens that were refused.
    pub tokens: AtomicU64,
}

/// A flood, until dropped.
pub struct Flood {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins: `each` clients of each kind at once, in the namespace at `ns`; who is hung up on comes again at once.
    pub fn start(ns: PathBuf, targets: Vec<SocketAddr>, kinds: &[Kind], each: usize) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
        let (intruder, kinds) = (Intruder::anonymous()?, kinds.to_vec());
        let (counted, stopped) = (counts.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let run = || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut clients = JoinSet::new();
                    for n in 0..each {
                        for kind in &kinds {
                            let to = targets[n % targets.len()];
                            clients.spawn(client(*kind, intruder.clone(), to, counted.clone()));
                        }
                    }
                    while !stopped.load(Ordering::Relaxed) {
                        let _ = timeout(Duration::from_millis(50), clients.join_next()).await;
                    }
                });
                Ok(())
            };
            if let Err(error) = enter(&ns, run).and_then(|done| done) {
                eprintln!("the flood: {error:#}");
            }
        });
        Ok(Self { counts, stop, thread: Some(thread) })
    }

    /// What it has done so far.
    pub fn counts(&self) -> (u64, u64, u64) {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (of(&self.counts.connections), of(&self.counts.handshakes), of(&self.counts.tokens))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn client(kind: Kind, intruder: Intruder, to: SocketAddr, counts: Arc<Counts>) {
    loop {
        if once(kind, &intruder, to, &counts).await.is_err() {
            // Refused: at once again, but not without end in one turn.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn once(kind: Kind, intruder: &Intruder, to: SocketAddr, counts: &Counts) -> Result<()> {
    let one = |n: &AtomicU64| _ = n.fetch_add(1, Ordering::Relaxed);
    if matches!(kind, Kind::Silent | Kind::Half) {
        let mut tcp = TcpStream::connect(to).await?;
        one(&counts.connections);
        if kind == Kind::Half {
            tcp.write_all(&intruder.hello()?).await?;
        }
        // Until it is hung up on.
        tcp.read_to_end(&mut Vec::new()).await?;
        return Ok(());
    }
    let mut tls = intruder.connect(to).await?;
    one(&counts.connections);
    one(&counts.handshakes);
    if kind == Kind::Whole {
        tls.read_to_end(&mut Vec::new()).await?;
        return Ok(());
    }
    let token = format!("SWMTKN-1-{}-{}", "1".repeat(50), "2".repeat(25));
    ask(tls, "Ca/IssueCertificate", &[], &field(2, &token)).await?;
    one(&counts.tokens);
    Ok(())
}
