//! The keys that seal gossip, as the managers issue them.

use std::sync::Arc;

use proto::model::{KeySubsystem, NetworkKey};
use ring::{aead, hkdf};

use super::record::Generation;

/// Separates these subkeys from any other use of the same key.
const SALT: &[u8] = b"rn gossip 1";

/// The gossip keys in force. Datagrams under any of them are accepted; those sent go under the second oldest, which every
/// node has had for a whole rotation period, so that neither a node that learns of a rotation late nor one that learns of it
/// early loses anything (swarmkit `manager/keymanager`).
#[derive(Clone, Default)]
pub struct KeyRing {
    /// Oldest first.
    keys: Vec<Arc<RingKey>>,
}

struct RingKey {
    lamport: u64,
    prk: hkdf::Prk,
}

impl KeyRing {
    /// The gossip keys among `keys`.
    pub fn new(keys: &[NetworkKey]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT);
        let mut keys: Vec<_> = keys
            .iter()
            .filter(|k| k.subsystem == KeySubsystem::Gossip)
            .map(|k| Arc::new(RingKey { lamport: k.lamport, prk: salt.extract(&k.key) }))
            .collect();
        keys.sort_by_key(|k| k.lamport);
        keys.dedup_by_key(|k| k.lamport);
        Self { keys }
    }

    /// Whether there is no key, so that nothing can be sent or read.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The Lamport time of the key to send with.
    pub fn primary(&self) -> Option<u64> {
        self.keys.get(1).or_else(|| self.keys.first()).map(|k| k.lamport)
    }

    /// The subkey of one sender, one start of its daemon: no two of them ever share a key, so a counter is a safe nonce.
    pub(super) fn subkey(&self, lamport: u64, sender: &Sender<'_>) -> Option<aead::LessSafeKey> {
        let key = self.keys.iter().find(|k| k.lamport == lamport)?;
        let generation = sender.generation.to_be_bytes();
        let info = [sender.node.as_bytes(), &generation, &sender.boot];
        let okm = key.prk.expand(&info, &aead::AES_128_GCM).ok()?;
        Some(aead::LessSafeKey::new(aead::UnboundKey::from(okm)))
    }

    /// Whether a key of this Lamport time is accepted.
    pub(super) fn accepts(&self, lamport: u64) -> bool {
        self.keys.iter().any(|k| k.lamport == lamport)
    }
}

/// Who sends, as far as the key depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) node: &'a str,
    pub(super) generation: Generation,
    /// Random at each start: keeps keys apart even where a data root was copied or set back.
    pub(super) boot: [u8; 8],
}

impl std::fmt::Debug for KeyRing {
    // Key material must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|k| k.lamport)).finish()
    }
}
