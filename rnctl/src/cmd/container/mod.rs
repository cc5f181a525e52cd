//! `ps`, `logs`, and `container …`. `run` and `create` are in [`run`], what happens to a container later in [`lifecycle`].

pub mod config;
pub mod copy;
pub mod flags;
pub mod lifecycle;
pub mod lines;
pub mod look;
pub mod run;
pub mod stats;
pub mod update;

use clap::{Args, Subcommand};
use proto::{model::Timestamp, pb};
use serde_json::Value;

use super::{attach, exec, stdio};
use crate::{
    api::Client,
    exit::Failure,
    output::{
        filter::Filters,
        listing::{ListFlags, Row},
        time,
    },
    parse::{time::moment, units},
    view::{
        self,
        container::{LISTING, LISTING_SIZE},
    },
};

/// Commands about containers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List this machine's containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ListArgs),
    /// Show everything about containers
    Inspect(InspectArgs),
    /// Run a command in a running container
    Exec(exec::ExecArgs),
    /// Show what a running container writes, and let it read what you type
    Attach(attach::AttachArgs),
    /// Show the output of a container
    Logs(LogsArgs),
    /// Make a container and start it
    Run(Box<flags::RunArgs>),
    /// Make a container
    Create(Box<flags::CreateArgs>),
    /// Start containers
    Start(lifecycle::StartArgs),
    /// Stop containers
    Stop(lifecycle::StopArgs),
    /// Stop containers and start them again
    Restart(lifecycle::StopArgs),
    /// Send containers a signal
    Kill(lifecycle::KillArgs),
    /// Remove containers
    Rm(lifecycle::RemoveArgs),
    /// Remove all containers that do not run
    Prune(lifecycle::PruneArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(lifecycle::NamesArgs),
    /// Have containers stand still
    Pause(lifecycle::NamesArgs),
    /// Let containers go on that stand still
    Unpause(lifecycle::NamesArgs),
    /// Give a container another name
    Rename(lifecycle::RenameArgs),
    /// Change what containers may use
    Update(Box<update::UpdateArgs>),
    /// Copy files between a container and this machine
    Cp(copy::CopyArgs),
    /// Write a container's files into an archive
    Export(copy::ExportArgs),
    /// List what a container has changed of its image's files
    Diff(look::DiffArgs),
    /// List where a container's ports are published
    Port(look::PortArgs),
    /// List a container's processes
    Top(look::TopArgs),
    /// Show what containers use, as it changes
    Stats(stats::StatsArgs),
}

