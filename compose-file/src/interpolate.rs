//! `$VARIABLE` in the values of a file.
//!
//! `$NAME` and `${NAME}`; `${NAME:-default}` where it is unset or empty, `${NAME-default}` where it is unset; `${NAME:?message}` and
//! `${NAME?message}` refuse; `${NAME:+text}` and `${NAME+text}` where it is set; `$$` is a dollar sign. Keys are left alone.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use crate::error::Cause;

/// Variables by their names.
pub type Environment = BTreeMap<String, String>;

/// Replaces the variables in all values of a file. What a variable has changed becomes a number or a boolean where one of these
/// is expected: environments know text only.
pub(crate) fn file(file: Map<String, Value>, environment: &Environment) -> Result<Map<String, Value>, Cause> {
    let mut path = Vec::new();
    fields(file, environment, &mut path)
}

fn fields(
    map: Map<String, Value>,
    environment: &Environment,
    path: &mut Vec<String>,
) -> Result<Map<String, Value>, Cause> {
    let mut made = Map::new();
    for (key, value) in map {
        path.push(key.clone());
        made.insert(key, one(value, environment, path)?);
        path.pop();
    }
    Ok(made)
}

fn one(value: Value, environment: &Environment, path: &mut Vec<String>) -> Result<Value, Cause> {
    match value {
        Value::String(before) => {
            let after = text(&before, environment).map_err(|template| {
                let path = path.join(".");
                Cause::Whole(format!(
                    "invalid interpolation format for {path}: {template:?}; you may need to escape any $ with another $"
                ))
            })?;
            if after == before { Ok(Value::String(before)) } else { cast(after, path) }
        }
        Value::Object(map) => Ok(Value::Object(fields(map, environment, path)?)),
        Value::Array(values) => {
            let mut made = Vec::with_capacity(values.len());
            for value in values {
                path.push(ITEM.into());
                made.push(one(value, environment, path)?);
                path.pop();
            }
            Ok(Value::Array(made))
        }
        other => Ok(other),
    }
}

/// Text with its variables replaced.
///
/// # Errors
/// The text that is to be shown: the template where it has no valid form, or which variable lacks a value.
pub fn text(template: &str, environment: &Environment) -> Result<String, String> {
    let mut made = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        made += before;
        let after = after.strip_prefix('$').unwrap_or_default();
        rest = if let Some(rest) = after.strip_prefix('$') {
            made.push('$');
            rest
        } else if let Some(braced) = after.strip_prefix('{') {
            let (inner, rest) = braced.split_once('}').ok_or(template)?;
            made += &substitute(inner, environment, template)?;
            rest
        } else {
            let length = name_length(after);
            let name = after.get(..length).filter(|name| !name.is_empty()).ok_or(template)?;
            made += environment.get(name).map_or("", String::as_str);
            after.get(length..).unwrap_or_default()
        };
    }
    made += rest;
    Ok(made)
}

