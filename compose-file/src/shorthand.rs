//! The short forms of options, read into the long ones.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};

use crate::{
    document::{External, FileReference, Port, ServiceNetwork, ServiceVolume, Texts},
    port, volume,
    yaml::number_text,
};

/// A duration in nanoseconds; text as Go writes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span(pub i64);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&proto::parse::duration::text(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        proto::parse::duration::nanos(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A size in bytes; written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes(pub i64);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = scalar(from)?;
        let bytes = proto::parse::size::bytes(&text).map_err(D::Error::custom)?;
        i64::try_from(bytes).map(Self).map_err(|_| D::Error::custom(format!("{text} bytes are too many")))
    }
}

impl From<External> for Value {
    fn from(external: External) -> Self {
        if external.name.is_empty() { external.external.into() } else { json!({"name": external.name}) }
    }
}

impl TryFrom<Value> for External {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let name = || value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        match &value {
            Value::Bool(external) => Ok(Self { external: *external, name: String::new() }),
            Value::Object(_) => Ok(Self { external: true, name: name() }),
            _ => Err("must be a boolean or mapping".into()),
        }
    }
}

/// A scalar as text; none = empty.
fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number_text(&number)),
        Value::Bool(on) => Ok(on.to_string()),
        Value::Array(_) | Value::Object(_) => Err("must be a string or number".into()),
    }
}

fn read<'de, D: Deserializer<'de>, T>(
    from: D,
    how: impl FnOnce(Value) -> Result<T, String>,
) -> Result<T, D::Error> {
    how(Value::deserialize(from)?).map_err(D::Error::custom)
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// Each item of a list by a function, errors with the item's number.
fn items<T>(value: Value, mut one: impl FnMut(Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => {
            let one = |(k, value)| one(value).map_err(|e| format!("{k}: {e}"));
            values.into_iter().enumerate().map(one).collect()
        }
        _ => Err("must be a list".into()),
    }
}

/// What there is, or nothing where it is null.
pub(crate) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Sections that may be null.
pub(crate) fn sections<'de, D, T>(from: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let map = BTreeMap::<String, Option<T>>::deserialize(from)?;
    Ok(map.into_iter().map(|(name, section)| (name, section.unwrap_or_default())).collect())
}

/// A string or a number.
pub(crate) fn scalar<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    read(from, text)
}

/// One or several.
pub(crate) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    read(from, |value| if value.is_array() { items(value, text) } else { Ok(vec![text(value)?]) })
}

/// Words, or a line that is split as a shell does.
pub(crate) fn command<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    read(from, |value| match value {
        Value::String(line) => shlex::split(&line).ok_or_else(|| format!("a quote in {line:?} has no end")),
        value => items(value, text),
    })
}

/// The words of a check, or a line for a shell.
pub(crate) fn health_test<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    read(from, |value| match value {
        Value::String(line) => Ok(vec!["CMD-SHELL".into(), line]),
        value => items(value, text),
    })
}

/// `name: value` or `name=value`.
fn pairs(value: Value) -> Result<BTreeMap<String, Option<String>>, String> {
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(map) => {
            let one = |(key, value): (String, Value)| {
                let value = if value.is_null() { None } else { Some(text(value)?) };
                Ok((key, value))
            };
            map.into_iter().map(one).collect()
        }
        value => {
            let one = |value: Value| {
                let line = text(value)?;
                Ok(match line.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (line, None),
                })
            };
            Ok(items(value, one)?.into_iter().collect())
        }
    }
}

/// Text by name; nothing = empty.
pub(crate) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
    read(from, |value| Ok(pairs(value)?.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect()))
}

/// Text or nothing by name.
pub(crate) fn variables<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Option<String>>, D::Error> {
    read(from, pairs)
}

/// `name:address`; addresses without brackets.
pub(crate) fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let host = |name: &str, addr: &str| {
        let bare = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(addr);
        format!("{name}:{bare}")
    };
    read(from, |value| match value {
        Value::Object(map) => {
            let one = |(name, addr): (String, Value)| Ok(host(&name, &text(addr)?));
            map.into_iter().filter(|(_, addr)| !addr.is_null()).map(one).collect()
        }
        value => {
            let one = |value: Value| {
                let line = text(value)?;
                let (name, addr) = line
                    .split_once('=')
                    .or_else(|| line.split_once(':'))
                    .ok_or_else(|| format!("{line:?} has no address: write name:address"))?;
                Ok(host(name, addr))
            };
            items(value, one)
        }
    })
}

/// A context, or more.
pub(crate) fn build<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => None,
        Value::String(context) => Some(json!({ "context": context })),
        value => Some(value),
    })
}

/// Names of configs or secrets, or more of each.
pub(crate) fn file_references<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<FileReference>, D::Error> {
    let one = |value: Value| match value {
        Value::String(source) => Ok(FileReference { source, ..FileReference::default() }),
        value => typed(value),
    };
    read(from, |value| items(value, one))
}

/// Names of networks, or more of each.
pub(crate) fn service_networks<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, Option<ServiceNetwork>>, D::Error> {
    read(from, |value| match value {
        Value::Array(_) => Ok(items(value, text)?.into_iter().map(|name| (name, None)).collect()),
        value => typed(value),
    })
}

/// Ports in either form.
pub(crate) fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Port>, D::Error> {
    let one = |value: Value| match value {
        Value::Object(_) => Ok(vec![typed(value)?]),
        value => port::short(&text(value)?).map(|(ports, _)| ports),
    };
    read(from, |value| Ok(items(value, one)?.into_iter().flatten().collect()))
}

/// Mounts in either form.
pub(crate) fn volumes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ServiceVolume>, D::Error> {
    let one = |value: Value| match value {
        Value::String(line) => volume::short(&line),
        value => typed(value),
    };
    read(from, |value| items(value, one))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&proto::parse::duration::text(self.0))
    }
}
