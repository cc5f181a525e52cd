//! `import`, `image ls`, `image rm`, `image inspect`.

use clap::{Args, Subcommand};
use futures::StreamExt;
use proto::{model::Timestamp, pb};
use tokio::io::AsyncReadExt;

use super::get;
use crate::{
    connect::Daemon,
    exit::Failure,
    output::{self, complain, filter::Filters, listing::ListFlags},
    view::{self, image::LISTING},
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
    /// Show only some: reference=, dangling=true|false
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
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

/// Flags of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl import rootfs.tar hello:1
  tar -C rootfs -c . | rnctl import -c 'CMD [\"/bin/httpd\", \"-f\"]' - hello:1")]
pub struct ImportArgs {
    /// Archive (tar, may be compressed with gzip); '-' is standard input
    file: String,
    /// The image's name; without one it has only an id
    #[arg(value_name = "NAME[:TAG]", default_value = "", hide_default_value = true)]
    reference: String,
    /// Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, WORKDIR; may be repeated
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A note that stays with the image
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
}

/// Runs an `image` command.
pub async fn run(rn: &Daemon, command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(rn, args).await,
        Command::Rm(args) => remove(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Import(args) => import(rn, args).await,
    }
}

/// `image ls` and `images`.
pub async fn list(rn: &Daemon, args: ListArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["reference", "dangling"])?;
    let mut images = rn.local().list_images(pb::ListImagesRequest {}).await?.into_inner().images;
    images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.tags.cmp(&b.tags)));
    let now = Timestamp::now();
    let named = |repository: &str, tag: &str, wanted: &str| {
        let (name, wanted_tag) = view::image::split(wanted);
        repository == name && (!wanted.contains(':') || tag == wanted_tag)
    };
    let mut rows = Vec::new();
    for image in &images {
        if !filters.any("dangling", |v| (v == "true") == image.tags.is_empty()) {
            continue;
        }
        for row in view::image::rows(image, args.no_trunc, now) {
            let field = |k: &str| row.get(k).and_then(|v| v.as_str()).unwrap_or_default();
            let (repository, tag) = (field("Repository"), field("Tag"));
            if args.reference.as_deref().is_none_or(|r| named(repository, tag, r))
                && filters.any("reference", |r| named(repository, tag, r))
            {
                rows.push(row);
            }
        }
    }
    LISTING.print(&rows, &args.list)
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

/// One message of the stream. Far below gRPC's limit of 4 MiB, and large enough that the cost of a message does not show.
const CHUNK: usize = 256 * 1024;

/// `import`.
pub async fn import(rn: &Daemon, args: ImportArgs) -> Result<(), Failure> {
    if args.file.contains("://") {
        return Err(Failure::local(format!("cannot import {}: only files and '-' are supported", args.file))
            .with_help(format!("fetch it first: curl -L {} | rnctl import - NAME[:TAG]", args.file)));
    }
    let mut source: Box<dyn tokio::io::AsyncRead + Send + Unpin> = if args.file == "-" {
        Box::new(tokio::io::stdin())
    } else {
        let file = tokio::fs::File::open(&args.file).await;
        Box::new(file.map_err(|e| Failure::local(format!("cannot read {}: {e}", args.file)))?)
    };
    let first = pb::ImportRequest {
        reference: args.reference,
        message: args.message,
        changes: args.change,
        data: Vec::new(),
    };
    // An error while reading must not look like the end of the archive: it is sent back here and the stream breaks off.
    let (broken, mut breaks) = tokio::sync::mpsc::channel(1);
    let (sender, chunks) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let mut next = Some(first);
        loop {
            let message = match next.take() {
                Some(first) => first,
                None => {
                    let mut data = vec![0; CHUNK];
                    match source.read(&mut data).await {
                        Ok(0) => return,
                        Ok(n) => {
                            data.truncate(n);
                            pb::ImportRequest { data, ..pb::ImportRequest::default() }
                        }
                        Err(e) => {
                            let _ = broken.send(e).await;
                            return std::future::pending().await;
                        }
                    }
                }
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(chunks).boxed();
    let mut local = rn.local();
    let reply = tokio::select! {
        reply = local.import(stream) => reply?.into_inner(),
        Some(e) = breaks.recv() => return Err(Failure::local(format!("cannot read {}: {e}", args.file))),
    };
    let id = if reply.id.contains(':') { reply.id } else { format!("sha256:{}", reply.id) };
    output::line(&id);
    Ok(())
}
