//! Autolock: secrets on a manager's disk wrapped under a key that lies on no disk.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use crate::CertError;

/// How the text of a key begins (Swarm's).
const PREFIX: &str = "SWMKEY-1-";
/// Bytes of a key.
const KEY_LEN: usize = 32;
/// How a wrapped secret begins.
const WRAPPED: &str = "RN-LOCKED-1-";

/// Not the key that wrapped it, or no key at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The text is no key.
    #[error("invalid key provided: a key looks like SWMKEY-1- and 43 more characters")]
    Malformed,
    /// Another key wrapped it.
    #[error("invalid key provided")]
    Wrong,
    /// It is wrapped, and no key was given.
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"rnctl swarm unlock\" to unlock it."
    )]
    Locked,
}

/// What unlocks the managers of a swarm.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey([u8; KEY_LEN]);

impl fmt::Debug for UnlockKey {
    // It must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(…)")
    }
}

impl fmt::Display for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl FromStr for UnlockKey {
    type Err = LockError;

    fn from_str(text: &str) -> Result<Self, LockError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(LockError::Malformed)?;
        let bytes = STANDARD_NO_PAD.decode(encoded).map_err(|_| LockError::Malformed)?;
        Ok(Self(bytes.try_into().map_err(|_| LockError::Malformed)?))
    }
}

impl UnlockKey {
    /// A new one.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn generate() -> Result<Self, CertError> {
        let mut key = [0; KEY_LEN];
        SystemRandom::new().fill(&mut key).map_err(|_| CertError::Random)?;
        Ok(Self(key))
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.0).ok().map(LessSafeKey::new)
    }

    /// The secret as text that only this key opens.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn wrap(&self, secret: &[u8]) -> Result<String, CertError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| CertError::Random)?;
        let (mut sealed, cipher) = (secret.to_vec(), self.cipher().ok_or(CertError::Random)?);
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(WRAPPED), &mut sealed)
            .map_err(|_| CertError::Random)?;
        Ok(format!("{WRAPPED}{}", STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat())))
    }

    fn unwrap(&self, encoded: &str) -> Result<Vec<u8>, LockError> {
        let bytes = STANDARD_NO_PAD.decode(encoded.trim()).map_err(|_| LockError::Wrong)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(LockError::Wrong)?;
        let (mut sealed, cipher) = (sealed.to_vec(), self.cipher().ok_or(LockError::Wrong)?);
        let secret = cipher
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(WRAPPED), &mut sealed)
            .map_err(|_| LockError::Wrong)?;
        Ok(secret.to_vec())
    }
}

/// What a file that keeps `secret` holds: a line for each of `keys`, any of which opens it; as it is where one of them is none.
///
/// # Errors
/// The machine gives no random bytes.
pub fn closed(secret: &[u8], keys: &[Option<&UnlockKey>]) -> Result<Vec<u8>, CertError> {
    let keys: Option<Vec<_>> = keys.iter().copied().collect();
    let Some(keys) = keys else { return Ok(secret.to_vec()) };
    let lines = keys.into_iter().map(|key| key.wrap(secret)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.join("\n").into_bytes())
}

/// Under how many keys a file's `bytes` are wrapped.
pub fn wrappings(bytes: &[u8]) -> usize {
    lines(bytes).count()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(bytes).into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix(WRAPPED))
}

/// The secret in a file's `bytes`, wrapped or not.
///
/// # Errors
/// It is wrapped, and `key` is none or another.
pub fn opened(bytes: Vec<u8>, key: Option<&UnlockKey>) -> Result<Vec<u8>, LockError> {
    match (wrappings(&bytes), key) {
        (0, _) => Ok(bytes),
        (_, None) => Err(LockError::Locked),
        (_, Some(key)) => lines(&bytes).find_map(|line| key.unwrap(line).ok()).ok_or(LockError::Wrong),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_key_survives_its_text_and_opens_what_it_wrapped() {
        let (key, other) = (UnlockKey::generate().unwrap(), UnlockKey::generate().unwrap());
        let text = key.to_string();
        assert!(text.starts_with("SWMKEY-1-") && text.len() == 9 + 43, "{text}");
        let read: UnlockKey = format!("{text}\n").parse().unwrap();
        let wrapped = key.wrap(b"secret").unwrap();
        assert!(!wrapped.contains("secret") && wrapped != key.wrap(b"secret").unwrap());
        let bytes = || wrapped.clone().into_bytes();
        assert_eq!(opened(bytes(), Some(&read)).unwrap(), b"secret");
        assert_eq!(opened(bytes(), Some(&other)), Err(LockError::Wrong));
        assert_eq!(opened(bytes(), None), Err(LockError::Locked));
        assert_eq!(opened(b"plain".to_vec(), None).unwrap(), b"plain");
        let both = closed(b"secret", &[Some(&key), Some(&other)]).unwrap();
        assert_eq!(wrappings(&both), 2);
        for key in [&key, &other] {
            assert_eq!(opened(both.clone(), Some(key)).unwrap(), b"secret");
        }
        assert_eq!(opened(both.clone(), Some(&UnlockKey::generate().unwrap())), Err(LockError::Wrong));
        assert_eq!(opened(both, None), Err(LockError::Locked));
        assert_eq!(closed(b"secret", &[Some(&key), None]).unwrap(), b"secret");
        for bad in ["", "SWMKEY-1-", "SWMKEY-1-abc", "SWMTKN-1-x"] {
            assert_eq!(bad.parse::<UnlockKey>(), Err(LockError::Malformed), "{bad}");
        }
    }
}
