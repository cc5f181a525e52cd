//! `start`, `stop`, `restart`, `kill`, `rm` and `wait`.

use clap::Args;
use proto::{model::Millis, pb};
use tonic::Status;

use crate::{
    cmd::{
        attach::{self, Ended, How, Session},
        get,
    },
    connect::Daemon,
    exit::Failure,
    output,
    parse::units,
};

/// Containers.
#[derive(Debug, Args)]
pub struct NamesArgs {
    /// Containers, by name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Flags of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Show what it writes, and exit as it does
    #[arg(short, long)]
    attach: bool,
    /// Let it read what you type, if its standard input is open
    #[arg(short, long)]
    interactive: bool,
    /// Keys to leave it by, with a terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    #[command(flatten)]
    names: NamesArgs,
}

/// Flags of `stop` and `restart`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds from the stop signal to SIGKILL, -1 without a limit [default: the container's]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", value_parser = units::stop_timeout, allow_negative_numbers = true)]
    time: Option<Millis>,
    #[command(flatten)]
    names: NamesArgs,
}

/// Flags of `kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    names: NamesArgs,
}

/// Flags of `rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Remove volumes without a name too, which rn does in any case
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    names: NamesArgs,
}

impl NamesArgs {
    /// These.
    pub fn of(containers: Vec<String>) -> Self {
        Self { containers }
    }

    /// One after the other: each that went well is named, each that did not is complained of.
    async fn each<F>(self, act: impl Fn(String) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Status>>,
    {
        let mut failures = Vec::new();
        for key in self.containers {
            match act(key.clone()).await {
                Ok(()) => output::line(&key),
                Err(status) => failures.push(status.into()),
            }
        }
        Failure::all(failures)
    }
}

/// `start`.
pub async fn start(rn: &Daemon, args: StartArgs) -> Result<(), Failure> {
    if !args.attach && !args.interactive {
        return args
            .names
            .each(|key| async move { rn.local().start_container(get(&key)).await.map(drop) })
            .await;
    }
    let [key] = args.names.containers.as_slice() else {
        return Err(Failure::local("you cannot start and attach multiple containers at once"));
    };
    let detail = rn.local().inspect_container(get(key)).await?.into_inner();
    let container = detail.container.unwrap_or_default();
    let stdin = args.interactive && detail.open_stdin;
    attach::check_terminal(stdin, detail.tty)?;
    let running = container.state == "running";
    let how = How {
        container: container.id.clone(),
        stdin,
        tty: detail.tty,
        next_start: !running,
        detach_keys: args.detach_keys,
    };
    let session = Session::open(rn, how).await?;
    let signals = tokio::spawn(attach::pass_signals(rn.local(), container.id.clone()));
    let carried = tokio::spawn(session.carry());
    if let Err(status) = rn.local().start_container(get(&container.id)).await {
        carried.abort();
        // It gives the terminal back.
        let _ = carried.await;
        return Err(status.into());
    }
    let ended = carried.await.map_err(|e| Failure::local(e.to_string()))?;
    signals.abort();
    match ended? {
        Ended::Exited(0) | Ended::Detached => Ok(()),
        Ended::Exited(code) => Err(Failure::Code(code)),
    }
}

async fn stopped(rn: &Daemon, key: &str, time: Option<Millis>) -> Result<(), Status> {
    let grace = time.map(|time| time.0);
    rn.local().stop_container(pb::StopContainerRequest { key: key.to_owned(), grace }).await.map(drop)
}

/// `stop`.
pub async fn stop(rn: &Daemon, args: StopArgs) -> Result<(), Failure> {
    args.names.each(|key| async move { stopped(rn, &key, args.time).await }).await
}

/// `restart`.
pub async fn restart(rn: &Daemon, args: StopArgs) -> Result<(), Failure> {
    args.names
        .each(|key| async move {
            stopped(rn, &key, args.time).await?;
            rn.local().start_container(get(&key)).await.map(drop)
        })
        .await
}

/// `kill`.
pub async fn kill(rn: &Daemon, args: KillArgs) -> Result<(), Failure> {
    let signal = &args.signal;
    args.names
        .each(|key| async move {
            rn.local()
                .kill_container(pb::KillContainerRequest { key, signal: signal.clone() })
                .await
                .map(drop)
        })
        .await
}

/// `rm`.
pub async fn remove(rn: &Daemon, args: RemoveArgs) -> Result<(), Failure> {
    let force = args.force;
    args.names
        .each(|key| async move {
            rn.local().remove_container(pb::RemoveContainerRequest { key, force }).await.map(drop)
        })
        .await
}

/// `wait`: prints the exit code of each once it has ended.
pub async fn wait(rn: &Daemon, args: NamesArgs) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for key in args.containers {
        match rn.local().wait_container(get(&key)).await {
            Ok(reply) => output::line(&reply.into_inner().exit_code.to_string()),
            Err(status) => failures.push(status.into()),
        }
    }
    Failure::all(failures)
}
