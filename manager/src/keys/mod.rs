//! The keys that all nodes share: gossip and encrypted overlays.

mod keyring;

pub use keyring::{INITIAL_SKEW, KEY_LEN, KeyManager, RING, ROTATION, initial, rotated};
