//! `events`.

use clap::Args;
use docker_api::event::EventMessage;

use crate::{
    api::Client,
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
    /// Only some: type=, event=, container=, image=, volume=, service=, node=, network=, secret=, config=, label=, scope=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// 'json', or a Go template over {Type, Action, Actor.ID, Actor.Attributes, scope, time, timeNano}
    #[arg(long)]
    format: Option<String>,
}

/// A time as the API takes it: seconds since the epoch, with all digits.
fn stamp(text: &str) -> Result<String, Failure> {
    const SECOND: u64 = 1_000_000_000;
    let nanos = moment(text).map_err(Failure::local)?;
    Ok(format!("{}.{:09}", nanos / SECOND, nanos % SECOND))
}

/// Runs `events`: until the time given, or until it is interrupted.
pub async fn run(rn: &Client, args: EventsArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &docker_api::event::FILTERS)?;
    let format = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Format::parse("{{json .}}")?),
        Some(text) => Some(Format::parse(text)?),
    };
    let (since, until) =
        (args.since.as_deref().map(stamp).transpose()?, args.until.as_deref().map(stamp).transpose()?);
    let request = rn.get(&["events"]).filters(&filters).maybe("since", since).maybe("until", until);
    let mut events = request.lines::<Row>().await?;
    while let Some(event) = events.next().await? {
        match &format {
            Some(format) => output::line(&format.render(&event)?),
            None => output::line(&text(&typed(event)?)),
        }
    }
    Ok(())
}

fn typed(event: Row) -> Result<EventMessage, Failure> {
    serde_json::from_value(event.into())
        .map_err(|e| Failure::local(format!("the daemon's answer makes no sense: {e}")))
}

/// Docker's line: time, type, action, id, attributes.
fn text(event: &EventMessage) -> String {
    let attributes: Vec<String> = event.actor.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let attributes =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    let at = time::rfc3339_nanos(event.time_nano.unsigned_abs());
    format!("{at} {} {} {}{attributes}", event.kind, event.action, event.actor.id)
}

#[cfg(test)]
mod tests {
    use proto::pb;

    use super::*;

    #[test]
    fn lines_are_dockers() {
        let event = pb::Event {
            at_nanos: 1_795_550_400_000_000_005,
            kind: "service".into(),
            action: "update".into(),
            id: "svc1".into(),
            attributes: [("name", "web"), ("replicas.new", "3"), ("replicas.old", "1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            scope: "swarm".into(),
        };
        let bare = pb::Event { attributes: Default::default(), ..event.clone() };
        assert_eq!(
            text(&event.into()),
            "2026-11-24T20:00:00.000000005Z service update svc1 (name=web, replicas.new=3, replicas.old=1)"
        );
        assert!(text(&bare.into()).ends_with("service update svc1"));
    }

    #[test]
    fn times_have_all_digits() {
        assert_eq!(stamp("1795550400.000000005").ok().as_deref(), Some("1795550400.000000005"));
        assert!(stamp("soon").is_err());
    }
}
