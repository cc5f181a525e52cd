//! `context`.

use std::{collections::BTreeMap, fs, io::Write, os::unix::fs::OpenOptionsExt};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    context::{
        Context, Contexts, DEFAULT, check_name,
        endpoint::{Connection, Endpoint},
        exchange, path,
    },
    exit::Failure,
    output::{
        self, complain,
        listing::{ListFlags, Listing, Row},
    },
    parse::csv,
};

/// Commands about contexts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give a daemon a name
    Create(CreateArgs),
    /// List contexts
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Use a context from now on
    Use(UseArgs),
    /// Remove contexts
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Show everything about contexts, but for their keys
    Inspect(InspectArgs),
    /// Print the name of the context in use
    Show,
    /// Change a context
    Update(UpdateArgs),
    /// Write a context, with its keys, into an archive
    Export(ExportArgs),
    /// Make a context from an archive
    Import(ImportArgs),
}

/// Flags of `context create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl context create prod --docker host=ssh://admin@prod
  rnctl context create test --docker host=tcp://10.0.0.1:2376,ca=ca.pem,cert=cert.pem,key=key.pem")]
pub struct CreateArgs {
    /// The context's name
    #[arg(value_name = "CONTEXT")]
    name: String,
    #[command(flatten)]
    what: What,
    /// Copy this context
    #[arg(long, value_name = "CONTEXT", conflicts_with = "docker")]
    from: Option<String>,
}

/// What a context says.
#[derive(Debug, Args)]
pub struct What {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Where the daemon is: host=, ca=FILE, cert=FILE, key=FILE, skip-tls-verify=BOOL, from=CONTEXT
    #[arg(long, value_name = "KEY=VALUE,…")]
    docker: Option<String>,
}

/// Flags of `context use`.
#[derive(Debug, Args)]
pub struct UseArgs {
    /// The context; default is what RN_HOST and -H say
    #[arg(value_name = "CONTEXT")]
    name: String,
}

/// Flags of `context rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Contexts
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
    /// Even the one in use; what does not exist is no error
    #[arg(short, long)]
    force: bool,
}

/// Flags of `context inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Contexts [default: the one in use]
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Flags of `context update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// The context
    #[arg(value_name = "CONTEXT")]
    name: String,
    #[command(flatten)]
    what: What,
}

/// Flags of `context export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The context
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// The archive, or - for standard output [default: CONTEXT.dockercontext]
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

/// Flags of `context import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The context's name
    #[arg(value_name = "CONTEXT")]
    name: String,
    /// The archive, or - for standard input
    #[arg(value_name = "FILE|-")]
    file: String,
}

