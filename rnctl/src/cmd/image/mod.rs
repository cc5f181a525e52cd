//! `image`: what is on this machine, and how it comes and goes.

mod archive;
mod history;
mod progress;
mod prune;
mod pull;

use clap::{Args, Subcommand};
use proto::model::Timestamp;
use serde_json::Value;

pub use archive::{ImportArgs, LoadArgs, SaveArgs, import, load, save};
pub use history::{HistoryArgs, history};
pub use pull::{PullArgs, PushArgs, pull, pull_quietly, push};

use crate::{
    api::Client,
    exit::Failure,
    output::{
        self, complain,
        filter::Filters,
        listing::{ListFlags, Row},
    },
    view::{
        self,
        image::{LISTING, LISTING_DIGESTS},
    },
};

/// Commands about images.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List this machine's images
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Remove images from this machine
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Show everything about images
    Inspect(InspectArgs),
    /// Make an image from an archive of a root file system
    Import(ImportArgs),
    /// Bring in the images of an archive, as docker save writes it, or an OCI one
    Load(LoadArgs),
    /// Pull an image from its registry
    Pull(PullArgs),
    /// Write images into an archive
    Save(SaveArgs),
    /// Push an image to its registry
    Push(PushArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove the images that nothing needs
    Prune(prune::PruneArgs),
}

/// Flags of `image ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only this repository, or repository:tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
    /// As Docker's; every image is shown anyway
    #[arg(short, long, hide = true)]
    all: bool,
    /// Show only some: reference=, dangling=true|false, label=, before=IMAGE, since=IMAGE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print the digests that registries give
    #[arg(long)]
    digests: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `image rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove even what a container uses
    #[arg(short, long)]
    force: bool,
    /// Images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Flags of `image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Runs an `image` command.
pub async fn run(rn: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(rn, args).await,
        Command::Rm(args) => remove(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Import(args) => import(rn, args).await,
        Command::Load(args) => load(rn, args).await,
        Command::Pull(args) => pull(rn, args).await,
        Command::Save(args) => save(rn, args).await,
        Command::Push(args) => push(rn, args).await,
        Command::History(args) => history(rn, args).await,
        Command::Tag(args) => tag(rn, args).await,
        Command::Prune(args) => prune::run(rn, args).await,
    }
}

/// `image ls` and `images`.
pub async fn list(rn: &Client, args: ListArgs) -> Result<(), Failure> {
    let known = ["reference", "dangling", "label", "before", "since", "until"];
    let filters = Filters::parse(&args.filter, &known)?.one_of("dangling", &["true", "false", "1", "0"])?;
    let mut filters = filters.with_moments("until")?;
    if let Some(reference) = &args.reference {
        filters = filters.with("reference", reference);
    }
    let asked = rn.get(&["images", "json"]).flag("all", args.all).filters(&filters);
    let mut images: Vec<Value> = asked.json().await?;
    let made = |image: &Value| image["Created"].as_u64().unwrap_or_default();
    images.sort_by(|a, b| {
        made(b).cmp(&made(a)).then_with(|| a["RepoTags"].to_string().cmp(&b["RepoTags"].to_string()))
    });
    let now = Timestamp::now();
    let named = |repository: &str, tag: &str, wanted: &str| {
        let (name, wanted_tag) = view::image::split(wanted);
        wildcard(name, repository) && (!wanted.contains(':') || wildcard(wanted_tag, tag))
    };
    // The daemon leaves out images, not names of those that stay.
    let rows = images.iter().flat_map(|image| view::image::rows(image, args.no_trunc, args.digests, now));
    let rows: Vec<Row> = rows
        .filter(|row| {
            let field = |k: &str| row.get(k).and_then(Value::as_str).unwrap_or_default();
            let (repository, tag) = (field("Repository"), field("Tag"));
            filters.any("reference", |r| named(repository, tag, r))
        })
        .collect();
    // As Docker's: an id is printed once for each of its names with -q too.
    if args.digests { LISTING_DIGESTS } else { LISTING }.print(&rows, &args.list)
}

/// Shell patterns with `*` and `?`; `*` does not cross a slash.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (mut pattern, text) = (pattern.chars(), text);
    match pattern.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern.as_str();
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let reach = text.find('/').unwrap_or(text.len());
            ends.filter(|at| *at <= reach).any(|at| wildcard(rest, text.get(at..).unwrap_or_default()))
        }
        Some(wanted) => {
            let mut rest = text.chars();
            rest.next().is_some_and(|c| c == wanted || (wanted == '?' && c != '/'))
                && wildcard(pattern.as_str(), rest.as_str())
        }
    }
}

/// Flags of `image tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// The image, by name or id
    source: String,
    /// Its further name
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

/// `image tag` and `tag`.
pub async fn tag(rn: &Client, args: TagArgs) -> Result<(), Failure> {
    let (repository, tag) = match args.target.contains('@') {
        // The daemon says that it cannot be.
        true => (args.target.as_str(), ""),
        false => view::image::split(&args.target),
    };
    rn.post(&["images", &args.source, "tag"]).query("repo", repository).query("tag", tag).done().await
}

/// What a removal has done, a line each; `words` for a name that is gone, and for an image.
fn said(gone: &Value, words: (&str, &str)) -> Vec<String> {
    let line = |one: &Value| match (one["Untagged"].as_str(), one["Deleted"].as_str()) {
        (Some(name), _) => Some(format!("{}: {name}", words.0)),
        (None, Some(id)) => Some(format!("{}: {id}", words.1)),
        (None, None) => None,
    };
    gone.as_array().into_iter().flatten().filter_map(line).collect()
}

/// `image rm` and `rmi`.
pub async fn remove(rn: &Client, args: RemoveArgs) -> Result<(), Failure> {
    let mut failed = false;
    for key in &args.images {
        match rn.delete(&["images", key]).flag("force", args.force).json::<Value>().await {
            Ok(gone) => said(&gone, ("Untagged", "Deleted")).iter().for_each(|line| output::line(line)),
            Err(failure) => {
                complain(&failure.to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}

async fn inspect(rn: &Client, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for key in &args.images {
        match rn.get(&["images", key, "json"]).object().await {
            Ok(row) => rows.push(row),
            Err(failure) => failures.push(failure),
        }
    }
    super::inspect::print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

#[cfg(test)]
mod tests {
    use super::wildcard;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("web", "web", true),
            ("web", "webs", false),
            ("w*", "web", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("*b*", "abc", true),
            ("w?b", "web", true),
            ("", "", true),
        ] {
            assert_eq!(wildcard(pattern, text), want, "{pattern} {text}");
        }
    }
}
