//! `ps`, `logs`, and `container …`. `run` and `create` are in [`run`], what happens to a container later in [`lifecycle`].

pub mod lifecycle;
pub mod lines;
pub mod run;

use clap::{Args, Subcommand};
use lines::Lines;
use proto::{model::Timestamp, pb};

use super::{attach, exec, get};
use crate::{
    connect::Daemon,
    exit::Failure,
    output::{complain, filter::Filters, listing::ListFlags, time},
    parse::{time::moment, units},
    view::{self, container::LISTING},
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
    Run(Box<run::RunArgs>),
    /// Make a container
    Create(Box<run::CreateArgs>),
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
    /// Wait until containers have ended, and print their exit codes
    Wait(lifecycle::NamesArgs),
}

/// Flags of `ps`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show those that have ended too
    #[arg(short, long)]
    all: bool,
    /// Show only some: id=, name=, status=, label=, health=, network=, ancestor=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Show the last N created, whatever their state
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show the latest created, whatever its state
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
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
pub async fn run(rn: &Daemon, command: Command) -> Result<(), Failure> {
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
        Command::Wait(args) => lifecycle::wait(rn, args).await,
    }
}

/// `ps`.
pub async fn list(rn: &Daemon, args: ListArgs) -> Result<(), Failure> {
    let known = ["id", "name", "status", "label", "health", "network", "ancestor"];
    let states = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
    let filters = Filters::parse(&args.filter, &known)?
        .one_of("status", &states)?
        .one_of("health", &["starting", "healthy", "unhealthy", "none"])?;
    let last = args.last.or(args.latest.then_some(1));
    let all = args.all || last.is_some() || filters.has("status");
    let reply = rn.local().list_containers(pb::ListContainersRequest { all }).await?.into_inner();
    let mut containers: Vec<_> = reply.containers.into_iter().filter(|c| shown(c, &filters)).collect();
    containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.name.cmp(&b.name)));
    containers.truncate(last.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    let rows: Vec<_> = containers.iter().map(|c| view::container::row(c, args.no_trunc, now)).collect();
    LISTING.print(&rows, &args.list)
}

fn shown(c: &pb::Container, filters: &Filters) -> bool {
    let health = if c.health.is_empty() { "none" } else { &c.health };
    filters.any("id", |v| c.id.starts_with(v))
        && filters.any("name", |v| c.name.contains(v))
        && filters.any("status", |v| c.state == v)
        && filters.any("health", |v| health == v)
        && filters.any("ancestor", |v| c.image == v)
        && filters.any("network", |v| c.networks.iter().any(|n| n.name == v || n.network_id.starts_with(v)))
        && filters.labels("label", &c.labels)
}

async fn inspect(rn: &Daemon, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for key in &args.containers {
        match rn.local().inspect_container(get(key)).await {
            Ok(reply) => rows.push(view::container::inspect(reply.get_ref())),
            Err(status) => failures.push(status.into()),
        }
    }
    super::inspect::print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

/// `logs`.
pub async fn logs(rn: &Daemon, args: LogsArgs) -> Result<(), Failure> {
    let request = pb::ContainerLogsRequest { key: args.container, options: Some(args.flags.options()) };
    let mut stream = rn.local().container_logs(request).await?.into_inner();
    let (mut failed, mut lines) = (false, Lines::default());
    while let Some(chunk) = stream.message().await? {
        for line in chunk.lines {
            if let Some(line) = lines.join("", line) {
                lines::print("", &line, &args.flags);
            }
        }
        if !chunk.error.is_empty() {
            complain(&chunk.error);
            failed = true;
        }
    }
    for (_, line) in lines.rest() {
        lines::print("", &line, &args.flags);
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}
