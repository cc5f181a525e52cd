//! Netlink, as much as is needed: messages and attributes ([`wire`]), sockets ([`socket`]) and the numbers ([`abi`]).
//!
//! Encoded here rather than by a crate because the two families are then written alike, answers of later kernels with more or
//! longer attributes stay readable, and nothing is parsed that nobody asked for.

pub(super) mod abi;
pub(super) mod socket;
pub(super) mod wire;
