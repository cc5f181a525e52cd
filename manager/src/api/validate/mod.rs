//! What a request must be before it is proposed: pure functions from a spec and the state to an error for the user.
//!
//! The rules are Docker's where Docker has one (swarmkit `manager/controlapi/*.go`); each error names the object, the cause
//! and the way out. What only the replicated state can decide under contention (a name, an address, a port that somebody
//! takes in the same instant) is checked again by `store::apply`.

pub mod cluster;
pub mod file;
pub mod network;
pub mod node;
pub mod ports;
pub mod service;

use std::collections::BTreeMap;

use proto::{
    error::ApiError,
    rules::{self, MAX_LABEL as MAX_NAME, is_dns_label},
};

/// Checks the name of a service or network (swarmkit `validateAnnotations`): it becomes a DNS label.
pub(super) fn name(kind: &str, flag: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid(format!("{kind} name must be given")).help(flag.to_owned()));
    }
    if name.len() > MAX_NAME {
        return Err(ApiError::invalid(format!(
            "invalid {kind} name {name:?}: it has {} characters, and {MAX_NAME} is the most that DNS allows",
            name.len()
        )));
    }
    if !is_dns_label(name) {
        return Err(ApiError::invalid(format!(
            "invalid {kind} name {name:?}: it must be valid as a DNS name component"
        ))
        .help("use letters, digits, '-' and '_'; begin and end with a letter or digit"));
    }
    Ok(())
}

/// Whether two names of services, or of networks, are one: DNS does not tell them apart by case.
fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// What to say of a name that is taken in another spelling.
fn beyond_case(taken: &str, asked: &str) -> &'static str {
    if taken == asked { "" } else { " that differs by more than case, which DNS does not see" }
}

/// Checks label keys: a label without a key can be neither shown nor removed.
pub(super) fn labels(object: &str, labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    labels.keys().try_for_each(|key| rules::label(object, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["web", "Web-1", "a", "a_b", "9lives", &"x".repeat(63)] {
            assert!(name("service", "", good).is_ok(), "{good}");
        }
        for bad in ["", "-web", "web-", "we b", "web.1", "wéb", "a/b", &"x".repeat(64)] {
            assert!(name("service", "", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_needs_a_key() {
        assert!(labels("service web", &BTreeMap::from([("a".into(), String::new())])).is_ok());
        assert!(labels("service web", &BTreeMap::from([(" ".into(), "x".into())])).is_err());
    }
}
