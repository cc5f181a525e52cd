//! `service ps` and `node ps`.

use clap::Args;
use proto::{
    error::{ApiError, Kind},
    model::{Task, Timestamp},
};

use crate::{
    cmd::{nodes, tasks},
    connect::Daemon,
    exit::Failure,
    output::{filter::Filters, listing::ListFlags},
    view::{self, task::LISTING},
};

/// Flags of `service ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Services, by id or name
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
    #[command(flatten)]
    flags: PsFlags,
}

/// How tasks are listed.
#[derive(Debug, Args)]
pub struct PsFlags {
    /// Show only some: id=, name=, node=, desired-state=running|shutdown|accepted
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print ids of nodes instead of their names
    #[arg(long)]
    no_resolve: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Runs `service ps`. A service that does not exist does not hide the others.
pub async fn run(rn: &Daemon, args: PsArgs) -> Result<(), Failure> {
    let (mut keys, mut failures) = (Vec::new(), Vec::new());
    for key in args.services {
        match super::fetch(rn, &key).await {
            Ok(service) => keys.push(service.id.to_string()),
            Err(Failure::Daemon(e)) if e.kind == Kind::NotFound => failures.push(Failure::Daemon(e)),
            Err(other) => return Err(other),
        }
    }
    if !keys.is_empty() {
        print(rn, tasks(rn, keys, Vec::new()).await?, args.flags).await?;
    }
    Failure::all(failures)
}

/// `node ps`.
pub async fn of_nodes(rn: &Daemon, keys: Vec<String>, flags: PsFlags) -> Result<(), Failure> {
    let mut ids = Vec::new();
    for key in keys {
        let node =
            rn.control().get_node(crate::cmd::get(&key)).await.map_err(|s| ApiError::from_status(&s))?;
        ids.push(node.into_inner().id);
    }
    print(rn, tasks(rn, Vec::new(), ids).await?, flags).await
}

async fn print(rn: &Daemon, tasks: Vec<Task>, flags: PsFlags) -> Result<(), Failure> {
    let filters = Filters::parse(&flags.filter, &["id", "name", "node", "desired-state"])?
        .one_of("desired-state", &["running", "shutdown", "accepted"])?;
    let nodes = nodes(rn).await?;
    let host = |t: &Task| t.node_id.as_ref().and_then(|id| nodes.get(id)).map_or("", |n| n.hostname());
    let mut tasks: Vec<Task> = tasks
        .into_iter()
        .filter(|t| {
            filters.any("id", |v| t.id.as_str().starts_with(v))
                && filters.any("name", |v| view::task::place(t).starts_with(v))
                && filters.any("node", |v| {
                    host(t) == v || t.node_id.as_ref().is_some_and(|n| n.as_str().starts_with(v))
                })
                && filters.any("desired-state", |v| t.desired.as_str().eq_ignore_ascii_case(v))
        })
        .collect();
    view::task::sort(&mut tasks);
    let style = view::task::Style {
        nodes: &nodes,
        no_resolve: flags.no_resolve,
        // `-q` prints what scripts pass on: whole ids.
        no_trunc: flags.no_trunc || flags.list.quiet,
        now: Timestamp::now(),
    };
    LISTING.print(&view::task::rows(&tasks, &style), &flags.list)
}
