//! `image prune`.

use clap::Args;
use serde_json::Value;

use super::said;
use crate::{
    api::Client,
    cmd::confirm,
    exit::Failure,
    output::{self, filter::Filters, units},
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
pub async fn run(rn: &Client, args: PruneArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["until", "label", "label!"])?.with_moments("until")?;
    let filters = filters.with("dangling", if args.all { "false" } else { "true" });
    let what = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !confirm::asked(args.force, &format!("WARNING! This will remove {what}."))? {
        return Ok(());
    }
    let gone: Value = rn.post(&["images", "prune"]).filters(&filters).json().await?;
    let lines = said(&gone["ImagesDeleted"], ("untagged", "deleted"));
    if !lines.is_empty() {
        output::line(&format!("Deleted Images:\n{}\n", lines.join("\n")));
    }
    let space = gone["SpaceReclaimed"].as_u64().unwrap_or_default();
    output::line(&format!("Total reclaimed space: {}", units::decimal(space)));
    Ok(())
}
