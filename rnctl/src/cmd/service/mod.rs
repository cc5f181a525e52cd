//! `service`.

pub mod create;
pub mod flags;
pub mod health;
mod image;
pub mod list;
pub mod log_driver;
pub mod logs;
pub mod progress;
pub mod ps;
pub mod scale;
pub mod update;

use clap::{Args, Subcommand};
use proto::{
    error::{ApiError, Kind},
    model::{Service, ServiceSpec, Timestamp},
    pb,
};

use super::{get, networks, typed};
use crate::{
    connect::Daemon,
    context::endpoint::Endpoint,
    exit::Failure,
    output::{self, complain},
    view,
};

/// Commands about services.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a service
    Create(Box<create::CreateArgs>),
    /// List services
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// List the tasks of services
    Ps(ps::PsArgs),
    /// Show everything about services
    Inspect(InspectArgs),
    /// Change the number of tasks of services
    Scale(scale::ScaleArgs),
    /// Change a service
    Update(Box<update::UpdateArgs>),
    /// Go back to a service's previous spec
    Rollback(update::RollbackArgs),
    /// Show the output of a service or a task
    Logs(logs::LogsArgs),
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// Whether to wait.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitFlags {
    /// Do not wait until the tasks run
    #[arg(short, long)]
    pub detach: bool,
    /// Wait without a word
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `service inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Services, by id or name
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
    /// 'json', or a Go template, for instance '{{json .Endpoint.VirtualIPs}}'
    #[arg(short, long)]
    format: Option<String>,
    /// Print for people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

/// Flags of `service rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Services, by id or name
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

/// Runs a `service` command.
pub async fn run(host: &Endpoint, command: Command) -> Result<(), Failure> {
    let rn = Daemon::connect(host);
    match command {
        Command::Create(args) => {
            // A spec that cannot be is refused before anyone is asked.
            let wait = args.wait;
            let (spec, image) = args.spec(&|name| std::env::var(name).ok())?;
            create::run(&rn.await?, spec, &image, wait).await
        }
        Command::Ls(args) => list::run(&rn.await?, args).await,
        Command::Ps(args) => ps::run(&rn.await?, args).await,
        Command::Inspect(args) => inspect(&rn.await?, args).await,
        Command::Scale(args) => scale::run(&rn.await?, args).await,
        Command::Update(args) => update::run(&rn.await?, *args).await,
        Command::Rollback(args) => update::rollback(&rn.await?, args).await,
        Command::Logs(args) => logs::run(&rn.await?, args).await,
        Command::Rm(args) => remove(&rn.await?, args).await,
    }
}

async fn fetch(rn: &Daemon, key: &str) -> Result<Service, Failure> {
    typed(rn.control().get_service(get(key)).await?.into_inner())
}

/// How often a change is tried again when somebody else changed the service in between.
const ATTEMPTS: usize = 5;

/// What a user wants of a service.
enum Edit {
    /// This spec.
    Spec(Box<ServiceSpec>),
    /// The previous one.
    Rollback,
}

/// Reads a service, changes its spec and writes it against the version that was read.
async fn change(
    rn: &Daemon,
    key: &str,
    mut edit: impl FnMut(&Service) -> Result<Edit, Failure>,
) -> Result<Service, Failure> {
    let mut attempt = 1;
    loop {
        let service = fetch(rn, key).await?;
        let (spec, rollback) = match edit(&service)? {
            Edit::Spec(spec) => (Some((*spec).into()), false),
            Edit::Rollback => (None, true),
        };
        let request = pb::UpdateServiceRequest {
            key: service.id.to_string(),
            version: service.meta.version.0,
            spec,
            rollback,
        };
        match rn.control().update_service(request).await {
            Ok(reply) => return typed(reply.into_inner()),
            Err(status)
                if ApiError::from_status(&status).kind == Kind::OutOfSequence && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(status) => return Err(status.into()),
        }
    }
}

async fn inspect(rn: &Daemon, args: InspectArgs) -> Result<(), Failure> {
    let networks = networks(rn).await?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for key in &args.services {
        match fetch(rn, key).await {
            Ok(service) => found.push(service),
            Err(failure) => failures.push(failure),
        }
    }
    if args.pretty {
        let texts: Vec<String> =
            found.iter().map(|s| view::pretty::service(s, &networks, Timestamp::now())).collect();
        output::emit(&texts.join("\n"));
    } else {
        let rows: Vec<_> = found.iter().map(|s| view::service::inspect(s, &networks)).collect();
        super::inspect::print(&rows, args.format.as_deref())?;
    }
    Failure::all(failures)
}

async fn remove(rn: &Daemon, args: RemoveArgs) -> Result<(), Failure> {
    let mut failed = false;
    for key in &args.services {
        match rn.control().remove_service(pb::RemoveRequest { key: key.clone(), force: false }).await {
            Ok(_) => output::line(key),
            Err(status) => {
                complain(&Failure::from(status).to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}
