//! YAML into a tree, as Docker's client reads it: scalars of YAML 1.2's core schema with octal numbers of 1.1 (`0440`), anchors,
//! aliases and merge keys (`<<`).

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

use crate::error::Cause;

/// Nodes that a file may have, those that its aliases stand for among them. The largest stacks have some thousands; a file
/// whose aliases multiply each other (“billion laughs”) stops here.
const MAX_NODES: usize = 200_000;

/// Nesting that a file may have. Compose files have eight levels.
const MAX_DEPTH: usize = 64;

/// Bytes that a file may have.
pub const MAX_BYTES: usize = 8 << 20;

/// Reads a file: its first document, which has to be a mapping.
///
/// # Errors
/// It is no YAML, beyond the bounds, names a key twice, or is no mapping.
pub fn read(text: &str) -> Result<Map<String, Value>, Cause> {
    if text.len() > MAX_BYTES {
        return Err(Cause::Whole(format!("the file is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text.trim_start_matches('\u{feff}')),
        anchors: HashMap::new(),
        nodes: 0,
    };
    match reader.document()? {
        Some(Value::Object(map)) => Ok(map),
        _ => Err(Cause::Whole("top-level object must be a mapping".into())),
    }
}

/// A tree with its number of nodes.
#[derive(Clone)]
struct Counted {
    value: Value,
    nodes: usize,
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Counted>,
    nodes: usize,
}

fn bad(at: Marker, what: impl Into<String>) -> Cause {
    Cause::Yaml { line: at.line().max(1), what: what.into() }
}

fn syntax(error: &ScanError) -> Cause {
    bad(*error.marker(), error.info())
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Cause> {
        self.parser.next_event().transpose().map_err(|e| syntax(&e))
    }

    /// The first document, if there is any.
    fn document(&mut self) -> Result<Option<Value>, Cause> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(None),
                event => return Ok(Some(self.node(event, span, 0)?.value)),
            }
        }
        Ok(None)
    }

    fn count(&mut self, nodes: usize, at: Span) -> Result<(), Cause> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(bad(at.start, "document contains excessive aliasing, or is too large"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, at: Span, depth: usize) -> Result<Counted, Cause> {
        if depth > MAX_DEPTH {
            return Err(bad(at.start, format!("exceeded max depth of {MAX_DEPTH}")));
        }
        self.count(1, at)?;
        let (anchor, node) = match event {
            Event::Alias(id) => {
                let known = self.anchors.get(&id).cloned();
                let node = known.ok_or_else(|| bad(at.start, "an alias stands within what it names"))?;
                self.count(node.nodes, at)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Counted { value: scalar(&text, style, tag.as_deref()), nodes: 1 })
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(depth)?),
            _ => return Err(bad(at.start, "did not find expected node content")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Counted, Cause> {
        let (mut values, mut nodes) = (Vec::new(), 1_usize);
        while let Some((event, at)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            let node = self.node(event, at, depth + 1)?;
            nodes = nodes.saturating_add(node.nodes);
            values.push(node.value);
        }
        Ok(Counted { value: Value::Array(values), nodes })
    }

    fn mapping(&mut self, depth: usize) -> Result<Counted, Cause> {
        let mut fields = Map::new();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        let mut merged = Vec::new();
        let mut nodes = 1_usize;
        while let Some((event, at)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<");
            let key = self.node(event, at, depth + 1)?;
            let key = key_text(key.value)
                .ok_or_else(|| bad(at.start, "a key must be a string, a number or a boolean"))?;
            let Some((event, value_at)) = self.next()? else { break };
            let node = self.node(event, value_at, depth + 1)?;
            nodes = nodes.saturating_add(node.nodes).saturating_add(1);
            if is_merge {
                merged.push((node.value, value_at));
                continue;
            }
            let line = at.start.line();
            if let Some(first) = lines.insert(key.clone(), line) {
                return Err(bad(at.start, format!("mapping key {key:?} already defined at line {first}")));
            }
            fields.insert(key, node.value);
        }
        for (value, at) in merged {
            merge_into(&mut fields, value)
                .ok_or_else(|| bad(at.start, "map merge requires map or sequence of maps as the value"))?;
        }
        // Go's maps have no order; that of the names is the same for every reader.
        fields.sort_keys();
        Ok(Counted { value: Value::Object(fields), nodes })
    }
}

/// What a `<<` brings: keys that are not there yet; of several maps the first goes before.
fn merge_into(fields: &mut Map<String, Value>, value: Value) -> Option<()> {
    match value {
        Value::Object(more) => {
            for (key, value) in more {
                fields.entry(key).or_insert(value);
            }
            Some(())
        }
        Value::Array(maps) => {
            maps.into_iter().try_for_each(|map| if map.is_object() { merge_into(fields, map) } else { None })
        }
        _ => None,
    }
}

fn key_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number_text(&number)),
        Value::Bool(on) => Some(on.to_string()),
        Value::Null => Some("null".into()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number as Go prints it (`fmt.Sprint`).
pub(crate) fn number_text(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let value = number.as_f64().unwrap_or_default();
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value}")
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let string = || Value::String(text.to_owned());
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix != "str" => plain(text),
        Some(_) => string(),
        None if style == ScalarStyle::Plain => plain(text),
        None => string(),
    }
}

/// The value of a scalar without quotes.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let string = || Value::String(text.to_owned());
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return string();
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Value::Number(number);
    }
    match is_decimal(&digits).then(|| digits.parse::<f64>().ok()).flatten().and_then(Number::from_f64) {
        Some(number) => Value::Number(number),
        None => string(),
    }
}

