//! The command tree.

use clap::{
    ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use std::ffi::OsString;

use crate::{
    cmd::{
        attach, container, context, events, exec, file, image, inspect, login, network, node, service, stack,
        swarm, system, volume, wait,
    },
    context::endpoint::Connection,
    exit::Failure,
};

const AFTER_HELP: &str = "\
Start a swarm, run a service on it, and reach it on any node:
  rnctl swarm init
  rnctl network create -d overlay app
  rnctl service create --name web --network app --replicas 3 --publish 8080:80 IMAGE
  rnctl service ps web";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "rnctl",
    version,
    about = "Control rn: services and networks over many machines",
    after_help = AFTER_HELP,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Which daemon.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Manage services
    #[command(subcommand)]
    Service(service::Command),
    /// Manage stacks: services, networks, secrets and configs of compose files
    #[command(subcommand)]
    Stack(stack::Command),
    /// Manage networks
    #[command(subcommand)]
    Network(network::Command),
    /// Manage secrets: what only tasks that are given it can read
    #[command(subcommand)]
    Secret(file::Command),
    /// Manage configs: files that tasks are given
    #[command(subcommand)]
    Config(file::Command),
    /// Manage nodes
    #[command(subcommand)]
    Node(node::Command),
    /// Manage the swarm
    #[command(subcommand)]
    Swarm(swarm::Command),
    /// Manage this machine's containers
    #[command(subcommand)]
    Container(container::Command),
    /// Manage this machine's images
    #[command(subcommand)]
    Image(image::Command),
    /// Manage this machine's volumes
    #[command(subcommand)]
    Volume(volume::Command),
    /// Run a container on this machine
    Run(Box<container::flags::RunArgs>),
    /// Make a container on this machine, without starting it
    Create(Box<container::flags::CreateArgs>),
    /// Start containers of this machine
    Start(container::lifecycle::StartArgs),
    /// Stop containers of this machine
    Stop(container::lifecycle::StopArgs),
    /// Stop containers of this machine and start them again
    Restart(container::lifecycle::StopArgs),
    /// Send containers of this machine a signal
    Kill(container::lifecycle::KillArgs),
    /// Remove containers from this machine
    Rm(container::lifecycle::RemoveArgs),
    /// List this machine's containers
    Ps(container::ListArgs),
    /// Have containers of this machine stand still
    Pause(container::lifecycle::NamesArgs),
    /// Let containers of this machine go on that stand still
    Unpause(container::lifecycle::NamesArgs),
    /// Give a container of this machine another name
    Rename(container::lifecycle::RenameArgs),
    /// Change what containers of this machine may use
    Update(Box<container::update::UpdateArgs>),
    /// Copy files between a container and this machine
    Cp(container::copy::CopyArgs),
    /// Write the files of a container of this machine into an archive
    Export(container::copy::ExportArgs),
    /// List what a container of this machine has changed of its image's files
    Diff(container::look::DiffArgs),
    /// List where the ports of a container of this machine are published
    Port(container::look::PortArgs),
    /// List the processes of a container of this machine
    Top(container::look::TopArgs),
    /// Show what containers of this machine use, as it changes
    Stats(container::stats::StatsArgs),
    /// Show what a running container of this machine writes, and let it read what you type
    Attach(attach::AttachArgs),
    /// Run a command in a running container of this machine
    Exec(exec::ExecArgs),
    /// Show the output of a container of this machine
    Logs(container::LogsArgs),
    /// Show everything about containers, images, services, networks, nodes or tasks, as JSON
    Inspect(inspect::InspectArgs),
    /// Make an image from an archive of a root file system
    Import(image::ImportArgs),
    /// List this machine's images
    Images(image::ListArgs),
    /// Remove images from this machine
    Rmi(image::RemoveArgs),
    /// Bring in the images of an archive, as docker save writes it, or an OCI one
    Load(image::LoadArgs),
    /// Write images of this machine into an archive
    Save(image::SaveArgs),
    /// Show how an image was made
    History(image::HistoryArgs),
    /// Push an image of this machine to its registry
    Push(image::PushArgs),
    /// Pull an image from its registry onto this machine
    Pull(image::PullArgs),
    /// Give an image another name
    Tag(image::TagArgs),
    /// Keep the credentials for a registry, once it accepts them
    Login(login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(login::LogoutArgs),
    /// Print what happens on this machine and, on a manager, in the swarm
    Events(events::EventsArgs),
    /// Wait until every change has come about everywhere, or until containers have ended
    Wait(wait::WaitArgs),
    /// Show what the daemon knows about itself and its swarm
    Info(system::InfoArgs),
    /// Manage contexts: daemons with names
    #[command(subcommand)]
    Context(context::Command),
    /// Manage the machine
    #[command(subcommand)]
    System(system::Command),
    /// Show the versions of client and daemon
    Version(system::VersionArgs),
    /// Print a completion script for a shell
    ///
    /// For instance: rnctl completion bash > /etc/bash_completion.d/rnctl
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Parses the process's arguments. Help and version end the process.
pub fn parse() -> Result<Cli, Failure> {
    let args: Vec<OsString> = std::env::args_os().collect();
    parse_from(&args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::Code(1)
        }
        _ => {
            let text = error.render().to_string();
            let text = text.replace("For more information, try '--help'.", "").trim_end().to_owned();
            let text = text.strip_prefix("error: ").unwrap_or(&text).to_owned();
            let args: Vec<String> = args.iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
            let failure = Failure::usage(&path(&args), text);
            if is_about_a_flag(&error) { failure } else { failure.of_arguments() }
        }
    })
}

