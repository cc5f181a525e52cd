//! Typed ids.
//!
//! Swarm objects have 25 lower-case base-36 characters from a cryptographic generator (swarmkit `identity/randomid.go`);
//! local containers have 64 hexadecimal ones, as Docker's.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use rand::Rng;

/// Length of a swarm object's id.
pub const SWARM_ID_LEN: usize = 25;
/// Length of a container's id.
pub const CONTAINER_ID_LEN: usize = 64;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id")]
pub struct InvalidId {
    /// The kind of id that was wanted.
    pub kind: &'static str,
    /// The text that was given.
    pub text: String,
}

fn base36(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[rng.random_range(0..36)])).collect()
}

fn hex(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(b"0123456789abcdef"[rng.random_range(0..16)])).collect()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $make:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self($make.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve characters, as `ls` commands print.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            // Ids come from peers of other versions too: any short lower-case word is accepted, so that length can change.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let ok = !text.is_empty()
                    && text.len() <= 64
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                if ok { Ok(Self(text.into())) } else { Err(InvalidId { kind: $kind, text: text.to_owned() }) }
            }
        }
    )*};
}

ids! {
    /// A cluster.
    ClusterId, "cluster", base36(SWARM_ID_LEN);
    /// A node; the common name of its certificate.
    NodeId, "node", base36(SWARM_ID_LEN);
    /// A network.
    NetworkId, "network", base36(SWARM_ID_LEN);
    /// A service.
    ServiceId, "service", base36(SWARM_ID_LEN);
    /// A task.
    TaskId, "task", base36(SWARM_ID_LEN);
    /// A secret.
    SecretId, "secret", base36(SWARM_ID_LEN);
    /// A config.
    ConfigId, "config", base36(SWARM_ID_LEN);
    /// A worker's session with the dispatcher.
    SessionId, "session", base36(SWARM_ID_LEN);
    /// A container.
    ContainerId, "container", hex(CONTAINER_ID_LEN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_documented_form() {
        let id = TaskId::random();
        assert_eq!(id.as_str().len(), 25);
        assert_eq!(id.as_str().parse::<TaskId>(), Ok(id));
        assert_eq!(ContainerId::random().as_str().len(), 64);
        assert!("not an id".parse::<NodeId>().is_err());
        assert!("".parse::<NodeId>().is_err());
        assert!("../../etc".parse::<NodeId>().is_err());
    }
}
