//! `stack ls`, `ps` and `services`.

use std::collections::BTreeMap;

use compose_file::translate::{NAMESPACE, Namespace};
use docker_api::{node::DockerNode, service::Service, task::Task};
use proto::model::Timestamp;
use serde_json::json;

use super::{ListArgs, PsArgs, ServicesArgs, filters};
use crate::{
    api::Client,
    exit::Failure,
    output::{
        complain,
        filter::Filters,
        listing::{ListFlags, Listing, Row},
    },
    view::{self, stack},
};

const LISTING: Listing = Listing {
    table: "{{.Name}}\\t{{.Services}}",
    quiet: "{{.Name}}",
    configured: |_| None,
    headings: &[("Name", "NAME"), ("Services", "SERVICES")],
};

/// `stack ls`.
pub(super) async fn stacks(rn: &Client, args: ListArgs) -> Result<(), Failure> {
    let labelled = Filters::parse(&[format!("label={NAMESPACE}")], &["label"])?;
    let services: Vec<Service> = rn.get(&["services"]).filters(&labelled).json().await?;
    let mut stacks: BTreeMap<&str, usize> = BTreeMap::new();
    for name in services.iter().filter_map(|s| s.spec.labels.get(NAMESPACE)) {
        *stacks.entry(name).or_default() += 1;
    }
    let mut stacks: Vec<_> = stacks.into_iter().collect();
    stacks.sort_by_key(|(name, _)| stack::natural(name));
    let row = |(name, count): (&str, usize)| {
        // Text, as all that Docker's templates are given.
        let row =
            json!({"Name": name, "Services": count.to_string(), "Orchestrator": "Swarm", "Namespace": ""});
        row.as_object().cloned().unwrap_or_default()
    };
    let rows: Vec<Row> = stacks.into_iter().map(row).collect();
    LISTING.print(&rows, &ListFlags { quiet: false, format: args.format })
}

/// `stack services`.
pub(super) async fn services(rn: &Client, stack: &Namespace, args: ServicesArgs) -> Result<(), Failure> {
    let filters = filters(stack, &args.filter, &["id", "name", "mode", "label"])?
        .one_of("mode", &["replicated", "global", "replicated-job", "global-job"])?;
    let mut services: Vec<Service> =
        rn.get(&["services"]).filters(&filters).query("status", true).json().await?;
    if services.is_empty() {
        complain(&format!("Nothing found in stack: {}", stack.name()));
        return Ok(());
    }
    services.sort_by_key(|service| stack::natural(&service.spec.name));
    let rows = services.iter().map(|s| stack::service(s, args.list.quiet)).collect::<Result<Vec<_>, _>>()?;
    view::service::LISTING.print(&rows, &args.list)
}

/// `stack ps`.
pub(super) async fn tasks(rn: &Client, stack: &Namespace, args: PsArgs) -> Result<(), Failure> {
    let filters = filters(stack, &args.filter, &["id", "name", "node", "desired-state"])?
        .one_of("desired-state", &["running", "shutdown", "accepted"])?;
    let mut tasks: Vec<Task> = rn.get(&["tasks"]).filters(&filters).json().await?;
    if tasks.is_empty() {
        return Err(Failure::local(format!("nothing found in stack: {}", stack.name())));
    }
    let services: Vec<Service> = rn.get(&["services"]).filters(&super::members(stack)?).json().await?;
    let nodes: Vec<DockerNode> = rn.get(&["nodes"]).json().await?;
    let names = stack::Names {
        services: services.into_iter().map(|s| (s.id, s.spec.name)).collect(),
        nodes: nodes.into_iter().map(|n| (n.id, n.description.hostname)).collect(),
        no_resolve: args.no_resolve,
    };
    names.sort(&mut tasks);
    let whole = args.no_trunc || args.list.quiet;
    let rows = names.rows(&tasks, whole, Timestamp::now())?;
    view::task::LISTING.print(&rows, &args.list)
}
