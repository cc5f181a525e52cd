//! The commands. Each file holds the flags of its commands beside what they do.

pub mod attach;
pub mod confirm;
pub mod container;
pub mod context;
pub mod events;
pub mod exec;
pub mod file;
pub mod file_output;
pub mod image;
pub mod inspect;
pub mod login;
pub mod network;
pub mod node;
pub mod service;
pub mod stack;
pub mod stdio;
pub mod swarm;
pub mod system;
pub mod volume;
pub mod wait;

use std::collections::BTreeMap;

use clap::CommandFactory;
use proto::{
    convert::Malformed,
    error::{ApiError, Kind},
    model::{Network, NetworkId, Node, NodeId, Task},
    pb,
};

use crate::{
    api::Client,
    cli::{Cli, Command},
    connect::Daemon,
    exit::Failure,
};

/// Runs a command.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let command = in_full(cli.command);
    match command {
        // These ask nobody.
        Command::Context(command) => return context::run(&cli.connection, command),
        Command::Logout(args) => return login::logout(&args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rnctl", &mut script);
            crate::output::emit(&String::from_utf8_lossy(&script));
            return Ok(());
        }
        _ => {}
    }
    let host = &cli.connection.endpoint()?;
    match command {
        Command::Version(args) => return system::version(host, args).await,
        // Connects once it knows that the words make sense.
        Command::Service(command) => return service::run(host, command).await,
        Command::Node(command) => return node::run(host, command).await,
        Command::Events(args) => return events::run(&Client::connect(host).await?, args).await,
        Command::Network(command) => return network::run(&Client::connect(host).await?, command).await,
        Command::Container(command) => return container::run(&Client::connect(host).await?, command).await,
        Command::Image(command) => return image::run(&Client::connect(host).await?, command).await,
        Command::Volume(command) => return volume::run(&Client::connect(host).await?, command).await,
        Command::Stack(command) => return stack::run(host, command).await,
        Command::System(command) => return system::run(host, &command).await,
        _ => {}
    }
    let rn = Daemon::connect(host).await?;
    match command {
        Command::Secret(command) => file::run(&rn, file::Kind::Secret, command).await,
        Command::Config(command) => file::run(&rn, file::Kind::Config, command).await,
        Command::Swarm(command) => swarm::run(&rn, command).await,
        Command::Inspect(args) => inspect::run(&rn, &Client::connect(host).await?, args).await,
        Command::Login(args) => login::login(&rn, args).await,
        Command::Wait(args) => wait::run(&rn, &Client::connect(host).await?, args).await,
        Command::Info(args) => system::info(&rn, args).await,
        // They are done above.
        _ => Ok(()),
    }
}

/// A command by its whole name: those about containers and images have a short one too.
fn in_full(command: Command) -> Command {
    use container::Command as Of;
    use image::Command as OfImage;
    let of_container = match command {
        Command::Run(args) => Of::Run(args),
        Command::Create(args) => Of::Create(args),
        Command::Start(args) => Of::Start(args),
        Command::Stop(args) => Of::Stop(args),
        Command::Restart(args) => Of::Restart(args),
        Command::Kill(args) => Of::Kill(args),
        Command::Rm(args) => Of::Rm(args),
        Command::Ps(args) => Of::Ls(args),
        Command::Attach(args) => Of::Attach(args),
        Command::Exec(args) => Of::Exec(args),
        Command::Logs(args) => Of::Logs(args),
        Command::Pause(args) => Of::Pause(args),
        Command::Unpause(args) => Of::Unpause(args),
        Command::Rename(args) => Of::Rename(args),
        Command::Update(args) => Of::Update(args),
        Command::Cp(args) => Of::Cp(args),
        Command::Export(args) => Of::Export(args),
        Command::Diff(args) => Of::Diff(args),
        Command::Port(args) => Of::Port(args),
        Command::Top(args) => Of::Top(args),
        Command::Stats(args) => Of::Stats(args),
        Command::Import(args) => return Command::Image(OfImage::Import(args)),
        Command::Images(args) => return Command::Image(OfImage::Ls(args)),
        Command::Rmi(args) => return Command::Image(OfImage::Rm(args)),
        Command::Load(args) => return Command::Image(OfImage::Load(args)),
        Command::Save(args) => return Command::Image(OfImage::Save(args)),
        Command::Pull(args) => return Command::Image(OfImage::Pull(args)),
        Command::Push(args) => return Command::Image(OfImage::Push(args)),
        Command::Tag(args) => return Command::Image(OfImage::Tag(args)),
        Command::History(args) => return Command::Image(OfImage::History(args)),
        other => return other,
    };
    Command::Container(of_container)
}

/// A message of the wire as the model's type.
fn typed<A, B: TryFrom<A, Error = Malformed>>(message: A) -> Result<B, Failure> {
    Ok(B::try_from(message)?)
}

/// All messages of a list.
fn all_typed<A, B: TryFrom<A, Error = Malformed>>(messages: Vec<A>) -> Result<Vec<B>, Failure> {
    messages.into_iter().map(typed).collect()
}

fn get(key: &str) -> pb::GetRequest {
    pb::GetRequest { key: key.to_owned() }
}

/// Whether an answer means "ask elsewhere": this node is no manager, or it has no such object.
fn is_elsewhere(status: &tonic::Status) -> bool {
    let kind = ApiError::from_status(status).kind;
    matches!(kind, Kind::NotFound | Kind::Precondition | Kind::Unsupported)
}

async fn nodes(rn: &Daemon) -> Result<BTreeMap<NodeId, Node>, Failure> {
    let reply = rn.control().list_nodes(pb::ListNodesRequest {}).await?.into_inner();
    let nodes: Vec<Node> = all_typed(reply.nodes)?;
    Ok(nodes.into_iter().map(|n| (n.id.clone(), n)).collect())
}

async fn networks(rn: &Daemon) -> Result<BTreeMap<NetworkId, Network>, Failure> {
    let reply = rn.control().list_networks(pb::ListNetworksRequest {}).await?.into_inner();
    let networks: Vec<Network> = all_typed(reply.networks)?;
    Ok(networks.into_iter().map(|n| (n.id.clone(), n)).collect())
}

async fn tasks(rn: &Daemon, services: Vec<String>, nodes: Vec<String>) -> Result<Vec<Task>, Failure> {
    let reply = rn.control().list_tasks(pb::ListTasksRequest { services, nodes }).await?.into_inner();
    all_typed(reply.tasks)
}
