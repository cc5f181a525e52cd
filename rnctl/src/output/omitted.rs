//! Fields that an object has and its JSON leaves out while they are empty (Go's `omitempty`): a template may name them.
//!
//! They are kept in the object under a marked key, which [`printed`] leaves out.

use serde_json::{Map, Value};

/// In front of the key of a field that is left out. No field begins with it.
const MARK: char = '\0';

/// The key under which an empty field is kept.
pub fn marked(key: &str) -> String {
    format!("{MARK}{key}")
}

/// The name of a field that is left out, by its key; none for one that is printed.
pub fn name(key: &str) -> Option<&str> {
    key.strip_prefix(MARK)
}

/// Whether a value is empty, zero, false or null.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.keys().all(|key| name(key).is_some()),
    }
}

/// The object as it is printed.
pub fn printed(object: &Map<String, Value>) -> Map<String, Value> {
    let shown = object.iter().filter(|(key, _)| name(key).is_none());
    shown.map(|(key, value)| (key.clone(), printed_value(value))).collect()
}

fn printed_value(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(printed(object)),
        Value::Array(items) => items.iter().map(printed_value).collect(),
        other => other.clone(),
    }
}
