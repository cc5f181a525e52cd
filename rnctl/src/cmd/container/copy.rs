//! `cp` and `export`.

mod local;
mod place;

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use docker_api::archive::STAT_HEADER;
use futures::StreamExt;
use serde_json::Value;

use self::place::{Place, Target};
use crate::{
    api::{Client, bytes_of},
    cmd::file_output,
    exit::Failure,
    output::{self, complain, is_terminal, units::decimal},
};

/// Flags of `cp`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl cp web:/etc/hosts .
  rnctl cp ./conf web:/etc
  rnctl cp web:/var/log - | tar t
  tar c conf | rnctl cp - web:/etc")]
pub struct CopyArgs {
    /// Keep owner and group
    #[arg(short, long)]
    archive: bool,
    /// Of a symbolic link, copy what it points to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say how much was copied
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, or a path of this machine; '-' reads an archive from standard input
    source: String,
    /// A path of this machine, or CONTAINER:PATH; '-' writes an archive to standard output
    target: String,
}

/// Flags of `export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl export -o web.tar web")]
pub struct ExportArgs {
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container, by name or id
    container: String,
}

/// `export`.
pub async fn export(rn: &Client, args: ExportArgs) -> Result<(), Failure> {
    let target = file_output::Target::of(args.output)?;
    target.write(rn.get(&["containers", &args.container, "export"]).bytes().await?).await
}

/// `cp`.
pub async fn run(rn: &Client, args: CopyArgs) -> Result<(), Failure> {
    match (Place::parse(&args.source), Place::parse(&args.target)) {
        (Place::Container(name, path), Place::Local(target)) => from(rn, &args, &name, &path, &target).await,
        (Place::Local(source), Place::Container(name, path)) => to(rn, &args, &source, &name, &path).await,
        (Place::Container(..), Place::Container(..)) => {
            Err(Failure::local("copying between containers is not supported"))
        }
        (Place::Local(_), Place::Local(_)) => {
            Err(Failure::local("must specify at least one container source"))
        }
    }
}

/// What is at a path in a container.
#[derive(Debug, Clone, Default)]
struct Stat {
    is_dir: bool,
    link: Option<String>,
}

/// Bits of Go's `os.FileMode`.
const GO_DIR: u64 = 1 << 31;
const GO_LINK: u64 = 1 << 27;

async fn stat(rn: &Client, container: &str, path: &str) -> Result<Stat, Failure> {
    let answer = rn.head(&["containers", container, "archive"]).query("path", path).send().await?;
    let header = answer.headers().get(STAT_HEADER).and_then(|value| STANDARD.decode(value).ok());
    let stat: Value = header.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mode = stat["mode"].as_u64().unwrap_or_default();
    let target = stat["linkTarget"].as_str().unwrap_or_default();
    let link = (mode & GO_LINK != 0).then(|| place::resolve(path, target));
    Ok(Stat { is_dir: mode & GO_DIR != 0, link })
}

async fn from(rn: &Client, args: &CopyArgs, name: &str, path: &str, target: &str) -> Result<(), Failure> {
    let mut path = place::absolute(path);
    if args.follow_link
        && let Some(link) = stat(rn, name, &path).await?.link
    {
        path = link;
    }
    if target == "-" && is_terminal() {
        return Err(Failure::local("cowardly refusing to write an archive to a terminal; redirect it"));
    }
    let asked = rn.get(&["containers", name, "archive"]).query("path", &path);
    let answer = asked.send().await?;
    let header = answer.headers().get(STAT_HEADER).and_then(|value| STANDARD.decode(value).ok());
    let stat: Value = header.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let is_dir = stat["mode"].as_u64().unwrap_or_default() & GO_DIR != 0;
    let mut bytes = answer.bytes();
    if target == "-" {
        while let Some(piece) = bytes.next().await? {
            let _ = tokio::task::spawn_blocking(move || output::bytes(false, &piece)).await;
        }
        return Ok(());
    }
    let place = local::target(Path::new(target));
    let chosen = place::choose(target, place, is_dir).map_err(Failure::local)?;
    let copied = local::unpack(bytes.reader(), chosen, args.archive).await?;
    say(args, copied, target);
    Ok(())
}

async fn to(rn: &Client, args: &CopyArgs, source: &str, name: &str, path: &str) -> Result<(), Failure> {
    let mut path = place::absolute(path);
    let mut there = stat(rn, name, &path).await;
    if let Ok(Stat { link: Some(link), .. }) = &there {
        path.clone_from(link);
        there = stat(rn, name, &path).await;
    }
    let there = match there {
        Ok(stat) if stat.is_dir => Target::Directory,
        Ok(_) => Target::File,
        // It is the container that is not there, perhaps.
        Err(failure) if failure.is_not_found() => {
            rn.get(&["containers", name, "json"]).object().await?;
            Target::Nothing
        }
        Err(failure) => return Err(failure),
    };
    let put = |dir: &str| {
        let put = rn.put(&["containers", name, "archive"]).query("path", dir);
        let put = put.query("noOverwriteDirNonDir", true);
        if args.archive { put.query("copyUIDGID", true) } else { put }
    };
    const TAR: &str = "application/x-tar";
    if source == "-" {
        if there != Target::Directory {
            return Err(Failure::local(format!("destination \"{name}:{path}\" must be a directory")));
        }
        return put(&path).stream(TAR, bytes_of(tokio::io::stdin())).done().await;
    }
    let (real, is_dir) = local::source(source, args.follow_link)?;
    let chosen = place::choose(&path, there, is_dir).map_err(Failure::local)?;
    let top = chosen.name.unwrap_or_else(|| place::top(source));
    let (archive, copied) = local::pack(real, top);
    let sent = put(&chosen.dir).stream(TAR, archive.boxed()).done().await;
    let copied = copied.await;
    // What could not be read is why the daemon saw no end.
    let copied = copied.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    let copied = copied.map_err(|e| Failure::local(format!("cannot read {source}: {e}")));
    match (sent, copied) {
        // The daemon had enough, and said why.
        (Err(failure @ Failure::Daemon(_)), _) => Err(failure),
        (_, Err(failure)) | (Err(failure), _) => Err(failure),
        (Ok(()), Ok(copied)) => {
            say(args, copied, &format!("{name}:{path}"));
            Ok(())
        }
    }
}

/// In Docker's words, beside the output.
fn say(args: &CopyArgs, bytes: u64, target: &str) {
    if !args.quiet {
        complain(&format!("Successfully copied {} to {target}", decimal(bytes)));
    }
}
