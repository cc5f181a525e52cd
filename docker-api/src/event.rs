//! Events.

use std::collections::BTreeMap;

use proto::pb;
use serde::{Deserialize, Serialize};

use crate::filters::Filters;

/// Filters that the list of events has.
pub const FILTERS: [&str; 14] = [
    "type",
    "event",
    "scope",
    "label",
    "container",
    "image",
    "network",
    "volume",
    "node",
    "service",
    "daemon",
    "plugin",
    "secret",
    "config",
];

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMessage {
    /// What it happened to: `container`, `image`, `network`, `node`, `service`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened: `create`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// The object.
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    /// `local` or `swarm`.
    pub scope: String,
    /// When, in seconds since the Unix epoch.
    pub time: i64,
    /// When, in nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
    /// As `Action`, for containers and images: what old clients read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// As `Actor.ID`, for containers and images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// A container's image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

/// The object that something happened to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventActor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What else is told of it, its name among it.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl From<pb::Event> for EventMessage {
    fn from(event: pb::Event) -> Self {
        let old = matches!(event.kind.as_str(), "container" | "image");
        let nano = i64::try_from(event.at_nanos).unwrap_or(i64::MAX);
        let from = event.attributes.get("image").filter(|_| event.kind == "container").cloned();
        Self {
            status: if old { event.action.clone() } else { String::new() },
            id: if old { event.id.clone() } else { String::new() },
            from: from.unwrap_or_default(),
            actor: EventActor { id: event.id, attributes: event.attributes.into_iter().collect() },
            kind: event.kind,
            action: event.action,
            scope: event.scope,
            time: nano / 1_000_000_000,
            time_nano: nano,
        }
    }
}

impl EventMessage {
    /// Whether it is among what was asked for.
    pub fn is_wanted(&self, filters: &Filters) -> bool {
        // `exec_start: ls` and `health_status: healthy` are found by what stands before the colon too.
        let verb = self.action.split(':').next().unwrap_or_default();
        filters.exact("type", &self.kind)
            && filters.exact("scope", &self.scope)
            && filters.any("event", |wanted| wanted == self.action || wanted == verb)
            && filters.labels("label", &self.actor.attributes)
            && ["container", "network", "volume", "node", "service", "daemon", "plugin", "secret", "config"]
                .iter()
                .all(|kind| self.is_of(kind, filters))
            && self.is_of_image(filters)
    }

    fn name(&self) -> &str {
        self.actor.attributes.get("name").map_or("", String::as_str)
    }

    /// A filter named after a kind wants events of that kind, by name or the begin of an id.
    fn is_of(&self, kind: &str, filters: &Filters) -> bool {
        filters.any(kind, |wanted| {
            self.kind == kind
                && (self.name() == wanted || (!wanted.is_empty() && self.actor.id.starts_with(wanted)))
        })
    }

    /// An image may be named with its tag or without, and containers are found by their image too.
    fn is_of_image(&self, filters: &Filters) -> bool {
        let image = match self.kind.as_str() {
            "image" => self.name(),
            "container" => &self.from,
            _ => "",
        };
        filters.any("image", |wanted| {
            matches!(self.kind.as_str(), "image" | "container")
                && (self.actor.id == wanted
                    || image == wanted
                    || image.rsplit_once(':').is_some_and(|(n, _)| n == wanted))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> EventMessage {
        EventMessage::from(pb::Event {
            at_nanos: 1_500_000_000,
            kind: kind.into(),
            action: action.into(),
            id: id.into(),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            scope: "local".into(),
        })
    }

    #[test]
    fn old_clients_find_what_they_read() {
        let json = serde_json::to_value(event("container", "start", "abc", &[("image", "web:1")])).unwrap();
        assert_eq!(json["status"], "start");
        assert_eq!((json["id"].clone(), json["from"].clone()), ("abc".into(), "web:1".into()));
        assert_eq!((json["time"].clone(), json["timeNano"].clone()), (1.into(), 1_500_000_000.into()));
        let json = serde_json::to_value(event("network", "create", "n1", &[])).unwrap();
        assert!(json.get("status").is_none());
    }

    #[test]
    fn filters_choose() {
        let start = event(
            "container",
            "health_status: healthy",
            "abcdef",
            &[("name", "web"), ("image", "img:1"), ("a", "1")],
        );
        for (filters, expected) in [
            ("", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["network"]}"#, false),
            (r#"{"event":["health_status"]}"#, true),
            (r#"{"event":["start"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["xyz"]}"#, false),
            (r#"{"network":["web"]}"#, false),
            (r#"{"image":["img"]}"#, true),
            (r#"{"label":["a=1"]}"#, true),
            (r#"{"label":["b"]}"#, false),
        ] {
            assert_eq!(start.is_wanted(&Filters::parse(filters).unwrap()), expected, "{filters}");
        }
    }
}