/// Runs a `context` command; none asks a daemon.
pub fn run(connection: &Connection, command: Command) -> Result<(), Failure> {
    let contexts = Contexts::load()?;
    match command {
        Command::Create(args) => create(connection, contexts, args),
        Command::Ls(flags) => list(connection, &contexts, &flags),
        Command::Use(args) => set_current(contexts, &args.name),
        Command::Rm(args) => remove(contexts, &args),
        Command::Inspect(args) => inspect(connection, &contexts, args),
        Command::Show => {
            output::line(&connection.context_in_use(&variable, &contexts)?);
            Ok(())
        }
        Command::Update(args) => update(connection, contexts, &args),
        Command::Export(args) => export(&contexts, args),
        Command::Import(args) => import(contexts, &args),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What stands for the host that flags and variables name.
const OF_ENVIRONMENT: &str = "Current RN_HOST based configuration";

/// The context that is none.
fn default_context(connection: &Connection) -> Result<Context, Failure> {
    let usual = Connection { context: Some(DEFAULT.into()), host: None, ..connection.clone() };
    let Endpoint { host, tls } = usual.resolve(&variable, &Contexts::default(), &|path| fs::read(path))?;
    let mut context = Context { name: DEFAULT.into(), ..Context::default() };
    context.metadata.description = OF_ENVIRONMENT.into();
    context.endpoints.docker.host = connection.host.clone().unwrap_or(host);
    if let Some(tls) = tls {
        context.endpoints.docker.skip_tls_verify = !tls.verifies;
        for (name, part) in [("ca.pem", tls.ca), ("cert.pem", tls.cert), ("key.pem", tls.key)] {
            let text = part.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            context.tls.extend(text.map(|text| (name.to_owned(), text)));
        }
    }
    Ok(context)
}

fn find(connection: &Connection, contexts: &Contexts, name: &str) -> Result<Context, Failure> {
    if name == DEFAULT { default_context(connection) } else { contexts.get(name).cloned() }
}

impl What {
    fn put(
        &self,
        connection: &Connection,
        contexts: &Contexts,
        context: &mut Context,
    ) -> Result<(), Failure> {
        if let Some(text) = &self.description {
            context.metadata.description.clone_from(text);
        }
        let Some(text) = &self.docker else { return Ok(()) };
        let bad = |what: String| Failure::local(format!("unable to create docker endpoint config: {what}"));
        let mut fields = BTreeMap::new();
        for (key, value) in csv::pairs(text).map_err(bad)? {
            fields.insert(key, value.unwrap_or_default());
        }
        if let Some(name) = fields.remove("from") {
            let from = find(connection, contexts, &name)?;
            (context.endpoints, context.tls) = (from.endpoints, from.tls);
        } else {
            (context.endpoints, context.tls) = (Default::default(), BTreeMap::new());
        }
        let docker = &mut context.endpoints.docker;
        for (key, value) in fields {
            let file = match key.as_str() {
                "host" => {
                    crate::api::check_host(&value)?;
                    docker.host = value;
                    continue;
                }
                "skip-tls-verify" => {
                    docker.skip_tls_verify =
                        proto::rules::mount::boolean(&key, &value).map_err(|e| bad(e.message))?;
                    continue;
                }
                "ca" => "ca.pem",
                "cert" => "cert.pem",
                "key" => "key.pem",
                other => return Err(bad(format!("unrecognized config key: {other}"))),
            };
            let text = fs::read_to_string(&value).map_err(|e| bad(format!("open {value}: {e}")))?;
            context.tls.insert(file.to_owned(), text);
        }
        Ok(())
    }
}

fn check_new(contexts: &Contexts, name: &str) -> Result<(), Failure> {
    check_name(name)?;
    match contexts.contexts.contains_key(name) {
        true => Err(Failure::local(format!("context {name:?} already exists"))),
        false => Ok(()),
    }
}

fn create(connection: &Connection, mut contexts: Contexts, args: CreateArgs) -> Result<(), Failure> {
    check_new(&contexts, &args.name)?;
    let mut context = match (&args.from, &args.what.docker) {
        (None, Some(_)) => Context::default(),
        (from, _) => find(connection, &contexts, from.as_deref().unwrap_or(DEFAULT))?,
    };
    context.name.clone_from(&args.name);
    args.what.put(connection, &contexts, &mut context)?;
    contexts.contexts.insert(args.name.clone(), context);
    contexts.save()?;
    output::line(&args.name);
    complain(&format!("Successfully created context {:?}", args.name));
    Ok(())
}

fn update(connection: &Connection, mut contexts: Contexts, args: &UpdateArgs) -> Result<(), Failure> {
    check_name(&args.name)?;
    let mut context = contexts.get(&args.name)?.clone();
    args.what.put(connection, &contexts, &mut context)?;
    contexts.contexts.insert(args.name.clone(), context);
    contexts.save()?;
    output::line(&args.name);
    complain(&format!("Successfully updated context {:?}", args.name));
    Ok(())
}

fn set_current(mut contexts: Contexts, name: &str) -> Result<(), Failure> {
    contexts.current = match name {
        DEFAULT => String::new(),
        name => contexts.get(name)?.name.clone(),
    };
    contexts.save()?;
    output::line(name);
    complain(&format!("Current context is now {name:?}"));
    if name != DEFAULT && Connection::overrides(&variable) {
        complain(&format!(
            "Warning: RN_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset RN_HOST environment variable."
        ));
    }
    Ok(())
}

fn remove(mut contexts: Contexts, args: &RemoveArgs) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in &args.names {
        let refused = if name == DEFAULT {
            Some(format!("context {name:?} cannot be removed"))
        } else if contexts.current() == name && !args.force {
            Some(format!("context {name:?} is in use, set -f flag to force remove"))
        } else if contexts.contexts.remove(name).is_none() && !args.force {
            Some(format!("context {name:?} does not exist"))
        } else {
            None
        };
        if let Some(what) = refused {
            failures.push(Failure::local(what));
            continue;
        }
        if contexts.current() == name {
            contexts.current.clear();
        }
        contexts.save()?;
        output::line(name);
    }
    Failure::all(failures)
}

const LISTING: Listing = Listing {
    table: "{{.Name}}{{if .Current}} *{{end}}\\t{{.Description}}\\t{{.DockerEndpoint}}\\t{{.Error}}",
    quiet: "{{.Name}}",
    configured: |_| None,
    headings: &[
        ("Name", "NAME"),
        ("Current", ""),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "ENDPOINT"),
        ("Error", "ERROR"),
    ],
};

