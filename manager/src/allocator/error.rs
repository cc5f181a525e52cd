//! Why something could not be allocated.

use ipam::IpamError;
use proto::model::{Port, Protocol, Vni};

/// Why an object has no allocation yet. The message becomes its condition, for a user: it names what is missing and who has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// No subnet or no address is left, or the wanted one has an owner.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The VNI that the user chose has an owner.
    #[error("VNI {vni} is in use by network {holder}")]
    VniTaken {
        /// The wanted VNI.
        vni: Vni,
        /// Name of the network that holds it.
        holder: String,
    },
    /// All VNIs are in use.
    #[error("no free VNI left between {} and {}", Vni::FIRST, Vni::LAST)]
    VnisExhausted,
    /// The published port has an owner.
    #[error("port {port}/{protocol} is already published by service {holder}")]
    PortTaken {
        /// The published port.
        port: Port,
        /// Its protocol.
        protocol: Protocol,
        /// Name of the service that holds it.
        holder: String,
    },
    /// All dynamic ports of a protocol are in use.
    #[error("no free port left between {first} and {last} for {protocol}")]
    PortsExhausted {
        /// First dynamic port.
        first: Port,
        /// Last dynamic port.
        last: Port,
        /// The protocol.
        protocol: Protocol,
    },
    /// A port is to be published by the routing mesh, which has no network.
    #[error("no ingress network is present")]
    NoIngress,
    /// The network has to be allocated first.
    #[error("network {0} has no subnet yet")]
    NoSubnet(String),
    /// The network has gone.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// The service has gone.
    #[error("service {0} not found")]
    NoService(String),
}
