//! Credentials of registries, in `~/.rn/config.json` under `auths`, as Docker keeps them.

use std::{fs, io, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use proto::pb::RegistryAuth;
use serde_json::{Map, Value, json};

use crate::{config, exit::Failure, parse::image::DEFAULT_REGISTRY};

/// The key of Docker Hub in Docker's file.
const HUB: &str = "https://index.docker.io/v1/";

/// The file, with whatever else is in it.
pub struct Credentials {
    path: PathBuf,
    file: Map<String, Value>,
}

impl Credentials {
    /// Reads the file; there need be none.
    pub fn load() -> Result<Self, Failure> {
        let Some(path) = config::path() else {
            return Err(Failure::local(
                "there is no place for credentials: neither RN_CONFIG nor HOME is set",
            ));
        };
        let bad = |e: durable::ReadError| {
            Failure::local(e.to_string())
                .with_help("mend the file, or remove it and log in again: rnctl login")
        };
        let file =
            durable::load_as(&path, |text| serde_json::from_slice(text)).map_err(bad)?.unwrap_or_default();
        Ok(Self { path, file })
    }

    /// Where they are kept.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Those for a registry.
    pub fn get(&self, registry: &str) -> Option<RegistryAuth> {
        let auths = self.file.get("auths")?.as_object()?;
        let entry = keys(registry).iter().find_map(|key| auths.get(key))?;
        let decoded = entry.get("auth")?.as_str().and_then(|text| STANDARD.decode(text).ok())?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(RegistryAuth {
            server: registry.to_owned(),
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }

    /// Keeps credentials.
    pub fn put(&mut self, auth: &RegistryAuth) -> Result<(), Failure> {
        let encoded = STANDARD.encode(format!("{}:{}", auth.username, auth.password));
        let auths = self.file.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            return Err(Failure::local(format!("{}: `auths` is not an object", self.path.display())));
        };
        auths.insert(key(&auth.server), json!({ "auth": encoded }));
        self.save()
    }

    /// Forgets those for a registry; whether there were any.
    pub fn remove(&mut self, registry: &str) -> Result<bool, Failure> {
        let auths = self.file.get_mut("auths").and_then(Value::as_object_mut);
        let removed = auths.is_some_and(|auths| {
            let found: Vec<String> =
                keys(registry).into_iter().filter(|key| auths.contains_key(key)).collect();
            found.iter().for_each(|key| drop(auths.remove(key)));
            !found.is_empty()
        });
        if removed {
            self.save()?;
        }
        Ok(removed)
    }

    fn save(&self) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            if let Some(dir) = self.path.parent() {
                fs::create_dir_all(dir)?;
            }
            // It may be a link into somebody's collection of settings, which is to stay one.
            let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
            durable::replace(&path, serde_json::to_string_pretty(&self.file)?.as_bytes(), durable::PRIVATE)
        };
        write().map_err(|e| Failure::local(format!("cannot write {}: {e}", self.path.display())))
    }
}

fn key(registry: &str) -> String {
    if registry == DEFAULT_REGISTRY { HUB.to_owned() } else { registry.to_owned() }
}

/// Under which keys programs have kept a registry's credentials.
fn keys(registry: &str) -> Vec<String> {
    let mut keys = vec![key(registry)];
    if registry == DEFAULT_REGISTRY {
        keys.extend(["docker.io", "index.docker.io"].map(str::to_owned));
    }
    keys.extend([format!("https://{registry}"), format!("http://{registry}")]);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_is_in_the_file_stays() {
        let Ok(dir) = tempfile::tempdir() else { return };
        let path = dir.path().join("sub/config.json");
        let file = json!({"psFormat": "x", "auths": {"https://old.example": {"auth": "bWU6cHc="}}});
        let mut credentials =
            Credentials { path: path.clone(), file: file.as_object().cloned().unwrap_or_default() };
        assert_eq!(
            credentials.get("old.example").map(|a| (a.username, a.password)),
            Some(("me".into(), "pw".into()))
        );
        let auth = RegistryAuth { server: "docker.io".into(), username: "u".into(), password: "a:b".into() };
        assert!(credentials.put(&auth).is_ok());
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains("psFormat") && text.contains(HUB), "{text}");
        let mode =
            fs::metadata(&path).map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 0o777);
        assert_eq!(mode.ok(), Some(0o600));
        assert_eq!(credentials.get("docker.io"), Some(auth));
        assert_eq!(credentials.get("other"), None);
        assert_eq!(credentials.remove("docker.io").ok(), Some(true));
        assert_eq!(credentials.remove("docker.io").ok(), Some(false));
    }
}