fn list(connection: &Connection, contexts: &Contexts, flags: &ListFlags) -> Result<(), Failure> {
    let current = connection.context_in_use(&variable, contexts)?;
    let mut all: Vec<Context> = contexts.contexts.values().cloned().collect();
    all.push(default_context(connection)?);
    all.sort_by_key(|context| crate::view::stack::natural(&context.name));
    let row = |context: &Context| {
        let row = json!({
            "Current": context.name == current, "Description": context.metadata.description,
            "DockerEndpoint": context.endpoints.docker.host, "Error": "", "Name": context.name,
        });
        row.as_object().cloned().unwrap_or_default()
    };
    let rows: Vec<Row> = all.iter().map(row).collect();
    LISTING.print(&rows, flags)?;
    if Connection::overrides(&variable) && contexts.current() != DEFAULT && connection.context.is_none() {
        complain(
            "Warning: RN_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset RN_HOST environment variable.",
        );
    }
    Ok(())
}

fn inspect(connection: &Connection, contexts: &Contexts, args: InspectArgs) -> Result<(), Failure> {
    let names = if args.names.is_empty() {
        vec![connection.context_in_use(&variable, contexts)?]
    } else {
        args.names
    };
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        let mut context = match find(connection, contexts, &name) {
            Ok(context) => context,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        let place = match path() {
            Some(path) if name != DEFAULT => path.display().to_string(),
            _ => "<IN MEMORY>".into(),
        };
        if name == DEFAULT {
            context.metadata.description.clear();
        }
        let files: Vec<&String> = context.tls.keys().collect();
        let material = if files.is_empty() { json!({}) } else { json!({ "docker": files }) };
        let row = json!({
            "Name": name, "Metadata": context.metadata, "Endpoints": context.endpoints, "TLSMaterial": material,
            "Storage": {"MetadataPath": place, "TLSPath": place},
        });
        rows.push(row.as_object().cloned().unwrap_or_default());
    }
    super::inspect::print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

fn export(contexts: &Contexts, args: ExportArgs) -> Result<(), Failure> {
    let context = contexts.get(&args.name)?;
    let mut bytes = Vec::new();
    exchange::write(context, &mut bytes)
        .map_err(|e| Failure::local(format!("cannot pack the context: {e}")))?;
    let file = args.file.unwrap_or_else(|| format!("{}.dockercontext", args.name));
    if file == "-" {
        if output::is_terminal() {
            return Err(Failure::local("cowardly refusing to export to a terminal, specify a file path"));
        }
        output::bytes(false, &bytes);
        return Ok(());
    }
    // There are keys in it, and what is there already stays.
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let written = made.and_then(|mut to| to.write_all(&bytes).and_then(|()| to.sync_all()));
    written.map_err(|e| Failure::local(format!("open {file}: {e}")))?;
    complain(&format!("Written file {file:?}"));
    Ok(())
}

fn import(mut contexts: Contexts, args: &ImportArgs) -> Result<(), Failure> {
    check_new(&contexts, &args.name)?;
    let read = match args.file.as_str() {
        "-" => exchange::read(std::io::stdin().lock()),
        path => match fs::File::open(path) {
            Ok(file) => exchange::read(file),
            Err(e) => return Err(Failure::local(format!("open {path}: {e}"))),
        },
    };
    let mut context = read.map_err(|what| Failure::local(format!("{} {what}", args.file)))?;
    context.name.clone_from(&args.name);
    contexts.contexts.insert(args.name.clone(), context);
    contexts.save()?;
    output::line(&args.name);
    complain(&format!("Successfully imported context {:?}", args.name));
    Ok(())
}