/// Docker's distinction: a wrong flag exits with 125, a command or an argument that is wrong or missing with 1.
fn is_about_a_flag(error: &clap::Error) -> bool {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::InvalidSubcommand | ErrorKind::MissingRequiredArgument, _) => false,
        (_, Some(ContextValue::String(word))) => word.starts_with('-'),
        _ => true,
    }
}

fn parse_from(args: &[OsString]) -> Result<Cli, clap::Error> {
    let error = match Cli::try_parse_from(args) {
        Ok(cli) => return Ok(cli),
        Err(error) if error.kind() == ErrorKind::TooManyValues => error,
        Err(error) => return Err(error),
    };
    // Scripts written for Docker say `--detach=false`. Help shows flags without a value, so this is tried second.
    let matches = with_boolean_values(Cli::command()).try_get_matches_from(args).map_err(|_| error)?;
    Cli::from_arg_matches(&matches)
}

/// The same tree, in which every flag takes `=true` and `=false`, as Go's do.
fn with_boolean_values(command: clap::Command) -> clap::Command {
    let flag = |arg: clap::Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .value_parser(clap::value_parser!(bool))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false"),
        _ => arg,
    };
    command.mut_args(flag).mut_subcommands(with_boolean_values)
}

/// The path of the command that arguments name, as far as it exists.
fn path(args: &[String]) -> String {
    let mut command = Cli::command();
    let mut path = Vec::new();
    for arg in args.iter().filter(|a| !a.starts_with('-')) {
        let Some(next) = command.find_subcommand(arg).cloned() else { continue };
        path.push(next.get_name().to_owned());
        command = next;
    }
    path.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_take_values_as_gos_do() {
        let parse = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            match parse_from(&args).map_err(|e| e.to_string())?.command {
                Command::Service(service::Command::Scale(args)) => Ok(args.wait.detach),
                other => Err(format!("{other:?}")),
            }
        };
        assert_eq!(parse("rnctl service scale web=1"), Ok(false));
        assert_eq!(parse("rnctl service scale -d web=1"), Ok(true));
        assert_eq!(parse("rnctl service scale --detach=true web=1"), Ok(true));
        assert_eq!(parse("rnctl service scale --quiet --detach=false web=1"), Ok(false));
        assert!(parse("rnctl service scale --detach=maybe web=1").is_err());
        with_boolean_values(Cli::command()).debug_assert();
    }

    #[test]
    fn hints_name_the_command() {
        let args = ["-H", "/x", "service", "create", "--nope"].map(str::to_owned);
        assert_eq!(path(&args), "service create");
        assert_eq!(path(&["frob".to_owned()]), "");
    }

    #[test]
    fn options_end_at_the_image() {
        let line =
            ["rnctl", "service", "create", "--name", "web", "hello:1", "/bin/httpd", "-f", "-p", "[::]:80"];
        let cli = Cli::try_parse_from(line).map_err(|e| e.to_string());
        let Ok(Cli { command: Command::Service(service::Command::Create(args)), .. }) = cli else {
            panic!("{cli:?}")
        };
        assert_eq!(args.image_and_command, ["hello:1", "/bin/httpd", "-f", "-p", "[::]:80"]);
        assert!(Cli::try_parse_from(["rnctl", "exec", "c", "ls", "-l"]).is_ok());
    }
}
