//! Start, serve, stop.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use certs::UnlockKey;
use node::{
    containers::Containers,
    engine::{Engine, EngineConfig},
    tasks::Turns,
};
use runtime::{LogLimits, RegistryConfig, ShimConfig, ShimRuntime};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::Config,
    front,
    machine::Machine,
    metrics,
    paths::Paths,
    standing::{Change, Standing, Standings},
    swarm::Grounds,
};

/// Certificate authorities of registries, as `/etc/docker/certs.d`.
const CERTS: &str = "/etc/rn/certs.d";

/// The daemon.
pub struct Daemon {
    /// What members are made with.
    pub grounds: Grounds,
    /// All that runs on this machine, in a swarm or not.
    pub engine: Engine,
    /// Containers and images.
    pub runtime: Arc<ShimRuntime>,
    /// Containers that users run by hand.
    pub containers: Containers,
    /// The swarm.
    pub standing: Arc<Standings>,
    /// When this process began, ms since the epoch.
    pub started_at: u64,
}

/// How long a daemon that stops waits for a change of its membership that is under way: as long as one may take.
const LAST_CHANGE: Duration = Duration::from_secs(60);

/// How often the daemon looks whether the machine still has the addresses that it told others.
const ADDRESSES: Duration = Duration::from_secs(1);

impl Grounds {
    /// What the disk remembers, started again.
    async fn standing(&self, unlock: Option<UnlockKey>) -> Standing {
        match self.resume(unlock).await {
            Ok(Some(member)) => Standing::Active(Box::new(member)),
            Ok(None) => Standing::Inactive,
            Err(error) => {
                tracing::error!(%error, "cannot return to the swarm");
                Standing::Failed(error)
            }
        }
    }
}

impl Daemon {
    /// When the machine moves, the member starts anew with its new addresses: for its containers, a restart of the daemon.
    async fn follow_addresses(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ADDRESSES).await;
            let here = match &*self.standing.read().await {
                Standing::Active(member) => member.membership.clone(),
                Standing::Inactive | Standing::Failed(_) | Standing::Changing(_) => continue,
            };
            if tokio::task::spawn_blocking(move || here.moved()).await.ok().flatten().is_none() {
                continue;
            }
            let daemon = self.clone();
            let restart = async move |standing| match standing {
                Standing::Active(member) => {
                    let lock = member.seat.wanted_lock().flatten();
                    member.shutdown().await;
                    (daemon.grounds.standing(lock).await, Ok(()))
                }
                other => (other, Ok(())),
            };
            // Refused while something else changes: the next look comes in a second.
            let _ = self.standing.change(Change::Moving, |_| Ok(()), restart).await;
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<()> {
    let paths = Paths::create(&config.data_root, &config.exec_root)?;
    let _lock = paths.lock()?;
    let daemon_id = paths.daemon_id()?;
    if let Some(pidfile) = &config.pidfile {
        durable::scratch(pidfile, format!("{}\n", std::process::id()).as_bytes(), durable::PUBLIC)
            .with_context(|| format!("cannot write {}", pidfile.display()))?;
    }
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let machine = tokio::task::spawn_blocking(Machine::look).await?;
    for missing in &machine.missing {
        tracing::warn!("{missing}");
    }
    let runtime = ShimRuntime::open(ShimConfig {
        data_root: paths.data_root.clone(),
        exec_root: paths.exec_root.clone(),
        daemon_id: daemon_id.clone(),
        shim: ShimConfig::find_shim(),
        log: LogLimits::default(),
        registries: RegistryConfig { insecure: config.insecure_registries.clone(), certs_dir: CERTS.into() },
        unpack_limit: config.unpack_limit,
    })
    .await?;
    let runtime = Arc::new(runtime);
    let engine = Engine::start(EngineConfig {
        data_root: paths.data_root.clone(),
        exec_root: paths.exec_root.clone(),
        daemon_id: daemon_id.clone(),
        hostname: machine.hostname.clone(),
        search: crate::machine::search_domains(),
        shared_namespace: false,
        firewall_compat: config.firewall_compat,
        vxlan_members_only: config.vxlan_members_only,
        turns: config.max_concurrent_starts.map_or_else(Turns::by_cores, Turns::new),
        listen_timeout: config.listen_timeout.into(),
        runtime: runtime.clone(),
    })?;
    let socket = config.socket.clone();
    let pidfile = config.pidfile.clone();
    let grounds = Grounds {
        config,
        paths,
        machine,
        daemon_id,
        engine: engine.clone(),
        events: runtime.events().clone(),
    };
    let standing = grounds.standing(None).await;
    if matches!(standing, Standing::Inactive) {
        engine.stand_alone().await;
    }
    let daemon = Arc::new(Daemon {
        grounds,
        containers: engine.containers().clone(),
        engine,
        runtime,
        standing: Arc::new(Standings::new(standing)),
        started_at: proto::model::Timestamp::now().0,
    });
    let serving = front::serve(daemon.clone(), &socket)?;
    let moving = tokio::spawn(daemon.clone().follow_addresses());
    if let Some(addr) = daemon.grounds.config.metrics_addr {
        tokio::spawn(metrics::serve(daemon.clone(), addr).await?);
    }
    tracing::info!(socket = %socket.display(), "ready");
    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        () = serving => Ok(()),
    };
    moving.abort();
    tracing::info!("stopping; containers go on");
    if let Standing::Active(member) = daemon.standing.close(LAST_CHANGE).await {
        member.shutdown().await;
    }
    // Another daemon may have taken the path meanwhile; then there is nothing to remove.
    let _ = std::fs::remove_file(&socket);
    if let Some(pidfile) = pidfile {
        let _ = std::fs::remove_file(pidfile);
    }
    result
}
