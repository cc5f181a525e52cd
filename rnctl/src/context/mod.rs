//! Contexts: daemons that a user has given names, in `~/.rn/contexts.json`.

pub mod endpoint;
pub mod exchange;

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{config, exit::Failure};
use endpoint::{Endpoint, Tls};

/// The context that is none: what `-H`, RN_HOST and the usual socket say.
pub const DEFAULT: &str = "default";

/// A daemon with a name. The fields are Docker's, so that exported contexts are read by either client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Context {
    /// Its name.
    pub name: String,
    /// What else is said of it.
    pub metadata: Metadata,
    /// Where it is.
    pub endpoints: Endpoints,
    /// Certificates and keys, by the names of their files.
    #[serde(rename = "TLS", skip_serializing_if = "BTreeMap::is_empty")]
    pub tls: BTreeMap<String, String>,
}

/// What else is said of a context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Where a context's daemon is; of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// The only kind there is.
    pub docker: DockerEndpoint,
}

/// Where a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerEndpoint {
    /// As with `-H`; empty = the usual socket.
    #[serde(rename = "Host")]
    pub host: String,
    /// Its certificate is not looked at.
    #[serde(rename = "SkipTLSVerify")]
    pub skip_tls_verify: bool,
}

/// Names of the files of certificates, as Docker keeps them.
pub const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

impl Context {
    /// How its daemon is reached.
    pub fn endpoint(&self) -> Endpoint {
        let docker = &self.endpoints.docker;
        let part = |name: &str| self.tls.get(name).map(|text| text.clone().into_bytes());
        let tls = (!self.tls.is_empty() || docker.skip_tls_verify).then(|| Tls {
            ca: part("ca.pem"),
            cert: part("cert.pem"),
            key: part("key.pem"),
            verifies: !docker.skip_tls_verify,
        });
        Endpoint::new(&docker.host, tls)
    }
}

/// All contexts, and which is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Contexts {
    /// The one in use; empty = [`DEFAULT`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current: String,
    /// By name.
    pub contexts: BTreeMap<String, Context>,
}

/// Where they are kept: `$RN_CONFIG/contexts.json`, else `~/.rn/contexts.json`.
pub fn path() -> Option<PathBuf> {
    config::path().map(|path| path.with_file_name("contexts.json"))
}

impl Contexts {
    /// Reads the file; there need be none.
    pub fn load() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let read = durable::load_as(&path, |text| serde_json::from_slice(text));
        let read = read.map_err(|e| {
            Failure::local(e.to_string()).with_help("mend the file, or remove it and make the contexts anew")
        })?;
        Ok(read.unwrap_or_default())
    }

    /// Writes the file, which only its owner may read.
    pub fn save(&self) -> Result<(), Failure> {
        let Some(path) = path() else {
            return Err(Failure::local("there is no place for contexts: neither RN_CONFIG nor HOME is set"));
        };
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            durable::replace(&file, serde_json::to_string_pretty(self)?.as_bytes(), durable::PRIVATE)
        };
        write().map_err(|e| Failure::local(format!("cannot write {}: {e}", path.display())))
    }

    /// The name of the one in use.
    pub fn current(&self) -> &str {
        if self.current.is_empty() { DEFAULT } else { &self.current }
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            Failure::local(format!("context {name:?}: context not found"))
                .with_help("rnctl context ls shows which there are")
        })
    }
}

/// Refuses what cannot be a name; in Docker's words.
pub fn check_name(name: &str) -> Result<(), Failure> {
    if name == DEFAULT {
        return Err(Failure::local(format!("{name:?} is a reserved context name")));
    }
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.as_str();
    let others = rest.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    if first && others && !rest.is_empty() {
        return Ok(());
    }
    Err(Failure::local(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for good in ["ab", "a.b", "prod-1", "0_", "a+b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "default", "-a", "a b", "a/b", "ä1"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_docker_exports_is_read() {
        let text = r#"{"Name":"bb","Metadata":{"Description":"x"},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":true}}}"#;
        let context: Context = serde_json::from_str(text).unwrap_or_default();
        assert_eq!(context.name, "bb");
        let endpoint = context.endpoint();
        assert_eq!(endpoint.host, "tcp://h:1");
        assert!(endpoint.tls.is_some_and(|tls| !tls.verifies));
        assert_eq!(serde_json::to_string(&context).unwrap_or_default(), text);
    }
}
