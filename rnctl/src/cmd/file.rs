//! `secret` and `config`.

use std::{io::Read, path::Path};

use clap::{Args, Subcommand};
use proto::{
    model::{Config, FileSpec, Payload, Secret, Timestamp},
    pb,
};

use super::{get, typed};
use crate::{
    connect::Daemon,
    exit::Failure,
    output::{
        self, complain,
        filter::Filters,
        listing::{ListFlags, Row},
    },
    parse::keyval,
    view::file::{self, File},
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `secret`
    Secret,
    /// `config`
    Config,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Config => "config",
        }
    }

    async fn get(self, rn: &Daemon, key: &str) -> Result<File, tonic::Status> {
        let malformed = tonic::Status::from;
        Ok(match self {
            Kind::Secret => Secret::try_from(rn.control().get_secret(get(key)).await?.into_inner())
                .map_err(malformed)?
                .into(),
            Kind::Config => Config::try_from(rn.control().get_config(get(key)).await?.into_inner())
                .map_err(malformed)?
                .into(),
        })
    }

    async fn list(self, rn: &Daemon) -> Result<Vec<File>, Failure> {
        let request = pb::ListFilesRequest::default();
        match self {
            Kind::Secret => {
                let reply = rn.control().list_secrets(request).await?.into_inner();
                reply.secrets.into_iter().map(|s| Ok(typed::<_, Secret>(s)?.into())).collect()
            }
            Kind::Config => {
                let reply = rn.control().list_configs(request).await?.into_inner();
                reply.configs.into_iter().map(|c| Ok(typed::<_, Config>(c)?.into())).collect()
            }
        }
    }
}

/// Commands about secrets, or about configs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create one from a file, or from standard input (-)
    Create(CreateArgs),
    /// List them
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show everything about some, but for what a secret holds
    Inspect(InspectArgs),
    /// Remove some that no service uses
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// Flags of `create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  printf hush | rnctl secret create db-password -
  rnctl config create --template-driver golang app.conf ./app.conf.tmpl")]
pub struct CreateArgs {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: String,
    /// Label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    label: Vec<(String, String)>,
    /// The file is a template, which each node fills in: golang
    #[arg(long, value_name = "DRIVER", value_parser = ["golang"], hide_possible_values = true)]
    template_driver: Option<String>,
    #[arg(short, long, hide = true, value_name = "DRIVER")]
    driver: Option<String>,
}

/// Flags of `ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some: id=, label=, name=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// By id or name
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Print for people
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
}

/// Flags of `rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// By id or name
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Runs a `secret` or a `config` command.
pub async fn run(rn: &Daemon, kind: Kind, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(rn, kind, args).await,
        Command::Ls(args) => list(rn, kind, args).await,
        Command::Inspect(args) => inspect(rn, kind, args).await,
        Command::Rm(args) => remove(rn, kind, args).await,
    }
}

/// `inspect` of one; none if there is none, or this node cannot know.
pub async fn find(rn: &Daemon, kind: Kind, key: &str) -> Result<Option<Row>, Failure> {
    match kind.get(rn, key).await {
        Ok(found) => Ok(Some(file::inspect(&found))),
        Err(status) if super::is_elsewhere(&status) => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// The content, of no more bytes than any secret or config may have and one.
fn content(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(Config::MAX_DATA).unwrap_or(u64::MAX).saturating_add(1);
    let read = match path {
        "-" => std::io::stdin().lock().take(most).read_to_end(&mut bytes),
        path => std::fs::File::open(Path::new(path)).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|e| Failure::local(format!("error reading content from {path:?}: {e}")))?;
    Ok(bytes)
}

async fn create(rn: &Daemon, kind: Kind, args: CreateArgs) -> Result<(), Failure> {
    if args.driver.is_some() {
        return Err(Failure::local(format!(
            "--driver is not supported: the swarm itself keeps what a {} holds",
            kind.word()
        ))
        .with_help("leave it out"));
    }
    let data = Payload(content(&args.file)?);
    let spec = FileSpec { name: args.name, labels: keyval::map(&args.label), data, templating: None };
    let spec = pb::FileSpec { templating: args.template_driver.unwrap_or_default(), ..spec.into() };
    let request = pb::CreateFileRequest { spec: Some(spec) };
    let id = match kind {
        Kind::Secret => rn.control().create_secret(request).await?.into_inner().id,
        Kind::Config => rn.control().create_config(request).await?.into_inner().id,
    };
    output::line(&id);
    Ok(())
}

async fn list(rn: &Daemon, kind: Kind, args: ListArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["id", "label", "name"])?;
    let mut files = kind.list(rn).await?;
    files.retain(|f| {
        filters.any("id", |v| f.id.starts_with(v))
            && filters.any("name", |v| f.spec.name.starts_with(v))
            && filters.labels("label", &f.spec.labels)
    });
    files.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let now = Timestamp::now();
    let rows: Vec<Row> = files.iter().map(|f| file::row(f, now)).collect();
    let listing = if kind == Kind::Secret { &file::SECRETS } else { &file::CONFIGS };
    listing.print(&rows, &args.list)
}

async fn inspect(rn: &Daemon, kind: Kind, args: InspectArgs) -> Result<(), Failure> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for key in &args.names {
        match kind.get(rn, key).await {
            Ok(file) => found.push(file),
            Err(status) => failures.push(Failure::from(status)),
        }
    }
    if args.pretty {
        let texts: Vec<String> = found.iter().map(file::pretty).collect();
        output::emit(&texts.join("\n"));
    } else {
        let rows: Vec<Row> = found.iter().map(file::inspect).collect();
        super::inspect::print(&rows, args.format.as_deref())?;
    }
    Failure::all(failures)
}

async fn remove(rn: &Daemon, kind: Kind, args: RemoveArgs) -> Result<(), Failure> {
    let mut failed = false;
    for key in &args.names {
        let request = pb::RemoveRequest { key: key.clone(), force: false };
        let answer = match kind {
            Kind::Secret => rn.control().remove_secret(request).await,
            Kind::Config => rn.control().remove_config(request).await,
        };
        match answer {
            Ok(_) => output::line(key),
            Err(status) => {
                complain(&Failure::from(status).to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}
