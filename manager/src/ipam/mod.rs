//! Address management: subnets, addresses, VNIs and published ports.
//!
//! Pure over the replicated state. What is in use is derived from the tables once per plan, into a [`WorkingSet`] that
//! remembers what the plan itself hands out; there is no bitmap, no cache and no second truth. `apply` checks every
//! choice again, so a stale working set costs a retry and never an address with two owners.

pub mod addr;
pub mod pool;
pub mod port;
mod range;
pub mod vni;
mod working_set;

pub use addr::{NetworkSpace, SubnetSpace};
pub use port::PublishedPorts;
pub use working_set::{LastAllocated, WorkingSet};

/// Why something could not be handed out. The message is for a user: it names the pool or network, and the holder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// The pools have no block left.
    #[error("no free /{prefix} left in {pools}: {networks} networks hold subnets there")]
    PoolExhausted {
        /// The wanted prefix length.
        prefix: u8,
        /// The pools, comma separated.
        pools: String,
        /// How many networks hold a subnet.
        networks: usize,
    },
    /// Every address of a family is in use.
    #[error("network {network} has no free address in {subnet}: {used} of {capacity} are in use")]
    SubnetExhausted {
        /// The network's name.
        network: String,
        /// Its subnets of that family, comma separated.
        subnet: String,
        /// Addresses in use.
        used: u128,
        /// Addresses there are.
        capacity: u128,
    },
    /// An address that the user chose is in no subnet of the network.
    #[error("address {addr} is in no subnet of network {network} ({subnets})")]
    Outside {
        /// The wanted address.
        addr: std::net::IpAddr,
        /// The network's name.
        network: String,
        /// Its subnets, comma separated.
        subnets: String,
    },
    /// A container has one address of a family on a network.
    #[error("a container has one address of a family on network {network}: {addr} is one too many")]
    TwoOfAFamily {
        /// The second one.
        addr: std::net::IpAddr,
        /// The network's name.
        network: String,
    },
    /// An address that the user chose is in use, or no host's.
    #[error("address {addr} on network {network} is in use, or cannot be a container's")]
    Held {
        /// The wanted address.
        addr: std::net::IpAddr,
        /// The network's name.
        network: String,
    },
    /// A subnet that the user chose meets another one.
    #[error("subnet {subnet} overlaps with {taken} of network {holder}")]
    SubnetTaken {
        /// The wanted subnet.
        subnet: ipnet::IpNet,
        /// The one that is there.
        taken: ipnet::IpNet,
        /// Name of the network that holds it.
        holder: String,
    },
    /// The VNI that the user chose has an owner.
    #[error("VNI {vni} is in use by network {holder}")]
    VniTaken {
        /// The wanted VNI.
        vni: proto::model::Vni,
        /// Name of the network that holds it.
        holder: String,
    },
    /// No VNI is left, or the option that names one cannot be read.
    #[error("{0}")]
    Vni(String),
    /// The published port has an owner.
    #[error("port {port}/{protocol} is already published by service {holder}")]
    PortTaken {
        /// The published port.
        port: proto::model::Port,
        /// Its protocol.
        protocol: proto::model::Protocol,
        /// Name of the service that holds it.
        holder: String,
    },
    /// All dynamic ports of a protocol are in use.
    #[error("no free port left between {first} and {last} for {protocol}")]
    PortsExhausted {
        /// First dynamic port.
        first: proto::model::Port,
        /// Last dynamic port.
        last: proto::model::Port,
        /// The protocol.
        protocol: proto::model::Protocol,
    },
}
