//! Secrets and configs: bytes that tasks find in files. Their JSON is one, but that a secret may name a driver and is never shown.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::{
    error::ApiError,
    model::{self, Config, Meta, Payload, Secret, Templating},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{filters::Filters, json::empty, swarm::ObjectMeta};

/// Filters that the lists have.
pub const FILTERS: [&str; 4] = ["id", "label", "name", "names"];

/// Bytes, in base64. Their `Debug` tells how many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        // As Go does: programs wrap lines.
        text.retain(|c| !matches!(c, '\r' | '\n'));
        match STANDARD.decode(text) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) => Err(de::Error::custom(format!("illegal base64 data: {error}"))),
        }
    }
}

/// A driver with its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// What it is told.
    #[serde(skip_serializing_if = "empty")]
    pub options: BTreeMap<String, String>,
}

/// What a user gives: the body of `POST /secrets/create`, `/configs/create` and `…/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FileSpec {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The content. Of a secret it is not there in answers; in an update it may be left out.
    #[serde(skip_serializing_if = "empty")]
    pub data: Data,
    /// A plugin that keeps a secret's content. Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// `golang`: the content is a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

/// A secret or a config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct File {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version and times.
    #[serde(flatten)]
    pub meta: ObjectMeta,
    /// What the user gave.
    pub spec: FileSpec,
}

/// The answer to `POST /secrets/create` and `/configs/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileCreateResponse {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}

impl TryFrom<FileSpec> for model::FileSpec {
    type Error = ApiError;

    fn try_from(spec: FileSpec) -> Result<Self, ApiError> {
        if let Some(driver) = spec.driver.filter(|d| !d.name.is_empty()) {
            return Err(ApiError::unsupported(format!(
                "secret {:?}: driver {:?} is a plugin, and plugins cannot be installed in rn",
                spec.name, driver.name
            ))
            .help("leave the driver out: the managers keep what a secret holds, encrypted"));
        }
        let templating = match spec.templating.unwrap_or_default() {
            Driver { name, .. } if name.is_empty() => None,
            Driver { options, .. } if !options.is_empty() => {
                return Err(ApiError::unsupported(format!(
                    "{:?}: Templating.Options are not supported: Go's templates have none",
                    spec.name
                )));
            }
            Driver { name, .. } if name == Templating::Golang.as_str() => Some(Templating::Golang),
            Driver { name, .. } => {
                return Err(ApiError::invalid(format!(
                    "{:?}: unrecognized template driver {name:?}",
                    spec.name
                ))
                .help("golang is the only one"));
            }
        };
        Ok(Self { name: spec.name, labels: spec.labels, data: Payload(spec.data.0), templating })
    }
}

impl From<&model::FileSpec> for FileSpec {
    fn from(spec: &model::FileSpec) -> Self {
        let templating = spec.templating.map(|t| Driver { name: t.as_str().into(), ..Driver::default() });
        Self {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            data: Data(spec.data.0.clone()),
            driver: None,
            templating,
        }
    }
}

fn file(id: &str, meta: &Meta, spec: FileSpec) -> File {
    File { id: id.to_owned(), meta: ObjectMeta::from(meta), spec }
}

impl From<&Secret> for File {
    fn from(secret: &Secret) -> Self {
        // The managers do not give it away; nor is it given away here if they did.
        let spec = FileSpec { data: Data::default(), ..FileSpec::from(&secret.spec) };
        file(secret.id.as_str(), &secret.meta, spec)
    }
}

impl From<&Config> for File {
    fn from(config: &Config) -> Self {
        file(config.id.as_str(), &config.meta, FileSpec::from(&config.spec))
    }
}

/// Whether a secret or config is among what was asked for. `name` is how a name begins, `names` is a whole one.
pub fn is_wanted(file: &File, filters: &Filters) -> bool {
    filters.begins("id", &file.id)
        && filters.begins("name", &file.spec.name)
        && filters.exact("names", &file.spec.name)
        && filters.labels("label", &file.spec.labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::json;

    fn spec(text: &str) -> Result<model::FileSpec, ApiError> {
        json::read::<FileSpec>(text.as_bytes())?.try_into()
    }

    #[test]
    fn what_clients_send_is_what_there_will_be() {
        let made = spec(
            r#"{"Name":"s","Labels":{"a":"b"},"Data":"aGVs\nbG8K","Templating":{"Name":"golang","Options":null}}"#,
        );
        let made = made.unwrap();
        assert_eq!((made.data.0.as_slice(), made.templating), (&b"hello\n"[..], Some(Templating::Golang)));
        assert_eq!(spec(r#"{"Name":"s","Labels":null}"#).unwrap().data, Payload::default());
        for (bad, words) in [
            (r#"{"Name":"s","Data":"a"}"#, "Data: illegal base64 data"),
            (r#"{"Name":"s","Data":[1]}"#, "Data: invalid type"),
            (r#"{"Name":"s","Driver":{"Name":"vault"}}"#, "\"vault\" is a plugin"),
            (r#"{"Name":"s","Templating":{"Name":"jinja"}}"#, "unrecognized template driver \"jinja\""),
            (r#"{"Name":"s","Templating":{"Name":"golang","Options":{"a":"b"}}}"#, "Templating.Options"),
        ] {
            let error = spec(bad).unwrap_err();
            assert!(error.message.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn a_config_is_shown_and_a_secret_is_not() {
        let spec = model::FileSpec { name: "x".into(), data: Payload(b"hi".to_vec()), ..Default::default() };
        let config = Config { id: model::ConfigId::random(), meta: Meta::default(), spec: spec.clone() };
        let secret = Secret { id: model::SecretId::random(), meta: Meta::default(), spec };
        let shown = serde_json::to_value(File::from(&config)).unwrap();
        assert_eq!(shown["Spec"], serde_json::json!({"Name": "x", "Labels": {}, "Data": "aGk="}));
        let shown = serde_json::to_value(File::from(&secret)).unwrap();
        assert_eq!(shown["Spec"], serde_json::json!({"Name": "x", "Labels": {}}));
        assert!(!format!("{:?}", FileSpec::from(&config.spec)).contains("104"));
    }

    #[test]
    fn a_name_may_be_begun_or_whole() {
        let file = File {
            id: "abc".into(),
            spec: FileSpec { name: "key-1".into(), ..Default::default() },
            ..Default::default()
        };
        for (filters, expected) in [
            (r#"{"name":["key"]}"#, true),
            (r#"{"names":["key"]}"#, false),
            (r#"{"names":["key-1"]}"#, true),
            (r#"{"id":["b"]}"#, false),
            (r#"{"label":["a"]}"#, false),
        ] {
            assert_eq!(is_wanted(&file, &Filters::parse(filters).unwrap()), expected, "{filters}");
        }
    }
}
