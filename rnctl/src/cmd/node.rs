//! `node`.

use clap::{Args, Subcommand};
use docker_api::{node::DockerNode, swarm::ClusterInfo};
use proto::model::Role;
use serde_json::Value;

use super::{service::ps, swarm::Availability};
use crate::{
    api::Client,
    connect::Daemon,
    context::endpoint::Endpoint,
    exit::Failure,
    output::{
        self,
        filter::Filters,
        listing::{ListFlags, Row},
    },
    parse::keyval,
    view::{self, node::LISTING},
};

/// Commands about nodes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the nodes of the swarm
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show everything about nodes
    Inspect(InspectArgs),
    /// List the tasks of nodes
    Ps(PsArgs),
    /// Change a node
    Update(UpdateArgs),
    /// Make nodes managers
    Promote(Names),
    /// Make managers workers
    Demote(Names),
    /// Remove nodes that have left
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// Flags of `node ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some: id=, name=, role=, membership=, node.label=, label= (of the engine)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `node inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Nodes, by id or host name; 'self' is this one
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Print for people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

/// Flags of `node ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Nodes, by id or host name
    #[arg(value_name = "NODE", default_value = "self")]
    nodes: Vec<String>,
    #[command(flatten)]
    flags: ps::PsFlags,
}

/// Flags of `node update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// The node, by id or host name
    node: String,
    /// Whether it gets tasks
    #[arg(long, value_enum)]
    availability: Option<Availability>,
    /// Add or change a label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    label_add: Vec<(String, String)>,
    /// Remove a label; may be repeated
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// The role it shall have
    #[arg(long, value_enum)]
    role: Option<super::swarm::Role>,
}

/// Nodes.
#[derive(Debug, Args)]
pub struct Names {
    /// Nodes, by id or host name
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

/// Flags of `node rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove even a node that is not down
    #[arg(short, long)]
    force: bool,
    /// Nodes, by id or host name
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

/// Runs a `node` command.
pub async fn run(host: &Endpoint, command: Command) -> Result<(), Failure> {
    let rn = &Client::connect(host).await?;
    match command {
        Command::Ls(args) => list(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Ps(args) => {
            let mut keys = Vec::new();
            for key in &args.nodes {
                keys.push(resolve(rn, key).await?);
            }
            ps::of_nodes(&Daemon::connect(host).await?, keys, args.flags).await
        }
        Command::Update(args) => update(rn, args).await,
        Command::Promote(args) => change_roles(rn, &args.nodes, Role::Manager).await,
        Command::Demote(args) => change_roles(rn, &args.nodes, Role::Worker).await,
        Command::Rm(args) => remove(rn, args).await,
    }
}

async fn list(rn: &Client, args: ListArgs) -> Result<(), Failure> {
    let known = ["id", "name", "role", "membership", "node.label", "label"];
    let filters = Filters::parse(&args.filter, &known)?
        .one_of("role", &["worker", "manager"])?
        .one_of("membership", &["accepted", "pending"])?;
    let mut nodes: Vec<DockerNode> = rn.get(&["nodes"]).filters(&filters).json().await?;
    let key = |n: &DockerNode| (n.description.hostname.clone(), n.id.clone());
    nodes.sort_by_cached_key(key);
    let own = own_id(rn).await?;
    // Beside what was asked for, so that it may be unknown.
    let swarm: Option<ClusterInfo> = rn.get(&["swarm"]).json().await.ok();
    let rows: Vec<_> = nodes.iter().map(|n| view::node::row(n, &own, swarm.as_ref())).collect();
    LISTING.print(&rows, &args.list)
}

/// This node's id in the swarm; empty outside one.
async fn own_id(rn: &Client) -> Result<String, Failure> {
    let info = rn.get(&["info"]).object().await?;
    let id = info.get("Swarm").and_then(|swarm| swarm.get("NodeID")).and_then(Value::as_str);
    Ok(id.unwrap_or_default().to_owned())
}

async fn resolve(rn: &Client, key: &str) -> Result<String, Failure> {
    if key != "self" {
        return Ok(key.to_owned());
    }
    let id = own_id(rn).await?;
    if id.is_empty() {
        return Err(Failure::local("this node is not part of a swarm")
            .with_help("start one with `rnctl swarm init`, or join one with `rnctl swarm join`"));
    }
    Ok(id)
}

/// A node as the daemon shows it.
pub async fn find(rn: &Client, key: &str) -> Result<Row, Failure> {
    rn.get(&["nodes", &resolve(rn, key).await?]).object().await
}

async fn fetch(rn: &Client, key: &str) -> Result<DockerNode, Failure> {
    rn.get(&["nodes", &resolve(rn, key).await?]).json().await
}

async fn inspect(rn: &Client, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut texts, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for key in &args.nodes {
        let shown = match args.pretty {
            true => fetch(rn, key).await.map(|node| texts.push(view::pretty::node(&node))),
            false => find(rn, key).await.map(|row| rows.push(row)),
        };
        failures.extend(shown.err());
    }
    if args.pretty {
        output::emit(&texts.join("\n"));
    } else {
        super::inspect::print(&rows, args.format.as_deref())?;
    }
    Failure::all(failures)
}

/// Changes a node's spec, against the version that was read.
async fn change(rn: &Client, node: &DockerNode) -> Result<(), Failure> {
    rn.post(&["nodes", &node.id, "update"])
        .query("version", node.meta.version.index)
        .body(&node.spec)
        .done()
        .await
}

async fn update(rn: &Client, args: UpdateArgs) -> Result<(), Failure> {
    let mut node = fetch(rn, &args.node).await?;
    let spec = &mut node.spec;
    if let Some(availability) = args.availability {
        spec.availability = match availability {
            Availability::Active => "active",
            Availability::Pause => "pause",
            Availability::Drain => "drain",
        }
        .into();
    }
    if let Some(role) = args.role {
        spec.role = match role {
            super::swarm::Role::Worker => Role::Worker,
            super::swarm::Role::Manager => Role::Manager,
        }
        .to_string();
    }
    spec.labels.extend(args.label_add.iter().cloned());
    for key in &args.label_rm {
        // One that is not there is a mistake (docker/cli).
        spec.labels.remove(key).ok_or_else(|| {
            Failure::local(format!("key {key} doesn't exist in node's labels"))
                .with_help(format!("rnctl node inspect {} shows those that do", args.node))
        })?;
    }
    change(rn, &node).await?;
    output::line(&args.node);
    Ok(())
}

async fn change_roles(rn: &Client, keys: &[String], role: Role) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for key in keys {
        match change_role(rn, key, role).await {
            Ok(said) => output::line(&said),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

async fn change_role(rn: &Client, key: &str, role: Role) -> Result<String, Failure> {
    let mut node = fetch(rn, key).await?;
    if node.spec.role == role.as_str() {
        return Ok(format!("Node {key} is already a {role}."));
    }
    node.spec.role = role.to_string();
    change(rn, &node).await?;
    Ok(match role {
        Role::Manager => format!("Node {key} promoted to a manager in the swarm."),
        Role::Worker => format!("Manager {key} demoted in the swarm."),
    })
}

async fn remove(rn: &Client, args: RemoveArgs) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for key in &args.nodes {
        match rn.delete(&["nodes", key]).flag("force", args.force).done().await {
            Ok(()) => output::line(key),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}
