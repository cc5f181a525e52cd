//! `import` and `load`: archives on their way to the daemon.

use clap::Args;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto::pb;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};

use crate::{connect::Daemon, exit::Failure, output};

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

/// One message of the stream. Far below gRPC's limit of 4 MiB, and large enough that the cost of a message does not show.
const CHUNK: usize = 256 * 1024;

/// Sends a file in messages: the first one, then what `chunk` makes of the content. An error while reading must not look like
/// the end of the archive: it arrives in the second part, and the stream stays open.
fn send<M: Send + 'static>(
    mut source: Box<dyn AsyncRead + Send + Unpin>,
    first: M,
    chunk: fn(Vec<u8>) -> M,
) -> (BoxStream<'static, M>, mpsc::Receiver<std::io::Error>) {
    let (broken, breaks) = mpsc::channel(1);
    let (sender, chunks) = mpsc::channel(4);
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
                            chunk(data)
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
    (tokio_stream::wrappers::ReceiverStream::new(chunks).boxed(), breaks)
}

async fn open(file: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Failure> {
    if file == "-" {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let opened = tokio::fs::File::open(file).await;
    Ok(Box::new(opened.map_err(|e| Failure::local(format!("cannot read {file}: {e}")))?))
}

fn unreadable(file: &str, error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot read {file}: {error}"))
}

/// `import`.
pub async fn import(rn: &Daemon, args: ImportArgs) -> Result<(), Failure> {
    if args.file.contains("://") {
        return Err(Failure::local(format!("cannot import {}: only files and '-' are supported", args.file))
            .with_help(format!("fetch it first: curl -L {} | rnctl import - NAME[:TAG]", args.file)));
    }
    let source = open(&args.file).await?;
    let first = pb::ImportRequest {
        reference: args.reference,
        message: args.message,
        changes: args.change,
        data: Vec::new(),
    };
    let (stream, mut breaks) =
        send(source, first, |data| pb::ImportRequest { data, ..pb::ImportRequest::default() });
    let mut local = rn.local();
    let reply = tokio::select! {
        reply = local.import(stream) => reply?.into_inner(),
        Some(e) = breaks.recv() => return Err(unreadable(&args.file, &e)),
    };
    let id = if reply.id.contains(':') { reply.id } else { format!("sha256:{}", reply.id) };
    output::line(&id);
    Ok(())
}

/// `load`: says what it has brought, as Docker does.
pub async fn load(rn: &Daemon, args: LoadArgs) -> Result<(), Failure> {
    let file = args.input.as_deref().unwrap_or("-");
    if file == "-" && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::local("requested load from stdin, but stdin is empty"));
    }
    let source = open(file).await?;
    let first = pb::LoadRequest { platform: args.platform, data: Vec::new() };
    let (stream, mut breaks) =
        send(source, first, |data| pb::LoadRequest { data, ..pb::LoadRequest::default() });
    let mut local = rn.local();
    let reply = tokio::select! {
        reply = local.load(stream) => reply?.into_inner(),
        Some(e) = breaks.recv() => return Err(unreadable(file, &e)),
    };
    for image in reply.images {
        if !args.quiet {
            for old in image.renamed {
                output::line(&format!(
                    "The image {} already exists, renaming the old one with ID {} to empty string",
                    old.tag, old.id
                ));
            }
        }
        if image.tags.is_empty() {
            output::line(&format!("Loaded image ID: {}", image.id));
        }
        for tag in image.tags {
            output::line(&format!("Loaded image: {tag}"));
        }
    }
    Ok(())
}
