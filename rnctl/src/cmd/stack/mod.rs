//! `stack`.

mod deploy;
mod files;
mod list;
mod remove;
mod resolve;
mod wait;

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use compose_file::translate::{NAMESPACE, Namespace};

use crate::{
    api::Client,
    context::endpoint::Endpoint,
    exit::Failure,
    output::{filter::Filters, listing::ListFlags},
};

/// Commands about stacks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy a stack from compose files, or bring one up to date
    #[command(visible_alias = "up")]
    Deploy(DeployArgs),
    /// List stacks
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// List the tasks of a stack
    Ps(PsArgs),
    /// List the services of a stack
    Services(ServicesArgs),
    /// Remove stacks: their services, secrets, configs and networks
    #[command(visible_aliases = ["remove", "down"])]
    Rm(RemoveArgs),
    /// Print compose files as they are understood: merged, with their variables replaced
    Config(ConfigArgs),
}

/// When registries are asked which digest an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResolveImage {
    /// In each deploy
    Always,
    /// For services whose image has changed
    Changed,
    /// Not at all
    Never,
}

/// Flags of `stack deploy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl stack deploy -c compose.yml web
  rnctl stack deploy -c compose.yml -c compose.prod.yml --prune --detach=false web
  generate | rnctl stack deploy -c - web")]
pub struct DeployArgs {
    /// The stack's name
    #[arg(value_name = "STACK")]
    stack: String,
    #[command(flatten)]
    files: Files,
    /// Do not wait until the tasks run; --detach=false waits [default: true]
    #[arg(short, long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    detach: Option<bool>,
    /// Wait without a word
    #[arg(short, long)]
    quiet: bool,
    /// Remove services that are in the stack and not in the files
    #[arg(long)]
    prune: bool,
    /// When to ask registries which digests the images have
    #[arg(long, value_enum, default_value = "always")]
    resolve_image: ResolveImage,
    /// Give the nodes the credentials for the images' registries
    #[arg(long)]
    with_registry_auth: bool,
}

/// Compose files.
#[derive(Debug, Args)]
pub struct Files {
    /// A compose file, or - for standard input; may be repeated, later ones go over the earlier
    #[arg(short, long, value_name = "FILE|-", value_delimiter = ',', required = true)]
    compose_file: Vec<String>,
}

/// Flags of `stack ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// 'table' (default), 'json' (one object a line), 'table TEMPLATE' or 'TEMPLATE', a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Flags of `stack ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// The stack
    #[arg(value_name = "STACK")]
    stack: String,
    /// Show only some: id=, name=, node=, desired-state=running|shutdown|accepted
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print ids of nodes and services instead of their names
    #[arg(long)]
    no_resolve: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `stack services`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// The stack
    #[arg(value_name = "STACK")]
    stack: String,
    /// Show only some: id=, name=, mode=, label=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `stack rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Stacks
    #[arg(value_name = "STACK", required = true)]
    stacks: Vec<String>,
    /// Do not wait until the tasks have ended; --detach=false waits [default: true]
    #[arg(short, long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    detach: Option<bool>,
}

/// Flags of `stack config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    files: Files,
    /// Leave $VARIABLES as they are
    #[arg(long)]
    skip_interpolation: bool,
}

/// Runs a `stack` command.
pub async fn run(host: &Endpoint, command: Command) -> Result<(), Failure> {
    match command {
        // Nobody is asked.
        Command::Config(args) => files::print(&args.files, !args.skip_interpolation),
        // A file that cannot be deployed is refused before anyone is asked.
        Command::Deploy(args) => {
            let stack = files::stack(&args)?;
            deploy::run(&Client::connect(host).await?, stack, &args).await
        }
        Command::Ls(args) => list::stacks(&Client::connect(host).await?, args).await,
        Command::Ps(args) => {
            let stack = namespace(&args.stack)?;
            list::tasks(&Client::connect(host).await?, &stack, args).await
        }
        Command::Services(args) => {
            let stack = namespace(&args.stack)?;
            list::services(&Client::connect(host).await?, &stack, args).await
        }
        Command::Rm(args) => {
            let stacks = args.stacks.iter().map(|name| namespace(name)).collect::<Result<Vec<_>, _>>()?;
            remove::run(&Client::connect(host).await?, &stacks, args.detach.unwrap_or(true)).await
        }
    }
}

fn namespace(name: &str) -> Result<Namespace, Failure> {
    Namespace::new(name).map_err(Failure::local)
}

/// What belongs to a stack, and more that the user asks for.
fn filters(stack: &Namespace, given: &[String], known: &[&str]) -> Result<Filters, Failure> {
    // What the user may not ask for is refused before the label comes to it.
    Filters::parse(given, known)?;
    let mut all = given.to_vec();
    all.push(format!("label={NAMESPACE}={}", stack.name()));
    let known: Vec<&str> = known.iter().copied().chain(["label"]).collect();
    Filters::parse(&all, &known)
}

/// What belongs to a stack.
fn members(stack: &Namespace) -> Result<Filters, Failure> {
    filters(stack, &[], &[])
}