/// How long the name is that text begins with; 0 = it begins with none.
fn name_length(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// What stands between braces.
fn substitute(inner: &str, environment: &Environment, template: &str) -> Result<String, String> {
    let (name, operator) = inner.split_at(name_length(inner));
    if name.is_empty() {
        return Err(template.to_owned());
    }
    let value = environment.get(name).cloned();
    if operator.is_empty() {
        return Ok(value.unwrap_or_default());
    }
    let (value, operator) = match operator.strip_prefix(':') {
        Some(operator) => (value.filter(|value| !value.is_empty()), operator),
        None => (value, operator),
    };
    let mut chars = operator.chars();
    match (chars.next(), chars.as_str()) {
        (Some('-'), default) => Ok(value.unwrap_or_else(|| default.to_owned())),
        (Some('+'), text) => Ok(value.map(|_| text.to_owned()).unwrap_or_default()),
        (Some('?'), message) => {
            value.ok_or_else(|| format!("required variable {name} is missing a value: {message}"))
        }
        _ => Err(template.to_owned()),
    }
}

/// An item of a list, in the paths below.
const ITEM: &str = "[]";

enum Kind {
    Integer,
    Float,
    Boolean,
}

use Kind::{Boolean, Float, Integer};

/// Where something else than text is expected; `*` is any name.
const CASTS: [(&str, Kind); 31] = [
    ("services.*.configs.[].mode", Integer),
    ("services.*.secrets.[].mode", Integer),
    ("services.*.healthcheck.retries", Integer),
    ("services.*.healthcheck.disable", Boolean),
    ("services.*.deploy.replicas", Integer),
    ("services.*.deploy.update_config.parallelism", Integer),
    ("services.*.deploy.update_config.max_failure_ratio", Float),
    ("services.*.deploy.rollback_config.parallelism", Integer),
    ("services.*.deploy.rollback_config.max_failure_ratio", Float),
    ("services.*.deploy.restart_policy.max_attempts", Integer),
    ("services.*.deploy.placement.max_replicas_per_node", Integer),
    ("services.*.deploy.resources.limits.pids", Integer),
    ("services.*.ports.[].target", Integer),
    ("services.*.ports.[].published", Integer),
    ("services.*.ulimits.*", Integer),
    ("services.*.ulimits.*.hard", Integer),
    ("services.*.ulimits.*.soft", Integer),
    ("services.*.privileged", Boolean),
    ("services.*.oom_score_adj", Integer),
    ("services.*.read_only", Boolean),
    ("services.*.stdin_open", Boolean),
    ("services.*.tty", Boolean),
    ("services.*.init", Boolean),
    ("services.*.volumes.[].read_only", Boolean),
    ("services.*.volumes.[].volume.nocopy", Boolean),
    ("networks.*.external", Boolean),
    ("networks.*.internal", Boolean),
    ("networks.*.attachable", Boolean),
    ("volumes.*.external", Boolean),
    ("secrets.*.external", Boolean),
    ("configs.*.external", Boolean),
];

fn cast(text: String, path: &[String]) -> Result<Value, Cause> {
    let fits = |pattern: &str| {
        let mut parts = pattern.split('.');
        path.iter().all(|part| parts.next().is_some_and(|p| p == "*" || p == part)) && parts.next().is_none()
    };
    let Some((_, kind)) = CASTS.iter().find(|(pattern, _)| fits(pattern)) else {
        return Ok(Value::String(text));
    };
    let value = match kind {
        Integer => text.parse::<i64>().ok().map(|n| Value::Number(n.into())),
        Float => text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number),
        Boolean => match text.to_ascii_lowercase().as_str() {
            "y" | "yes" | "true" | "on" => Some(Value::Bool(true)),
            "n" | "no" | "false" | "off" => Some(Value::Bool(false)),
            _ => None,
        },
    };
    value.ok_or_else(|| {
        let what = match kind {
            Integer => "integer",
            Float => "number",
            Boolean => "boolean",
        };
        let path = path.join(".");
        Cause::Whole(format!(
            "error while interpolating {path}: failed to cast to expected type: {text:?} is no {what}"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn environment() -> Environment {
        [("A", "1"), ("EMPTY", ""), ("yes", "yes")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn each_form() {
        for (template, want) in [
            ("$A", "1"),
            ("${A}", "1"),
            ("x$A/y", "x1/y"),
            ("$A-b", "1-b"),
            ("$NONE", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${A:-d}", "1"),
            ("${NONE:-}", ""),
            ("${NONE:-http://x?y-z}", "http://x?y-z"),
            ("${A:?no}", "1"),
            ("${EMPTY?no}", ""),
            ("${A:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE+x}", ""),
            ("$$A $$", "$A $"),
            ("$${A}", "${A}"),
            ("no variables", "no variables"),
            ("ä$A€", "ä1€"),
        ] {
            assert_eq!(text(template, &environment()), Ok(want.into()), "{template}");
        }
        for bad in ["$", "a $", "${", "${A", "${}", "${1}", "$1", "${A b}", "${A:}", "${A:x}", "$-"] {
            assert_eq!(text(bad, &environment()), Err(bad.into()), "{bad}");
        }
        assert_eq!(
            text("${EMPTY:?give one}", &environment()),
            Err("required variable EMPTY is missing a value: give one".into())
        );
    }

    fn through(value: Value) -> Result<Value, String> {
        let map = value.as_object().cloned().unwrap();
        file(map, &environment()).map(Value::Object).map_err(|e| e.to_string())
    }

    #[test]
    fn values_get_the_type_that_is_expected() {
        let services = |value: Value| json!({"services": {"a": value}});
        assert_eq!(
            through(services(
                json!({"deploy": {"replicas": "$A"}, "tty": "$yes", "image": "$A", "ports": ["$A", {"target": "$A"}]})
            )),
            Ok(services(
                json!({"deploy": {"replicas": 1}, "tty": true, "image": "1", "ports": ["1", {"target": 1}]})
            ))
        );
        // What no variable has changed keeps its type.
        assert_eq!(through(services(json!({"tty": "yes"}))), Ok(services(json!({"tty": "yes"}))));
        assert!(
            through(services(json!({"tty": "$A"}))).unwrap_err().contains("interpolating services.a.tty")
        );
        assert_eq!(
            through(services(json!({"environment": ["${"]}))).unwrap_err(),
            "invalid interpolation format for services.a.environment.[]: \"${\"; you may need to escape any $ with another $"
        );
    }

    proptest! {
        #[test]
        fn any_template_is_filled_in_or_refused(template in "[${}A:?+ä-]{0,20}") {
            let _ = text(&template, &environment());
        }

        #[test]
        fn doubled_dollars_bring_any_text_through(wanted in ".{0,40}") {
            prop_assert_eq!(text(&wanted.replace('$', "$$"), &environment()), Ok(wanted));
        }
    }
}
