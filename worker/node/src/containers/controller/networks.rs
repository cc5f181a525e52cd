//! Which networks a container is on, changed by its user.

use proto::{
    error::ApiError,
    model::{EndpointSettings, HOST_NETWORK},
};

use super::ContainerController;
use crate::containers::Definition;

impl ContainerController {
    /// To be on a network, too, from its next start on.
    pub(super) fn connect(&mut self, endpoint: EndpointSettings) -> Result<(), ApiError> {
        self.must_rest("connected to")?;
        let Definition { name, networks, .. } = &self.definition;
        if networks.iter().any(|n| n.network == endpoint.network) {
            let network = &endpoint.network;
            return Err(ApiError::denied(format!(
                "endpoint with name {name} already exists in network {network}"
            )));
        }
        if self.definition.is_on_host_network() || endpoint.network == HOST_NETWORK {
            return Err(between_host());
        }
        let mut wanted = self.definition.clone();
        wanted.networks.push(endpoint);
        self.redefine(wanted)
    }

    /// Not to be on a network any more.
    pub(super) fn disconnect(&mut self, names: &[String]) -> Result<(), ApiError> {
        self.must_rest("disconnected from")?;
        let named = |n: &EndpointSettings| names.contains(&n.network);
        if !self.definition.networks.iter().any(named) {
            let (name, network) = (&self.definition.name, names.last().map_or("", String::as_str));
            return Err(ApiError::precondition(format!(
                "container {name} is not connected to the network {network}"
            )));
        }
        if self.definition.is_on_host_network() {
            return Err(between_host());
        }
        let mut wanted = self.definition.clone();
        wanted.networks.retain(|n| !named(n));
        self.redefine(wanted)
    }

    /// Its place on the swarm's networks is one task, planned whole: it cannot change below a running container.
    fn must_rest(&self, what: &str) -> Result<(), ApiError> {
        if self.run.is_none() && self.attaching.is_none() {
            return Ok(());
        }
        let name = &self.definition.name;
        Err(ApiError::unsupported(format!(
            "container {name} is running: in this version of rn a running container cannot be {what} a network"
        ))
        .help(format!("stop it first: rnctl stop {name}; the change counts from its next start on")))
    }

    fn redefine(&mut self, wanted: Definition) -> Result<(), ApiError> {
        // One without networks cannot start, but may be given one again.
        if !wanted.networks.is_empty() {
            wanted.check()?;
        }
        self.definitions().save(&wanted)?;
        self.definition = wanted;
        Ok(())
    }
}

/// Docker's words.
fn between_host() -> ApiError {
    ApiError::invalid("container cannot be disconnected from host network or connected to host network")
}
