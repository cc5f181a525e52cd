//! Several files into one, as Docker's loader merges them. It happens on the long form: what a file leaves out is not there.

use serde_json::{Map, Value};

use crate::document::Compose;

/// Puts a file over another one. Services are merged option by option, networks, volumes, secrets and configs are replaced whole,
/// and extensions of the whole file are those of the first.
pub(crate) fn over(base: Compose, more: Compose) -> Result<Compose, serde_json::Error> {
    let mut made = base;
    for (name, service) in more.services {
        let merged = match made.services.remove(&name) {
            None => service,
            Some(before) => serde_json::from_value(service_over(
                serde_json::to_value(before)?,
                serde_json::to_value(service)?,
            ))?,
        };
        made.services.insert(name, merged);
    }
    made.networks.extend(more.networks);
    made.volumes.extend(more.volumes);
    made.secrets.extend(more.secrets);
    made.configs.extend(more.configs);
    Ok(made)
}

fn service_over(base: Value, more: Value) -> Value {
    let (Value::Object(mut base), Value::Object(more)) = (base, more) else { return Value::Null };
    for (key, value) in more {
        let before = base.remove(&key);
        let merged = match (key.as_str(), before) {
            (_, None) => value,
            ("command" | "entrypoint", Some(_)) => value,
            ("ulimits", Some(before)) => replaced(before, value),
            ("ports", Some(before)) => keyed(before, value, port_key),
            ("secrets" | "configs", Some(before)) => keyed(before, value, |v| text(v, "source")),
            ("volumes", Some(before)) => keyed(before, value, |v| text(v, "target")),
            ("networks", Some(before)) => networks(before, value),
            ("logging", Some(before)) => logging(before, value),
            (_, Some(before)) => deep(before, value),
        };
        base.insert(key, merged);
    }
    Value::Object(base)
}

/// Mappings by key, lists one after the other, and else what is over it, if it is anything.
fn deep(base: Value, more: Value) -> Value {
    match (base, more) {
        (Value::Object(mut base), Value::Object(more)) => {
            for (key, value) in more {
                let merged = match base.remove(&key) {
                    Some(before) => deep(before, value),
                    None => value,
                };
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (Value::Array(mut base), Value::Array(more)) => {
            base.extend(more);
            Value::Array(base)
        }
        (base, Value::Null) => base,
        (_, more) => more,
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

/// By key, each of the latter in place of the former.
fn replaced(base: Value, more: Value) -> Value {
    let mut base = object(base);
    base.extend(object(more));
    Value::Object(base)
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Published ports by what they publish; those that any port is chosen for by what they lead to, so that none is lost.
fn port_key(port: &Value) -> String {
    let number = |key: &str| port.get(key).and_then(Value::as_u64).unwrap_or_default();
    match number("published") {
        0 => format!("any {:05} {}", number("target"), text(port, "protocol")),
        published => format!("{published:05}"),
    }
}

/// Lists whose items have a key, in its order; each of the latter in place of the former.
fn keyed(base: Value, more: Value, key: impl Fn(&Value) -> String) -> Value {
    let items =
        [base, more].into_iter().filter_map(|v| if let Value::Array(items) = v { Some(items) } else { None });
    let merged: std::collections::BTreeMap<String, Value> =
        items.flatten().map(|item| (key(&item), item)).collect();
    Value::Array(merged.into_values().collect())
}

/// Aliases are those of the latter, other options are merged.
fn networks(base: Value, more: Value) -> Value {
    let mut base = object(base);
    for (name, value) in object(more) {
        let merged = match (base.remove(&name), value) {
            (Some(before @ Value::Object(_)), Value::Object(value)) => {
                let mut made = object(before);
                made.remove("aliases");
                for (key, value) in value {
                    if key != "driver_opts" || !made.contains_key(&key) {
                        made.insert(key, value);
                    }
                }
                Value::Object(made)
            }
            (Some(before), Value::Null) => before,
            (_, value) => value,
        };
        base.insert(name, merged);
    }
    Value::Object(base)
}

/// Options are merged where the driver is the same, or only one of both names it.
fn logging(base: Value, more: Value) -> Value {
    let (before, now) = (text(&base, "driver"), text(&more, "driver"));
    if before == now || before.is_empty() || now.is_empty() { deep(base, more) } else { more }
}
