//! Lists: a table by default, or what `--format` and `-q` ask for.

use clap::Args;
use serde_json::{Map, Value};

use super::{emit, omitted, table, template::Format};
use crate::{config::Config, exit::Failure};

/// The fields of one line. Everything a template may use.
pub type Row = Map<String, Value>;

/// One kind of list.
pub struct Listing {
    /// The template of the default table, without the leading `table `.
    pub table: &'static str,
    /// The template of `-q`.
    pub quiet: &'static str,
    /// The user's default format for it.
    pub configured: fn(Config) -> Option<String>,
    /// Headings by field.
    pub headings: &'static [(&'static str, &'static str)],
}

/// How a list is printed.
#[derive(Debug, Clone, Default, Args)]
pub struct ListFlags {
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// 'table' (default), 'json' (one object a line), 'table TEMPLATE' or 'TEMPLATE', a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// What to print.
enum Style {
    Table(String),
    Lines(String),
    Json,
}

impl Listing {
    fn style(&self, flags: &ListFlags) -> Style {
        match flags.format.as_deref() {
            None | Some("table" | "") if flags.quiet => Style::Lines(self.quiet.into()),
            None | Some("table" | "") => Style::Table(self.table.into()),
            Some("json") => Style::Json,
            Some(format) => match format.strip_prefix("table ") {
                Some(rest) => Style::Table(rest.trim_start().into()),
                None => Style::Lines(format.into()),
            },
        }
    }

    /// The whole output.
    pub fn render(&self, rows: &[Row], flags: &ListFlags) -> Result<String, Failure> {
        match self.style(flags) {
            Style::Json => {
                let mut text = String::new();
                for row in rows {
                    text += &serde_json::to_string(&omitted::printed(row))
                        .map_err(|e| Failure::local(e.to_string()))?;
                    text.push('\n');
                }
                Ok(text)
            }
            Style::Lines(format) => {
                let format = Format::parse(&format)?;
                let mut text = String::new();
                for row in rows {
                    text += &format.render(row)?;
                    text.push('\n');
                }
                Ok(text)
            }
            Style::Table(format) => {
                let format = Format::parse(&format)?;
                let mut lines = vec![format.render(&self.heading(rows.first()))?];
                for row in rows {
                    lines.push(format.render(row)?);
                }
                Ok(table::align(&lines))
            }
        }
    }

    /// The line of headings: the template filled in with them. A field without one of its own is headed by its name.
    fn heading(&self, row: Option<&Row>) -> Row {
        let mut heading = Row::new();
        for (key, value) in row.into_iter().flatten() {
            let field = omitted::name(key).unwrap_or(key);
            // A flag such as `.Self` steers the template and has no heading.
            let text = if value.is_boolean() { Value::Bool(false) } else { field.to_uppercase().into() };
            heading.insert(field.to_owned(), text);
        }
        for (field, text) in self.headings {
            if !heading.get(*field).is_some_and(Value::is_boolean) {
                heading.insert((*field).into(), if text.is_empty() { false.into() } else { (*text).into() });
            }
        }
        heading
    }

    /// Prints the list, in the user's own format where the flags ask for none.
    pub fn print(&self, rows: &[Row], flags: &ListFlags) -> Result<(), Failure> {
        let mut flags = flags.clone();
        if flags.format.is_none() && !flags.quiet {
            flags.format = (self.configured)(Config::load());
        }
        emit(&self.render(rows, &flags)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIST: Listing = Listing {
        table: "{{.ID}}{{if .Self}} *{{end}}\\t{{.Name}}",
        quiet: "{{.ID}}",
        configured: |_| None,
        headings: &[("ID", "THING ID"), ("Name", "NAME"), ("Self", "")],
    };

    fn rows() -> Vec<Row> {
        [
            json!({"ID": "a1", "Name": "x", "Self": true, "Scope": "swarm"}),
            json!({"ID": "b2", "Name": "y", "Self": false, "Scope": "local"}),
        ]
        .into_iter()
        .filter_map(|v| v.as_object().cloned())
        .collect()
    }

    fn render(quiet: bool, format: Option<&str>) -> String {
        LIST.render(&rows(), &ListFlags { quiet, format: format.map(str::to_owned) })
            .unwrap_or_else(|e| format!("failed: {e}"))
    }

    #[test]
    fn formats() {
        assert_eq!(render(false, None), "THING ID   NAME\na1 *       x\nb2         y\n");
        assert_eq!(render(false, Some("table")), render(false, None));
        assert_eq!(render(true, None), "a1\nb2\n");
        assert_eq!(render(false, Some("{{.Name}} {{.Scope}}")), "x swarm\ny local\n");
        assert_eq!(
            render(false, Some("table {{.Name}}\\t{{.Scope}}")),
            "NAME      SCOPE\nx         swarm\ny         local\n"
        );
        assert_eq!(
            render(false, Some("json")).lines().next(),
            Some(r#"{"ID":"a1","Name":"x","Self":true,"Scope":"swarm"}"#)
        );
    }

    #[test]
    fn an_empty_list_has_its_headings() {
        let text = LIST.render(&[], &ListFlags::default()).unwrap_or_default();
        assert_eq!(text, "THING ID   NAME\n");
    }
}
