//! Secrets and configs.

use base64::{Engine, prelude::BASE64_STANDARD};
use proto::model::{Config, FileReference, FileSpec, Meta, Secret, Timestamp};
use serde_json::{Value, json};

use super::{Object, label_list, strings, with_meta};
use crate::output::{
    listing::{Listing, Row},
    time,
};

/// A secret or a config.
pub struct File {
    /// Its id.
    pub id: String,
    meta: Meta,
    /// What the user gave.
    pub spec: FileSpec,
    is_secret: bool,
}

impl From<Secret> for File {
    fn from(s: Secret) -> Self {
        Self { id: s.id.to_string(), meta: s.meta, spec: s.spec, is_secret: true }
    }
}

impl From<Config> for File {
    fn from(c: Config) -> Self {
        Self { id: c.id.to_string(), meta: c.meta, spec: c.spec, is_secret: false }
    }
}

/// `secret ls`.
pub const SECRETS: Listing = Listing {
    table: "{{.ID}}\\t{{.Name}}\\t{{.Driver}}\\t{{.CreatedAt}}\\t{{.UpdatedAt}}",
    quiet: "{{.ID}}",
    configured: |c| c.secret_format,
    headings: HEADINGS,
};
/// `config ls`.
pub const CONFIGS: Listing = Listing {
    table: "{{.ID}}\\t{{.Name}}\\t{{.CreatedAt}}\\t{{.UpdatedAt}}",
    quiet: "{{.ID}}",
    configured: |c| c.config_format,
    headings: HEADINGS,
};
const HEADINGS: &[(&str, &str)] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("CreatedAt", "CREATED"),
    ("UpdatedAt", "UPDATED"),
    ("Labels", "LABELS"),
];

/// A line of `ls`.
pub fn row(file: &File, now: Timestamp) -> Row {
    let row = Object::default().with("ID", file.id.as_str()).with("Name", file.spec.name.as_str());
    let row = if file.is_secret { row.with("Driver", "") } else { row };
    row.with("CreatedAt", time::ago(file.meta.created_at, now))
        .with("UpdatedAt", time::ago(file.meta.updated_at, now))
        .with("Labels", label_list(&file.spec.labels))
        .build()
}

/// `inspect`.
pub fn inspect(file: &File) -> Row {
    let spec =
        Object::default().with("Name", file.spec.name.as_str()).with("Labels", strings(&file.spec.labels));
    let spec =
        if file.is_secret { spec } else { spec.with("Data", BASE64_STANDARD.encode(&file.spec.data.0)) };
    let templating = file.spec.templating.map_or(Value::Null, |t| json!({"Name": t.as_str()}));
    with_meta(Object::default().with("ID", file.id.as_str()), &file.meta)
        .with("Spec", spec.some("Templating", templating))
        .build()
}

/// `inspect --pretty`.
pub fn pretty(file: &File) -> String {
    let spec = &file.spec;
    let mut text = format!("ID:\t\t\t{}\nName:\t\t\t{}\n", file.id, spec.name);
    if !spec.labels.is_empty() {
        text += "Labels:\n";
        for (key, value) in &spec.labels {
            text += &format!(" - {key}={value}\n");
        }
    }
    if file.is_secret {
        text += "Driver:\t\t\t\n";
    }
    text += &format!(
        "Created at:            \t{}\nUpdated at:            \t{}\n",
        time::long(file.meta.created_at),
        time::long(file.meta.updated_at)
    );
    if !file.is_secret {
        text += &format!("Data:\n{}\n", String::from_utf8_lossy(&spec.data.0));
    }
    text
}

/// What a spec names; `kind` is `Secret` or `Config`.
pub fn references<Id: ToString>(kind: &str, references: &[FileReference<Id>]) -> Vec<Value> {
    let one = |r: &FileReference<Id>| {
        let id = r.id.as_ref().map(ToString::to_string).unwrap_or_default();
        let file =
            json!({"Name": r.target, "UID": r.uid.to_string(), "GID": r.gid.to_string(), "Mode": r.mode});
        Object::default()
            .with("File", file)
            .with(&format!("{kind}ID"), id)
            .with(&format!("{kind}Name"), r.name.as_str())
            .into()
    };
    references.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_no_content_and_a_config_does() {
        let spec = FileSpec {
            name: "a".into(),
            data: proto::model::Payload(b"hush".to_vec()),
            ..FileSpec::default()
        };
        let secret =
            Secret { id: proto::model::SecretId::random(), meta: Meta::default(), spec: spec.clone() }.into();
        let config = Config { id: proto::model::ConfigId::random(), meta: Meta::default(), spec }.into();
        let text = |file: &File| Value::Object(inspect(file)).to_string();
        assert!(!text(&secret).contains("Data") && !pretty(&secret).contains("hush"));
        assert!(text(&config).contains(r#""Data":"aHVzaA==""#) && pretty(&config).contains("hush"));
    }
}
