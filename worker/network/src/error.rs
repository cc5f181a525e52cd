//! What may be wrong with this node's network: each error is a value that names its object, the cause and the way out. It becomes text where
//! it leaves the machine or meets a user: in a heartbeat, a task's status, `info`.

use std::{path::PathBuf, sync::Arc};

use kernel::KernelError;
use proto::model::NetworkId;

use crate::{
    plan::{Obstacle, UnitKey, firewall::DroppingChain},
    reconciler::PortConflict,
};

/// Why a unit is not as it should be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnitError {
    /// The kernel refused a step, or could not be looked at: which command that stands for, and the kernel's own words.
    #[error("{0}")]
    Kernel(Arc<KernelError>),
    /// Something that is not ours is in the way.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
}

impl From<KernelError> for UnitError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(Arc::new(error))
    }
}

impl PartialEq for UnitError {
    /// What the kernel says is compared as text: its errors have no equality of their own.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kernel(a), Self::Kernel(b)) => a.to_string() == b.to_string(),
            (Self::Obstacle(a), Self::Obstacle(b)) => a == b,
            (Self::Kernel(_), Self::Obstacle(_)) | (Self::Obstacle(_), Self::Kernel(_)) => false,
        }
    }
}

impl Eq for UnitError {}

/// A unit that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {error}")]
pub struct UnitFailure {
    /// The unit.
    pub key: UnitKey,
    /// Why.
    pub error: UnitError,
}

/// Why a workload has no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A part of it failed.
    #[error(transparent)]
    Unit(#[from] UnitFailure),
    /// A host-mode port is taken.
    #[error(transparent)]
    Port(#[from] PortConflict),
    /// The network did not come with the assignment.
    #[error("network {0} has not been assigned to this node")]
    NoNetwork(NetworkId),
    /// Encrypted overlays fail closed.
    #[error(
        "network {0} is encrypted, which this node cannot do: nothing is sent rather than in the clear; \
         create the network without --opt encrypted"
    )]
    Encrypted(String),
    /// The gateway bridge has no address left.
    #[error("the gateway bridge's subnet {0} is full")]
    GatewayFull(ipnet::Ipv4Net),
    /// The gateway bridge has no subnet, and none is free.
    #[error("every subnet for the gateway bridge overlaps with this host's networks")]
    NoGatewaySubnet,
    /// What is kept on disk could not be read or written.
    #[error("{}: {reason}", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What became of it.
        reason: String,
    },
    /// The host's own networks could not be looked at.
    #[error("the host's networks: {0}")]
    Host(UnitError),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Something that this node cannot mend by itself, and that the managers are to name on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Somebody else has a published port.
    #[error(transparent)]
    Port(#[from] PortConflict),
    /// Another firewall drops what tasks send and get.
    #[error("{0}")]
    Firewall(DroppingChain),
}

impl Fault {
    /// One of each is named on a node: `port 8080/tcp`, `firewall`.
    pub fn kind(&self) -> String {
        match self {
            Self::Port(conflict) => format!("port {}/{}", conflict.port, conflict.protocol),
            Self::Firewall(_) => "firewall".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::Cause;

    use super::*;

    #[test]
    fn an_error_names_its_object_and_the_cause() {
        let refused = |link: &str| {
            let cause = Cause::NoLink(link.to_owned());
            UnitError::from(KernelError { command: format!("ip link set dev {link} up"), cause })
        };
        let failure = UnitFailure { key: UnitKey::Mesh, error: refused("rn-ingress") };
        let text = "routing mesh: ip link set dev rn-ingress up: no link rn-ingress";
        assert_eq!(NetworkError::from(failure.clone()).to_string(), text);
        assert_eq!(failure.error, refused("rn-ingress"));
        assert_ne!(failure.error, refused("eth0"));
        let obstacle = Obstacle::Link { name: "rn-ingress".into(), alias: Some("wan".into()) };
        assert_ne!(failure.error, UnitError::from(obstacle));
    }
}
