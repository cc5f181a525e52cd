//! Go templates, for `--format`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gotmpl::{Template, TemplateError, Value};
use proto::template::{balanced, keyword, pieces};
use serde_json::{Map, Value as Json};

use super::omitted;
use crate::exit::Failure;

type Result<T> = std::result::Result<T, TemplateError>;

/// A parsed template with the functions of Docker's (`json`, `join`, `lower`, `upper`, `title`, `split`, `pad`,
/// `truncate`, `println`).
pub struct Format {
    template: Template,
    text: String,
    originals: Originals,
}

/// Objects as JSON has them, by the address of what a template has of them: `json` prints them in their order, and leaves out
/// what is empty.
#[derive(Clone, Default)]
struct Originals(Arc<Mutex<HashMap<usize, Json>>>);

impl Originals {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<usize, Json>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, address: usize) -> Option<Json> {
        self.with(|all| all.get(&address).cloned())
    }

    /// A value for templates, which has the fields that its JSON leaves out.
    fn value(&self, json: &Json) -> Value {
        match json {
            Json::Null => Value::Nil,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Value::Int(i),
                (None, Some(u)) => Value::Uint(u),
                (None, None) => Value::Float(n.as_f64().unwrap_or_default()),
            },
            Json::String(s) => Value::String(s.as_str().into()),
            Json::Array(items) => Value::List(items.iter().map(|item| self.value(item)).collect()),
            Json::Object(map) => {
                let fields = map.iter().map(|(key, value)| match omitted::name(key) {
                    Some(name) => (Arc::from(name), self.absent(value)),
                    None => (Arc::from(key.as_str()), self.value(value)),
                });
                let fields = Arc::new(fields.collect());
                let printed = Json::Object(omitted::printed(map));
                self.with(|all| all.insert(Arc::as_ptr(&fields) as usize, printed));
                Value::Map(fields)
            }
        }
    }

    /// The value of a field that JSON leaves out: a list or a map that is not there prints as an empty one, and is null in JSON.
    fn absent(&self, json: &Json) -> Value {
        let value = self.value(json);
        let address = match &value {
            Value::List(items) => Some(items.as_ptr() as usize),
            Value::Map(map) => Some(Arc::as_ptr(map) as usize),
            _ => None,
        };
        if let Some(address) = address {
            self.with(|all| all.insert(address, Json::Null));
        }
        value
    }

    fn json(&self, value: &Value) -> Json {
        match value {
            Value::Bool(b) => Json::Bool(*b),
            Value::String(s) => Json::from(&**s),
            Value::Int(n) => Json::from(*n),
            Value::Uint(n) => Json::from(*n),
            Value::Float(n) => Json::from(*n),
            Value::List(items) => self
                .find(items.as_ptr() as usize)
                .filter(|_| items.is_empty())
                .unwrap_or_else(|| items.iter().map(|item| self.json(item)).collect()),
            Value::Map(map) => self.find(Arc::as_ptr(map) as usize).unwrap_or_else(|| {
                Json::Object(map.iter().map(|(key, value)| (key.to_string(), self.json(value))).collect())
            }),
            _ => Json::Null,
        }
    }
}

impl Format {
    /// Parses a template. `\t` and `\n` written out stand for the characters, since a shell's quotes keep them; inside an action
    /// they are Go's own, in its strings.
    pub fn parse(text: &str) -> std::result::Result<Self, Failure> {
        let text = characters(text);
        balanced(&text).map_err(|why| Failure::local(format!("template parsing error: {why}")))?;
        let originals = Originals::default();
        let known = originals.clone();
        let json = move |args: &[Value]| {
            let json = known.json(argument("json", args, 0)?);
            serde_json::to_string(&json).map(string).map_err(|e| TemplateError::Exec(e.to_string()))
        };
        let template = Template::new("")
            .func("json", json)
            .func("join", join)
            .func("index", index)
            .func("lower", |args| Ok(string(text_of("lower", args, 0)?.to_lowercase())))
            .func("upper", |args| Ok(string(text_of("upper", args, 0)?.to_uppercase())))
            .func("title", title)
            .func("split", split)
            .func("pad", pad)
            .func("truncate", truncate)
            .parse(&text)
            .map_err(|e| Failure::local(format!("template parsing error: {e}")))?;
        Ok(Self { template, text, originals })
    }

