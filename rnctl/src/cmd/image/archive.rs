//! `import`, `load` and `save`: archives on their way to the daemon, and from it.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use clap::Args;
use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio::io::AsyncRead;

use super::progress;
use crate::{
    api::{Client, Request, Response, bytes_of},
    cmd::file_output,
    exit::Failure,
    output,
};

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

/// Flags of `load`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  docker save web:1 db:2 | rnctl load
  rnctl load -i images.tar.gz")]
pub struct LoadArgs {
    /// Archive (tar, may be compressed with gzip or zstd) [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,
    /// Print the names only
    #[arg(short, long)]
    quiet: bool,
    /// Of an image for several platforms take this one: os/arch[/variant] [default: this machine's]
    #[arg(long, default_value = "", hide_default_value = true)]
    platform: String,
}

/// Flags of `save`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl save -o images.tar web:1 db:2
  rnctl save web:1 | ssh other rnctl load")]
pub struct SaveArgs {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Media type of an archive.
const TAR: &str = "application/x-tar";

async fn open(file: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Failure> {
    if file == "-" {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let opened = tokio::fs::File::open(file).await;
    Ok(Box::new(opened.map_err(|e| Failure::local(format!("cannot read {file}: {e}")))?))
}

/// Sends a file as the body of a request. An error while reading must not look like the end of the archive, nor like the daemon's
/// fault.
async fn send(request: Request<'_>, file: &str) -> Result<Response, Failure> {
    let broken = Arc::new(Mutex::new(None));
    let bytes = noting(bytes_of(open(file).await?), broken.clone());
    let answer = request.stream(TAR, bytes).send().await;
    let why: Option<String> = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
    match why {
        Some(why) => Err(Failure::local(format!("cannot read {file}: {why}"))),
        None => answer,
    }
}

fn noting<T>(
    stream: impl Stream<Item = io::Result<T>> + Send,
    broken: Arc<Mutex<Option<String>>>,
) -> impl Stream<Item = io::Result<T>> + Send {
    stream.inspect(move |piece| {
        if let Err(error) = piece {
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    })
}

/// `import`.
pub async fn import(rn: &Client, args: ImportArgs) -> Result<(), Failure> {
    if args.file.contains("://") {
        return Err(Failure::local(format!("cannot import {}: only files and '-' are supported", args.file))
            .with_help(format!("fetch it first: curl -L {} | rnctl import - NAME[:TAG]", args.file)));
    }
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut request = rn.post(&["images", "create"]).query("fromSrc", "-");
    request = request.maybe("repo", some(&args.reference)).maybe("message", some(&args.message));
    for change in &args.change {
        request = request.query("changes", change);
    }
    let mut lines = send(request, &args.file).await?.lines::<Value>();
    while let Some(line) = lines.next().await? {
        progress::check(&line)?;
        output::line(line["status"].as_str().unwrap_or_default());
    }
    Ok(())
}

/// `load`: says what it has brought, as Docker does.
pub async fn load(rn: &Client, args: LoadArgs) -> Result<(), Failure> {
    let file = args.input.as_deref().unwrap_or("-");
    if file == "-" && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::local("requested load from stdin, but stdin is empty"));
    }
    let request = rn.post(&["images", "load"]).query("quiet", 1);
    let platform = Some(&args.platform).filter(|platform| !platform.is_empty());
    let mut lines = send(request.maybe("platform", platform), file).await?.lines::<Value>();
    while let Some(line) = lines.next().await? {
        progress::check(&line)?;
        let text = line["stream"].as_str().unwrap_or_default();
        if !args.quiet || text.starts_with("Loaded image") {
            output::emit(text);
        }
    }
    Ok(())
}

/// `save`.
pub async fn save(rn: &Client, args: SaveArgs) -> Result<(), Failure> {
    let target = file_output::Target::of(args.output)?;
    let mut request = rn.get(&["images", "get"]);
    for image in &args.images {
        request = request.query("names", image);
    }
    target.write(request.bytes().await?).await
}
