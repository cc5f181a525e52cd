//! The commands. Each file holds the flags of its commands beside what they do.

pub mod attach;
pub mod confirm;
pub mod container;
pub mod events;
pub mod exec;
pub mod file;
pub mod image;
pub mod inspect;
pub mod login;
pub mod network;
pub mod node;
pub mod service;
pub mod swarm;
pub mod system;
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
    let host = cli.host.as_str();
    match cli.command {
        Command::Version(args) => return system::version(host, args).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rnctl", &mut script);
            crate::output::emit(&String::from_utf8_lossy(&script));
            return Ok(());
        }
        // Connects once it knows that the words make sense.
        Command::Service(command) => return service::run(host, command).await,
        Command::Network(command) => return network::run(&Client::connect(host).await?, command).await,
        Command::Logout(args) => return login::logout(&args),
        _ => {}
    }
    let rn = Daemon::connect(host).await?;
    match cli.command {
        Command::Secret(command) => file::run(&rn, file::Kind::Secret, command).await,
        Command::Config(command) => file::run(&rn, file::Kind::Config, command).await,
        Command::Node(command) => node::run(&rn, command).await,
        Command::Swarm(command) => swarm::run(&rn, command).await,
        Command::Container(command) => container::run(&rn, command).await,
        Command::Image(command) => image::run(&rn, command).await,
        Command::Run(args) => container::run::run(&rn, *args).await,
        Command::Create(args) => container::run::create(&rn, *args).await,
        Command::Start(args) => container::lifecycle::start(&rn, args).await,
        Command::Stop(args) => container::lifecycle::stop(&rn, args).await,
        Command::Restart(args) => container::lifecycle::restart(&rn, args).await,
        Command::Kill(args) => container::lifecycle::kill(&rn, args).await,
        Command::Rm(args) => container::lifecycle::remove(&rn, args).await,
        Command::Ps(args) => container::list(&rn, args).await,
        Command::Attach(args) => attach::run(&rn, args).await,
        Command::Exec(args) => exec::run(&rn, args).await,
        Command::Logs(args) => container::logs(&rn, args).await,
        Command::Inspect(args) => inspect::run(&rn, &Client::connect(host).await?, args).await,
        Command::Import(args) => image::import(&rn, args).await,
        Command::Images(args) => image::list(&rn, args).await,
        Command::Rmi(args) => image::remove(&rn, args).await,
        Command::Load(args) => image::load(&rn, args).await,
        Command::Pull(args) => image::pull(&rn, args).await,
        Command::Tag(args) => image::tag(&rn, args).await,
        Command::Login(args) => login::login(&rn, args).await,
        Command::Events(args) => events::run(&rn, args).await,
        Command::Wait(args) => wait::run(&rn, args).await,
        Command::Info(args) => system::info(&rn, args).await,
        Command::Service(_)
        | Command::Network(_)
        | Command::Version(_)
        | Command::Logout(_)
        | Command::Completion { .. } => Ok(()),
    }
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

/// This node's id in the swarm; empty outside one.
async fn own_node(rn: &Daemon) -> Result<String, Failure> {
    let info = rn.local().info(pb::InfoRequest {}).await?.into_inner();
    Ok(info.swarm.unwrap_or_default().node_id)
}
