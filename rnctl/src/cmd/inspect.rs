//! `inspect`: whatever has that name.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{file, get, is_elsewhere, network, networks, node, typed};
use crate::{
    api::Client,
    connect::Daemon,
    exit::Failure,
    output::{self, listing::Row, omitted, template::Format},
    view,
};

/// Kinds of objects, in the order in which a name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A container of this machine
    Container,
    /// An image of this machine
    Image,
    /// A network
    Network,
    /// A volume of this machine
    Volume,
    /// A service
    Service,
    /// A node
    Node,
    /// A task
    Task,
    /// A secret
    Secret,
    /// A config
    Config,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// 'json', or a Go template, for instance '{{.State.Pid}}'
    #[arg(short, long)]
    format: Option<String>,
    /// Look for this kind of object only
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
}

/// Prints objects: an array, one JSON line each, or one line each by a template.
pub fn print(rows: &[Row], format: Option<&str>) -> Result<(), Failure> {
    match format {
        None => {
            let array: Vec<Value> = rows.iter().map(|row| Value::Object(omitted::printed(row))).collect();
            output::line(&indented(&array)?);
        }
        Some(format) => {
            let format = Format::parse(if format == "json" { "{{json .}}" } else { format })?;
            for row in rows {
                output::line(&format.render(row)?);
            }
        }
    }
    Ok(())
}

/// Four blanks a level, as Docker's.
fn indented(array: &[Value]) -> Result<String, Failure> {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    array.serialize(&mut serializer).map_err(|e| Failure::local(e.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs `inspect`.
pub async fn run(rn: &Daemon, api: &Client, args: InspectArgs) -> Result<(), Failure> {
    let kinds: &[Kind] = match &args.kind {
        Some(kind) => std::slice::from_ref(kind),
        None => Kind::value_variants(),
    };
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for name in &args.names {
        match find(rn, api, name, kinds).await {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => failures.push(Failure::local(format!("Error: No such object: {name}"))),
            Err(failure) => failures.push(failure),
        }
    }
    print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

async fn find(rn: &Daemon, api: &Client, name: &str, kinds: &[Kind]) -> Result<Option<Row>, Failure> {
    for kind in kinds {
        let found = match kind {
            Kind::Container => found(api.get(&["containers", name, "json"]).object().await)?,
            Kind::Image => found(api.get(&["images", name, "json"]).object().await)?,
            Kind::Volume => found(api.get(&["volumes", name]).object().await)?,
            Kind::Network => found(network::find(api, name, false).await)?,
            Kind::Service => match one(rn.control().get_service(get(name)).await)? {
                Some(service) => Some(view::service::inspect(&typed(service)?, &networks(rn).await?)),
                None => None,
            },
            Kind::Node => found(node::find(api, name).await)?,
            Kind::Task => match one(rn.control().get_task(get(name)).await)? {
                Some(task) => Some(view::task::inspect(&typed(task)?)),
                None => None,
            },
            Kind::Secret => file::find(rn, file::Kind::Secret, name).await?,
            Kind::Config => file::find(rn, file::Kind::Config, name).await?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The object, or none when this kind has no such object here.
fn found(answer: Result<Row, Failure>) -> Result<Option<Row>, Failure> {
    match answer {
        Ok(row) => Ok(Some(row)),
        Err(failure) if failure.is_elsewhere() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The answer, or none when this kind has no such object here.
fn one<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(reply) => Ok(Some(reply.into_inner())),
        Err(status) if is_elsewhere(&status) => Ok(None),
        Err(status) => Err(status.into()),
    }
}
