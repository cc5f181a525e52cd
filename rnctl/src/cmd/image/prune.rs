//! `image prune`.

use clap::Args;
use proto::pb;

use crate::{
    cmd::confirm,
    connect::Daemon,
    exit::Failure,
    output::{self, filter::Filters, units},
    parse::time::moment,
};

/// Flags of `image prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// All images that no container uses, not only those without a tag
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only some: until=TIMESTAMP|DURATION, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Runs `image prune`.
pub async fn run(rn: &Daemon, args: PruneArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?;
    let mut until = 0;
    for text in filters.values("until") {
        until = moment(text).map_err(Failure::local)? / 1_000_000;
    }
    let what = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !confirm::asked(args.force, &format!("WARNING! This will remove {what}."))? {
        return Ok(());
    }
    let request = pb::PruneImagesRequest {
        all: args.all,
        until,
        labels: filters.values("label").map(str::to_owned).collect(),
        not_labels: filters.values("label!").map(str::to_owned).collect(),
    };
    let reply = rn.local().prune_images(request).await?.into_inner();
    if !(reply.untagged.is_empty() && reply.deleted.is_empty()) {
        output::line("Deleted Images:");
        for name in reply.untagged {
            output::line(&format!("untagged: {name}"));
        }
        for id in reply.deleted {
            output::line(&format!("deleted: {id}"));
        }
        output::line("");
    }
    output::line(&format!("Total reclaimed space: {}", units::decimal(reply.reclaimed)));
    Ok(())
}
