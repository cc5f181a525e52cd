//! Volumes.

use std::collections::BTreeMap;

use proto::{error::ApiError, model::Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{filters::Filters, json::means_something, time};

/// The filters of `GET /volumes`.
pub const FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];

/// The filters of `POST /volumes/prune`.
pub const PRUNE_FILTERS: [&str; 3] = ["all", "label", "label!"];

/// The body of `POST /volumes/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeCreate {
    /// Its name; empty = one is made up.
    pub name: String,
    /// `local`, or empty.
    pub driver: String,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Of `cluster` volumes. Refused.
    pub cluster_volume_spec: Value,
}

impl VolumeCreate {
    /// Refuses what rn does not have.
    ///
    /// # Errors
    /// Another driver than `local`, options, or a volume of a cluster.
    pub fn check(&self) -> Result<(), ApiError> {
        if !matches!(self.driver.as_str(), "" | "local") {
            return Err(ApiError::not_found(format!(
                "error looking up volume plugin {0}: plugin {0:?} not found",
                self.driver
            ))
            .help("there is the driver local"));
        }
        if let Some(option) = self.driver_opts.keys().next() {
            return Err(ApiError::unsupported(format!(
                "DriverOpts: {option} is not supported by rn; say it where the volume is mounted: --mount type=volume,volume-opt={option}=…"
            )));
        }
        if means_something(&self.cluster_volume_spec) {
            return Err(ApiError::unsupported("ClusterVolumeSpec is not supported by rn; leave it out"));
        }
        Ok(())
    }
}

/// A volume, as clients read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Where its files are.
    pub mountpoint: String,
    /// When it was made, ms since the epoch.
    pub created_at: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether a container has it.
    pub used: bool,
}

impl Shown {
    /// Its JSON.
    pub fn json(&self) -> Value {
        json!({
            "CreatedAt": time::rfc3339(Timestamp(self.created_at / 1000 * 1000)),
            "Driver": "local",
            "Labels": if self.labels.is_empty() { Value::Null } else { json!(self.labels) },
            "Mountpoint": self.mountpoint,
            "Name": self.name,
            "Options": null,
            "Scope": "local",
        })
    }

    /// Whether it is among those that filters ask for.
    ///
    /// # Errors
    /// `dangling` is no switch.
    pub fn is_wanted(&self, filters: &Filters) -> Result<bool, ApiError> {
        Ok(filters.switch("dangling")?.is_none_or(|wanted| wanted != self.used)
            && filters.exact("driver", "local")
            && filters.labels("label", &self.labels)
            && filters.any("name", |value| self.name.contains(value)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_not_there_is_refused() {
        let read = |body: &str| crate::json::read::<VolumeCreate>(body.as_bytes()).unwrap().check();
        assert!(read(r#"{"Driver":"local","Name":"v","DriverOpts":{},"Labels":null}"#).is_ok());
        for (body, words) in [
            (r#"{"Driver":"nfs"}"#, "plugin \"nfs\" not found"),
            (r#"{"DriverOpts":{"type":"nfs"}}"#, "volume-opt=type"),
            (r#"{"ClusterVolumeSpec":{"Group":"a"}}"#, "ClusterVolumeSpec"),
        ] {
            assert!(read(body).unwrap_err().message.contains(words), "{body}");
        }
    }

    #[test]
    fn filters_choose() {
        let volume = Shown { name: "data".into(), used: true, ..Shown::default() };
        for (filters, expected) in [
            (r#"{"dangling":["true"]}"#, false),
            (r#"{"dangling":["false"],"name":["at"],"driver":["local"]}"#, true),
            (r#"{"label":["a"]}"#, false),
        ] {
            assert_eq!(volume.is_wanted(&Filters::parse(filters).unwrap()).unwrap(), expected, "{filters}");
        }
    }
}