/// Flags of `ps`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show those that have ended too
    #[arg(short, long)]
    all: bool,
    /// Show only some: id=, name=, status=, label=, health=, network=, ancestor=, publish=, volume=, before=, …
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Show the last N created, whatever their state
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Show the latest created, whatever its state
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    /// Show how much they have written
    #[arg(short, long)]
    size: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `container inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Containers, by name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Say how much it has written
    #[arg(short, long)]
    size: bool,
}

/// What to show of a log; `service logs` has the same flags.
#[derive(Debug, Args)]
pub struct LogFlags {
    /// Go on as new lines come
    #[arg(short, long)]
    pub follow: bool,
    /// Lines from the end, or 'all'
    #[arg(short = 'n', long, value_name = "N", default_value = "all", value_parser = units::tail,
          allow_negative_numbers = true)]
    pub tail: i64,
    /// From this time on: 10m, 2026-01-31T10:00 (local time), 2026-01-31T10:00:00Z, seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub since: Option<u64>,
    /// Up to this time
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub until: Option<u64>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

impl LogFlags {
    /// As the wire has it.
    pub fn options(&self) -> pb::LogOptions {
        let since_nanos = self.since.unwrap_or_default();
        pb::LogOptions {
            follow: self.follow,
            tail: self.tail,
            since: since_nanos / 1_000_000,
            since_nanos,
            until_nanos: self.until.unwrap_or_default(),
        }
    }

    /// What stands before a line.
    pub fn prefix(&self, prefix: &str, line: &pb::LogLine) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.timestamps {
            bytes.extend_from_slice(time::rfc3339_nanos(line.at_nanos).as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(prefix.as_bytes());
        bytes
    }
}

/// Flags of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The container, by name or id
    container: String,
    #[command(flatten)]
    flags: LogFlags,
}

/// Runs a `container` command.
pub async fn run(rn: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Attach(args) => attach::run(rn, args).await,
        Command::Exec(args) => exec::run(rn, args).await,
        Command::Logs(args) => logs(rn, args).await,
        Command::Run(args) => run::run(rn, *args).await,
        Command::Create(args) => run::create(rn, *args).await,
        Command::Start(args) => lifecycle::start(rn, args).await,
        Command::Stop(args) => lifecycle::stop(rn, args).await,
        Command::Restart(args) => lifecycle::restart(rn, args).await,
        Command::Kill(args) => lifecycle::kill(rn, args).await,
        Command::Rm(args) => lifecycle::remove(rn, args).await,
        Command::Prune(args) => lifecycle::prune(rn, args).await,
        Command::Wait(args) => lifecycle::wait(rn, args).await,
        Command::Pause(args) => lifecycle::pause(rn, args).await,
        Command::Unpause(args) => lifecycle::unpause(rn, args).await,
        Command::Rename(args) => lifecycle::rename(rn, args).await,
        Command::Update(args) => update::run(rn, *args).await,
        Command::Cp(args) => copy::run(rn, args).await,
        Command::Export(args) => copy::export(rn, args).await,
        Command::Diff(args) => look::diff(rn, args).await,
        Command::Port(args) => look::port(rn, args).await,
        Command::Top(args) => look::top(rn, args).await,
        Command::Stats(args) => stats::run(rn, args).await,
    }
}

/// `ps`.
pub async fn list(rn: &Client, args: ListArgs) -> Result<(), Failure> {
    let states = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
    let filters = Filters::parse(&args.filter, &docker_api::container::FILTERS)?
        .one_of("status", &states)?
        .one_of("health", &["starting", "healthy", "unhealthy", "none"])?;
    let last = args.last.or(args.latest.then_some(1));
    let asked = rn.get(&["containers", "json"]).flag("all", args.all).flag("size", args.size);
    let containers: Vec<Value> = asked.maybe("limit", last).filters(&filters).json().await?;
    let now = Timestamp::now();
    let rows: Vec<Row> = containers.iter().map(|c| view::container::row(c, args.no_trunc, now)).collect();
    if args.size { LISTING_SIZE } else { LISTING }.print(&rows, &args.list)
}

async fn inspect(rn: &Client, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for key in &args.containers {
        match rn.get(&["containers", key, "json"]).flag("size", args.size).object().await {
            Ok(row) => rows.push(row),
            Err(failure) => failures.push(failure),
        }
    }
    super::inspect::print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

/// Since this version logs can be asked for up to a point.
const LOGS_UNTIL: u32 = 35;

/// `logs`.
pub async fn logs(rn: &Client, args: LogsArgs) -> Result<(), Failure> {
    let detail = rn.get(&["containers", &args.container, "json"]).object().await?;
    let tty = detail.get("Config").is_some_and(|config| config["Tty"] == true);
    let flags = &args.flags;
    if flags.until.is_some() {
        rn.needs(LOGS_UNTIL, "\"logs --until\"")?;
    }
    let asked = rn.get(&["containers", &args.container, "logs"]).flag("stdout", true).flag("stderr", true);
    let asked = asked.flag("follow", flags.follow).flag("timestamps", flags.timestamps);
    let asked =
        asked.maybe("since", flags.since.map(time::seconds)).maybe("until", flags.until.map(time::seconds));
    let tail = if flags.tail < 0 { "all".to_owned() } else { flags.tail.to_string() };
    stdio::show(asked.query("tail", tail).output(tty).await?).await
}
