//! What is at rest on a manager's disk is sealed: every value of the database with AES-256-GCM, under a key in a file of its
//! own (0600). Rows hold the root CA's key and the join tokens.
//!
//! A value's place (family and key) is authenticated with it, so that rows cannot be swapped.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use certs::{LockError, UnlockKey, lock};
use durable::{Damage, PRIVATE, ReadError};
use proto::{error::ApiError, model};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// Why a value cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored value does not open: the database is damaged, or its key file belongs to another")]
pub(crate) struct Sealed;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Locked(#[from] LockError),
}

/// A new key to lock managers with.
pub(crate) fn new_unlock_key() -> Result<model::UnlockKey, ApiError> {
    Ok(model::UnlockKey(UnlockKey::generate()?.to_string()))
}

/// Wraps the key in the manager's directory so that any of `new` opens it; for good where one of them is none.
///
/// The certificate's key lies in a file of its own, and the machine may stop between the two. So a change goes in three steps: this
/// file opens with both keys, the certificate's with the new one, this file with the new one only, which the next start
/// makes up for.
///
/// # Errors
/// It cannot be read, is wrapped under another key than `old`, or cannot be written.
pub fn rewrap(dir: &Path, old: Option<&UnlockKey>, new: &[Option<&UnlockKey>]) -> Result<(), ApiError> {
    let path = dir.join(KEY_FILE);
    let failed = |e: &dyn std::fmt::Display| ApiError::internal(format!("{}: {e}", path.display()));
    let bytes = durable::load(&path).map_err(|e| ApiError::internal(e.to_string()))?;
    let bytes = bytes.ok_or_else(|| failed(&"it is missing"))?;
    let key = lock::opened(bytes, old).map_err(|e| failed(&e))?;
    let text = lock::closed(&key, new)?;
    durable::save(&path, &text, PRIVATE).map_err(|e| failed(&e))
}

/// The file's name in the manager's directory.
pub(crate) const KEY_FILE: &str = "key";

/// Seals and opens values.
pub(crate) struct Sealer {
    key: LessSafeKey,
    /// Random at each start. With the counter a nonce: two starts would have to meet in all of 96 bits to share one.
    prefix: [u8; 4],
    counter: AtomicU64,
}

impl Sealer {
    /// With the key in `path`; `create` draws one if the file does not exist. The file is left wrapped under `unlock` alone.
    pub(crate) fn open(path: &Path, create: bool, unlock: Option<&UnlockKey>) -> Result<Self, KeyError> {
        let rng = SystemRandom::new();
        let random = |bytes: &mut [u8]| rng.fill(bytes).map_err(|_| io::Error::other("no random numbers"));
        let (key, settled) = match durable::load(path)? {
            Some(bytes) => {
                let settled = lock::wrappings(&bytes) == usize::from(unlock.is_some());
                (lock::opened(bytes, unlock)?, settled)
            }
            None if create => {
                let mut key = vec![0; KEY_LEN];
                random(&mut key)?;
                (key, false)
            }
            None => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
        };
        let unbound = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| ReadError::Damaged {
            path: path.to_owned(),
            damage: Damage::Content(format!("it is not a key of {KEY_LEN} bytes")),
        })?;
        if !settled {
            durable::save(path, &lock::closed(&key, &[unlock]).map_err(io::Error::other)?, PRIVATE)?;
        }
        let (mut prefix, mut start) = ([0; 4], [0; 8]);
        random(&mut prefix)?;
        random(&mut start)?;
        Ok(Self {
            key: LessSafeKey::new(unbound),
            prefix,
            counter: AtomicU64::new(u64::from_be_bytes(start)),
        })
    }

    /// `nonce || ciphertext || tag`.
    pub(crate) fn seal(&self, family: &str, key: &[u8], value: &[u8]) -> Result<Vec<u8>, Sealed> {
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.prefix);
        nonce[4..].copy_from_slice(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let mut out = Vec::with_capacity(NONCE_LEN + value.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(value);
        let (_, text) = out.split_at_mut(NONCE_LEN);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), place(family, key), text)
            .map_err(|_| Sealed)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// The value that [`Self::seal`] was given for the same place.
    pub(crate) fn open_value(&self, family: &str, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Sealed> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Sealed)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.key.open_in_place(nonce, place(family, key), &mut text).map_err(|_| Sealed)?.len();
        text.truncate(len);
        Ok(text)
    }
}

