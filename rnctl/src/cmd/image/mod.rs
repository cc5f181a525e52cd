//! `image`: what is on this machine, and how it comes and goes.

mod archive;
mod prune;
mod pull;

use clap::{Args, Subcommand};
use proto::{model::Timestamp, pb};

pub use archive::{ImportArgs, LoadArgs, import, load};
pub use pull::{PullArgs, pull, pull_quietly};

use super::get;
use crate::{
    connect::Daemon,
    exit::Failure,
    output::{self, complain, filter::Filters, listing::ListFlags},
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
pub async fn run(rn: &Daemon, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(rn, args).await,
        Command::Rm(args) => remove(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Import(args) => import(rn, args).await,
        Command::Load(args) => load(rn, args).await,
        Command::Pull(args) => pull(rn, args).await,
        Command::Tag(args) => tag(rn, args).await,
        Command::Prune(args) => prune::run(rn, args).await,
    }
}

/// `image ls` and `images`.
pub async fn list(rn: &Daemon, args: ListArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["reference", "dangling", "label", "before", "since"])?
        .one_of("dangling", &["true", "false", "1", "0"])?;
    let mut images = rn.local().list_images(pb::ListImagesRequest {}).await?.into_inner().images;
    images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.tags.cmp(&b.tags)));
    let mut bounds = (u64::MAX, 0);
    for key in filters.values("before") {
        bounds.0 = bounds.0.min(rn.local().inspect_image(get(key)).await?.into_inner().created_at);
    }
    for key in filters.values("since") {
        bounds.1 = bounds.1.max(rn.local().inspect_image(get(key)).await?.into_inner().created_at);
    }
    let now = Timestamp::now();
    let named = |repository: &str, tag: &str, wanted: &str| {
        let (name, wanted_tag) = view::image::split(wanted);
        wildcard(name, repository) && (!wanted.contains(':') || wildcard(wanted_tag, tag))
    };
    let mut rows = Vec::new();
    for image in &images {
        if !filters.any("dangling", |v| (v == "true" || v == "1") == image.tags.is_empty())
            || !filters.labels("label", &view::image::labels(image))
            || (filters.has("before") && image.created_at >= bounds.0)
            || (filters.has("since") && image.created_at <= bounds.1)
        {
            continue;
        }
        for row in view::image::rows(image, args.no_trunc, args.digests, now) {
            let field = |k: &str| row.get(k).and_then(|v| v.as_str()).unwrap_or_default();
            let (repository, tag) = (field("Repository"), field("Tag"));
            if args.reference.as_deref().is_none_or(|r| named(repository, tag, r))
                && filters.any("reference", |r| named(repository, tag, r))
            {
                rows.push(row);
            }
        }
    }
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
pub async fn tag(rn: &Daemon, args: TagArgs) -> Result<(), Failure> {
    rn.local().tag_image(pb::TagImageRequest { source: args.source, target: args.target }).await?;
    Ok(())
}

/// `image rm` and `rmi`.
pub async fn remove(rn: &Daemon, args: RemoveArgs) -> Result<(), Failure> {
    let mut failed = false;
    for key in &args.images {
        let request = pb::RemoveImageRequest { key: key.clone(), force: args.force };
        match rn.local().remove_image(request).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                for name in reply.untagged {
                    output::line(&format!("Untagged: {name}"));
                }
                for id in reply.deleted {
                    output::line(&format!("Deleted: {id}"));
                }
            }
            Err(status) => {
                complain(&Failure::from(status).to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}

async fn inspect(rn: &Daemon, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for key in &args.images {
        match rn.local().inspect_image(get(key)).await {
            Ok(reply) => rows.push(view::image::inspect(reply.get_ref())),
            Err(status) => failures.push(status.into()),
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
