//! The processes: a manager and an agent, started as the daemon starts them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use certs::{CertificateDir, Identity, JoinToken, SharedIdentity, join::join, transport::DialOptions};
use gossip::Gossip;
use manager::{
    api::validate::cluster::Limits,
    bootstrap::Bootstrap,
    loops::LoopSettings,
    raft::no_hints,
    run::{Environment, Manager, ManagerConfig, Start},
    store::database::{Database, OpenDatabase},
};
use proto::{model::NodeDescription, pb};
use tokio::sync::{mpsc, watch};
use worker::{agent::Agent, agent::AgentConfig, agent::Progress, agent::WorkerDir};

use crate::{
    agent::{self, Containers, NoLogs},
    disk::Disk,
    host::{Shown, Window},
    net::{self, Lines, Net},
    users::{self, Ledger, Op},
};

/// Between attempts to join.
const AGAIN: Duration = Duration::from_millis(300);
/// A manager that has taken its seat leaves this mark.
const SEATED: &str = "seated";

/// How a process comes to its identity, if its disk holds none.
pub enum Origin {
    /// It begins the cluster.
    First(Box<Bootstrap>),
    /// It joins at a manager.
    Joins(SocketAddr, String),
}

/// What a manager's process is started with.
pub struct ManagerProcess {
    /// Its host.
    pub host: usize,
    /// Its files.
    pub dir: PathBuf,
    /// Its database.
    pub disk: Disk,
    /// The network.
    pub net: Net,
    /// None: its disk has everything.
    pub origin: Option<Origin>,
    /// What users have been told.
    pub ledger: Ledger,
}

fn show(window: &Window, change: impl FnOnce(&mut Shown)) {
    change(&mut window.lock().unwrap_or_else(PoisonError::into_inner));
}

async fn joined(dir: &Path, manager: SocketAddr, token: &str, host: usize) -> Result<Identity> {
    let files = CertificateDir::new(dir);
    if let Some(identity) = files.load()? {
        return Ok(identity);
    }
    let token: JoinToken = token.parse()?;
    let (name, options) = (format!("host{host}"), DialOptions::default());
    let joined = loop {
        match join(manager, &token, pb::Availability::Active, &name, options).await {
            Ok(joined) => break joined,
            Err(error) => tracing::info!(%error, "cannot join yet"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    files.save(&joined.identity)?;
    files.load()?.context("the identity that was saved")
}

/// The database on `disk`, new where its directory is.
fn database(disk: Disk) -> OpenDatabase {
    OpenDatabase::by(move |path| {
        let mark = path.join("CURRENT");
        if !mark.exists() {
            disk.erase();
            let io = |source| manager::store::OpenError::Io { path: path.to_owned(), source };
            std::fs::create_dir_all(path).map_err(io)?;
            std::fs::write(&mark, "").map_err(io)?;
        }
        Ok(Arc::new(disk.clone()) as Arc<dyn Database>)
    })
}

/// A manager, until it ends.
pub async fn manager(process: ManagerProcess, window: Window, ops: mpsc::UnboundedReceiver<Op>) {
    let ended = match manage(process, &window, ops).await {
        Ok(()) => "its work is done".into(),
        Err(error) => format!("{error:#}"),
    };
    tracing::warn!(ended, "the manager ended");
    show(&window, |shown| *shown = Shown { ended: Some(ended), ..Shown::default() });
}

async fn manage(
    process: ManagerProcess,
    window: &Window,
    mut ops: mpsc::UnboundedReceiver<Op>,
) -> Result<()> {
    let ManagerProcess { host, dir, disk, net, origin, ledger } = process;
    let files = CertificateDir::new(&dir);
    let seated = dir.join(SEATED);
    let start = match origin {
        _ if seated.exists() => Start::Again,
        Some(Origin::First(bootstrap)) => {
            files.save(&bootstrap.identity)?;
            Start::First(bootstrap)
        }
        Some(Origin::Joins(at, token)) => {
            joined(&dir, at, &token, host).await?;
            Start::Joining(vec![at])
        }
        None => anyhow::bail!("this host has neither a seat nor a way to one"),
    };
    let addr = net::addr(host);
    let config = ManagerConfig {
        dir: dir.join("raft"),
        identity: SharedIdentity::new(files.load()?.context("an identity")?),
        listen_addr: addr,
        advertise_addr: addr,
        loops: LoopSettings::default(),
        unlock: None,
        limits: Limits::default(),
        hints: no_hints(),
        environment: Environment { database: database(disk), peers: Some(Arc::new(Lines { net, host })) },
    };
    let mut manager = Manager::start(config, start).await?;
    std::fs::write(&seated, "")?;
    let gate = manager.local();
    show(window, |shown| shown.manager = Some((manager.store().clone(), gate.clone())));
    loop {
        tokio::select! {
            biased;
            error = manager.failed() => return Err(error.into()),
            Some(op) = ops.recv() => {
                tokio::spawn(users::ask(op, gate.clone(), ledger.clone()));
            }
        }
    }
}

/// What an agent's process is started with.
pub struct AgentProcess {
    /// Its host.
    pub host: usize,
    /// Its files.
    pub dir: PathBuf,
    /// What runs on its host.
    pub containers: Containers,
    /// Where it joins, and with which token.
    pub joins: (SocketAddr, String),
    /// How likely a container is to fail in a second.
    pub failures: f64,
}

/// An agent, until it ends.
pub async fn worker(process: AgentProcess, window: Window) {
    if let Err(error) = serve(process, &window).await {
        show(&window, |shown| shown.ended = Some(format!("{error:#}")));
    }
}

async fn serve(process: AgentProcess, window: &Window) -> Result<()> {
    let AgentProcess { host, dir, containers, joins: (manager, token), failures } = process;
    let identity = joined(&dir, manager, &token, host).await?;
    let description = NodeDescription {
        hostname: format!("host{host}"),
        os: "linux".into(),
        arch: "x86_64".into(),
        nano_cpus: 4_000_000_000,
        memory_bytes: 8 << 30,
        engine_version: String::new(),
        engine_labels: Default::default(),
        advertise_addr: Some(net::addr(host).ip()),
        data_path_addr: None,
        underlay_mtu: 1500,
        missing_features: Vec::new(),
    };
    let config = AgentConfig {
        dir: WorkerDir::open(&dir)?,
        identity: SharedIdentity::new(identity),
        description,
        managers: vec![manager],
    };
    let agent = Agent::open(config)?;
    let (assigned, mut status, reports) = (agent.assigned(), agent.status(), agent.reports());
    let (reached, progress) = watch::channel(Progress::default());
    let mut tasks = agent.start(Gossip::silent(), Arc::new(NoLogs), progress);
    tasks.spawn(agent::run(assigned, reports, reached, containers, failures));
    loop {
        let manager = status.borrow_and_update().manager;
        show(window, |shown| shown.in_session = manager.is_some());
        tokio::select! {
            changed = status.changed() => changed?,
            ended = tasks.join_next() => anyhow::bail!("a part of the agent ended: {ended:?}"),
        }
    }
}
