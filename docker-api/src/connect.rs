//! Containers that are put on a network, and taken off it.

use proto::{error::ApiError, pb};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    container_config::Endpoint,
    container_fields::{ENDPOINT, refuse_others},
};

impl Endpoint {
    /// Refuses what is not read.
    ///
    /// # Errors
    /// A field that means something and is not read here, named below `at`.
    pub(crate) fn check(at: &str, endpoint: &Value) -> Result<(), ApiError> {
        refuse_others(at, Some(endpoint), &ENDPOINT)?;
        refuse_others(
            &format!("{at}IPAMConfig."),
            endpoint.get("IPAMConfig"),
            &["IPv4Address", "IPv6Address"],
        )
    }

    /// On a network.
    pub fn on(self, network: String) -> pb::EndpointSettings {
        let addrs = [self.ipam.v4, self.ipam.v6].into_iter().filter(|a| !a.is_empty()).collect();
        pb::EndpointSettings { network, aliases: self.aliases, addrs }
    }
}

/// The body of `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Connect {
    /// The container, by name or id.
    pub container: String,
    /// What it is to have there.
    pub endpoint_config: Endpoint,
}

impl Connect {
    /// Reads the body.
    ///
    /// # Errors
    /// It names no container, or something in it is of a wrong type or not supported; named.
    pub fn read(body: Value) -> Result<Self, ApiError> {
        if let Some(endpoint) = body.get("EndpointConfig") {
            Endpoint::check("EndpointConfig.", endpoint)?;
        }
        let connect: Self = serde_path_to_error::deserialize(body).map_err(|error| {
            let path = error.path().to_string();
            ApiError::invalid(format!("invalid JSON: {path}: {}", error.into_inner()))
        })?;
        check(&connect.container)?;
        Ok(connect)
    }
}

/// The body of `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Disconnect {
    /// The container, by name or id.
    pub container: String,
    /// Whatever state it is in.
    pub force: bool,
}

impl Disconnect {
    /// Refuses one without a container.
    ///
    /// # Errors
    /// None is named.
    pub fn check(&self) -> Result<(), ApiError> {
        check(&self.container)
    }
}

fn check(container: &str) -> Result<(), ApiError> {
    match container {
        "" => Err(ApiError::invalid("Container must be given: its name or its id")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::json;

    fn read(body: &str) -> Result<Connect, ApiError> {
        Connect::read(json::read(body.as_bytes())?)
    }

    #[test]
    fn what_compose_and_the_client_send_is_read() {
        let body = r#"{"Container":"n1","EndpointConfig":{"IPAMConfig":{"IPv4Address":"1.2.3.4"},"Aliases":["a"],"Links":[]}}"#;
        let connect = read(body).unwrap();
        assert_eq!(connect.container, "n1");
        let on = connect.endpoint_config.on("app".into());
        assert_eq!((on.addrs, on.aliases), (vec!["1.2.3.4".to_owned()], vec!["a".to_owned()]));
        let bare = read(r#"{"Container":"n1","EndpointConfig":null}"#).unwrap();
        assert!(bare.endpoint_config.on("app".into()).addrs.is_empty());
    }

    #[test]
    fn what_is_not_done_is_named() {
        for (body, words) in [
            (r#"{}"#, "Container must be given"),
            (r#"{"Container":7}"#, "Container: invalid type"),
            (r#"{"Container":"a","EndpointConfig":{"Aliases":"x"}}"#, "EndpointConfig.Aliases: invalid type"),
            (
                r#"{"Container":"a","EndpointConfig":{"Links":["b"]}}"#,
                "EndpointConfig.Links is not supported",
            ),
            (
                r#"{"Container":"a","EndpointConfig":{"IPAMConfig":{"LinkLocalIPs":["169.254.1.1"]}}}"#,
                "EndpointConfig.IPAMConfig.LinkLocalIPs is not supported",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.message.contains(words), "{body}: {error}");
        }
    }
}
