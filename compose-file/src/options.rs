//! Options of services that compose has and stacks have not.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::{Cause, Listed};

/// Options that a stack goes without; Docker's list.
const UNSUPPORTED: [&str; 16] = [
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "devices",
    "domainname",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "restart",
    "security_opt",
    "shm_size",
    "userns_mode",
];

/// Options that do nothing any more, and why.
const DEPRECATED: [(&str, &str); 2] = [
    ("container_name", "Setting the container name is not supported."),
    (
        "expose",
        "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
];

/// What there is instead of Docker's limits of old files.
const LIMITS: &str = "Set resource limits using deploy.resources";

/// Options that no file may have, and what to do instead.
const FORBIDDEN: [(&str, &str); 8] = [
    ("cpu_quota", LIMITS),
    ("cpu_shares", LIMITS),
    ("cpuset", LIMITS),
    ("extends", "Support for `extends` is not implemented yet."),
    ("mem_limit", LIMITS),
    ("memswap_limit", LIMITS),
    (
        "volume_driver",
        "Instead of setting the volume driver on the service, define a volume using the top-level `volumes` option and specify the driver there.",
    ),
    (
        "volumes_from",
        "To share a volume between services, define it using the top-level `volumes` option and reference it from each service that shares it using the service-level `volumes` option.",
    ),
];

/// Options of a file's services that are left out: a stack does without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    unsupported: BTreeSet<&'static str>,
    deprecated: BTreeSet<(&'static str, &'static str)>,
}

impl LeftOut {
    /// Adds those of one more file.
    pub(crate) fn add(&mut self, file: &Map<String, Value>) {
        self.unsupported.extend(UNSUPPORTED.into_iter().filter(|name| has(file, name)));
        self.deprecated.extend(DEPRECATED.into_iter().filter(|(name, _)| has(file, name)));
    }

    /// What is said of them, in Docker's words; each ends with an empty line there.
    pub fn warnings(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.unsupported.is_empty() {
            let names: Vec<&str> = self.unsupported.iter().copied().collect();
            said.push(format!("Ignoring unsupported options: {}\n", names.join(", ")));
        }
        if !self.deprecated.is_empty() {
            let listed: Vec<_> = self.deprecated.iter().copied().collect();
            said.push(format!("Ignoring deprecated options:\n\n{}\n", Listed(&listed)));
        }
        said
    }
}

fn has(file: &Map<String, Value>, option: &str) -> bool {
    let services = file.get("services").and_then(Value::as_object);
    services.into_iter().flatten().any(|(_, service)| service.get(option).is_some())
}

/// Refuses options that no stack can have.
pub(crate) fn refuse_forbidden(file: &Map<String, Value>) -> Result<(), Cause> {
    let found: Vec<_> = FORBIDDEN.into_iter().filter(|(name, _)| has(file, name)).collect();
    if found.is_empty() { Ok(()) } else { Err(Cause::Forbidden(found)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn dockers_words() {
        let file = json!({"services": {"a": {"build": ".", "container_name": "x"}, "b": {"links": [], "build": {}}}});
        let mut left = LeftOut::default();
        left.add(file.as_object().unwrap());
        assert_eq!(
            left.warnings(),
            [
                "Ignoring unsupported options: build, links\n",
                "Ignoring deprecated options:\n\ncontainer_name: Setting the container name is not supported.\n"
            ]
        );
        assert!(LeftOut::default().warnings().is_empty());
    }

    #[test]
    fn what_no_stack_can_have() {
        let file = json!({"services": {"a": {"extends": {"service": "b"}, "cpuset": "0"}}});
        assert_eq!(
            refuse_forbidden(file.as_object().unwrap()).unwrap_err().to_string(),
            "compose file contains unsupported options:\n\ncpuset: Set resource limits using deploy.resources\n\n\
             extends: Support for `extends` is not implemented yet.\n"
        );
        assert_eq!(refuse_forbidden(json!({"services": 5}).as_object().unwrap()), Ok(()));
    }
}
