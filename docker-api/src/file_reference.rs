//! Secrets and configs as files of a service's tasks.

use std::{fmt::Display, str::FromStr};

use proto::{
    error::ApiError,
    model::{ConfigId, FileReference, SecretId},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{empty, means_something};

/// A file in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileTarget {
    /// Its path.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its owner, a number.
    #[serde(rename = "UID")]
    pub uid: String,
    /// Its group, a number.
    #[serde(rename = "GID")]
    pub gid: String,
    /// Its permissions.
    #[serde(rename = "Mode")]
    pub mode: u32,
}

/// A secret of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretReference {
    /// Where it is.
    #[serde(rename = "File")]
    pub file: Option<FileTarget>,
    /// Its id.
    #[serde(rename = "SecretID")]
    pub id: String,
    /// Its name.
    #[serde(rename = "SecretName")]
    pub name: String,
}

/// A config of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigReference {
    /// Where it is.
    #[serde(rename = "File", skip_serializing_if = "Option::is_none")]
    pub file: Option<FileTarget>,
    /// For programs of Windows. Refused.
    #[serde(rename = "Runtime", skip_serializing_if = "Value::is_null")]
    pub runtime: Value,
    /// Its id.
    #[serde(rename = "ConfigID", skip_serializing_if = "empty")]
    pub id: String,
    /// Its name.
    #[serde(rename = "ConfigName")]
    pub name: String,
}

fn reference<Id: FromStr<Err: Display>>(
    kind: &str,
    file: Option<FileTarget>,
    id: &str,
    name: String,
) -> Result<FileReference<Id>, ApiError> {
    let bad = |what: String| ApiError::invalid(format!("{kind} {name:?}: {what}"));
    let Some(file) = file else {
        return Err(bad("File must be given: it says where in the container".into()));
    };
    let number = |what: &str, text: &str| match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| bad(format!("{what} {text:?} is not a number"))),
    };
    let id = match id {
        "" => None,
        text => Some(text.parse().map_err(|e: Id::Err| bad(e.to_string()))?),
    };
    let (uid, gid) = (number("UID", &file.uid)?, number("GID", &file.gid)?);
    Ok(FileReference { id, target: file.name, uid, gid, mode: file.mode, name })
}

fn file<Id>(reference: &FileReference<Id>) -> Option<FileTarget> {
    Some(FileTarget {
        name: reference.target.clone(),
        uid: reference.uid.to_string(),
        gid: reference.gid.to_string(),
        mode: reference.mode,
    })
}

fn text<Id: Display>(id: &Option<Id>) -> String {
    id.as_ref().map(ToString::to_string).unwrap_or_default()
}

impl TryFrom<SecretReference> for FileReference<SecretId> {
    type Error = ApiError;

    fn try_from(secret: SecretReference) -> Result<Self, ApiError> {
        reference("secret", secret.file, &secret.id, secret.name)
    }
}

impl From<&FileReference<SecretId>> for SecretReference {
    fn from(secret: &FileReference<SecretId>) -> Self {
        Self { file: file(secret), id: text(&secret.id), name: secret.name.clone() }
    }
}

impl TryFrom<ConfigReference> for FileReference<ConfigId> {
    type Error = ApiError;

    fn try_from(config: ConfigReference) -> Result<Self, ApiError> {
        if means_something(&config.runtime) {
            return Err(ApiError::unsupported(format!("config {:?}: Runtime is not supported", config.name)));
        }
        reference("config", config.file, &config.id, config.name)
    }
}

impl From<&FileReference<ConfigId>> for ConfigReference {
    fn from(config: &FileReference<ConfigId>) -> Self {
        Self { file: file(config), runtime: Value::Null, id: text(&config.id), name: config.name.clone() }
    }
}
