//! What can be wrong with a certificate, a key or a signing request.

use proto::{
    error::ApiError,
    model::{NodeId, Role},
};

/// A certificate, key or signing request that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The text is not what it should be.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// Which text: `root certificate`, `node key`, …
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A member's certificate without the fields that make it one.
    #[error("certificate is not a cluster member's: {0}")]
    NotAMember(String),
    /// Key and certificate are not a pair.
    #[error("{what} does not belong to its certificate")]
    KeyMismatch {
        /// Which key.
        what: &'static str,
    },
    /// The certificate was not issued by this root.
    #[error("certificate of node {node} was not issued by this cluster's root CA: {reason}")]
    OtherRoot {
        /// The node that the certificate names.
        node: NodeId,
        /// The verifier's words.
        reason: String,
    },
    /// A key of a kind that we do not sign.
    #[error("signing request uses an unsupported key: only ECDSA P-256 is accepted")]
    KeyAlgorithm,
    /// The signer failed.
    #[error("signing failed: {0}")]
    Sign(#[from] rcgen::Error),
    /// TLS refused the material.
    #[error("TLS set-up failed: {0}")]
    Tls(#[from] rustls::Error),
    /// The machine gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
    /// A renewal came back for someone else.
    #[error("certificate was issued for {found_role} {found}, not for node {wanted}")]
    OtherSubject {
        /// The node that asked.
        wanted: NodeId,
        /// The node that the certificate names.
        found: NodeId,
        /// The role that the certificate has.
        found_role: Role,
    },
}

impl CertError {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}

impl From<CertError> for ApiError {
    fn from(error: CertError) -> Self {
        match error {
            CertError::Malformed { .. } | CertError::NotAMember(_) | CertError::KeyAlgorithm => {
                ApiError::invalid(error.to_string())
            }
            CertError::KeyMismatch { .. } | CertError::OtherRoot { .. } | CertError::OtherSubject { .. } => {
                ApiError::precondition(error.to_string())
            }
            CertError::Sign(_) | CertError::Tls(_) | CertError::Random => {
                ApiError::internal(error.to_string())
            }
        }
    }
}
