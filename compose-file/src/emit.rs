//! YAML as `docker stack config` prints it.

use serde_json::Value;

use crate::{document::Compose, yaml};

/// All of it, sections in their long form.
pub fn compose(compose: &Compose) -> String {
    let mut text = String::new();
    let value = serde_json::to_value(compose).unwrap_or_default();
    block(&value, 0, &mut text);
    text
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// What follows a key or a dash, with the end of its line.
fn after(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if map.is_empty() => *text += " {}\n",
        Value::Array(items) if items.is_empty() => *text += " []\n",
        Value::Object(_) | Value::Array(_) => {
            text.push('\n');
            block(value, depth, text);
        }
        scalar => {
            text.push(' ');
            *text += &inline(scalar, depth);
            text.push('\n');
        }
    }
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                indent(depth, text);
                *text += &string(key, depth, false);
                text.push(':');
                after(value, depth + 1, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(depth, text);
                match item {
                    // The first key stands beside the dash.
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        *text += "- ";
                        *text += inner.trim_start_matches(' ');
                    }
                    Value::Array(list) if !list.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        *text += "- ";
                        *text += inner.trim_start_matches(' ');
                    }
                    item => {
                        text.push('-');
                        after(item, depth + 1, text);
                    }
                }
            }
        }
        scalar => {
            *text += &inline(scalar, depth);
            text.push('\n');
        }
    }
}

fn inline(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => yaml::number_text(number),
        Value::String(text) => string(text, depth, true),
        Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// What YAML 1.1 takes for yes and no.
const OLD_BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];

/// Whether text without quotes would be something else than text to some reader.
fn means_something_else(text: &str) -> bool {
    let is_base_60 = || {
        let digits = text.trim_start_matches(['-', '+']);
        digits.contains(':') && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'_' | b'.'))
    };
    let is_date = || {
        let mut parts = text.splitn(3, '-');
        let mut number = |n: usize| {
            parts.next().is_some_and(|p| p.len() >= n && p.bytes().take(n).all(|b| b.is_ascii_digit()))
        };
        number(4) && number(1) && number(1)
    };
    !yaml::plain(text).is_string()
        || matches!(text, ".inf" | ".nan" | "-.inf" | "+.inf" | "<<" | "=")
        || OLD_BOOLEANS.contains(&text.to_ascii_lowercase().as_str())
        || is_base_60()
        || is_date()
}

fn string(text: &str, depth: usize, may_be_literal: bool) -> String {
    let is_printable =
        |c: char| c == '\n' || (!c.is_control() && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}');
    if !text.chars().all(is_printable) || means_something_else(text) {
        return double(text);
    }
    if text.contains('\n') {
        let fits = may_be_literal
            && !text.starts_with([' ', '\n'])
            && !text.ends_with("\n\n")
            && text.lines().all(|line| !line.ends_with(' '));
        return if fits { literal(text, depth) } else { double(text) };
    }
    let first = text.chars().next().unwrap_or(' ');
    let starts_badly = "!&*#|>@`\"'%,[]{}".contains(first)
        || ("-?:".contains(first) && text.chars().nth(1).is_none_or(|c| c == ' '));
    let is_plain = !starts_badly
        && !text.starts_with("---")
        && !text.starts_with("...")
        && text.trim() == text
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':');
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// Lines as they are, below the bar.
fn literal(text: &str, depth: usize) -> String {
    let mut made = if text.ends_with('\n') { "|".to_owned() } else { "|-".to_owned() };
    for line in text.lines() {
        made.push('\n');
        if !line.is_empty() {
            indent(depth, &mut made);
            made += line;
        }
    }
    made
}

fn double(text: &str) -> String {
    let mut made = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => made += "\\\"",
            '\\' => made += "\\\\",
            '\n' => made += "\\n",
            '\t' => made += "\\t",
            '\r' => made += "\\r",
            c if c.is_control() || c == '\u{feff}' || c == '\u{2028}' || c == '\u{2029}' => {
                let code = u32::from(c);
                made += &if code < 0x100 { format!("\\x{code:02X}") } else { format!("\\u{code:04X}") };
            }
            c => made.push(c),
        }
    }
    made.push('"');
    made
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn printed(value: &Value) -> String {
        let mut text = String::new();
        block(value, 0, &mut text);
        text
    }

    #[test]
    fn as_docker_prints_it() {
        let value = json!({"a": [1, 2.5, "yes", null, "multi\nline\n", "a: b", "#x", " lead", "'q'", "a'b", "", "-", "- x", "1e3", "0x1f", "~", "true", "80:80", "x:y"],
            "b": [{"c": 1, "d": {"e": []}}, {}], "f": {}, "no": "2020-01-01"});
        assert_eq!(
            printed(&value),
            "a:\n  - 1\n  - 2.5\n  - \"yes\"\n  - null\n  - |\n    multi\n    line\n  - 'a: b'\n  - '#x'\n  - ' lead'\n  - '''q'''\n  - a'b\n  \
             - \"\"\n  - '-'\n  - '- x'\n  - \"1e3\"\n  - \"0x1f\"\n  - \"~\"\n  - \"true\"\n  - \"80:80\"\n  - x:y\nb:\n  - c: 1\n    d:\n      e: []\n  - {}\nf: {}\n\"no\": \"2020-01-01\"\n"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(|n| n.into()),
            "[-a-c0-9 :#'\"\\n\\t!&*?|>%@`{}\\[\\],~.<=ä]{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[-a-c0-9 :#'~\\n]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(value in prop::collection::btree_map("[a-c]{1,3}", any_value(), 0..4)) {
            let value = Value::Object(value.into_iter().collect());
            if value.as_object().is_some_and(|m| !m.is_empty()) {
                let text = printed(&value);
                let read = yaml::read(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
                prop_assert_eq!(Value::Object(read), value, "{}", text);
            }
        }
    }
}