    /// The template filled in with an object. A field that it does not have is an error, a key that a map inside it
    /// does not have is not.
    pub fn render(&self, object: &Map<String, Json>) -> std::result::Result<String, Failure> {
        let known: Vec<&str> = object.keys().map(|key| omitted::name(key).unwrap_or(key)).collect();
        let fail = |why: String| {
            Failure::local(format!("template error: {why}"))
                .with_help(format!("the fields are: {}", known.join(", ")))
        };
        if let Some(unknown) = root_names(&self.text).into_iter().find(|name| !known.contains(&name.as_str()))
        {
            return Err(fail(format!("no field {unknown}")));
        }
        let value = self.originals.value(&Json::Object(object.clone()));
        let text = self.template.execute_to_string(&value).map_err(|e| fail(e.to_string()));
        self.originals.with(HashMap::clear);
        text
    }
}

/// The text with `\t` and `\n` outside of actions as the characters that they stand for.
fn characters(text: &str) -> String {
    let plain = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
    pieces(text)
        .into_iter()
        .map(|(action, text)| if action { text.to_owned() } else { plain(text) })
        .collect()
}

/// The fields of the object itself that a template names: `Name` of `.Name.First` where dot is the object, and of `$.Name`.
fn root_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    // Whether dot is something else in what is open.
    let mut open: Vec<bool> = Vec::new();
    for (_, action) in pieces(text).into_iter().filter(|(action, _)| *action) {
        let word = keyword(action);
        if let ("else", Some(last)) = (word, open.last_mut()) {
            *last = false;
        }
        let is_root = !open.contains(&true);
        match word {
            "if" => open.push(false),
            "range" | "with" | "define" | "block" => open.push(true),
            "end" => drop(open.pop()),
            _ => {}
        }
        for (before, name) in chains(action) {
            if is_root || before == '$' {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// What chains of fields in an action begin with, and the character before their first dot.
fn chains(action: &str) -> Vec<(char, &str)> {
    let mut found = Vec::new();
    let (mut quote, mut before) = (None, ' ');
    let mut chars = action.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '"' | '`' | '\'') => quote = Some(c),
            (Some('"' | '\''), '\\') => drop(chars.next()),
            (Some(open), _) if open == c => quote = None,
            (None, '.') if !(before.is_alphanumeric() || matches!(before, '_' | ')' | '"' | '`')) => {
                let rest = action.get(at + 1..).unwrap_or_default();
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                if name.starts_with(|c: char| !c.is_numeric()) {
                    found.push((before, name));
                }
            }
            _ => {}
        }
        before = c;
    }
    found
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

fn argument<'a>(name: &str, args: &'a [Value], k: usize) -> Result<&'a Value> {
    args.get(k).ok_or_else(|| TemplateError::Exec(format!("{name} needs {} arguments", k + 1)))
}

fn text_of(name: &str, args: &[Value], k: usize) -> Result<String> {
    argument(name, args, k).map(ToString::to_string)
}

fn number(name: &str, args: &[Value], k: usize) -> Result<usize> {
    let number = argument(name, args, k)?.as_int().and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| TemplateError::Exec(format!("{name} needs a number of characters")))
}

/// As Go's, but that what a map does not have is empty: the maps in objects are of strings.
fn index(args: &[Value]) -> Result<Value> {
    let mut value = argument("index", args, 0)?.clone();
    for key in args.iter().skip(1) {
        let is_map = matches!(value, Value::Map(_));
        value = match value.index(key)? {
            Value::Nil if is_map => string(""),
            found => found,
        };
    }
    Ok(value)
}

fn join(args: &[Value]) -> Result<Value> {
    let separator = text_of("join", args, 1)?;
    match argument("join", args, 0)? {
        Value::List(items) => {
            let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(string(texts.join(&separator)))
        }
        // A list that is not there.
        Value::Nil => Ok(string("")),
        _ => Err(TemplateError::Exec("join needs a list".into())),
    }
}

fn title(args: &[Value]) -> Result<Value> {
    let text = text_of("title", args, 0)?;
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
    Ok(string(out))
}

fn split(args: &[Value]) -> Result<Value> {
    let (text, separator) = (text_of("split", args, 0)?, text_of("split", args, 1)?);
    Ok(Value::List(text.split(separator.as_str()).map(string).collect()))
}

