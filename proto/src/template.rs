//! Templates in service specs: `{{.Node.Hostname}}` and the like in a container's host name, environment and mounts. Go's
//! template language, with what swarmkit gives it (`template/context.go`). Pure.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::Arc,
};

use gotmpl::{MissingKey, Template, TemplateError, Value};

use crate::model::{ContainerSpec, Node, NodeId, ServiceId, Task, TaskId};

/// The longest text that a template may become, in bytes: far more than any variable or path needs.
const MAX_TEXT: usize = 64 << 10;
/// The most that the content of a secret or a config may become: as much as a config may hold.
const MAX_FILE: usize = crate::model::Config::MAX_DATA;
/// The most steps of `range` in one template.
const MAX_STEPS: u64 = 10_000;

/// What a template can name.
#[derive(Debug, Clone)]
pub struct Context {
    value: Value,
    fields: Vec<String>,
    files: Arc<Files>,
}

/// What templates in the content of secrets and configs name besides, by the functions `env`, `secret` and `config`.
#[derive(Clone, Default)]
pub struct Files {
    /// The container's variables.
    pub env: BTreeMap<String, String>,
    /// Its secrets, by their targets as the spec has them.
    pub secrets: BTreeMap<String, String>,
    /// Its configs, likewise.
    pub configs: BTreeMap<String, String>,
}

impl fmt::Debug for Files {
    // They must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({} secrets, {} configs)", self.secrets.len(), self.configs.len())
    }
}

impl Context {
    /// Of a task on its node. `labels` are its service's.
    pub fn of(task: &Task, node: &Node, labels: BTreeMap<String, String>) -> Self {
        let description = node.description.as_ref();
        let platform = |pick: fn(&crate::model::NodeDescription) -> &String| {
            description.map(pick).cloned().unwrap_or_default()
        };
        // A global service has one task on a node: the node tells them apart, as in the task's name.
        let slot = if task.slot == 0 { node.id.to_string() } else { task.slot.to_string() };
        let fields = [
            (".Service.ID", task.service_id.to_string()),
            (".Service.Name", task.service_name.clone()),
            (".Node.ID", node.id.to_string()),
            (".Node.Hostname", node.hostname().to_owned()),
            (".Node.Platform.OS", platform(|d| &d.os)),
            (".Node.Platform.Architecture", platform(|d| &d.arch)),
            (".Task.ID", task.id.to_string()),
            (".Task.Name", task.name()),
            (".Task.Slot", slot),
        ];
        Self::new(fields, labels)
    }

    /// One with every field, to check a spec before there is a task.
    pub fn example(service: &str, labels: &BTreeMap<String, String>) -> Self {
        let fields = [
            (".Service.ID", ServiceId::random().to_string()),
            (".Service.Name", service.to_owned()),
            (".Node.ID", NodeId::random().to_string()),
            (".Node.Hostname", "host".to_owned()),
            (".Node.Platform.OS", "linux".to_owned()),
            (".Node.Platform.Architecture", "x86_64".to_owned()),
            (".Task.ID", TaskId::random().to_string()),
            (".Task.Name", format!("{service}.1.{}", TaskId::random())),
            (".Task.Slot", "1".to_owned()),
        ];
        Self::new(fields, labels.clone())
    }

    fn new<const N: usize>(fields: [(&str, String); N], labels: BTreeMap<String, String>) -> Self {
        let mut root = Tree::default();
        for (path, text) in &fields {
            root.put(path.trim_start_matches('.'), string(text));
        }
        let labels = labels.iter().map(|(k, v)| (Arc::from(k.as_str()), string(v))).collect();
        root.put("Service.Labels", Value::Map(Arc::new(labels)));
        let fields = fields.iter().map(|(path, _)| (*path).to_owned()).collect();
        Self { value: root.value(), fields, files: Arc::default() }
    }

    /// The same with what [`Self::expand_file`] can name besides.
    #[must_use]
    pub fn with_files(self, files: Files) -> Self {
        Self { files: Arc::new(files), ..self }
    }

