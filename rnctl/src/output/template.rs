//! Go templates, for `--format`.

use std::collections::HashMap;

use gtmpl::{Context, FuncError, Template, Value};
use serde_json::{Map, Value as Json};

use crate::exit::Failure;

type FuncResult = Result<Value, FuncError>;

/// A parsed template with the functions of Docker's (`json`, `join`, `lower`, `upper`, `title`, `split`, `pad`,
/// `truncate`, `println`).
pub struct Format {
    template: Template,
    text: String,
}

impl Format {
    /// Parses a template. `\t` and `\n` written out stand for the characters, since a shell's quotes keep them.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut template = Template::default();
        template.add_funcs(&[
            ("json", json as gtmpl::Func),
            ("join", join),
            ("lower", lower),
            ("upper", upper),
            ("title", title),
            ("split", split),
            ("pad", pad),
            ("truncate", truncate),
        ]);
        template.parse(text.as_str()).map_err(|e| Failure::local(format!("template parsing error: {e}")))?;
        Ok(Self { template, text })
    }

    /// The template filled in with an object. A field that it does not have is an error, a key that a map inside it
    /// does not have is not.
    pub fn render(&self, object: &Map<String, Json>) -> Result<String, Failure> {
        // The values of gtmpl have no order; the whole object keeps its own.
        if self.text.trim() == "{{json .}}" {
            return serde_json::to_string(object).map_err(|e| Failure::local(e.to_string()));
        }
        let fields = object.iter().map(|(k, v)| (k.clone(), value(v))).collect();
        self.template.render(&Context::from(Value::Object(fields))).map_err(|error| {
            let error = error.to_string();
            // What follows is the object, as Rust prints it.
            let error = error.split_once(" for {").map_or(error.as_str(), |(what, _)| what);
            let known: Vec<&str> = object.keys().map(String::as_str).collect();
            Failure::local(format!("template error: {error}"))
                .with_help(format!("the fields are: {}", known.join(", ")))
        })
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (None, Some(u)) => Value::from(u),
            (None, None) => Value::from(n.as_f64().unwrap_or_default()),
        },
        Json::String(s) => Value::String(s.clone()),
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), value(v))).collect()),
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::String(s) => Json::String(s.clone()),
        Value::Number(n) => n
            .as_i64()
            .map(Json::from)
            .or_else(|| n.as_u64().map(Json::from))
            .or_else(|| n.as_f64().map(Json::from))
            .unwrap_or(Json::Null),
        Value::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Object(map) | Value::Map(map) => Json::Object(sorted(map)),
    }
}

fn sorted(map: &HashMap<String, Value>) -> Map<String, Json> {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(k, _)| k.as_str());
    pairs.into_iter().map(|(k, v)| (k.clone(), to_json(v))).collect()
}

fn argument<'a>(name: &str, args: &'a [Value], k: usize) -> Result<&'a Value, FuncError> {
    args.get(k).ok_or_else(|| FuncError::AtLeastXArgs(name.to_owned(), k + 1))
}

fn string(name: &str, args: &[Value], k: usize) -> Result<String, FuncError> {
    argument(name, args, k).map(ToString::to_string)
}

fn number(name: &str, args: &[Value], k: usize) -> Result<usize, FuncError> {
    match argument(name, args, k)? {
        Value::Number(n) => n
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| FuncError::Generic(format!("{name} needs a number of characters"))),
        _ => Err(FuncError::Generic(format!("{name} needs a number of characters"))),
    }
}

fn json(args: &[Value]) -> FuncResult {
    let json = to_json(argument("json", args, 0)?);
    serde_json::to_string(&json).map(Value::String).map_err(|e| FuncError::Generic(e.to_string()))
}

fn join(args: &[Value]) -> FuncResult {
    let separator = string("join", args, 1)?;
    match argument("join", args, 0)? {
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(Value::String(texts.join(&separator)))
        }
        _ => Err(FuncError::Generic("join needs a list".into())),
    }
}

fn lower(args: &[Value]) -> FuncResult {
    Ok(Value::String(string("lower", args, 0)?.to_lowercase()))
}

fn upper(args: &[Value]) -> FuncResult {
    Ok(Value::String(string("upper", args, 0)?.to_uppercase()))
}

fn title(args: &[Value]) -> FuncResult {
    let text = string("title", args, 0)?;
    let mut out = String::with_capacity(text.len());
    let mut first = true;
    for c in text.chars() {
        if first {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        first = c.is_whitespace();
    }
    Ok(Value::String(out))
}

fn split(args: &[Value]) -> FuncResult {
    let (text, separator) = (string("split", args, 0)?, string("split", args, 1)?);
    Ok(Value::Array(text.split(separator.as_str()).map(|part| Value::String(part.to_owned())).collect()))
}

fn pad(args: &[Value]) -> FuncResult {
    let text = string("pad", args, 0)?;
    if text.is_empty() {
        return Ok(Value::String(text));
    }
    let (before, after) = (number("pad", args, 1)?, number("pad", args, 2)?);
    Ok(Value::String(format!("{}{text}{}", " ".repeat(before), " ".repeat(after))))
}

fn truncate(args: &[Value]) -> FuncResult {
    let (text, length) = (string("truncate", args, 0)?, number("truncate", args, 1)?);
    Ok(Value::String(text.chars().take(length).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(format: &str) -> Result<String, Failure> {
        let object = json!({
            "Name": "web",
            "Replicas": 3,
            "Labels": {"tier": "front", "a.b": "c"},
            "Ports": ["80/tcp", "443/tcp"],
            "Spec": {"Mode": {"Replicated": {"Replicas": 3}}},
        });
        let Json::Object(map) = object else { unreachable!() };
        Format::parse(format)?.render(&map)
    }

    #[test]
    fn fields_functions_and_control_flow() {
        let table = [
            ("{{.Name}}\\t{{.Replicas}}", "web\t3"),
            ("{{json .Labels}}", r#"{"a.b":"c","tier":"front"}"#),
            ("{{json .Spec.Mode.Replicated.Replicas}}", "3"),
            (r#"{{index .Labels "a.b"}}"#, "c"),
            (r#"{{.Labels.none}}"#, "<no value>"),
            (r#"{{join .Ports ", "}}"#, "80/tcp, 443/tcp"),
            ("{{range .Ports}}<{{.}}>{{end}}", "<80/tcp><443/tcp>"),
            ("{{range $k, $p := .Ports}}{{$k}}={{$p}} {{end}}", "0=80/tcp 1=443/tcp "),
            ("{{if eq .Name \"web\"}}yes{{else}}no{{end}}", "yes"),
            (
                "{{upper .Name}} {{.Name | title}} {{truncate .Name 2}}|{{pad .Name 1 2}}|",
                "WEB Web we| web  |",
            ),
            ("{{printf \"%s-%d\" .Name .Replicas}}", "web-3"),
            ("{{len .Ports}}", "2"),
        ];
        for (format, want) in table {
            assert_eq!(render(format).map_err(|e| e.to_string()), Ok(want.to_owned()), "{format}");
        }
    }

    #[test]
    fn the_whole_object_keeps_its_order() {
        assert!(render("{{json .}}").is_ok_and(|t| t.starts_with(r#"{"Name":"web","Replicas":3,"#)));
    }

    #[test]
    fn an_unknown_field_names_the_known_ones() {
        let error = render("{{.Nmae}}").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.starts_with("template error: no field Nmae\nthe fields are: Name, Replicas"),
            "{error}"
        );
        assert!(render("{{.Name").is_err());
    }
}
