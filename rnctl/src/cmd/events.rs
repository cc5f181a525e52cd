//! `events`.

use clap::Args;
use proto::pb;
use serde_json::{Value, json};

use crate::{
    connect::Daemon,
    exit::Failure,
    output::{self, filter::Filters, listing::Row, template::Format, time},
    parse::time::moment,
};

/// Flags of `events`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl events --filter type=service --filter event=update
  rnctl events --since 10m --until 0s --format '{{.Type}} {{.Action}} {{.Actor.ID}}'")]
pub struct EventsArgs {
    /// From then on: a timestamp (2026-11-24T20:00:00), seconds since the epoch, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Until then, and not for ever
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only some: type=, event=, container=, image=, service=, node=, network=, label=, scope=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// 'json', or a Go template over {Type, Action, Actor.ID, Actor.Attributes, scope, time, timeNano}
    #[arg(long)]
    format: Option<String>,
}

const FILTERS: &[&str] =
    &["type", "event", "container", "image", "service", "node", "network", "label", "scope"];

/// A time in ns since the epoch; 0 has another meaning on the wire.
fn nanos(text: &str) -> Result<u64, Failure> {
    Ok(moment(text).map_err(Failure::local)?.max(1))
}

/// Runs `events`: until the time given, or until it is interrupted.
pub async fn run(rn: &Daemon, args: EventsArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, FILTERS)?;
    let format = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Format::parse("{{json .}}")?),
        Some(text) => Some(Format::parse(text)?),
    };
    let time = |given: &Option<String>| given.as_deref().map_or(Ok(0), nanos);
    let request = pb::EventsRequest { since_nanos: time(&args.since)?, until_nanos: time(&args.until)? };
    let mut stream = rn.local().events(request).await?.into_inner();
    while let Some(event) = stream.message().await? {
        if wanted(&event, &filters) {
            match &format {
                Some(format) => output::line(&format.render(&object(&event))?),
                None => output::line(&text(&event)),
            }
        }
    }
    Ok(())
}

/// Docker's line: time, type, action, id, attributes.
fn text(event: &pb::Event) -> String {
    let mut attributes: Vec<String> = event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    attributes.sort();
    let attributes =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    let at = time::rfc3339_nanos(event.at_nanos);
    format!("{at} {} {} {}{attributes}", event.kind, event.action, event.id)
}

fn object(event: &pb::Event) -> Row {
    let object = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": event.scope,
        "time": event.at_nanos / 1_000_000_000,
        "timeNano": event.at_nanos,
        "status": event.action,
        "id": event.id,
    });
    match object {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

fn wanted(event: &pb::Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    // A filter by an object's kind lets events of that kind only through.
    let of_kind = |kind: &str| {
        !filters.has(kind)
            || (event.kind == kind
                && filters.any(kind, |v| v == name || (!v.is_empty() && event.id.starts_with(v))))
    };
    let image = |v: &str| {
        let of_container = event.attributes.get("image").map_or("", String::as_str);
        [name, event.id.as_str(), of_container]
            .iter()
            .any(|n| *n == v || n.split_once(':').is_some_and(|(n, _)| n == v))
    };
    filters.any("type", |v| v == event.kind)
        && filters.any("event", |v| v == event.action)
        && filters.any("scope", |v| v == event.scope)
        && filters.any("image", image)
        && ["container", "service", "node", "network"].into_iter().all(of_kind)
        && filters.labels("label", &event.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> pb::Event {
        pb::Event {
            at_nanos: 1_795_550_400_000_000_005,
            kind: "service".into(),
            action: "update".into(),
            id: "svc1".into(),
            attributes: [("name", "web"), ("replicas.new", "3"), ("replicas.old", "1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            scope: "swarm".into(),
        }
    }

    #[test]
    fn lines_are_dockers() {
        assert_eq!(
            text(&event()),
            "2026-11-24T20:00:00.000000005Z service update svc1 (name=web, replicas.new=3, replicas.old=1)"
        );
        let bare = pb::Event { attributes: Default::default(), ..event() };
        assert!(text(&bare).ends_with("service update svc1"));
    }

    #[test]
    fn filters_by_kind_name_and_action() {
        let passes = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|s| (*s).to_owned()).collect();
            Filters::parse(&given, FILTERS).is_ok_and(|filters| wanted(&event(), &filters))
        };
        assert!(passes(&[]));
        assert!(passes(&["type=service", "event=update", "scope=swarm", "service=web"]));
        assert!(passes(&["type=service", "type=node"]));
        assert!(passes(&["service=sv"]));
        for no in
            [["type=node"], ["event=create"], ["scope=local"], ["service=db"], ["node=web"], ["label=x"]]
        {
            assert!(!passes(&no), "{no:?}");
        }
    }
}