fn place(family: &str, key: &[u8]) -> Aad<Vec<u8>> {
    let mut place = Vec::with_capacity(family.len() + 1 + key.len());
    place.extend_from_slice(family.as_bytes());
    place.push(0);
    place.extend_from_slice(key);
    Aad::from(place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_value_opens_only_in_its_place_and_under_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (dir.path().join("key"), dir.path().join("other"));
        let sealer = Sealer::open(&mine, true, None).unwrap();
        assert_eq!(fs::metadata(&mine).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = sealer.seal("task", b"id", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_ne!(sealed, sealer.seal("task", b"id", b"secret").unwrap());

        let again = Sealer::open(&mine, false, None).unwrap();
        assert_eq!(again.open_value("task", b"id", &sealed).unwrap(), b"secret");
        assert_eq!(again.open_value("task", b"di", &sealed), Err(Sealed));
        assert_eq!(again.open_value("node", b"id", &sealed), Err(Sealed));
        assert_eq!(Sealer::open(&other, true, None).unwrap().open_value("task", b"id", &sealed), Err(Sealed));
        let mut damaged = sealed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(again.open_value("task", b"id", &damaged), Err(Sealed));
        assert_eq!(again.open_value("task", b"id", b""), Err(Sealed));
    }

    #[test]
    fn a_change_of_the_lock_may_stop_anywhere() {
        let (k1, k2) = (UnlockKey::generate().unwrap(), UnlockKey::generate().unwrap());
        let opens = |path: &Path, key: Option<&UnlockKey>| Sealer::open(path, false, key).is_ok();
        for (old, new) in [(Some(&k1), Some(&k2)), (None, Some(&k2)), (Some(&k1), None)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(KEY_FILE);
            let sealed = Sealer::open(&path, true, old).unwrap().seal("task", b"id", b"secret").unwrap();
            let start = fs::read(&path).unwrap();
            assert_eq!(lock::wrappings(&start), usize::from(old.is_some()));

            rewrap(dir.path(), old, &[old, new]).unwrap();
            let between = fs::read(&path).unwrap();
            // Stopped before the certificate had the new key: the old one opens, and a new attempt goes on from there.
            assert!(opens(&path, old));
            assert_eq!(lock::wrappings(&fs::read(&path).unwrap()), usize::from(old.is_some()));
            rewrap(dir.path(), old, &[old, new]).unwrap();
            // Stopped after that: the new one opens, and alone from then on.
            fs::write(&path, &between).unwrap();
            let sealer = Sealer::open(&path, false, new).unwrap();
            assert_eq!(sealer.open_value("task", b"id", &sealed).unwrap(), b"secret");
            assert_eq!(opens(&path, old), new.is_none());
            // Not stopped.
            fs::write(&path, &between).unwrap();
            rewrap(dir.path(), new, &[new]).unwrap();
            assert!(opens(&path, new));
            assert_eq!(opens(&path, old), new.is_none());
        }
    }

    #[test]
    fn a_lost_or_damaged_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(Sealer::open(&path, false, None).is_err());
        Sealer::open(&path, true, None).unwrap();
        let whole = fs::read(&path).unwrap();
        // Thirty-two zeros are a key too.
        for damage in [vec![], vec![0; KEY_LEN], whole[..40].to_vec(), vec![7; 31]] {
            fs::write(&path, &damage).unwrap();
            let Err(KeyError::Read(error)) = Sealer::open(&path, true, None) else { panic!("{damage:?}") };
            assert!(error.to_string().contains("is damaged"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), damage, "it stays as it is");
        }
    }
}
