//! Identity: who is who in the cluster, and how that is proved.
//!
//! ```text
//! RootCa ──issue──▶ leaf certificate ──┐                        ┌──▶ Listener   (2377: accepts members and joiners)
//!   │                                  ├──▶ Identity ──shared───┤
//! JoinToken ◀─digest─┘   key (local) ──┘      │                 └──▶ Connector  (dials members by role, not by address)
//!                                         CertificateDir
//! ```
//!
//! * [`root`]: the root of trust. [`issue`]: signing requests and leaf certificates.
//! * [`token`]: join tokens, which carry the digest of the root so that a joiner knows whom it talks to.
//! * [`identity`]: what a certificate says ([`Peer`]), and a node's own certificate ready for use ([`Identity`]).
//! * [`tls`]: TLS 1.3 only, no resumption: every connection proves again who it is.
//! * [`transport`]: tonic over those connections. [`join`]: what a joiner and a renewing node say to a manager.
//! * [`renewal`]: when to renew, as arithmetic. [`rotation`]: a new root, certified by the old one. [`disk`]: the files, replaced atomically. [`lock`]: what wraps secrets on
//!   disk under a key that the user keeps.
//!
//! A node's identity is its certificate: common name = node id, organisational unit = role, organisation = cluster id.
//! Its address is only where it was seen last. Keys are made where they are used and never travel.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod base36;
pub mod disk;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod identity;
pub mod issue;
pub mod join;
pub mod lock;
pub mod renewal;
pub mod root;
pub mod rotation;
pub mod tls;
pub mod token;
pub mod transport;

pub use disk::CertificateDir;
pub use error::CertError;
pub use identity::{Identity, Peer, SharedIdentity};
pub use issue::{Subject, new_csr};
pub use lock::{LockError, UnlockKey};
pub use root::{RootCa, RootDigest};
pub use token::{JoinToken, TokenError};
pub use transport::{ConnInfo, ConnectError, Connector, Listener, Target};
