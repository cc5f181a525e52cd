//! Why a connection failed, in words that help.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use proto::{
    error::{ApiError, Kind},
    model::{NodeId, Role},
};
use rustls::{AlertDescription, CertificateError};
use tonic::Status;

/// Why a member could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there.
    #[error("cannot connect to {addr}: connection refused")]
    NotListening {
        /// Where.
        addr: SocketAddr,
    },
    /// No answer in time.
    #[error("cannot connect to {addr}: no answer within {limit:?}")]
    TimedOut {
        /// Where.
        addr: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// The network failed.
    #[error("cannot connect to {addr}: {source}")]
    Io {
        /// Where.
        addr: SocketAddr,
        /// The kernel's words.
        source: io::Error,
    },
    /// The other side hung up during the handshake.
    #[error("cannot connect to {addr}: the connection was closed during the handshake")]
    Closed {
        /// Where.
        addr: SocketAddr,
    },
    /// Something answers that does not speak our TLS.
    #[error("cannot connect to {addr}: what listens there is not an rn manager ({reason})")]
    Foreign {
        /// Where.
        addr: SocketAddr,
        /// What it did.
        reason: String,
    },
    /// We do not accept who answered.
    #[error("cannot use {addr}: {refusal}")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// Who answered does not accept us.
    #[error("{addr} refused this node's certificate: {reason}")]
    Rejected {
        /// Where.
        addr: SocketAddr,
        /// Its reason.
        reason: &'static str,
    },
}

/// What is wrong with the certificate of who answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Signed by another root.
    #[error("it belongs to another cluster (its certificate is not from this cluster's CA)")]
    OtherCluster,
    /// Its life is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its life has not begun.
    #[error("its certificate is not valid yet: the clock of this machine is behind")]
    NotYetValid,
    /// Not of the role that was dialled.
    #[error("it is not a {wanted}")]
    OtherRole {
        /// The role that was dialled.
        wanted: Role,
    },
    /// Another node lives there now.
    #[error("it is node {found}, not node {wanted}")]
    OtherNode {
        /// The node that was meant.
        wanted: NodeId,
        /// The node that answered.
        found: NodeId,
    },
    /// A certificate that no member has.
    #[error("{0}")]
    NotAMember(String),
}

impl ConnectError {
    pub(super) fn from_tcp(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::NotListening { addr },
            _ => Self::Io { addr, source },
        }
    }

    pub(super) fn from_handshake(addr: SocketAddr, wanted: Role, source: io::Error) -> Self {
        let Some(tls) = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
            return match source.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Closed { addr }
                }
                _ => Self::Io { addr, source },
            };
        };
        match tls {
            rustls::Error::InvalidCertificate(error) => {
                Self::Refused { addr, refusal: Refusal::from_certificate(error, wanted) }
            }
            rustls::Error::AlertReceived(alert) => match rejection(*alert) {
                Some(reason) => Self::Rejected { addr, reason },
                None => Self::Foreign { addr, reason: tls.to_string() },
            },
            other => Self::Foreign { addr, reason: other.to_string() },
        }
    }
}

impl Refusal {
    fn from_certificate(error: &CertificateError, wanted: Role) -> Self {
        match error {
            // Roots of all clusters have the same name, so a foreign one shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::OtherCluster,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherRole { wanted }
            }
            other => Self::NotAMember(other.to_string()),
        }
    }
}

/// What a server's alert says of our certificate.
fn rejection(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            Some("it is from another cluster, or from a root CA that has been rotated away")
        }
        AlertDescription::CertificateExpired => Some("it has expired or is not valid yet"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => Some("it is not a cluster member's"),
        _ => None,
    }
}

impl From<&ConnectError> for ApiError {
    fn from(error: &ConnectError) -> Self {
        let message = error.to_string();
        match error {
            ConnectError::NotListening { addr } | ConnectError::TimedOut { addr, .. } => {
                ApiError::unavailable(message).help(format!(
                    "check that a manager runs there and that port {}/tcp is open to this host",
                    addr.port()
                ))
            }
            ConnectError::Io { .. } | ConnectError::Closed { .. } => ApiError::unavailable(message),
            ConnectError::Foreign { .. } => {
                ApiError::invalid(message).help("managers listen on port 2377/tcp unless told otherwise")
            }
            ConnectError::Rejected { .. } => ApiError::denied(message).help(
                "if the node should be in this cluster: rnctl swarm leave --force, then rnctl swarm join",
            ),
            ConnectError::Refused { refusal, .. } => match refusal {
                Refusal::OtherRole { .. } => ApiError::precondition(message)
                    .help("use the address of a manager: rnctl node ls, on a manager, shows them"),
                // Another may come to live there, and clocks and certificates get mended.
                Refusal::OtherNode { .. } | Refusal::Expired => ApiError::unavailable(message),
                Refusal::NotYetValid => ApiError::unavailable(message)
                    .help("set the clock: certificates reach back one hour only"),
                Refusal::OtherCluster | Refusal::NotAMember(_) => ApiError::denied(message),
            },
        }
    }
}

impl From<ConnectError> for ApiError {
    fn from(error: ConnectError) -> Self {
        Self::from(&error)
    }
}

/// Whether a call failed before anything of it was sent: there was no connection.
pub fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a failed call means to a user: the peer's own [`ApiError`], or why there was no connection, or that it broke.
pub fn explain(status: &Status) -> ApiError {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return connect.into();
        }
        if error.is::<tonic::TimeoutExpired>() {
            return ApiError::timeout("the manager did not answer in time; what was asked may still happen");
        }
        cause = error.source();
    }
    let error = ApiError::from_status(status);
    // Statuses that tonic made of a transport failure, not the peer.
    match (status.source().is_some(), error.kind) {
        (true, Kind::Internal | Kind::Timeout | Kind::Unavailable) => {
            ApiError::unavailable(format!("the connection was lost: {}", deepest(status)))
        }
        _ => error,
    }
}

fn deepest(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
