//! `volume`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{confirm, container::lifecycle::say_pruned};
use crate::{
    api::Client,
    exit::Failure,
    output::{
        self,
        filter::Filters,
        listing::{ListFlags, Listing, Row},
    },
    parse::keyval,
    view::Object,
};

/// Commands about volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a volume
    Create(CreateArgs),
    /// List this machine's volumes
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show everything about volumes
    Inspect(InspectArgs),
    /// Remove volumes, and what is in them
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Remove the volumes that no container has
    Prune(PruneArgs),
}

/// Flags of `volume create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name [default: one is made up]
    #[arg(value_name = "VOLUME", default_value = "", hide_default_value = true)]
    name: String,
    /// Its driver
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    label: Vec<(String, String)>,
    /// Option of the driver; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::strict_pair)]
    opt: Vec<(String, String)>,
}

/// Flags of `volume ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some: name=, label=, driver=, dangling=true|false
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `volume inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Volumes, by name
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Flags of `volume rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Do not mind if they are not there
    #[arg(short, long)]
    force: bool,
    /// Volumes, by name
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

/// Flags of `volume prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Those that somebody named too, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only some: label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

const LISTING: Listing = Listing {
    table: "{{.Driver}}\\t{{.Name}}",
    quiet: "{{.Name}}",
    configured: |c| c.volumes_format,
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
    ],
};

/// Runs a `volume` command.
pub async fn run(rn: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(rn, args).await,
        Command::Ls(args) => list(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Rm(args) => remove(rn, args).await,
        Command::Prune(args) => prune(rn, args).await,
    }
}

async fn create(rn: &Client, args: CreateArgs) -> Result<(), Failure> {
    let body = json!({
        "Name": args.name, "Driver": args.driver, "DriverOpts": keyval::map(&args.opt), "Labels": keyval::map(&args.label),
    });
    let made: Value = rn.post(&["volumes", "create"]).body(&body).json().await?;
    output::line(made["Name"].as_str().unwrap_or_default());
    Ok(())
}

fn row(volume: &Value) -> Row {
    let text = |key: &str| volume[key].as_str().unwrap_or_default();
    let labels = volume["Labels"].as_object().into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    Object::default()
        .with("Driver", text("Driver"))
        .with("Name", text("Name"))
        .with("Scope", text("Scope"))
        .with("Mountpoint", text("Mountpoint"))
        .with("Labels", labels.join(","))
        .build()
}

async fn list(rn: &Client, args: ListArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &docker_api::volume::FILTERS)?
        .one_of("dangling", &["true", "false", "1", "0"])?;
    let found: Value = rn.get(&["volumes"]).filters(&filters).json().await?;
    let mut rows: Vec<Row> = found["Volumes"].as_array().into_iter().flatten().map(row).collect();
    let name = |row: &Row| row.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    rows.sort_by_key(name);
    LISTING.print(&rows, &args.list)
}

async fn inspect(rn: &Client, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for name in &args.volumes {
        match rn.get(&["volumes", name]).object().await {
            Ok(row) => rows.push(row),
            Err(failure) => failures.push(failure),
        }
    }
    super::inspect::print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

async fn remove(rn: &Client, args: RemoveArgs) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in &args.volumes {
        match rn.delete(&["volumes", name]).flag("force", args.force).done().await {
            Ok(()) => output::line(name),
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

async fn prune(rn: &Client, args: PruneArgs) -> Result<(), Failure> {
    let mut filters = Filters::parse(&args.filter, &["label", "label!"])?;
    if args.all {
        filters = filters.with("all", "true");
    }
    let which = if args.all { "all" } else { "anonymous" };
    let warning =
        format!("WARNING! This will remove {which} local volumes not used by at least one container.");
    if !confirm::asked(args.force, &warning)? {
        return Ok(());
    }
    let gone: Value = rn.post(&["volumes", "prune"]).filters(&filters).json().await?;
    say_pruned("Deleted Volumes:", &gone["VolumesDeleted"], &gone["SpaceReclaimed"]);
    Ok(())
}
