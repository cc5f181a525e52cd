//! Objects as Docker's users know them: rows for the lists, JSON for `inspect`, text for `--pretty`. Pure.

pub mod cluster;
pub mod container;
pub mod file;
pub mod image;
pub mod network;
pub mod node;
pub mod port;
pub mod pretty;
pub mod service;
pub mod spec;
pub mod stack;
pub mod stats;
pub mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use proto::model::{Condition, Meta, Millis};
use serde_json::{Map, Value, json};

use crate::output::{listing::Row, omitted, time};

/// A JSON object under construction, in the order in which it prints.
#[derive(Default)]
pub struct Object(Map<String, Value>);

impl Object {
    /// Sets a field.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a field which is not printed while it is empty, zero, false or null (Go's `omitempty`); templates may name it.
    pub fn some(self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if omitted::is_empty(&value) {
            self.with(&omitted::marked(key), value)
        } else {
            self.with(key, value)
        }
    }

    /// The finished fields.
    pub fn build(self) -> Row {
        self.0
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        Value::Object(object.0)
    }
}

/// A map of strings.
pub fn strings(map: &BTreeMap<String, String>) -> Value {
    Value::Object(map.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect())
}

/// `a=1,b=2`, as the `Labels` field of the lists.
pub fn label_list(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// Durations in Docker's JSON are nanoseconds.
pub fn nanos(span: Millis) -> Value {
    span.0.saturating_mul(1_000_000).into()
}

/// `Version`, `CreatedAt`, `UpdatedAt`.
pub fn with_meta(object: Object, meta: &Meta) -> Object {
    object
        .with("Version", json!({"Index": meta.version.0}))
        .with("CreatedAt", time::rfc3339(meta.created_at))
        .with("UpdatedAt", time::rfc3339(meta.updated_at))
}

/// Why an object is pending: ours, Docker has no such field.
pub fn conditions(conditions: &[Condition]) -> Value {
    conditions
        .iter()
        .map(|c| json!({"Kind": c.kind, "Message": c.message, "Since": time::rfc3339(c.since)}))
        .collect()
}

/// First letter in upper case, as Docker prints states.
pub fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
