//! `service ls`.

use clap::Args;
use proto::{model::Service, pb};

use crate::{
    cmd::typed,
    connect::Daemon,
    exit::Failure,
    output::{filter::Filters, listing::ListFlags},
    view::{self, service::LISTING},
};

/// Flags of `service ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some: id=, name=, mode=, label=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Runs `service ls`.
pub async fn run(rn: &Daemon, args: ListArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["id", "name", "mode", "label"])?
        .one_of("mode", &["replicated", "global", "replicated-job", "global-job"])?;
    let reply = rn.control().list_services(pb::ListServicesRequest {}).await?.into_inner();
    let mut lines = Vec::new();
    for entry in reply.services {
        let Some(service) = entry.service else { continue };
        let service: Service = typed(service)?;
        let shown = filters.any("id", |v| service.id.as_str().starts_with(v))
            && filters.any("name", |v| service.spec.name.starts_with(v))
            && filters.any("mode", |v| view::service::mode(service.spec.mode) == v)
            && filters.labels("label", &service.spec.labels);
        if shown {
            lines.push((service, entry.running, entry.desired));
        }
    }
    lines.sort_by(|a, b| a.0.spec.name.cmp(&b.0.spec.name));
    // `-q` prints what scripts pass on: whole ids.
    let whole = args.no_trunc || args.list.quiet;
    let rows: Vec<_> = lines
        .iter()
        .map(|(service, running, desired)| view::service::row(service, *running, *desired, whole))
        .collect();
    LISTING.print(&rows, &args.list)
}
