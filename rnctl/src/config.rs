//! `~/.rn/config.json`: the client's own settings, under Docker's names.

use std::path::PathBuf;

use serde::Deserialize;

use crate::output::complain;

/// Default formats of the lists; `--format` goes before them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// `ps`.
    pub ps_format: Option<String>,
    /// `image ls`.
    pub images_format: Option<String>,
    /// `stats`.
    pub stats_format: Option<String>,
    /// `volume ls`.
    pub volumes_format: Option<String>,
    /// `network ls`.
    pub networks_format: Option<String>,
    /// `secret ls`.
    pub secret_format: Option<String>,
    /// `config ls`.
    pub config_format: Option<String>,
    /// `node ls`.
    pub nodes_format: Option<String>,
    /// `service ls`.
    pub services_format: Option<String>,
    /// `service ps` and `node ps`.
    pub tasks_format: Option<String>,
}

impl Config {
    /// Reads the file; without one everything is as usual. One that cannot be read is reported and ignored, so that a slip in
    /// it does not take the commands away.
    pub fn load() -> Self {
        let Some(path) = path() else { return Self::default() };
        let Ok(text) = std::fs::read_to_string(&path) else { return Self::default() };
        serde_json::from_str(&text).unwrap_or_else(|e| {
            complain(&format!("WARNING: {} is ignored: {e}", path.display()));
            Self::default()
        })
    }
}

/// `$RN_CONFIG/config.json`, else `~/.rn/config.json`.
pub fn path() -> Option<PathBuf> {
    let dir = match std::env::var_os("RN_CONFIG") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".rn"),
    };
    Some(dir.join("config.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_names_and_unknown_ones() {
        let text = r#"{"psFormat": "table {{.Names}}", "auths": {}, "detachKeys": "ctrl-e,e"}"#;
        let config: Config = serde_json::from_str(text).unwrap_or_default();
        assert_eq!(config.ps_format.as_deref(), Some("table {{.Names}}"));
        assert_eq!(config.tasks_format, None);
    }
}