fn pad(args: &[Value]) -> Result<Value> {
    let text = text_of("pad", args, 0)?;
    if text.is_empty() {
        return Ok(string(text));
    }
    let (before, after) = (number("pad", args, 1)?, number("pad", args, 2)?);
    Ok(string(format!("{}{text}{}", " ".repeat(before.min(MAX_PAD)), " ".repeat(after.min(MAX_PAD)))))
}

/// The most blanks that `pad` puts on one side.
const MAX_PAD: usize = 10_000;

fn truncate(args: &[Value]) -> Result<Value> {
    let (text, length) = (text_of("truncate", args, 0)?, number("truncate", args, 1)?);
    Ok(string(text.chars().take(length).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(format: &str) -> std::result::Result<String, Failure> {
        let object = json!({
            "Name": "web",
            "Replicas": 3,
            "Labels": {"a.b": "c", "tier": "front"},
            "Ports": ["80/tcp", "443/tcp"],
            "Spec": {"Mode": {"Replicated": {"Replicas": 3}}},
        });
        let Json::Object(mut map) = object else { unreachable!() };
        map.insert("\0Hidden".into(), "".into());
        let empty = json!({"\0Count": 0, "\0Names": [], "Kept": 1});
        map.insert("Empty".into(), empty);
        map.insert("\0Absent".into(), json!({}));
        map.insert("Items".into(), json!([{"\0Name": "", "ID": 1}]));
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
            ("{{.Labels}}", "map[a.b:c tier:front]"),
            ("{{.Ports}} {{.Spec}}", "[80/tcp 443/tcp] map[Mode:map[Replicated:map[Replicas:3]]]"),
            (r#"{{range .Ports}}{{.}}{{"\n"}}{{end}}"#, "80/tcp\n443/tcp\n"),
            (r#"{{join .Ports "\n"}}\n"#, "80/tcp\n443/tcp\n"),
            (r#"{{"a\tb"}}{{`\n`}}{{println .Name}}"#, "a\tb\\nweb\n"),
            (r#"{{index .Labels "none"}}|{{index .Ports 1}}"#, "|443/tcp"),
            ("{{slice .Name 1 2}}{{slice .Ports 1}}", "e[443/tcp]"),
            (r#"{{range split "a,b" ","}}<{{.}}>{{end}}"#, "<a><b>"),
            (r#"{{with .Labels.tier}}{{.}}{{else}}none{{end}}"#, "front"),
            (r#"{{if and .Name (not .Hidden)}}seen{{end}}"#, "seen"),
            ("{{$n := .Name}}{{range .Ports}}{{$n}}{{$.Replicas}}{{end}}", "web3web3"),
            (r#"{{"{{"}}.Name}}"#, "{{.Name}}"),
            (r#"{{.Labels.none}}"#, "<no value>"),
            // Fields that are left out of the JSON are there, empty.
            ("<{{.Hidden}}> {{.Empty.Count}} {{.Empty.Names}} {{len .Empty.Names}}", "<> 0 [] 0"),
            ("{{json .Empty}} {{json .Hidden}}", r#"{"Kept":1} """#),
            (r#"{{join .Empty.Names ","}}"#, ""),
            ("{{json .Empty.Names}} {{.Absent}} {{json .Absent}}", "null map[] null"),
            ("{{json .Ports}}{{range .Items}}{{json .}}{{.ID}}{{end}}", r#"["80/tcp","443/tcp"]{"ID":1}1"#),
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
        assert!(render("{{.Name}}{{end}}").is_err() && render("{{if .Name}}x").is_err());
        for (format, unknown) in
            [("{{if .Name}}{{.Nope}}{{end}}", "Nope"), ("{{range .Ports}}{{$.Nope}}{{end}}", "Nope")]
        {
            let error = render(format).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with(&format!("template error: no field {unknown}")), "{format}: {error}");
        }
        assert_eq!(
            render("{{range .Empty.Names}}{{.Nope}}{{end}}").ok().as_deref(),
            Some(""),
            "of each, if there is one"
        );
        assert!(
            render("{{with .Labels}}{{.tier}}{{else}}{{.Nope}}{{end}}").is_err(),
            "dot is the object again"
        );
        assert!(render(r#"{{.Name}}{{".Nope"}}{{`.Nope`}}"#).is_ok(), "text is no field");
    }
}
