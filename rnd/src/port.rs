//! Ports that somebody else has.

use std::{io, net::SocketAddr};

use kernel::facts::holder_of_port;
use proto::model::Protocol;

/// Why a port cannot be had, with who has it, as far as that can be seen.
pub fn reason(error: &io::Error, protocol: Protocol, addr: SocketAddr) -> String {
    match holder_of_port(protocol, addr.port()).filter(|_| error.kind() == io::ErrorKind::AddrInUse) {
        Some(holder) => format!("{error}: {holder} has it"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn who_has_a_port_is_named() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = held.local_addr().unwrap();
        let error = std::net::TcpListener::bind(addr).unwrap_err();
        let why = reason(&error, Protocol::Tcp, addr);
        assert!(why.ends_with(&format!("(pid {}) has it", std::process::id())), "{why}");
    }
}
