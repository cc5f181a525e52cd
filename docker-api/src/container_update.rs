//! `POST /containers/{id}/update`.

use proto::error::ApiError;
use serde::Deserialize;
use serde_json::Value;

use crate::{container_config::RestartPolicy, container_fields::refuse_others};

/// What is to be changed of a container; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Processors in billionths.
    pub nano_cpus: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes; 0 = any number.
    pub pids: Option<u64>,
    /// When it starts again, as `--restart` names it.
    pub restart: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Body {
    memory: i64,
    nano_cpus: i64,
    pids_limit: Option<i64>,
    restart_policy: RestartPolicy,
}

/// Fields that are read.
const READ: [&str; 4] = ["Memory", "NanoCpus", "PidsLimit", "RestartPolicy"];

/// Reads the body. 0 means "as it is", but for the number of processes, of which it means any, as -1 does.
///
/// # Errors
/// Something in it is of a wrong type, out of range, or not supported; named.
pub fn read(body: Value) -> Result<Change, ApiError> {
    refuse_others("", Some(&body), &READ)?;
    let body: Body = serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(format!("invalid JSON: {path}: {}", error.into_inner()))
    })?;
    let amount = |name: &str, value: i64| match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(ApiError::invalid(format!("invalid {name}: {value}: it cannot be negative"))),
    };
    Ok(Change {
        nano_cpus: amount("NanoCpus", body.nano_cpus)?,
        memory_bytes: amount("Memory", body.memory)?,
        pids: body.pids_limit.map(|n| u64::try_from(n).unwrap_or_default()),
        restart: Some(body.restart_policy.text()?).filter(|text| !text.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let body = json!({"BlkioWeight": 0, "CpuShares": 0, "Memory": 0, "MemorySwap": 0, "NanoCpus": 0, "CpusetCpus": "",
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}});
        assert_eq!(read(body).unwrap(), Change::default());
        let body = json!({"Memory": 4096, "PidsLimit": -1, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}});
        let change = read(body).unwrap();
        assert_eq!((change.memory_bytes, change.pids, change.nano_cpus), (Some(4096), Some(0), None));
        assert_eq!(change.restart.as_deref(), Some("on-failure:2"));
        for (body, words) in [
            (json!({"CpuShares": 5}), "CpuShares is not supported"),
            (json!({"Memory": -1}), "invalid Memory"),
            (json!({"Memory": "x"}), "Memory"),
            (json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}), "maximum retry count"),
        ] {
            assert!(read(body.clone()).unwrap_err().message.contains(words), "{body}");
        }
    }
}
