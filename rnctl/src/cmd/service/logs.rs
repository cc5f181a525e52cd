//! `service logs`.

use std::collections::BTreeMap;

use clap::Args;
use proto::{
    error::{ApiError, Kind},
    model::{Node, NodeId, Task},
    pb,
};

use crate::{
    cmd::{
        container::{
            LogFlags,
            lines::{self, Lines},
        },
        get, nodes, tasks, typed,
    },
    connect::Daemon,
    exit::Failure,
    output::{complain, printable, short_id},
    view::task::place,
};

/// Flags of `service logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A service or a task, by id or name
    #[arg(value_name = "SERVICE|TASK")]
    target: String,
    #[command(flatten)]
    flags: LogFlags,
    /// Print ids of nodes instead of their names
    #[arg(long)]
    no_resolve: bool,
    /// Leave the task's id out of the prefix
    #[arg(long)]
    no_task_ids: bool,
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    /// Print the output as it is, without a prefix
    #[arg(long)]
    raw: bool,
    /// Show extra details (there are none)
    #[arg(long, hide = true)]
    details: bool,
}

/// What a line is prefixed with, padded to the longest.
struct Prefixes {
    by_task: BTreeMap<String, String>,
    width: usize,
}

impl Prefixes {
    fn new(tasks: &[Task], nodes: &BTreeMap<NodeId, Node>, args: &LogsArgs) -> Self {
        let prefix = |task: &Task| {
            let mut name = place(task);
            if !args.no_task_ids {
                let id = task.id.as_str();
                name = format!("{name}.{}", if args.no_trunc { id } else { short_id(id) });
            }
            let node =
                task.node_id.as_ref().map_or("", |id| match nodes.get(id).map_or("", Node::hostname) {
                    "" => id.as_str(),
                    _ if args.no_resolve => id.as_str(),
                    host => host,
                });
            printable(&format!("{name}@{node}")).into_owned()
        };
        let by_task: BTreeMap<String, String> = tasks.iter().map(|t| (t.id.to_string(), prefix(t))).collect();
        let width = by_task.values().map(|p| p.chars().count()).max().unwrap_or(0);
        Self { by_task, width }
    }

    /// `web.1.0123456789ab@host1    | `.
    fn of(&self, task: &str) -> Option<String> {
        self.by_task.get(task).map(|prefix| format!("{prefix:<width$}    | ", width = self.width))
    }
}

/// Runs `service logs`.
pub async fn run(rn: &Daemon, args: LogsArgs) -> Result<(), Failure> {
    let options = Some(args.flags.options());
    let (request, service) = resolve(rn, &args.target, options).await?;
    let mut nodes = nodes(rn).await?;
    let mut prefixes = Prefixes::new(&tasks(rn, vec![service.clone()], Vec::new()).await?, &nodes, &args);
    let mut stream = rn.logs().subscribe(request).await?.into_inner();
    let (mut failed, mut joined) = (false, Lines::default());
    while let Some(chunk) = stream.message().await? {
        if !chunk.error.is_empty() {
            complain(&format!("warning: {}", chunk.error));
            failed = true;
        }
        if chunk.lines.is_empty() {
            continue;
        }
        let prefix = match (args.raw, prefixes.of(&chunk.task_id)) {
            (true, _) => String::new(),
            (false, Some(prefix)) => prefix,
            (false, None) => {
                // A task that came while we followed, perhaps on a node that did.
                nodes = crate::cmd::nodes(rn).await?;
                prefixes = Prefixes::new(&tasks(rn, vec![service.clone()], Vec::new()).await?, &nodes, &args);
                let unknown = || format!("{}@{}    | ", chunk.task_id, chunk.node_id);
                prefixes.of(&chunk.task_id).unwrap_or_else(unknown)
            }
        };
        for line in chunk.lines {
            if let Some(piece) = joined.join(&chunk.task_id, line) {
                lines::print(&prefix, &piece, &args.flags);
            }
        }
    }
    for (task, piece) in joined.rest() {
        let prefix = prefixes.of(&task).filter(|_| !args.raw).unwrap_or_default();
        lines::print(&prefix, &piece, &args.flags);
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}

/// The request, and the id of the service whose tasks it is about.
async fn resolve(
    rn: &Daemon,
    target: &str,
    options: Option<pb::LogOptions>,
) -> Result<(pb::LogsRequest, String), Failure> {
    match super::fetch(rn, target).await {
        Ok(service) => {
            let id = service.id.to_string();
            Ok((pb::LogsRequest { service: id.clone(), task: String::new(), options }, id))
        }
        Err(Failure::Daemon(e)) if e.kind == Kind::NotFound => {
            match rn.control().get_task(get(target)).await {
                Ok(reply) => {
                    let task: Task = typed(reply.into_inner())?;
                    let request =
                        pb::LogsRequest { service: String::new(), task: task.id.to_string(), options };
                    Ok((request, task.service_id.to_string()))
                }
                Err(status) if ApiError::from_status(&status).kind == Kind::NotFound => {
                    Err(Failure::local(format!("no such task or service: {target}")))
                }
                Err(status) => Err(status.into()),
            }
        }
        Err(other) => Err(other),
    }
}