    /// The text with every `{{…}}` replaced.
    ///
    /// # Errors
    /// A sentence for the user that names what is not known.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        self.expand_by(text, text, MAX_TEXT, |template| template)
    }

    /// The content of a secret or a config with every `{{…}}` replaced. It has functions of its own: `env NAME`, `secret TARGET` and
    /// `config TARGET`.
    ///
    /// # Errors
    /// As [`Context::expand`]; the content itself is not in it.
    pub fn expand_file(&self, text: &str) -> Result<String, String> {
        let by = |what: &'static str, pick: fn(&Files) -> &BTreeMap<String, String>| {
            let files = Arc::clone(&self.files);
            move |args: &[Value]| {
                let [Value::String(key)] = args else {
                    return Err(TemplateError::Exec(format!("{what} needs one name")));
                };
                match pick(&files).get(&**key) {
                    Some(text) => Ok(string(text)),
                    // Go's `os.Getenv`, by which swarmkit means it.
                    None if what == "env" => Ok(string("")),
                    None => Err(TemplateError::Exec(format!("{what} target {key} not found"))),
                }
            }
        };
        self.expand_by(text, "of the content", MAX_FILE, |template| {
            template
                .func("env", by("env", |f| &f.env))
                .func("secret", by("secret", |f| &f.secrets))
                .func("config", by("config", |f| &f.configs))
        })
    }

    fn expand_by(
        &self,
        text: &str,
        shown: &str,
        most: usize,
        with: impl FnOnce(Template) -> Template,
    ) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let wrong = |error: TemplateError| {
            let mut why = error.to_string();
            if matches!(error, TemplateError::MissingKey { .. }) {
                why += &format!("; there are {} and .Service.Labels", self.fields.join(", "));
            }
            format!("template {shown:?}: {why}")
        };
        balanced(text).map_err(|why| format!("template {shown:?}: {why}"))?;
        let template = Template::new("")
            .missing_key(MissingKey::Error)
            .max_range_iters(MAX_STEPS)
            .func("join", join)
            .func("index", index);
        let mut out = Bounded { most, ..Bounded::default() };
        let made = with(template).parse(text).map_err(wrong)?.execute_fmt(&mut out, &self.value);
        match made {
            _ if out.full => Err(format!("template {shown:?}: it becomes longer than {most} bytes")),
            Ok(()) => Ok(out.text),
            Err(error) => Err(wrong(error)),
        }
    }

    /// The container spec with its templates expanded: host name, environment, mounts (swarmkit `template/expand.go`).
    ///
    /// # Errors
    /// As [`Context::expand`].
    pub fn container(&self, spec: &ContainerSpec) -> Result<ContainerSpec, String> {
        let mut spec = spec.clone();
        spec.hostname = self.expand(&spec.hostname)?;
        for env in &mut spec.env {
            *env = self.expand(env)?;
        }
        for mount in &mut spec.mounts {
            mount.source = self.expand(&mount.source)?;
            mount.target = self.expand(&mount.target)?;
            for value in mount.driver_options.values_mut().chain(mount.labels.values_mut()) {
                *value = self.expand(value)?;
            }
        }
        Ok(spec)
    }
}

/// The pieces of a template, each with whether it is an action (`{{…}}`) or plain text.
pub fn pieces(text: &str) -> Vec<(bool, &str)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        let mut quote = None;
        let mut end = action.len();
        // What is quoted in a comment is no string.
        if action.starts_with("{{/*") || action.starts_with("{{- /*") {
            let close = action.find("*/").unwrap_or(end);
            end = action[close..].find("}}").map_or(end, |at| close + at + 2);
            let (action, after) = action.split_at(end);
            pieces.extend([(false, before), (true, action)]);
            rest = after;
            continue;
        }
        let mut chars = action.char_indices();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (None, '"' | '`' | '\'') => quote = Some(c),
                // What a backslash protects.
                (Some('"' | '\''), '\\') => drop(chars.next()),
                (Some(open), _) if open == c => quote = None,
                (None, '}') if action[at..].starts_with("}}") => {
                    end = at + 2;
                    break;
                }
                _ => {}
            }
        }
        let (action, after) = action.split_at(end);
        pieces.extend([(false, before), (true, action)]);
        rest = after;
    }
    pieces.push((false, rest));
    pieces
}

/// The word that an action begins with: `if`, `end`, … or what else stands there.
pub fn keyword(action: &str) -> &str {
    let inner = action.trim_start_matches("{{").trim_end_matches("}}");
    let inner = inner.strip_prefix("- ").unwrap_or(inner).trim_start();
    inner.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default()
}

/// Checks that what is opened is closed, and that no `{{end}}` and no `{{else}}` stands alone, neither of which the library does.
///
/// # Errors
/// What stands alone, or is missing.
pub fn balanced(text: &str) -> Result<(), String> {
    let mut depth = 0u32;
    for (_, action) in pieces(text).into_iter().filter(|(action, _)| *action) {
        match keyword(action) {
            "if" | "range" | "with" | "block" | "define" => depth += 1,
            word @ ("end" | "else") if depth == 0 => return Err(format!("unexpected {{{{{word}}}}}")),
            "end" => depth -= 1,
            _ => {}
        }
    }
    if depth > 0 { Err("an {{end}} is missing".to_owned()) } else { Ok(()) }
}

fn string(text: &str) -> Value {
    Value::String(text.into())
}

/// Maps of maps under construction.
#[derive(Default)]
struct Tree {
    leaves: BTreeMap<Arc<str>, Value>,
    branches: BTreeMap<Arc<str>, Tree>,
}