/// A whole number: decimal, `0x1f`, `0b1`, `0o17`, and `017`, which is octal as well.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)?),
        Some("0b") => (2, lower.get(2..)?),
        Some("0o") => (8, lower.get(2..)?),
        Some(two) if two.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0_i64.checked_sub_unsigned(size).map(Number::from) } else { Some(Number::from(size)) }
}

/// Whether it has the form of a decimal fraction, with or without an exponent.
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let has_digits = !whole.is_empty() || fraction.is_some_and(|f| !f.is_empty());
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['-', '+']).unwrap_or(e);
        !digits.is_empty() && all_digits(digits)
    });
    has_digits && all_digits(whole) && fraction.is_none_or(all_digits) && exponent_fits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tree(text: &str) -> Value {
        Value::Object(read(text).unwrap_or_else(|e| panic!("{text}: {e}")))
    }

    fn error(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn scalars() {
        for (text, want) in [
            ("5", json!(5)),
            ("-5", json!(-5)),
            ("0440", json!(288)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("2.5", json!(2.5)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("no", json!("no")),
            ("True", json!(true)),
            ("~", json!(null)),
            ("", json!(null)),
            ("1.2.3", json!("1.2.3")),
            ("0.5m", json!("0.5m")),
            ("08", json!(8.0)),
            ("80:80", json!("80:80")),
            ("-", json!("-")),
            ("2020-01-01", json!("2020-01-01")),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(plain(text), want, "{text}");
        }
        assert_eq!(
            tree("a: \"5\"\nb: '5'\nc: !!str 5\nd: !!int \"5\"\ne: |\n  5\n"),
            json!({"a": "5", "b": "5", "c": "5", "d": 5, "e": "5\n"})
        );
        assert_eq!(tree("5: a\ntrue: b"), json!({"5": "a", "true": "b"}));
    }

    #[test]
    fn numbers_as_go_prints_them() {
        for (number, want) in [
            (json!(5), "5"),
            (json!(1.5), "1.5"),
            (json!(1e21), "1e+21"),
            (json!(1e-7), "1e-07"),
            (json!(100.0), "100"),
        ] {
            assert_eq!(number_text(number.as_number().unwrap()), want);
        }
    }

    #[test]
    fn anchors_and_merge_keys() {
        let text =
            "base: &b {a: 1, b: 2}\nmore: &m {b: 3, c: 4}\nx: {<<: *b, a: 9}\ny:\n  <<: [*b, *m]\nz: *b\n";
        let read = tree(text);
        assert_eq!(read["x"], json!({"a": 9, "b": 2}));
        assert_eq!(read["y"], json!({"a": 1, "b": 2, "c": 4}));
        assert_eq!(read["z"], json!({"a": 1, "b": 2}));
        assert!(error("a: {<<: 5}").contains("map merge requires"));
        assert!(error("a: &a [*a]").contains("alias"));
    }

    #[test]
    fn what_is_no_compose_file() {
        for text in ["", "[]", "5", "--- \n...", "- a"] {
            assert_eq!(error(text), "top-level object must be a mapping", "{text}");
        }
        assert_eq!(error("a: 1\nb: 2\na: 3"), "yaml: line 3: mapping key \"a\" already defined at line 1");
        assert!(error("a: [").starts_with("yaml: line "));
        assert!(error("a: *nowhere").starts_with("yaml: line 1: "));
        assert!(error("? [a]\n: b").contains("a key must be"));
        assert_eq!(tree("a: 1\n---\na: 2"), json!({"a": 1}));
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for k in 1..20 {
            let before = format!("*a{}, ", k - 1).repeat(9);
            text += &format!("a{k}: &a{k} [{before}]\n");
        }
        assert!(error(&text).contains("excessive aliasing"));
        assert!(error(&format!("a: {}", "[".repeat(5000))).contains("yaml: line 1"));
        assert!(error(&format!("a: {}", "{b: ".repeat(5000))).contains("yaml: line 1"));
        let deep: String = (0..3000).map(|k| format!("{}a:\n", " ".repeat(k))).collect();
        assert!(error(&deep).contains("max depth"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a-c0-9:,\\[\\]{}&*!|>'\"#%@` \n~<?]{0,80}") {
            let _ = read(&text);
        }
    }
}
