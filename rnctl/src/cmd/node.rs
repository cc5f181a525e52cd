//! `node`.

use clap::{Args, Subcommand};
use proto::{
    model::{Node, NodeSpec, Role},
    pb,
};

use super::{get, nodes, own_node, service::ps, swarm::Availability, typed};
use crate::{
    connect::Daemon,
    exit::Failure,
    output::{self, complain, filter::Filters, listing::ListFlags},
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
pub async fn run(rn: &Daemon, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Ps(args) => {
            let mut keys = Vec::new();
            for key in &args.nodes {
                keys.push(resolve(rn, key).await?);
            }
            ps::of_nodes(rn, keys, args.flags).await
        }
        Command::Update(args) => update(rn, args).await,
        Command::Promote(args) => change_roles(rn, &args.nodes, Role::Manager).await,
        Command::Demote(args) => change_roles(rn, &args.nodes, Role::Worker).await,
        Command::Rm(args) => remove(rn, args).await,
    }
}

async fn list(rn: &Daemon, args: ListArgs) -> Result<(), Failure> {
    let known = ["id", "name", "role", "membership", "node.label", "label"];
    let filters = Filters::parse(&args.filter, &known)?
        .one_of("role", &["worker", "manager"])?
        .one_of("membership", &["accepted", "pending"])?;
    let own = own_node(rn).await?;
    let mut nodes: Vec<Node> = nodes(rn).await?.into_values().filter(|n| shown(n, &filters)).collect();
    nodes.sort_by(|a, b| a.hostname().cmp(b.hostname()).then_with(|| a.id.cmp(&b.id)));
    let root = root_ca(rn).await;
    let rows: Vec<_> = nodes.iter().map(|n| view::node::row(n, &own, root.as_ref())).collect();
    LISTING.print(&rows, &args.list)
}

fn shown(node: &Node, filters: &Filters) -> bool {
    let none = Default::default();
    let engine = node.description.as_ref().map_or(&none, |d| &d.engine_labels);
    filters.any("id", |v| node.id.as_str().starts_with(v))
        && filters.any("name", |v| node.hostname().starts_with(v))
        && filters.any("role", |v| node.role.as_str() == v)
        // There is no pending membership: a node is in when it has a certificate.
        && filters.any("membership", |v| v == "accepted")
        && filters.labels("node.label", &node.spec.labels)
        && filters.labels("label", engine)
}

async fn resolve(rn: &Daemon, key: &str) -> Result<String, Failure> {
    if key != "self" {
        return Ok(key.to_owned());
    }
    let id = own_node(rn).await?;
    if id.is_empty() {
        return Err(Failure::local("this node is not part of a swarm")
            .with_help("start one with `rnctl swarm init`, or join one with `rnctl swarm join`"));
    }
    Ok(id)
}

async fn fetch(rn: &Daemon, key: &str) -> Result<Node, Failure> {
    typed(rn.control().get_node(get(&resolve(rn, key).await?)).await?.into_inner())
}

/// What the cluster trusts; beside what was asked for, so that it may be unknown.
async fn root_ca(rn: &Daemon) -> Option<pb::RootCa> {
    rn.control().get_cluster(pb::GetClusterRequest {}).await.ok()?.into_inner().root_ca
}

async fn inspect(rn: &Daemon, args: InspectArgs) -> Result<(), Failure> {
    let root = root_ca(rn).await.map(|r| r.cert_pem);
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for key in &args.nodes {
        match fetch(rn, key).await {
            Ok(node) => found.push(node),
            Err(failure) => failures.push(failure),
        }
    }
    if args.pretty {
        let texts: Vec<String> = found.iter().map(|n| view::pretty::node(n, root.as_deref())).collect();
        output::emit(&texts.join("\n"));
    } else {
        let rows: Vec<_> = found.iter().map(|n| view::node::inspect(n, root.as_deref())).collect();
        super::inspect::print(&rows, args.format.as_deref())?;
    }
    Failure::all(failures)
}

/// Reads the node, changes its spec and writes it, against the version that was read.
async fn change(
    rn: &Daemon,
    key: &str,
    edit: impl FnOnce(&mut NodeSpec) -> Result<(), Failure>,
) -> Result<Node, Failure> {
    let node = fetch(rn, key).await?;
    let mut spec = node.spec.clone();
    edit(&mut spec)?;
    let request = pb::UpdateNodeRequest {
        key: node.id.to_string(),
        version: node.meta.version.0,
        spec: Some(spec.into()),
    };
    rn.control().update_node(request).await?;
    Ok(node)
}

async fn update(rn: &Daemon, args: UpdateArgs) -> Result<(), Failure> {
    change(rn, &args.node, |spec| {
        if let Some(availability) = args.availability {
            spec.availability = match availability {
                Availability::Active => proto::model::Availability::Active,
                Availability::Pause => proto::model::Availability::Pause,
                Availability::Drain => proto::model::Availability::Drain,
            };
        }
        if let Some(role) = args.role {
            spec.role = match role {
                super::swarm::Role::Worker => Role::Worker,
                super::swarm::Role::Manager => Role::Manager,
            };
        }
        spec.labels.extend(args.label_add.iter().cloned());
        for key in &args.label_rm {
            // One that is not there is a mistake (docker/cli).
            spec.labels.remove(key).ok_or_else(|| {
                Failure::local(format!("key {key} doesn't exist in node's labels"))
                    .with_help(format!("rnctl node inspect {} shows those that do", args.node))
            })?;
        }
        Ok(())
    })
    .await?;
    output::line(&args.node);
    Ok(())
}

async fn change_roles(rn: &Daemon, keys: &[String], role: Role) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for key in keys {
        match change_role(rn, key, role).await {
            Ok(said) => output::line(&said),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

async fn change_role(rn: &Daemon, key: &str, role: Role) -> Result<String, Failure> {
    let node = fetch(rn, key).await?;
    if node.spec.role == role {
        return Ok(format!("Node {key} is already a {role}."));
    }
    let edit = |spec: &mut NodeSpec| {
        spec.role = role;
        Ok(())
    };
    change(rn, key, edit).await?;
    Ok(match role {
        Role::Manager => format!("Node {key} promoted to a manager in the swarm."),
        Role::Worker => format!("Manager {key} demoted in the swarm."),
    })
}

async fn remove(rn: &Daemon, args: RemoveArgs) -> Result<(), Failure> {
    let mut failed = false;
    for key in &args.nodes {
        let request = pb::RemoveRequest { key: key.clone(), force: args.force };
        match rn.control().remove_node(request).await {
            Ok(_) => output::line(key),
            Err(status) => {
                complain(&Failure::from(status).to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}
