//! What tasks may use.

use proto::{error::ApiError, model};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::empty;

/// What a task may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ResourceRequirements {
    /// No more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// Kept for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Resources>,
    /// Swap. Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<i64>,
    /// Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<i64>,
}

/// Amounts; 0 = not said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processors, in billionths.
    #[serde(rename = "NanoCPUs", alias = "NanoCpus", skip_serializing_if = "empty")]
    pub nano_cpus: i64,
    /// Bytes of memory.
    #[serde(rename = "MemoryBytes", skip_serializing_if = "empty")]
    pub memory_bytes: i64,
    /// Processes.
    #[serde(rename = "Pids", skip_serializing_if = "empty")]
    pub pids: i64,
    /// Others. Refused.
    #[serde(rename = "GenericResources", skip_serializing_if = "empty")]
    pub generic_resources: Vec<Value>,
}

fn amount(name: &str, value: i64) -> Result<u64, ApiError> {
    u64::try_from(value)
        .map_err(|_| ApiError::invalid(format!("invalid {name}: {value}: it cannot be negative")))
}

impl TryFrom<Resources> for model::Resources {
    type Error = ApiError;

    fn try_from(r: Resources) -> Result<Self, ApiError> {
        if !r.generic_resources.is_empty() {
            return Err(ApiError::unsupported(
                "Resources.GenericResources are not available in this version of rn",
            ));
        }
        Ok(Self {
            nano_cpus: amount("NanoCPUs", r.nano_cpus)?,
            memory_bytes: amount("MemoryBytes", r.memory_bytes)?,
            pids: amount("Pids", r.pids)?,
        })
    }
}

impl From<&model::Resources> for Resources {
    fn from(r: &model::Resources) -> Self {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            nano_cpus: signed(r.nano_cpus),
            memory_bytes: signed(r.memory_bytes),
            pids: signed(r.pids),
            generic_resources: Vec::new(),
        }
    }
}
