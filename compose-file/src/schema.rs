//! Of which type everything in a file has to be. The rules are the tables in [`crate::tables`].

use serde_json::{Map, Value};

use crate::{error::Cause, port, tables, yaml::number_text};

/// The version that a file without one has: the newest.
pub(crate) const NEWEST: u8 = 13;

/// What a value has to be.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Whatever it is.
    Anything,
    /// Nothing.
    Null,
    /// A string.
    Text,
    /// A string that is a duration.
    Duration,
    /// A string or a number that publishes ports.
    Ports,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these, which differ in type.
    OneOf(&'static [Shape]),
    /// A list.
    List(&'static Shape),
    /// A list in which nothing is twice.
    Set(&'static Shape),
    /// A mapping of any keys.
    Mapping(&'static Shape),
    /// A mapping of names as services have them.
    Named(&'static Shape),
    /// A mapping whose keys are known.
    Fields(&'static Fields),
}

/// A mapping whose keys are known.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The keys.
    pub known: &'static [Field],
    /// Those that have to be there.
    pub required: &'static [&'static str],
    /// Since when keys with `x-` are taken.
    pub extensions: u8,
    /// Since when all other keys are taken.
    pub open: u8,
}

/// Never: for [`Fields::extensions`] and [`Fields::open`].
pub(crate) const NEVER: u8 = u8::MAX;

/// A known key.
#[derive(Debug)]
pub(crate) struct Field {
    /// The key.
    pub name: &'static str,
    /// Since which 3.N.
    pub since: u8,
    /// What it holds.
    pub shape: Shape,
}

/// The version of a file as it says it itself: `3.8`.
///
/// # Errors
/// Stacks cannot have that version.
pub(crate) fn version(file: &Map<String, Value>) -> Result<(String, u8), Cause> {
    let newest = format!("3.{NEWEST}");
    let text = match file.get("version") {
        None => newest,
        Some(Value::String(text)) if text.is_empty() || text == "3" => newest,
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number_text(number) == "3" => newest,
        Some(Value::Number(number)) => number_text(number),
        Some(_) => return Err(Cause::at("version", "must be a string")),
    };
    let minor = text.strip_prefix("3.").filter(|m| m.bytes().all(|b| b.is_ascii_digit()));
    match minor.and_then(|m| m.parse::<u8>().ok()).filter(|m| *m <= NEWEST) {
        Some(minor) if text == format!("3.{minor}") => Ok((text, minor)),
        _ => Err(Cause::Whole(format!("unsupported Compose file version: {text}"))),
    }
}

/// Refuses a file that is not as its version says.
pub(crate) fn check(file: &Map<String, Value>, version: u8) -> Result<(), Cause> {
    let mut path = Vec::new();
    Check { version }.fields(&tables::FILE, file, &mut path)
}

struct Check {
    version: u8,
}

fn joined(path: &[String]) -> String {
    if path.is_empty() { "(root)".into() } else { path.join(".") }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64()
}

impl Shape {
    /// What values are called that can have it.
    fn words(&self) -> &'static str {
        match self {
            Self::Anything => "value",
            Self::Null => "null",
            Self::Text | Self::Duration | Self::Word(_) => "string",
            Self::Ports => "number, string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::OneOf(_) => "",
            Self::List(_) | Self::Set(_) => "list",
            Self::Mapping(_) | Self::Named(_) | Self::Fields(_) => "mapping",
        }
    }

    /// Whether the value is of its type; what it holds is looked at later.
    fn has_type_of(&self, value: &Value) -> bool {
        match self {
            Self::Anything => true,
            Self::Null => value.is_null(),
            Self::Text | Self::Duration | Self::Word(_) => value.is_string(),
            Self::Ports => value.is_string() || value.is_number(),
            Self::Integer => value.as_number().is_some_and(is_whole),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::OneOf(shapes) => shapes.iter().any(|shape| shape.has_type_of(value)),
            Self::List(_) | Self::Set(_) => value.is_array(),
            Self::Mapping(_) | Self::Named(_) | Self::Fields(_) => value.is_object(),
        }
    }

    /// The sentence that says of which type a value has to be.
    fn expected(&self) -> String {
        let names: Vec<&str> = match self {
            Self::OneOf(shapes) => shapes.iter().map(Shape::words).collect(),
            shape => vec![shape.words()],
        };
        match names.split_last() {
            Some((last, [])) => {
                let article = if last.starts_with('i') { "an" } else { "a" };
                format!("must be {article} {last}")
            }
            Some((last, others)) => format!("must be a {} or {last}", others.join(", ")),
            None => "cannot be there".into(),
        }
    }
}

impl Check {
    fn value(&self, shape: &Shape, value: &Value, path: &mut Vec<String>) -> Result<(), Cause> {
        if !shape.has_type_of(value) {
            return Err(Cause::at(joined(path), shape.expected()));
        }
        match (shape, value) {
            (Shape::OneOf(shapes), value) => match shapes.iter().find(|shape| shape.has_type_of(value)) {
                Some(shape) => self.value(shape, value, path),
                None => Ok(()),
            },
            (Shape::Duration, Value::String(text)) => proto::parse::duration::nanos(text)
                .map(drop)
                .map_err(|what| Cause::at(joined(path), format!("does not match format 'duration': {what}"))),
            (Shape::Word(words), Value::String(text)) if !words.contains(&text.as_str()) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                let what = format!("must be one of the following: {}", words.join(", "));
                Err(Cause::at(joined(path), what))
            }
            (Shape::Ports, value) => {
                let text = match value {
                    Value::Number(number) => number_text(number),
                    value => value.as_str().unwrap_or_default().to_owned(),
                };
                let read = port::short(&text);
                read.map(drop)
                    .map_err(|what| Cause::at(joined(path), format!("does not match format 'ports': {what}")))
            }
            (Shape::List(shape), Value::Array(items)) => self.items(shape, items, path),
            (Shape::Set(shape), Value::Array(items)) => {
                self.items(shape, items, path)?;
                for (k, item) in items.iter().enumerate() {
                    if let Some(first) = items.iter().take(k).position(|other| other == item) {
                        let what = format!("array items[{first},{k}] must be unique: both are {item}");
                        return Err(Cause::at(joined(path), what));
                    }
                }
                Ok(())
            }
            (Shape::Mapping(shape), Value::Object(fields)) => self.members(shape, fields, path, |_| true),
            (Shape::Named(shape), Value::Object(fields)) => self.members(shape, fields, path, is_name),
            (Shape::Fields(known), Value::Object(fields)) => self.fields(known, fields, path),
            _ => Ok(()),
        }
    }

    fn items(&self, shape: &Shape, items: &[Value], path: &mut Vec<String>) -> Result<(), Cause> {
        for (k, item) in items.iter().enumerate() {
            path.push(k.to_string());
            self.value(shape, item, path)?;
            path.pop();
        }
        Ok(())
    }

    fn members(
        &self,
        shape: &Shape,
        fields: &Map<String, Value>,
        path: &mut Vec<String>,
        is_allowed: fn(&str) -> bool,
    ) -> Result<(), Cause> {
        for (key, value) in fields {
            if !is_allowed(key) {
                let what = format!(
                    "Additional property {key} is not allowed: names consist of letters, digits, '.', '_' and '-'"
                );
                return Err(Cause::at(joined(path), what));
            }
            path.push(key.clone());
            self.value(shape, value, path)?;
            path.pop();
        }
        Ok(())
    }

    fn fields(
        &self,
        known: &Fields,
        fields: &Map<String, Value>,
        path: &mut Vec<String>,
    ) -> Result<(), Cause> {
        for (key, value) in fields {
            let field = known.known.iter().find(|field| field.name == key);
            match field {
                Some(field) if field.since <= self.version => {
                    path.push(key.clone());
                    self.value(&field.shape, value, path)?;
                    path.pop();
                }
                _ if known.open <= self.version => {}
                _ if key.starts_with("x-") && known.extensions <= self.version => {}
                Some(field) => {
                    let (since, version) = (field.since, self.version);
                    let what = format!(
                        "Additional property {key} is not allowed in version 3.{version}: it is known since 3.{since}"
                    );
                    return Err(Cause::at(joined(path), what));
                }
                None => {
                    let what = format!("Additional property {key} is not allowed");
                    return Err(Cause::at(joined(path), what));
                }
            }
        }
        match known.required.iter().find(|name| !fields.contains_key(**name)) {
            Some(name) => Err(Cause::at(joined(path), format!("{name} is required"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::yaml;

    fn checked(text: &str) -> Result<(), String> {
        let file = yaml::read(text).map_err(|e| e.to_string())?;
        let (_, minor) = version(&file).map_err(|e| e.to_string())?;
        check(&file, minor).map_err(|e| e.to_string())
    }

    fn service(version: &str, body: &str) -> Result<(), String> {
        checked(&format!("version: \"{version}\"\nservices: {{web: {{image: x, {body}}}}}"))
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (body, want) in [
            ("image2: 5", "services.web Additional property image2 is not allowed"),
            ("hostname: 5", "services.web.hostname must be a string"),
            ("ports: [true]", "services.web.ports.0 must be a number, string or mapping"),
            ("ports: [{target: a}]", "services.web.ports.0.target must be an integer"),
            ("ports: [x]", "services.web.ports.0 does not match format 'ports'"),
            ("ports: 80", "services.web.ports must be a list"),
            ("labels: 5", "services.web.labels must be a mapping or list"),
            ("labels: {a: [b]}", "services.web.labels.a must be a string, number or null"),
            ("cap_add: [a, b, a]", "services.web.cap_add array items[0,2] must be unique"),
            (
                "healthcheck: {interval: soon}",
                "services.web.healthcheck.interval does not match format 'duration'",
            ),
            (
                "deploy: {update_config: {order: x}}",
                "must be one of the following: \"start-first\", \"stop-first\"",
            ),
            ("ulimits: {nofile: {soft: 5}}", "services.web.ulimits.nofile hard is required"),
            ("volumes: [{source: a}]", "services.web.volumes.0 type is required"),
            ("networks: {\"a b\": {}}", "services.web.networks Additional property a b is not allowed"),
            ("deploy: {replicas: \"2\"}", "services.web.deploy.replicas must be an integer"),
            (
                "deploy: {resources: {limits: {cpus: 0.5}}}",
                "services.web.deploy.resources.limits.cpus must be a string",
            ),
        ] {
            let error = service("3.13", body).unwrap_err();
            assert!(error.contains(want), "{body}: {error}");
        }
        assert_eq!(checked("services: {web: }"), Err("services.web must be a mapping".into()));
        assert_eq!(checked("networks:"), Err("networks must be a mapping".into()));
        assert_eq!(checked("name: x"), Err("(root) Additional property name is not allowed".into()));
    }

    #[test]
    fn each_version_knows_its_own() {
        assert_eq!(service("3.8", "deploy: {placement: {max_replicas_per_node: 1}}"), Ok(()));
        assert_eq!(
            service("3.7", "deploy: {placement: {max_replicas_per_node: 1}}"),
            Err("services.web.deploy.placement Additional property max_replicas_per_node is not allowed in version 3.7: it is known since 3.8".into())
        );
        assert_eq!(service("3.0", "deploy: {replicas: 2}, healthcheck: {test: x}"), Ok(()));
        assert!(service("3.2", "configs: [a]").is_err());
        assert_eq!(service("3.3", "configs: [a]"), Ok(()));
        assert!(service("3.3", "x-a: 1").is_err());
        assert_eq!(service("3.7", "x-a: 1"), Ok(()));
        for bad in ["2", "2.4", "3.14", "3.08", "4", "x"] {
            assert_eq!(service(bad, ""), Err(format!("unsupported Compose file version: {bad}")));
        }
        for good in ["3", "3.13", ""] {
            assert_eq!(service(good, "x-a: 1"), Ok(()));
        }
        assert_eq!(checked("version: 3.8"), Err("version must be a string".into()));
        assert_eq!(checked("version: [3]"), Err("version must be a string".into()));
    }
}
