//! Address management: which subnet a network gets from the pools, and which address an endpoint gets from a subnet.
//!
//! Plain functions over values. Nothing is kept here: whoever allocates derives what is in use from its own records (the managers
//! from the replicated state, a machine from what it keeps of its own networks), builds a [`NetworkSpace`] or a list of
//! [`AllocatedSubnet`]s from it, and records what it was given. So there is no bitmap, no cache and no second truth.
//!
//! * [`pool`]: subnets cut from pools, in the pools' order.
//! * [`addr`]: addresses of one subnet or of one network, by next fit, those just freed last.

use std::net::IpAddr;

use ipnet::IpNet;

pub mod addr;
pub mod pool;
mod range;

pub use addr::{NetworkSpace, SubnetSpace};
pub use pool::AllocatedSubnet;

/// Why a subnet or an address could not be handed out. The message is for a user: it names the pool or network, and the holder.
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
        addr: IpAddr,
        /// The network's name.
        network: String,
        /// Its subnets, comma separated.
        subnets: String,
    },
    /// A container has one address of a family on a network.
    #[error("a container has one address of a family on network {network}: {addr} is one too many")]
    TwoOfAFamily {
        /// The second one.
        addr: IpAddr,
        /// The network's name.
        network: String,
    },
    /// An address that the user chose is in use, or is one that no host can have.
    #[error("address {addr} on network {network} is in use, or cannot be a container's")]
    AddressTaken {
        /// The wanted address.
        addr: IpAddr,
        /// The network's name.
        network: String,
    },
    /// A subnet that the user chose overlaps with another one.
    #[error("subnet {subnet} overlaps with {taken} of network {holder}")]
    SubnetTaken {
        /// The wanted subnet.
        subnet: IpNet,
        /// The one that is there.
        taken: IpNet,
        /// Name of the network that holds it.
        holder: String,
    },
}
