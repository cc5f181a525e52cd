//! What services refer to: networks, volumes, secrets, configs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extensions, Texts, empty};
use crate::shorthand;

/// Whether something is there already, and made by somebody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub struct External {
    /// It is.
    pub external: bool,
    /// Under which name, where old files say it.
    pub name: String,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name in the swarm; empty = of stack and file.
    #[serde(skip_serializing_if = "empty")]
    pub name: String,
    /// Its driver.
    #[serde(skip_serializing_if = "empty")]
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub driver_opts: Texts,
    /// Its addresses.
    #[serde(skip_serializing_if = "empty")]
    pub ipam: Ipam,
    /// Whether it is there already.
    #[serde(skip_serializing_if = "empty")]
    pub external: External,
    /// Without a way out.
    #[serde(skip_serializing_if = "empty")]
    pub internal: bool,
    /// Containers that users run may be there.
    #[serde(skip_serializing_if = "empty")]
    pub attachable: bool,
    /// Labels.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub labels: Texts,
    /// What begins with `x-`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// Addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Who gives them.
    #[serde(skip_serializing_if = "empty")]
    pub driver: String,
    /// Subnets.
    #[serde(skip_serializing_if = "empty")]
    pub config: Vec<IpamSubnet>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamSubnet {
    /// `10.1.0.0/24`.
    #[serde(skip_serializing_if = "empty")]
    pub subnet: String,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name on the nodes; empty = of stack and file.
    #[serde(skip_serializing_if = "empty")]
    pub name: String,
    /// Its driver.
    #[serde(skip_serializing_if = "empty")]
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub driver_opts: Texts,
    /// Whether it is there already.
    #[serde(skip_serializing_if = "empty")]
    pub external: External,
    /// Labels.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub labels: Texts,
    /// What begins with `x-`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A secret or a config.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileObject {
    /// Its name in the swarm; empty = of stack and file.
    #[serde(skip_serializing_if = "empty")]
    pub name: String,
    /// Where its content is.
    #[serde(skip_serializing_if = "empty")]
    pub file: String,
    /// Whether it is there already.
    #[serde(skip_serializing_if = "empty")]
    pub external: External,
    /// Labels.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub labels: Texts,
    /// Who keeps its content.
    #[serde(skip_serializing_if = "empty")]
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "empty", deserialize_with = "shorthand::texts")]
    pub driver_opts: Texts,
    /// It is a template, which this fills in.
    #[serde(skip_serializing_if = "empty")]
    pub template_driver: String,
    /// What begins with `x-`.
    #[serde(flatten)]
    pub extensions: Extensions,
}
