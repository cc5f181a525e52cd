//! Start, serve, stop.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use certs::UnlockKey;
use node::{
    containers::Containers,
    engine::{Engine, EngineConfig},
    tasks::StartLimiter,
};
use runtime::{LogLimits, RegistryConfig, ShimConfig, ShimRuntime};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::Config,
    front,
    host::{self, Listen},
    machine::Machine,
    metrics,
    paths::Paths,
    swarm::NodeContext,
    swarm_state::{Change, SwarmState, SwarmStateCell},
};

/// Certificate authorities of registries, as `/etc/docker/certs.d`.
const CERTS: &str = "/etc/rn/certs.d";

/// The daemon.
pub struct Daemon {
    /// What members are made with.
    pub context: NodeContext,
    /// All that runs on this machine, in a swarm or not.
    pub engine: Engine,
    /// Containers and images.
    pub runtime: Arc<ShimRuntime>,
    /// Containers that users run by hand.
    pub containers: Containers,
    /// The swarm.
    pub swarm_state: Arc<SwarmStateCell>,
    /// When this process began, ms since the epoch.
    pub started_at: u64,
}

/// How long a daemon that stops waits for a change of its membership that is under way: as long as one may take.
const LAST_CHANGE: Duration = Duration::from_secs(60);

/// How often the daemon looks whether the machine still has the addresses that it told others.
const ADDRESSES: Duration = Duration::from_secs(1);

impl NodeContext {
    /// What the disk remembers, started again.
    async fn swarm_state(&self, unlock: Option<UnlockKey>) -> SwarmState {
        match self.resume(unlock).await {
            Ok(Some(member)) => SwarmState::Active(Box::new(member)),
            Ok(None) => SwarmState::Inactive,
            Err(error) => {
                tracing::error!(%error, "cannot return to the swarm");
                SwarmState::Failed(error)
            }
        }
    }
}

impl Daemon {
    /// When the machine moves, the member starts anew with its new addresses: for its containers, a restart of the daemon.
    async fn follow_addresses(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ADDRESSES).await;
            let here = match &*self.swarm_state.read().await {
                SwarmState::Active(member) => member.membership.clone(),
                SwarmState::Inactive | SwarmState::Failed(_) | SwarmState::Changing(_) => continue,
            };
            if tokio::task::spawn_blocking(move || here.moved()).await.ok().flatten().is_none() {
                continue;
            }
            let daemon = self.clone();
            let restart = async move |swarm_state| match swarm_state {
                SwarmState::Active(member) => {
                    let lock = member.local_manager.wanted_unlock_key().flatten();
                    member.shutdown().await;
                    (daemon.context.swarm_state(lock).await, Ok(()))
                }
                other => (other, Ok(())),
            };
            // Refused while something else changes: the next look comes in a second.
            let _ = self.swarm_state.change(Change::Moving, |_| Ok(()), restart).await;
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
        starts: config.max_concurrent_starts.map_or_else(StartLimiter::by_cores, StartLimiter::new),
        listen_timeout: config.listen_timeout.into(),
        runtime: runtime.clone(),
    })?;
    runtime.forget_files(|id| engine.containers().watch(id).is_some()).await;
    let hosts = config.hosts.clone();
    for open in hosts.iter().filter(|l| l.is_open()) {
        tracing::warn!("{}", host::warning(open));
    }
    let pidfile = config.pidfile.clone();
    let context = NodeContext {
        config,
        paths,
        machine,
        daemon_id,
        engine: engine.clone(),
        events: runtime.events().clone(),
    };
    let swarm_state = context.swarm_state(None).await;
    if matches!(swarm_state, SwarmState::Inactive) {
        engine.stand_alone().await;
    }
    let daemon = Arc::new(Daemon {
        context,
        containers: engine.containers().clone(),
        engine,
        runtime,
        swarm_state: Arc::new(SwarmStateCell::new(swarm_state)),
        started_at: proto::model::Timestamp::now().0,
    });
    let serving = front::serve(daemon.clone())?;
    let moving = tokio::spawn(daemon.clone().follow_addresses());
    if let Some(addr) = daemon.context.config.metrics_addr {
        tokio::spawn(metrics::serve(daemon.clone(), addr).await?);
    }
    let said: Vec<String> = hosts.iter().map(host::said).collect();
    tracing::info!(hosts = said.join(", "), "ready");
    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        () = serving => Ok(()),
    };
    moving.abort();
    tracing::info!("stopping; containers go on");
    if let SwarmState::Active(member) = daemon.swarm_state.close(LAST_CHANGE).await {
        member.shutdown().await;
    }
    // Another daemon may have taken the path meanwhile; then there is nothing to remove.
    for listen in hosts {
        if let Listen::Unix(path) = listen {
            let _ = std::fs::remove_file(path);
        }
    }
    if let Some(pidfile) = pidfile {
        let _ = std::fs::remove_file(pidfile);
    }
    result
}
