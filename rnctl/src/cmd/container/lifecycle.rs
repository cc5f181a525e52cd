//! `start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rename`, `rm`, `wait` and `prune`.

use clap::Args;
use proto::model::Millis;
use serde_json::Value;

use super::config::seconds;
use crate::{
    api::Client,
    cmd::{
        attach::{self, Ended, Session},
        confirm,
    },
    exit::Failure,
    output::{self, filter::Filters, units::decimal},
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
    /// Signal in place of the container's stop signal
    #[arg(short, long, value_name = "SIGNAL", value_parser = units::signal)]
    signal: Option<String>,
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
    /// Remove volumes without a name too, which rnd does in any case
    #[arg(short, long)]
    volumes: bool,
    #[command(flatten)]
    names: NamesArgs,
}

/// Flags of `rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// The container, by name or id
    container: String,
    /// Its new name
    new_name: String,
}

/// Flags of `container prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only some: until=TIMESTAMP|DURATION, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl NamesArgs {
    /// These.
    pub fn of(containers: Vec<String>) -> Self {
        Self { containers }
    }

    /// One after the other: each that went well is named, each that did not is complained of.
    async fn each<F>(self, act: impl Fn(String) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let mut failures = Vec::new();
        for key in self.containers {
            match act(key.clone()).await {
                Ok(()) => output::line(&key),
                Err(failure) => failures.push(failure),
            }
        }
        Failure::all(failures)
    }
}

async fn started(rn: &Client, key: &str) -> Result<(), Failure> {
    rn.post(&["containers", key, "start"]).done().await
}

/// `start`.
pub async fn start(rn: &Client, args: StartArgs) -> Result<(), Failure> {
    if !args.attach && !args.interactive {
        return args.names.each(|key| async move { started(rn, &key).await }).await;
    }
    let [key] = args.names.containers.as_slice() else {
        return Err(Failure::local("you cannot start and attach multiple containers at once"));
    };
    let detail = rn.get(&["containers", key, "json"]).object().await?;
    let how = attach::how(&detail, args.interactive, args.detach_keys);
    attach::check_terminal(how.streams.stdin, how.tty)?;
    let runs = detail.get("State").is_some_and(|state| state["Running"] == true);
    let removed = detail.get("HostConfig").is_some_and(|host| host["AutoRemove"] == true);
    let until = match (runs, removed) {
        (true, _) => "not-running",
        (false, true) => "removed",
        (false, false) => "next-exit",
    };
    let session = Session::open(rn, how.clone(), until).await?;
    let signals = tokio::spawn(attach::pass_signals(rn.clone(), how.container.clone()));
    let client = rn.clone();
    let carried = tokio::spawn(async move { session.carry(&client).await });
    if let Err(failure) = started(rn, &how.container).await {
        carried.abort();
        // It gives the terminal back.
        let _ = carried.await;
        return Err(failure);
    }
    let _size = attach::follow_size(rn, &how, true);
    let ended = carried.await.map_err(|e| Failure::local(e.to_string()))?;
    signals.abort();
    match ended? {
        Ended::Exited(0) | Ended::Detached => Ok(()),
        Ended::Exited(code) => Err(Failure::Code(code)),
    }
}

impl StopArgs {
    async fn each(self, rn: &Client, verb: &'static str) -> Result<(), Failure> {
        let (time, signal) = (self.time.map(seconds), self.signal.as_deref());
        let act = |key: String| async move {
            rn.post(&["containers", &key, verb]).maybe("t", time).maybe("signal", signal).done().await
        };
        self.names.each(act).await
    }
}

/// `stop`.
pub async fn stop(rn: &Client, args: StopArgs) -> Result<(), Failure> {
    args.each(rn, "stop").await
}

/// `restart`.
pub async fn restart(rn: &Client, args: StopArgs) -> Result<(), Failure> {
    args.each(rn, "restart").await
}

/// `kill`.
pub async fn kill(rn: &Client, args: KillArgs) -> Result<(), Failure> {
    let signal = &args.signal;
    let act = |key: String| async move {
        rn.post(&["containers", &key, "kill"]).query("signal", signal).done().await
    };
    args.names.each(act).await
}

/// `pause`.
pub async fn pause(rn: &Client, args: NamesArgs) -> Result<(), Failure> {
    args.each(|key| async move { rn.post(&["containers", &key, "pause"]).done().await }).await
}

/// `unpause`.
pub async fn unpause(rn: &Client, args: NamesArgs) -> Result<(), Failure> {
    args.each(|key| async move { rn.post(&["containers", &key, "unpause"]).done().await }).await
}

/// `rename`.
pub async fn rename(rn: &Client, args: RenameArgs) -> Result<(), Failure> {
    rn.post(&["containers", &args.container, "rename"]).query("name", args.new_name).done().await
}

/// `rm`.
pub async fn remove(rn: &Client, args: RemoveArgs) -> Result<(), Failure> {
    let (force, volumes) = (args.force, args.volumes);
    let act = |key: String| async move {
        rn.delete(&["containers", &key]).flag("force", force).flag("v", volumes).done().await
    };
    args.names.each(act).await
}

/// `wait`: prints the exit code of each once it has ended.
pub async fn wait(rn: &Client, args: NamesArgs) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for key in args.containers {
        let code = async { attach::exit_code(rn.post(&["containers", &key, "wait"]).send().await?).await };
        match code.await {
            Ok(code) => output::line(&code.to_string()),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

/// `container prune`.
pub async fn prune(rn: &Client, args: PruneArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?.with_moments("until")?;
    if !confirm::asked(args.force, "WARNING! This will remove all stopped containers.")? {
        return Ok(());
    }
    let gone: Value = rn.post(&["containers", "prune"]).filters(&filters).json().await?;
    say_pruned("Deleted Containers:", &gone["ContainersDeleted"], &gone["SpaceReclaimed"]);
    Ok(())
}

/// What a `prune` has done.
pub fn say_pruned(heading: &str, gone: &Value, space: &Value) {
    let names: Vec<&str> = gone.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !names.is_empty() {
        output::line(&format!("{heading}\n{}\n", names.join("\n")));
    }
    output::line(&format!("Total reclaimed space: {}", decimal(space.as_u64().unwrap_or_default())));
}