impl Tree {
    fn put(&mut self, path: &str, value: Value) {
        match path.split_once('.') {
            Some((head, rest)) => self.branches.entry(head.into()).or_default().put(rest, value),
            None => drop(self.leaves.insert(path.into(), value)),
        }
    }

    fn value(self) -> Value {
        let branches = self.branches.into_iter().map(|(key, tree)| (key, tree.value()));
        Value::Map(Arc::new(self.leaves.into_iter().chain(branches).collect()))
    }
}

/// swarmkit's own function: the first argument between the others.
fn join(args: &[Value]) -> gotmpl::Result<Value> {
    let words: Vec<String> = args.iter().map(ToString::to_string).collect();
    let (separator, words) =
        words.split_first().ok_or_else(|| TemplateError::Exec("join needs a separator".into()))?;
    Ok(string(&words.join(separator)))
}

/// As Go's, for maps of strings: what is not there is an empty string.
fn index(args: &[Value]) -> gotmpl::Result<Value> {
    let [value, keys @ ..] = args else { return Err(TemplateError::Exec("index needs a map".into())) };
    keys.iter().try_fold(value.clone(), |value, key| match value.index(key)? {
        Value::Nil => Ok(string("")),
        found => Ok(found),
    })
}

/// A text that grows up to `most` bytes.
#[derive(Default)]
struct Bounded {
    most: usize,
    text: String,
    full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.full |= self.text.len() + more.len() > self.most;
        if self.full {
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        let labels = [("tier", "front"), ("com.x", "y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Context::example("web", &labels.into())
    }

    #[test]
    fn fields_labels_and_functions() {
        for (text, want) in [
            ("plain", "plain"),
            ("{{.Service.Name}}-{{ .Task.Slot }}-{{.Node.Hostname}}", "web-1-host"),
            (r#"{{index .Service.Labels "tier"}}"#, "front"),
            (r#"{{index .Service.Labels "com.x"}}"#, "y"),
            (r#"{{index .Service.Labels "none"}}"#, ""),
            ("{{.Service.Labels.tier}}", "front"),
            ("{{.Service.Labels}}", "map[com.x:y tier:front]"),
            (r#"{{"{{"}}.Service.Name{{"}}"}}"#, "{{.Service.Name}}"),
            ("{{`{{`}}x}}", "{{x}}"),
            (r#"a{{/* nothing, isn't it */ -}} b{{"{{end}}"}}"#, "ab{{end}}"),
            (r#"{{join "-" .Service.Name .Task.Slot}}"#, "web-1"),
            (r#"{{if eq .Node.Platform.OS "linux"}}yes{{else}}no{{end}}"#, "yes"),
            (r#"{{printf "%s/%s" .Node.Platform.OS .Node.Platform.Architecture}}"#, "linux/x86_64"),
            (r#"{{range $k, $v := .Service.Labels}}{{$k}}={{$v}};{{end}}"#, "com.x=y;tier=front;"),
            (r#"{{with .Service.Name}}{{.}}{{end}}"#, "web"),
            (r#"{{if true}}{{"{{end}}"}}{{- end }}"#, "{{end}}"),
            ("}} and {x}", "}} and {x}"),
        ] {
            assert_eq!(context().expand(text), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (bad, why) in [
            ("{{.Node.Name}}", "Name; there are .Service.ID"),
            ("{{.Service.Labels.none}}", "none"),
            ("{{.Task.Slot", "unclosed"),
            ("{{nope .Task.Slot}}", "nope"),
            ("{{.Task.Slot}} {{end}} x", "unexpected {{end}}"),
            ("{{else}}", "unexpected {{else}}"),
            ("{{if .Task.Slot}}x", "end"),
        ] {
            let error = context().expand(bad).err().unwrap_or_default();
            assert!(error.contains(why) && error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_files_template_names_variables_and_other_files() {
        let text = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let context = context().with_files(Files {
            env: text(&[("PORT", "80")]),
            secrets: text(&[("key", "hush")]),
            configs: text(&[("/etc/a", "b")]),
        });
        let made = context.expand_file(
            r#"{{.Service.Name}} {{env "PORT"}} {{env "NONE"}} {{secret "key"}} {{config "/etc/a"}}"#,
        );
        assert_eq!(made, Ok("web 80  hush b".to_owned()));
        let why = context.expand_file(r#"hidden {{secret "none"}}"#).err().unwrap_or_default();
        assert!(why.contains("secret target none not found") && !why.contains("hidden"), "{why}");
        assert!(context.expand(r#"{{secret "key"}}"#).is_err(), "a spec is for everybody to read");
        assert!(!format!("{context:?}").contains("hush"));
    }

    #[test]
    fn a_template_cannot_grow_without_bounds() {
        let error = context().expand("{{range 9999}}{{.}} is a number, and not a small one{{end}}").err();
        assert!(error.is_some_and(|e| e.contains("longer than")));
        assert!(context().expand("{{range 99999999}}{{end}}").is_err());
    }
}
